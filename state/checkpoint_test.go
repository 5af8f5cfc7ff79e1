package state

import (
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// hashes returns the SHA-256 of each file below dir, by name.
func hashes(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	sums := map[string]string{}
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		sums[e.Name()] = fmt.Sprintf("%x", sha256.Sum256(data))
	}
	return sums
}

// fill writes a record to each user, different ones to each so that they do not compress away.
func fill(t *testing.T, s *Store, from, to int, record string) {
	t.Helper()
	noise := rand.New(rand.NewPCG(uint64(from), uint64(to)))
	for i := from; i < to; i += 1000 {
		commit(t, s, func(b *Batch) {
			for j := i; j < i+1000; j++ {
				b.Set(fmt.Appendf(nil, "user-%06d", j), fmt.Appendf(nil, "%s%x%x%x%x", record, noise.Uint64(), noise.Uint64(), noise.Uint64(), noise.Uint64()))
			}
			b.SetMeta(fmt.Append(nil, record, i))
		})
	}
}

// TestCheckpointsAreImmutable: a directory restored by hard links is opened, rewritten and compacted; the files it was linked from, and a
// checkpoint of the store they came from, keep every byte. An unchanged table is shared by successive checkpoints.
func TestCheckpointsAreImmutable(t *testing.T) {
	const users = 150_000
	cfg := small()
	cfg.MemTablesBytes, cfg.MemTableBytes = 32<<20, 4<<20
	res, dir := resources(t, cfg), t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	s := open(t, path("live"), res, nil)
	fill(t, s, 0, users, "a")
	if err := s.db.Compact(t.Context(), []byte{0}, []byte{0xff}, false); err != nil { // as it is after a while
		t.Fatal(err)
	}
	if err := s.Checkpoint(path("one")); err != nil {
		t.Fatal(err)
	}
	if err := s.Checkpoint(path("one")); err == nil {
		t.Fatal("a checkpoint was written over another")
	} else if s.Err() == nil {
		t.Fatal("and the store did not fail")
	}
	before := hashes(t, path("one"))
	if err := os.Mkdir(path("restored"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name := range before {
		if err := os.Link(filepath.Join(path("one"), name), filepath.Join(path("restored"), name)); err != nil {
			t.Fatal(err)
		}
	}
	r := open(t, path("restored"), res, nil)
	fill(t, r, 0, 1000, "b") // the rest of the tables may stay
	if err := r.Checkpoint(path("two")); err != nil {
		t.Fatal(err)
	}
	two := hashes(t, path("two"))
	shared := 0
	for name, sum := range two {
		if strings.HasSuffix(name, ".sst") && before[name] == sum {
			shared++
		}
	}
	if shared == 0 {
		t.Error("the second checkpoint shares no table with the first")
	}
	fill(t, r, 0, users, "c")
	if err := r.Checkpoint(path("three")); err != nil {
		t.Fatal(err)
	}
	for name, then := range map[string]map[string]string{"one": before, "two": two} {
		for file, sum := range hashes(t, path(name)) {
			if then[file] != sum {
				t.Errorf("%s of checkpoint %s has changed", file, name)
			}
		}
	}
	old := open(t, path("two"), res, nil)
	var got []string
	if err := old.Load([][]byte{[]byte("user-000999"), []byte("user-001000")}, func(_ int, record []byte) error {
		got = append(got, string(record[:1]))
		return nil
	}); err != nil || !slices.Equal(got, []string{"b", "a"}) {
		t.Errorf("checkpoint two holds %q, %v", got, err)
	}
	if n := r.DiskBytes(); n < users*60 || n > users*600 {
		t.Errorf("the store says it has %d bytes on disk", n)
	}
}

// TestWorkedOffTimersCostNothing: the timers of one tick are worked off in batches; a scan after many of them must not walk over all that
// were deleted before. It counts the keys that Pebble steps over, not time.
func TestWorkedOffTimersCostNothing(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "db"), resources(t, Default()), nil)
	const timers, batch = 40_000, 500
	commit(t, s, func(b *Batch) {
		for i := range timers {
			b.SetTimer(1, 1000, fmt.Appendf(nil, "user-%06d", i))
		}
	})
	var due [][]byte
	for done := 0; done < timers; done += len(due) {
		due = due[:0]
		if err := s.Timers(1, 2000, batch, func(_ int64, entity []byte) error {
			due = append(due, slices.Clone(entity))
			return nil
		}); err != nil || len(due) != batch {
			t.Fatalf("%d timers, %v", len(due), err)
		}
		commit(t, s, func(b *Batch) {
			for _, e := range due {
				b.DeleteTimer(1, 1000, e)
			}
		})
	}
	if _, ok, err := s.NextTimer(1); ok || err != nil {
		t.Fatalf("a timer is left: %v", err)
	}
	// The floor lies behind them all, so this scan steps over none.
	it, err := s.db.NewIter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer it.Close()
	if it.SeekGE(s.floor(1)) {
		t.Fatal("something lies behind the floor")
	}
	if n := it.Stats().InternalStats.PointsCoveredByRangeTombstones + it.Stats().InternalStats.PointCount; n > batch {
		t.Errorf("a scan after the last timer looks at %d keys", n)
	}
	commit(t, s, func(b *Batch) { b.SetTimer(1, -5, []byte("early")) })
	if at, ok, err := s.NextTimer(1); err != nil || !ok || at != -5 {
		t.Errorf("a timer set below the floor: %d, %t, %v", at, ok, err)
	}
}

// TestFlushAhead: what was committed before, during and after a flush is in the checkpoint, and a flush with nothing to write ends too.
func TestFlushAhead(t *testing.T) {
	res, dir := resources(t, Default()), t.TempDir()
	s := open(t, filepath.Join(dir, "live"), res, nil)
	fill(t, s, 0, 20_000, "before")
	flushed, err := s.Flush()
	if err != nil {
		t.Fatal(err)
	}
	fill(t, s, 10_000, 21_000, "during")
	<-flushed
	if !s.Dirty() {
		t.Error("a flush is taken for a checkpoint")
	}
	fill(t, s, 20_500, 22_000, "after")
	want, err := dump(s)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		name := filepath.Join(dir, string(rune('a'+i)))
		if err := s.Checkpoint(name); err != nil {
			t.Fatal(err)
		}
		copied := open(t, name, res, nil)
		got, err := dump(copied)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got, want) {
			t.Errorf("checkpoint %d has %d records, the store %d, or others", i, len(got), len(want))
		}
		if flushed, err = s.Flush(); err != nil { // nothing to write
			t.Fatal(err)
		}
		<-flushed
	}
}
