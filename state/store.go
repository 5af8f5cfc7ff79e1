package state

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// Store is the state of one shard. See the package's comment for who may call what.
type Store struct {
	res         *Resources
	db          *pebble.DB
	dir         string
	fs          vfs.FS
	compactions *compactions

	memTable  int64            // its largest size, bytes
	formatted bool             // the format version is in the store
	chunks    bool             // there may be chunks
	dirty     bool             // something was committed since the last Checkpoint or Open
	unchecked int64            // bytes committed since the backlog was looked at last
	floors    map[uint8][]byte // by kind: no committed timer key lies below; kept out of the way of worked-off timers' tombstones
	key, end  []byte           // scratch

	progress chan struct{} // a flush or a compaction has ended
	failed   chan struct{} // closed by the first failure
	closing  chan struct{} // closed by Close
	failOnce sync.Once
	failure  error // valid once failed is closed
}

// Open opens the store in dir, which is created where it is missing, on fs (nil: the operating system's). A directory restored by hard
// links is fine: no file that exists is ever changed in place.
func Open(dir string, r *Resources, fs vfs.FS) (*Store, error) {
	if fs == nil {
		fs = vfs.Default
	}
	dir = fs.PathJoin(dir) // in the form in which Pebble hands out names
	s := &Store{
		res: r, dir: dir, fs: fs,
		compactions: newCompactions(r.slots),
		floors:      map[uint8][]byte{},
		progress:    make(chan struct{}, 1),
		failed:      make(chan struct{}),
		closing:     make(chan struct{}),
	}
	stores := r.open.Add(1)
	s.memTable = r.cfg.memTableBytes(int(stores))
	db, err := pebble.Open(dir, s.options())
	if err != nil {
		r.open.Add(-1)
		return nil, fmt.Errorf("open state %s: %w", dir, err)
	}
	s.db = db
	if err := errors.Join(s.Err(), s.check()); err != nil {
		return nil, errors.Join(fmt.Errorf("open state %s: %w", dir, err), s.Close())
	}
	return s, nil
}

// options are tuned for sorted batches of loads and updates in place of some 150 bytes each, with an explicit deletion of what expires.
func (s *Store) options() *pebble.Options {
	log := &pebbleLog{s}
	o := &pebble.Options{
		FS:                 fence{s.fs, s},
		Cache:              s.res.blocks,
		FileCache:          s.res.files,
		MaxOpenFiles:       s.res.cfg.MaxOpenFiles,
		DisableWAL:         true,
		FormatMajorVersion: pebble.FormatTableFormatV6, // a number of the stored format: raised on purpose only
		Logger:             log,
		EventListener: &pebble.EventListener{
			BackgroundError: s.fail,
			FlushEnd:        func(pebble.FlushInfo) { s.wake() },
			CompactionEnd:   func(pebble.CompactionInfo) { s.wake() },
		},
		MemTableSize: uint64(s.memTable),
		// Pebble waits without end where a flush or a compaction fails again and again, so it must never have to: see throttle.
		MemTableStopWritesThreshold: 1 << 20,
		L0StopWritesThreshold:       1 << 20,
		CompactionConcurrencyRange:  func() (int, int) { return 1, s.res.cfg.CompactionSlots },
		NoSyncOnClose:               true,
		MaxManifestFileSize:         1 << 20, // each checkpoint copies it
	}
	o.Experimental.CompactionScheduler = s.compactions
	o.Experimental.ReadSamplingMultiplier = -1 // no compactions for the sake of reads: updates compact enough
	for i := range o.Levels {
		o.Levels[i].BlockSize = 4 << 10
		o.Levels[i].IndexBlockSize = 256 << 10 // one level of index: a second one costs each lookup a block more
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
		o.Levels[i].Compression = func() *sstable.CompressionProfile { return sstable.SnappyCompression }
	}
	for i := range o.TargetFileSizes {
		o.TargetFileSizes[i] = min(4<<20<<i, int64(32<<20))
	}
	return o
}

