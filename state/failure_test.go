package state

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// fault lets operations of a file system fail: the nth and, where it lasts, all after it. Writing operations only, or reading ones.
type fault struct {
	nth   int64
	lasts bool
	kind  errorfs.OpReadWrite
	seen  atomic.Int64
	hit   atomic.Bool
}

func (f *fault) String() string { return fmt.Sprintf("operation %d fails, lasting %t", f.nth, f.lasts) }

func (f *fault) MaybeError(op errorfs.Op) error {
	if op.Kind.ReadOrWrite() != f.kind || op.Kind == errorfs.OpRemove { // what cannot be removed is only garbage
		return nil
	}
	n := f.seen.Add(1)
	if n == f.nth || f.lasts && n > f.nth {
		f.hit.Store(true)
		return syscall.ENOSPC
	}
	return nil
}

// life is what a shard does with its store until an error ends it: batches with the meta of their number, some checkpoints.
type life struct {
	m           *model
	r           *rand.Rand
	committed   []string            // the model after each committed batch, the empty store first
	checkpoints map[string][]string // the model by directory of each finished checkpoint
	ballast     int                 // bytes in each batch beside the model's
}

func newLife(seed uint64, ballast int) *life {
	m := newModel()
	return &life{
		m: m, r: rand.New(rand.NewPCG(seed, 1)), ballast: ballast,
		committed: []string{fmt.Sprint(m.dump())}, checkpoints: map[string][]string{},
	}
}

// step commits one batch; every tenth is followed by a checkpoint.
func (l *life) step(s *Store) error {
	n := len(l.committed)
	b := s.NewBatch()
	defer b.Close()
	for range 1 + l.r.IntN(20) {
		l.m.random(l.r, b)
	}
	data := make([]byte, l.ballast)
	for i := range data {
		data[i] = byte(l.r.Uint32())
	}
	b.SetChunk([]byte("ballast"), uint32(n%32), data)
	l.m.meta = string(binary.BigEndian.AppendUint32(nil, uint32(n)))
	b.SetMeta([]byte(l.m.meta))
	if err := b.Commit(); err != nil {
		return err
	}
	l.committed = append(l.committed, fmt.Sprint(l.m.dump()))
	if n%10 != 0 {
		return nil
	}
	dir := fmt.Sprintf("checkpoint-%d", n)
	if err := s.Checkpoint(dir); err != nil {
		return err
	}
	l.checkpoints[dir] = l.m.dump()
	return nil
}

// run opens a store and lives through so many batches. It returns the store, if it was opened, and the error that ended it.
func (l *life) run(fs vfs.FS, r *Resources, batches int) (*Store, error) {
	s, err := Open("db", r, fs)
	if err != nil {
		return nil, err
	}
	for range batches {
		if err := l.step(s); err != nil {
			return s, err
		}
	}
	return s, nil
}

// TestFaultsNeverLose lets each operation of the file system fail in turn. Whatever happens, no call hangs, a store that has failed says
// so in every call, and a checkpoint that was reported done is whole.
func TestFaultsNeverLose(t *testing.T) {
	res := resources(t, small())
	const batches = 45
	for _, kind := range []errorfs.OpReadWrite{errorfs.OpIsWrite, errorfs.OpIsRead} {
		probe := &fault{kind: kind}
		s, err := newLife(3, 30<<10).run(errorfs.Wrap(vfs.NewMem(), probe), res, batches)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		total := probe.seen.Load()
		stride := max(1, total/60)
		ended, hits := 0, 0
		for n := int64(1); n < total; n += stride {
			for _, lasts := range []bool{true, false} {
				f := &fault{nth: n, lasts: lasts, kind: kind}
				if err := liveWithFault(t, res, f, batches); err != nil {
					ended++
				}
				if f.hit.Load() {
					hits++
				}
			}
		}
		t.Logf("kind %v: %d operations, %d faults, %d ended the store", kind, total, hits, ended)
		if hits < 50 || ended == 0 {
			t.Errorf("only %d faults were hit, %d ended a store", hits, ended)
		}
	}
}

