package parquet

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"

	"github.com/freshet-dev/freshet/sink"
)

// Recovered says what an opened segment holds.
type Recovered struct {
	Acked     int     // log rows
	Refused   int     // rows that the online store refused
	InDoubt   []Doubt // rows sent and not acknowledged, ascending; settle them with Segment.Acked
	TornBytes int64   // what a crash had torn and was cut off

	segment *Segment
}

// Doubt is a row of which a crash has hidden whether the online store took it.
type Doubt struct {
	Sequence uint64
	Row      sink.Row // a copy
}

// OpenSegment opens a segment to go on with it. It cuts off what a crash has torn: the first bad frame and what is behind it, if nothing
// says that it had been durable. It returns ErrDamaged, and leaves the file as it is, where something says so; ErrNoHeader where a crash
// cut off its creation; and an error naming the difference where its header is not h (see ReadHeader).
func OpenSegment(fs sink.FS, path string, h Header) (*Segment, *Recovered, error) {
	s := &Segment{fs: fs, path: path, header: h, hash: sha256.New()}
	r := &Recovered{segment: s}
	err := withFile(fs, path, -1, func(data []byte) error {
		found, _, err := decodeHeader(data)
		if err != nil {
			return err
		}
		if found != h {
			return fmt.Errorf("it is of %+v, not of %+v", found, h)
		}
		x, err := indexRows(data, 0)
		if err != nil {
			return err
		}
		s.hash.Write(data[:x.length])
		s.size, s.next = x.length, uint64(len(x.start))
		r.TornBytes = int64(len(data)) - x.length
		return r.count(data, x)
	})
	if err != nil {
		return nil, nil, fmt.Errorf("open segment %s: %w", path, err)
	}
	if r.TornBytes > 0 {
		if err := fs.Truncate(path, s.size); err != nil {
			return nil, nil, fmt.Errorf("open segment: cut off its torn end: %w", err)
		}
	}
	if s.file, err = fs.Append(path); err != nil {
		return nil, nil, fmt.Errorf("open segment: %w", err)
	}
	if err := s.Sync(); err != nil { // or a second crash could mix what was cut off with what is written now
		return nil, nil, errors.Join(err, s.file.Close())
	}
	return s, r, nil
}

// count fills r, and what the segment knows of its rows, from the index.
func (r *Recovered) count(data []byte, x *rowIndex) error {
	for i, available := range x.available {
		switch {
		case available > 0:
			r.Acked++
		case available == refused:
			r.Refused++
		default:
			d := Doubt{Sequence: uint64(i)}
			if _, err := sink.DecodeRow(append([]byte(nil), x.row(data, i)...), &d.Row, r.segment.header.Features); err != nil {
				return fmt.Errorf("%w at byte %d: %w", ErrDamaged, x.start[i], err)
			}
			r.InDoubt = append(r.InDoubt, d)
			if n := len(r.segment.doubt); n > 0 && r.segment.doubt[n-1].end == d.Sequence {
				r.segment.doubt[n-1].end++
			} else {
				r.segment.doubt = append(r.segment.doubt, span{d.Sequence, d.Sequence + 1})
			}
		}
	}
	r.segment.acked = r.Acked
	return nil
}

