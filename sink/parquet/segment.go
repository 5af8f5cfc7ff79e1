// Package parquet is the log: row segments, the Parquet parts made of them, and the manifests that commit both. FORMAT.md describes the files.
package parquet

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	iofs "io/fs"
	"path/filepath"
	"slices"

	"github.com/freshet-dev/freshet/schemas"
	"github.com/freshet-dev/freshet/sink"
)

const (
	segmentMagic  = "FRSEG"
	segmentFormat = 1

	// maxFrameBytes bounds what a reader takes for a frame, and with it one row. Batches are cut into frames of about targetFrameBytes.
	maxFrameBytes    = 32 << 20
	targetFrameBytes = 1 << 20
	frameHeadBytes   = 8 // length, CRC-32C

	// MaxSegmentBytes is the length at which a segment takes no more rows: its rows are addressed by 32 bits.
	MaxSegmentBytes = 1 << 31
)

// The kinds of frames. The numbers are stored.
const (
	frameHeader byte = 1
	frameSent   byte = 2
	frameAcked  byte = 3
	frameRows   byte = 4
)

var (
	// ErrDamaged is returned for a file whose bytes are not what was written.
	ErrDamaged = errors.New("damaged")
	// ErrNoHeader is returned for a segment whose creation a crash has cut off: nothing was ever in it.
	ErrNoHeader = errors.New("segment without header")

	errClosed = errors.New("segment is closed")

	castagnoli = crc32.MakeTable(crc32.Castagnoli)
)

// Header says whose rows a segment holds. It is the first frame, and must be the same when the segment is opened again.
type Header struct {
	SpecHash   uint64 // the definition's
	Features   int    // how many values a row has
	Group      string
	Version    int
	Topic      string
	Partition  int32
	Epoch      int64
	Generation uint32
	Number     int64 // of the segment in its shard
}

// Segment is the append-only file of rows that are not in a part yet. It is written ahead of the online store: Sent records rows before
// they are sent there, Acked what became of them; only acknowledged rows ever become log rows. A crash between the two leaves rows in
// doubt, which recovery settles by asking the online store.
//
// A Segment belongs to one goroutine. After a write has failed all its methods that write return that error: what the file ends in is
// then unknown until it is opened again.
type Segment struct {
	fs     sink.FS
	path   string
	file   sink.File
	header Header

	size   int64  // bytes of whole frames
	synced int64  // of them durable
	next   uint64 // sequence number of the next row
	acked  int
	doubt  []span // the rows sent and not acknowledged
	hash   hash.Hash
	frame  []byte // scratch
	row    []byte // scratch
	err    error
}

// span is the sequence numbers first, first+1, …, end−1.
type span struct{ first, end uint64 }

// CreateSegment makes an empty segment, replacing what is at path. Its name and header are durable when it returns.
func CreateSegment(fs sink.FS, path string, h Header) (*Segment, error) {
	// A file there may have a second name in the bucket: it must not be truncated.
	if err := fs.Remove(path); err != nil && !errors.Is(err, iofs.ErrNotExist) {
		return nil, fmt.Errorf("create segment: %w", err)
	}
	file, err := fs.Create(path)
	if err != nil {
		return nil, fmt.Errorf("create segment: %w", err)
	}
	s := &Segment{fs: fs, path: path, file: file, header: h, hash: sha256.New()}
	err = s.write(appendHeader(s.begin(frameHeader), h))
	if err == nil {
		err = s.Sync()
	}
	if err == nil {
		err = fs.SyncDir(filepath.Dir(path))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("create segment %s: %w", path, err), file.Close())
	}
	return s, nil
}

func appendHeader(dst []byte, h Header) []byte {
	dst = append(dst, segmentMagic...)
	dst = binary.AppendUvarint(dst, segmentFormat)
	dst = binary.LittleEndian.AppendUint64(dst, h.SpecHash)
	dst = binary.AppendUvarint(dst, uint64(h.Features))
	dst = appendString(dst, h.Group)
	dst = binary.AppendVarint(dst, int64(h.Version))
	dst = appendString(dst, h.Topic)
	dst = binary.AppendVarint(dst, int64(h.Partition))
	dst = binary.AppendVarint(dst, h.Epoch)
	dst = binary.AppendUvarint(dst, uint64(h.Generation))
	return binary.AppendVarint(dst, h.Number)
}