// liveWithFault lives with the fault and returns the error that ended the store, nil where none did.
func liveWithFault(t *testing.T, res *Resources, f *fault, batches int) error {
	t.Helper()
	mem := vfs.NewMem()
	l := newLife(3, 30<<10)
	type outcome struct {
		s   *Store
		err error
	}
	done := make(chan outcome, 1)
	go func() {
		s, err := l.run(errorfs.Wrap(mem, f), res, batches)
		if s != nil {
			if err == nil && f.lasts && f.kind == errorfs.OpIsWrite {
				hit := f.hit.Load()
				if err = s.Checkpoint("last"); err == nil && hit { // what only the background has met must come out here
					t.Errorf("%v, and the store did not notice", f)
				}
			}
			if err != nil {
				failsEverywhere(t, f, s)
			}
			s.Close() // its error says nothing new
		}
		done <- outcome{s, err}
	}()
	var o outcome
	select {
	case o = <-done:
	case <-time.After(20 * time.Second):
		t.Fatalf("%v: a call hangs", f)
	}
	for dir, want := range l.checkpoints {
		s, err := Open(dir, res, mem)
		if err != nil {
			t.Errorf("%v: %s was reported done, but %v", f, dir, err)
			continue
		}
		if got, err := dump(s, 0, 255); err != nil || !slices.Equal(got, want) {
			t.Errorf("%v: %s was reported done, but holds %q, %v; want %q", f, dir, got, err, want)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	return o.err
}

// failsEverywhere checks that a failed store returns its failure from every method.
func failsEverywhere(t *testing.T, f *fault, s *Store) {
	want := s.Err()
	if want == nil {
		t.Errorf("%v: a call failed, but the store has no error", f)
		return
	}
	_, metaErr := s.Meta()
	_, _, nextErr := s.NextTimer(0)
	b := s.NewBatch()
	b.SetMeta(nil)
	for name, err := range map[string]error{
		"Load":       s.Load([][]byte{{1}}, func(int, []byte) error { return nil }),
		"Chunks":     s.Chunks([]byte{1}, func(uint32, []byte) error { return nil }),
		"Timers":     s.Timers(0, 0, 1, func(int64, []byte) error { return nil }),
		"NextTimer":  nextErr,
		"Each":       s.Each(t.Context(), nil, func(_, _ []byte) error { return nil }),
		"Meta":       metaErr,
		"Commit":     b.Commit(),
		"Checkpoint": s.Checkpoint("after"),
	} {
		if !errors.Is(err, want) {
			t.Errorf("%v: %s of a failed store returns %v", f, name, err)
		}
	}
	b.Close()
}

// TestFullDiskEndsCommits never checkpoints: the commits themselves must end once memory cannot be flushed, instead of waiting or growing.
func TestFullDiskEndsCommits(t *testing.T) {
	f := &fault{nth: 100, lasts: true, kind: errorfs.OpIsWrite}
	s, err := Open("db", resources(t, small()), errorfs.Wrap(vfs.NewMem(), f))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	b := s.NewBatch()
	defer b.Close()
	total := 0
	for before := 0; err == nil && total < 64<<20; before += b.Len() {
		b.Reset()
		b.SetChunk([]byte("e"), uint32(before), bytes.Repeat([]byte{byte(before)}, 50<<10))
		err = b.Commit()
		if f.hit.Load() {
			total += b.Len()
		}
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("after %d bytes on a full disk: %v", total, err)
	}
	if limit := 8 * minMemTableBytes; total > limit {
		t.Errorf("%d bytes were taken on a full disk, at most %d should be", total, limit)
	}
}

// TestFatalIsAFailure: what Pebble considers fatal must neither end the process nor be passed over.
func TestFatalIsAFailure(t *testing.T) {
	s := open(t, "db", resources(t, small()), vfs.NewMem())
	(&pebbleLog{s}).Fatalf("fatal commit error: %v", syscall.EIO)
	b := s.NewBatch()
	defer b.Close()
	b.SetMeta([]byte("m"))
	if err := b.Commit(); !errors.Is(err, syscall.EIO) {
		t.Errorf("a commit after a fatal error returns %v", err)
	}
}

// TestCrashesLeaveAPrefix cuts the power after random batches, with unsynced data lost wholly, partly or not at all.
func TestCrashesLeaveAPrefix(t *testing.T) {
	res := resources(t, small())
	behind := 0
	for seed := range uint64(40) {
		fs := vfs.NewCrashableMem()
		l := newLife(seed, 12<<10)
		s, err := Open("db", res, fs)
		if err != nil {
			t.Fatal(err)
		}
		for range 20 + l.r.IntN(60) {
			if err := l.step(s); err != nil {
				t.Fatal(err)
			}
		}
		for _, unsynced := range []int{0, 50, 100} {
			after := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: unsynced, RNG: rand.New(rand.NewPCG(seed, 2))})
			n := survivor(t, res, after, l)
			behind += len(l.committed) - 1 - n
			for dir, want := range l.checkpoints {
				c, err := Open(dir, res, after)
				if err != nil {
					t.Fatalf("seed %d: checkpoint %s did not survive: %v", seed, dir, err)
				}
				if got, err := dump(c, 0, 255); err != nil || !slices.Equal(got, want) {
					t.Fatalf("seed %d: checkpoint %s holds %q, %v; want %q", seed, dir, got, err, want)
				}
				if err := c.Close(); err != nil {
					t.Error(err)
				}
			}
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	if behind == 0 {
		t.Error("no crash lost anything: this test proves nothing")
	}
}

// survivor checks that the live directory holds exactly the first n batches, and returns n, which it takes from the meta.
func survivor(t *testing.T, res *Resources, fs vfs.FS, l *life) int {
	t.Helper()
	s, err := Open("db", res, fs)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	meta, err := s.Meta()
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	if meta != nil {
		n = int(binary.BigEndian.Uint32(meta))
	}
	got, err := dump(s, 0, 255)
	if err != nil || fmt.Sprint(got) != l.committed[n] {
		t.Fatalf("after a crash the store says batch %d and holds %q, %v; want %s", n, got, err, l.committed[n])
	}
	return n
}