// check refuses a store of another format and finds out what there is.
func (s *Store) check() error {
	v, err := s.get(formatKey)
	if err != nil {
		return err
	}
	first, err := s.firstKey(nil, nil)
	if err != nil {
		return err
	}
	switch {
	case v == nil && first == nil:
		return nil // new; the first batch will write the version
	case v == nil:
		return fmt.Errorf("no format version in it: %w", errCorrupt)
	case len(v) != 4:
		return fmt.Errorf("format version %x: %w", v, errCorrupt)
	}
	if n := binary.BigEndian.Uint32(v); n != FormatVersion {
		return fmt.Errorf("its format is version %d, this binary knows version %d only; run the binary that wrote it", n, FormatVersion)
	}
	s.formatted = true
	chunk, err := s.firstKey([]byte{spaceChunk}, []byte{spaceChunk + 1})
	s.chunks = chunk != nil
	return err
}

// get returns a copy of the key's value, nil where it is absent.
func (s *Store) get(key []byte) ([]byte, error) {
	v, closer, err := s.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, s.Err()
	}
	if err != nil {
		return nil, s.failWith(fmt.Errorf("read state: %w", err))
	}
	v = append([]byte{}, v...)
	if err := closer.Close(); err != nil {
		return nil, s.failWith(fmt.Errorf("read state: %w", err))
	}
	return v, s.Err()
}

// firstKey returns a copy of the first key in [from, to), nil where there is none.
func (s *Store) firstKey(from, to []byte) (key []byte, err error) {
	err = s.scan(s.db, from, to, func(k, _ []byte) error {
		key = append([]byte{}, k...)
		return errStop
	})
	return key, err
}

// errStop ends a scan without an error.
var errStop = errors.New("stop")

// scan calls fn for each key in [from, to) in order, until it returns an error. Key and value are valid during the call.
func (s *Store) scan(r pebble.Reader, from, to []byte, fn func(key, value []byte) error) error {
	if err := s.Err(); err != nil {
		return err
	}
	it, err := r.NewIter(&pebble.IterOptions{LowerBound: from, UpperBound: to})
	if err != nil {
		return s.failWith(fmt.Errorf("read state: %w", err))
	}
	var stopped error
	for ok := it.First(); ok && stopped == nil; ok = stopped == nil && it.Next() {
		var v []byte
		if v, err = it.ValueAndErr(); err != nil {
			break
		}
		stopped = fn(it.Key(), v)
	}
	if err := errors.Join(err, it.Close()); err != nil { // Close reports what stopped the iterator early
		return s.failWith(fmt.Errorf("read state: %w", err))
	}
	if stopped != nil && !errors.Is(stopped, errStop) {
		return stopped
	}
	return s.Err()
}

// Load calls fn once for each key, in order, with its entity's record, or nil where there is none. The keys must be ascending and
// distinct. A record is valid during the call only; an error of fn ends the load and is returned as it is.
func (s *Store) Load(keys [][]byte, fn func(i int, record []byte) error) error {
	if err := s.Err(); err != nil {
		return err
	}
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: []byte{spaceEntity}, UpperBound: []byte{spaceEntity + 1}})
	if err != nil {
		return s.failWith(fmt.Errorf("load entities: %w", err))
	}
	var stopped error
	for i := range keys {
		s.key = appendEntityKey(s.key[:0], keys[i])
		var record []byte
		if it.SeekPrefixGE(s.key) { // a prefix is a whole key here, so filters answer for most of the absent
			if record, err = it.ValueAndErr(); err != nil {
				break
			}
			if record == nil {
				record = []byte{}
			}
		} else if it.Error() != nil {
			break
		}
		if stopped = fn(i, record); stopped != nil {
			break
		}
	}
	if err := errors.Join(err, it.Close()); err != nil {
		return s.failWith(fmt.Errorf("load entities: %w", err))
	}
	if stopped != nil {
		return stopped
	}
	return s.Err()
}

// Chunks calls fn for each chunk of the entity, by ascending number. The data is valid during the call only.
func (s *Store) Chunks(entity []byte, fn func(no uint32, data []byte) error) error {
	if !s.chunks {
		return s.Err()
	}
	from, to := appendChunkPrefix(nil, entity), appendChunkEnd(nil, entity)
	return s.scan(s.db, from, to, func(k, v []byte) error {
		if len(k) != len(from)+4 {
			return fmt.Errorf("chunk key %x: %w", k, errCorrupt)
		}
		return fn(binary.BigEndian.Uint32(k[len(from):]), v)
	})
}

// eachRestart is after how many entities Each begins a new iterator, so that it holds no memtable for longer.
const eachRestart = 16384