// Newest calls fn once for each entity with a log row, with its newest one (the entity's bytes are fn's to read until it returns). It
// stops at fn's first error.
func (r *Recovered) Newest(fn func(entity []byte, v sink.Version, availableAt int64) error) error {
	type mark struct {
		version   sink.Version
		available int64
	}
	newest := map[string]mark{}
	var order []string
	err := r.segment.Each(func(row *sink.Row) error {
		m, ok := newest[string(row.Entity)]
		if !ok {
			order = append(order, string(row.Entity))
		}
		if !ok || row.AvailableAt > m.available {
			newest[string(row.Entity)] = mark{row.Version, row.AvailableAt}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, entity := range order {
		if err := fn([]byte(entity), newest[entity].version, newest[entity].available); err != nil {
			return err
		}
	}
	return nil
}

// ReadHeader returns the header of the segment at path.
func ReadHeader(fs sink.FS, path string) (Header, error) {
	var h Header
	err := withFile(fs, path, -1, func(data []byte) (err error) {
		h, _, err = decodeHeader(data)
		return err
	})
	if err != nil {
		return Header{}, fmt.Errorf("open segment %s: %w", path, err)
	}
	return h, nil
}

// Each calls fn with each log row, in the order of their sequence numbers. The row is valid until fn returns. It stops at fn's first error.
func (s *Segment) Each(fn func(row *sink.Row) error) error {
	return withFile(s.fs, s.path, s.size, func(data []byte) error {
		x, err := indexRows(data, int(s.next))
		if err != nil {
			return fmt.Errorf("read segment %s: %w", s.path, err)
		}
		var row sink.Row
		for i, available := range x.available {
			if available <= 0 {
				continue
			}
			if _, err := sink.DecodeRow(x.row(data, i), &row, s.header.Features); err != nil {
				return fmt.Errorf("read segment %s: %w at byte %d: %w", s.path, ErrDamaged, x.start[i], err)
			}
			row.AvailableAt = available
			if err := fn(&row); err != nil {
				return err
			}
		}
		return nil
	})
}

// Ref returns what a manifest says of the segment as it is now.
func (s *Segment) Ref(name string) SegmentRef {
	sum := s.Hash()
	return SegmentRef{Name: name, Length: s.size, SHA256: hex.EncodeToString(sum[:])}
}

// Verify returns ErrDamaged unless the segment begins with the bytes that ref says.
func (s *Segment) Verify(ref SegmentRef) error {
	if s.size < ref.Length {
		return fmt.Errorf("segment %s: %w: it has %d bytes, the manifest says %d", s.path, ErrDamaged, s.size, ref.Length)
	}
	return withFile(s.fs, s.path, s.size, func(data []byte) error {
		sum := sha256.Sum256(data[:ref.Length])
		if hex.EncodeToString(sum[:]) != ref.SHA256 {
			return fmt.Errorf("segment %s: %w: the SHA-256 of its first %d bytes is %x, the manifest says %s", s.path, ErrDamaged, ref.Length, sum, ref.SHA256)
		}
		return nil
	})
}

// Values of rowIndex.available that are no time.
const (
	refused int64 = 0
	inDoubt int64 = -1
)

// rowIndex says where the rows of a segment are, by sequence number.
type rowIndex struct {
	start     []uint32 // offset of the row
	available []int64  // µs, refused, or inDoubt
	length    int64    // of the whole frames
}

// row returns the bytes from the start of row i on; it is self-delimiting.
func (x *rowIndex) row(data []byte, i int) []byte { return data[x.start[i]:x.length] }

// indexRows checks the frames of a segment and finds its rows, about how many is a hint. It ends before a torn frame.
func indexRows(data []byte, hint int) (*rowIndex, error) {
	if int64(len(data)) > math.MaxUint32 {
		return nil, fmt.Errorf("%w: it has %d bytes, more than any segment", ErrDamaged, len(data))
	}
	_, at, err := decodeHeader(data)
	if err != nil {
		return nil, err
	}
	x := &rowIndex{start: make([]uint32, 0, hint), available: make([]int64, 0, hint)}
	for at < len(data) {
		f, ok := frameAt(data, at)
		if !ok {
			if p := durableAfter(data, at); p >= 0 {
				return nil, fmt.Errorf("%w at byte %d: a bad frame where the one at byte %d says all was durable", ErrDamaged, at, p)
			}
			break
		}
		if err := x.add(data, f); err != nil {
			return nil, fmt.Errorf("%w at byte %d: %w", ErrDamaged, at, err)
		}
		at = f.end
	}
	x.length = int64(at)
	return x, nil
}

// frame is a frame whose checksum is right: data[body:end] is what follows its kind and synced length.
type frame struct {
	kind      byte
	synced    uint64
	body, end int
}

func frameAt(data []byte, at int) (f frame, ok bool) {
	if len(data)-at < frameHeadBytes {
		return f, false
	}
	n := int(binary.LittleEndian.Uint32(data[at:]))
	if n < 2 || n > maxFrameBytes || n > len(data)-at-frameHeadBytes {
		return f, false
	}
	f.body, f.end = at+frameHeadBytes, at+frameHeadBytes+n
	f.kind = data[f.body]
	if f.kind < frameHeader || f.kind > frameRows {
		return f, false
	}
	f.body++
	size := 0
	f.synced, size = binary.Uvarint(data[f.body:f.end])
	if size <= 0 || f.synced > uint64(at) || binary.LittleEndian.Uint32(data[at+4:]) != frameSum(data[at:f.end]) {
		return f, false
	}
	f.body += size
	return f, true
}

// durableAfter looks behind a bad frame for a good one that was written after the bad one had been durable, and returns its offset or −1.
// A crash leaves of what was not durable any pages it likes, so good frames behind a bad one prove nothing by themselves.
func durableAfter(data []byte, bad int) int {
	for p := bad + 1; p < len(data)-frameHeadBytes; p++ {
		kind := data[p+frameHeadBytes]
		if kind < frameSent || kind > frameRows {
			continue // spares most of the checksums
		}
		if f, ok := frameAt(data, p); ok && f.synced > uint64(bad) {
			return p
		}
	}
	return -1
}

var errFrame = errors.New("a frame that says what it cannot")

// add takes in a frame's rows or acknowledgements.
func (x *rowIndex) add(data []byte, f frame) error {
	first, n := binary.Uvarint(data[f.body:f.end])
	if n <= 0 {
		return errFrame
	}
	b := f.body + n
	var last int64 // times are differences to the one before
	switch f.kind {
	case frameSent, frameRows:
		if first != uint64(len(x.start)) {
			return fmt.Errorf("row %d where row %d is due", first, len(x.start))
		}
		for b < f.end {
			length, n := binary.Uvarint(data[b:f.end])
			if n <= 0 || length > uint64(f.end-b-n) {
				return errFrame
			}
			b += n
			available := inDoubt
			if f.kind == frameRows {
				delta, n := binary.Varint(data[b:f.end])
				if n <= 0 || uint64(n) > length || last+delta <= 0 {
					return errFrame
				}
				last += delta
				available = last
				b, length = b+n, length-uint64(n)
			}
			x.start = append(x.start, uint32(b))
			x.available = append(x.available, available)
			b += int(length)
		}
		return nil
	case frameAcked:
		for i := first; b < f.end; i++ {
			delta, n := binary.Varint(data[b:f.end])
			if n <= 0 || i >= uint64(len(x.available)) || x.available[i] != inDoubt || last+delta < 0 {
				return errFrame
			}
			b += n
			last += delta
			x.available[i] = last
		}
		return nil
	}
	return errFrame
}

// decodeHeader reads the first frame and returns where the next begins.
func decodeHeader(data []byte) (h Header, end int, err error) {
	f, ok := frameAt(data, 0)
	if !ok {
		return h, 0, ErrNoHeader
	}
	d := headerDecoder{b: data[f.body:f.end]}
	if f.kind != frameHeader || string(d.take(uint64(len(segmentMagic)))) != segmentMagic {
		return h, 0, fmt.Errorf("%w: not a row segment", ErrDamaged)
	}
	if format := d.uvarint(); format != segmentFormat {
		return h, 0, fmt.Errorf("its format is version %d, this binary knows %d: use the release that wrote it, or a later one", format, segmentFormat)
	}
	if p := d.take(8); p != nil {
		h.SpecHash = binary.LittleEndian.Uint64(p)
	}
	h.Features = int(d.uvarint())
	h.Group = string(d.take(d.uvarint()))
	h.Version = int(d.varint())
	h.Topic = string(d.take(d.uvarint()))
	h.Partition = int32(d.varint())
	h.Epoch = d.varint()
	h.Generation = uint32(d.uvarint())
	h.Number = d.varint()
	if d.bad || len(d.b) > 0 || h.Features < 0 {
		return h, 0, fmt.Errorf("%w: its header", ErrDamaged)
	}
	return h, f.end, nil
}

// headerDecoder reads from b; once it has run over the end it is bad and returns zeros.
type headerDecoder struct {
	b   []byte
	bad bool
}

func (d *headerDecoder) take(n uint64) []byte {
	if n > uint64(len(d.b)) {
		d.bad = true
		return nil
	}
	p := d.b[:n]
	d.b = d.b[n:]
	return p
}

func (d *headerDecoder) uvarint() uint64 {
	u, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.bad = true
		return 0
	}
	d.b = d.b[n:]
	return u
}

func (d *headerDecoder) varint() int64 {
	u := d.uvarint()
	return int64(u>>1) ^ -int64(u&1)
}