func appendString(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

// begin starts a frame in the scratch buffer: room for its head, its kind, and how much of the file was durable when it was written, by
// which a later reader tells what a crash may have torn from what it may not (FORMAT.md).
func (s *Segment) begin(kind byte) []byte {
	var head [frameHeadBytes]byte
	b := append(s.frame[:0], head[:]...)
	return binary.AppendUvarint(append(b, kind), uint64(s.synced))
}

// write seals the frame and appends it to the file.
func (s *Segment) write(frame []byte) error {
	s.frame = frame
	if s.err != nil {
		return s.err
	}
	if len(frame)-frameHeadBytes > maxFrameBytes {
		return fmt.Errorf("write segment %s: a row of %d bytes is more than %d", s.path, len(frame), maxFrameBytes)
	}
	if s.size+int64(len(frame)) > MaxSegmentBytes {
		return fmt.Errorf("write segment %s: it is full (%d bytes); close the part", s.path, s.size)
	}
	binary.LittleEndian.PutUint32(frame, uint32(len(frame)-frameHeadBytes))
	binary.LittleEndian.PutUint32(frame[4:], frameSum(frame))
	s.hash.Write(frame) // before Write, which some file systems of tests let change the bytes
	if _, err := s.file.Write(frame); err != nil {
		s.err = fmt.Errorf("write segment %s: %w", s.path, err)
		return s.err
	}
	s.size += int64(len(frame))
	return nil
}

// frameSum returns the checksum of a whole frame: of its length and of what follows the checksum.
func frameSum(frame []byte) uint32 {
	return crc32.Update(crc32.Checksum(frame[:4], castagnoli), castagnoli, frame[frameHeadBytes:])
}

// Sent records rows that are about to be sent to the online store and returns the sequence number of the first; the others follow. Nothing
// of rows is kept.
func (s *Segment) Sent(rows []sink.Row) (first uint64, err error) {
	first = s.next
	if err := s.append(frameSent, rows); err != nil {
		return 0, err
	}
	if n := len(s.doubt); n > 0 && s.doubt[n-1].end == first {
		s.doubt[n-1].end = s.next
	} else if s.next > first {
		s.doubt = append(s.doubt, span{first, s.next})
	}
	return first, nil
}

// Rows records rows that are log rows at once, AvailableAt set: history is never sent to the online store.
func (s *Segment) Rows(rows []sink.Row) error {
	for i := range rows {
		if rows[i].AvailableAt <= 0 {
			return fmt.Errorf("write segment %s: a row of entity %q without AvailableAt", s.path, rows[i].Entity)
		}
	}
	if err := s.append(frameRows, rows); err != nil {
		return err
	}
	s.acked += len(rows)
	return nil
}

// append writes rows as frames of the given kind: first sequence number, then each row behind its length and, in a frame of log rows, its
// time.
func (s *Segment) append(kind byte, rows []sink.Row) error {
	for i := range rows {
		if r := &rows[i]; len(r.Entity) > schemas.MaxEntityBytes || len(r.Values) != s.header.Features || r.Cause < sink.Event || r.Cause > sink.Backfill {
			return fmt.Errorf("write segment %s: row of entity %.64q with %d features and cause %d does not fit the header (%d features)",
				s.path, r.Entity, len(r.Values), r.Cause, s.header.Features)
		}
	}
	for i := 0; i < len(rows); {
		b := binary.AppendUvarint(s.begin(kind), s.next)
		start := i
		var last int64
		for ; i < len(rows); i++ {
			row := rows[i]
			row.AvailableAt = 0 // it is told apart from the row
			s.row = s.row[:0]
			if kind == frameRows {
				s.row = binary.AppendVarint(s.row, rows[i].AvailableAt-last)
			}
			s.row = sink.AppendRow(s.row, &row)
			if i > start && len(b)+len(s.row) > targetFrameBytes {
				break
			}
			b = append(binary.AppendUvarint(b, uint64(len(s.row))), s.row...)
			last = rows[i].AvailableAt
		}
		if err := s.write(b); err != nil {
			return err
		}
		s.next += uint64(i - start)
	}
	return nil
}

// Acked records what became of the rows first, first+1, …: when the online store had acknowledged each (µs since the epoch), or 0 if it
// refused it, so that it is never a log row. Each row must have been Sent, and is acknowledged once.
func (s *Segment) Acked(first uint64, available []int64) error {
	if len(available) == 0 {
		return nil
	}
	end := first + uint64(len(available))
	at := slices.IndexFunc(s.doubt, func(d span) bool { return d.first <= first && end <= d.end })
	if at < 0 {
		return fmt.Errorf("write segment %s: rows %d to %d are acknowledged, but not all in doubt", s.path, first, end-1)
	}
	b := binary.AppendUvarint(s.begin(frameAcked), first)
	var last int64
	acked := 0
	for _, t := range available {
		if t < 0 {
			return fmt.Errorf("write segment %s: available at %d µs", s.path, t)
		}
		b = binary.AppendVarint(b, t-last)
		last = t
		if t != 0 {
			acked++
		}
	}
	if err := s.write(b); err != nil {
		return err
	}
	s.acked += acked
	s.settle(at, span{first, end})
	return nil
}

// settle takes done out of the span of doubt that holds it.
func (s *Segment) settle(at int, done span) {
	d := s.doubt[at]
	var rest []span
	if d.first < done.first {
		rest = append(rest, span{d.first, done.first})
	}
	if done.end < d.end {
		rest = append(rest, span{done.end, d.end})
	}
	s.doubt = slices.Replace(s.doubt, at, at+1, rest...)
}

// Sync makes everything written so far durable.
func (s *Segment) Sync() error {
	if s.err != nil {
		return s.err
	}
	if s.synced == s.size {
		return nil
	}
	if err := s.file.Sync(); err != nil {
		s.err = fmt.Errorf("sync segment %s: %w", s.path, err) // the kernel may have dropped the pages: syncing again proves nothing
		return s.err
	}
	s.synced = s.size
	return nil
}

// Len returns the length of the file in bytes, header included.
func (s *Segment) Len() int64 { return s.size }

// Hash returns the SHA-256 of the first Len bytes of the file.
func (s *Segment) Hash() [sha256.Size]byte { return [sha256.Size]byte(s.hash.Sum(nil)) }

// AckedRows returns the number of log rows.
func (s *Segment) AckedRows() int { return s.acked }

// InDoubt returns the number of rows sent and not acknowledged.
func (s *Segment) InDoubt() int {
	n := uint64(0)
	for _, d := range s.doubt {
		n += d.end - d.first
	}
	return int(n)
}

// Close closes the file; it syncs nothing.
func (s *Segment) Close() error {
	if s.err == errClosed {
		return nil
	}
	s.err = errClosed
	return s.file.Close()
}