// Each calls fn for all entities whose key is at least from, in key order, as they were when it was called; the store may be written
// meanwhile. Entity and record are valid during the call only. It ends with the error of ctx or fn where there is one.
func (s *Store) Each(ctx context.Context, from []byte, fn func(entity, record []byte) error) error {
	if err := s.Err(); err != nil {
		return err
	}
	snapshot := s.db.NewSnapshot()
	defer snapshot.Close()
	next, end := appendEntityKey(nil, from), []byte{spaceEntity + 1}
	for next != nil {
		n, from := 0, next
		next = nil
		err := s.scan(snapshot, from, end, func(k, v []byte) error {
			if n == eachRestart {
				next = bytes.Clone(k)
				return errStop
			}
			n++
			if err := ctx.Err(); err != nil {
				return err
			}
			return fn(k[1:], v)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Meta returns what SetMeta wrote last, nil in a new store.
func (s *Store) Meta() ([]byte, error) {
	if err := s.Err(); err != nil {
		return nil, err
	}
	return s.get(metaKey)
}

// Dirty reports whether anything was committed since the last Checkpoint, or since Open. Where it is false the last checkpoint still
// holds everything.
func (s *Store) Dirty() bool { return s.dirty }

// Flush begins to write all that was committed to tables, beside what is committed meanwhile, so that a Checkpoint after it has little left
// to write. The channel is closed when it is done; it never is if the store fails.
func (s *Store) Flush() (done <-chan struct{}, err error) {
	if err := s.Err(); err != nil {
		return nil, err
	}
	done, err = s.db.AsyncFlush()
	if err != nil {
		return nil, s.failWith(fmt.Errorf("flush state: %w", err))
	}
	return done, nil
}

// Checkpoint makes all that was committed durable and puts a copy of it into dir, which must not exist: hard links to the tables, which
// never change, and a few small files. The copy is a complete store that Open opens.
func (s *Store) Checkpoint(dir string) error {
	flushed, err := s.Flush()
	if err != nil {
		return err
	}
	select {
	case <-flushed:
	case <-s.failed: // a flush that fails is tried again without end
		return s.Err()
	}
	if err := s.db.Checkpoint(dir); err != nil {
		return s.failWith(fmt.Errorf("checkpoint state to %s: %w", dir, err))
	}
	if err := s.Err(); err != nil {
		return err
	}
	s.dirty = false
	return nil
}

// DiskBytes returns the size of the store's files.
func (s *Store) DiskBytes() int64 { return int64(s.db.Metrics().DiskSpaceUsage()) }

// Err returns the first failure of the store, nil while it works.
func (s *Store) Err() error {
	select {
	case <-s.failed:
		return s.failure
	default:
		return nil
	}
}

// Close releases the store. What was not checkpointed is lost.
func (s *Store) Close() error {
	close(s.closing)
	s.compactions.stop()
	err := s.db.Close()
	s.res.open.Add(-1)
	if err != nil {
		return fmt.Errorf("close state %s: %w", s.dir, err)
	}
	return nil
}

// fail makes the store return err from now on. Pebble calls it with its locks held.
func (s *Store) fail(err error) {
	s.failOnce.Do(func() {
		s.failure = fmt.Errorf("state %s has failed: %w", s.dir, err)
		close(s.failed)
		s.compactions.stop()
	})
}

func (s *Store) failWith(err error) error {
	s.fail(err)
	return s.Err()
}

func (s *Store) wake() {
	select {
	case s.progress <- struct{}{}:
	default:
	}
}

// Commits wait while so much is not flushed, or so many runs of tables lie on level 0.
const (
	maxMemTables = 3
	maxL0Runs    = 20
)

// throttle waits until flushes and compactions keep up, or the store fails. It is what Pebble's write stall is for, but ends with an
// error where that would wait for ever.
func (s *Store) throttle(committed int) error {
	s.unchecked += int64(committed)
	if s.unchecked < s.memTable/4 {
		return s.Err()
	}
	s.unchecked = 0
	var began time.Time
	for {
		m := s.db.Metrics()
		if m.MemTable.Size <= uint64(maxMemTables*s.memTable) && m.Levels[0].Sublevels <= maxL0Runs {
			break
		}
		if began.IsZero() {
			began = time.Now()
		}
		select {
		case <-s.progress:
		case <-s.failed:
			return s.Err()
		}
	}
	if !began.IsZero() {
		s.res.stalls.Add(time.Since(began).Seconds())
	}
	return s.Err()
}
