package parquet

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/freshet-dev/freshet/schemas"
	"github.com/freshet-dev/freshet/sink"
)

func smallSpec() sink.Spec {
	return sink.Spec{Group: "g", Version: 1, Hash: 0x0102030405060708, Entity: "user",
		Keys:     []sink.Field{{Name: "user_id", Type: schemas.Type{Kind: schemas.String}}},
		Features: []sink.Field{{Name: "n", Type: schemas.Type{Kind: schemas.Int}}}}
}

// smallRow is row i: of one of three entities.
func smallRow(i int) sink.Row {
	return sink.Row{Entity: fmt.Appendf(nil, "u%d", i%3), Version: sink.Version{Generation: 1, Offset: int64(i), AsOf: day + int64(i)}, ValidUntil: sink.Never,
		ComputedAt: (day + int64(i)) * 1000, Cause: sink.Event, Values: []schemas.Value{schemas.IntValue(int64(i))}}
}

func smallRows(first, n int) []sink.Row {
	rows := make([]sink.Row, n)
	for i := range rows {
		rows[i] = smallRow(first + i)
	}
	return rows
}

// availableOf is when row i was acknowledged: every seventh is refused.
func availableOf(i int) int64 {
	if i%7 == 6 {
		return 0
	}
	return (day + int64(i)) * 1000
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(tb testing.TB) T {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
		return v
	}
}

func check(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// offsets returns the source offsets of the log rows, which name them.
func offsets(tb testing.TB, seg *Segment) []int64 {
	tb.Helper()
	var got []int64
	check(tb, seg.Each(func(row *sink.Row) error {
		want := smallRow(int(row.Version.Offset))
		want.AvailableAt = availableOf(int(row.Version.Offset))
		if text(row) != text(&want) {
			return fmt.Errorf("got %+v, want %+v", row, want)
		}
		got = append(got, row.Version.Offset)
		return nil
	}))
	return got
}

func TestSegmentGolden(t *testing.T) {
	path := filepath.Join(t.TempDir(), "segment")
	seg := must(CreateSegment(sink.OS, path, headerOf(smallSpec())))(t)
	must(seg.Sent(smallRows(0, 2)))(t)
	check(t, seg.Acked(0, []int64{availableOf(0), 0}))
	check(t, seg.Sync())
	last := smallRow(2)
	last.AvailableAt = availableOf(2)
	check(t, seg.Rows([]sink.Row{last}))
	check(t, seg.Close())
	golden(t, "segment.hex", must(os.ReadFile(path))(t))
}

// golden compares bytes that are stored somewhere with testdata/name, in hex.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	text := hex.EncodeToString(got) + "\n"
	if os.Getenv("FRESHET_UPDATE") != "" {
		check(t, os.WriteFile(path, []byte(text), 0o644))
	}
	if want := string(must(os.ReadFile(path))(t)); text != want {
		t.Errorf("%s:\n got %swant %s", name, text, want)
	}
}

func TestSegmentResumes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "segment")
	h := headerOf(smallSpec())
	seg := must(CreateSegment(sink.OS, path, h))(t)
	if _, err := seg.Sent(smallRows(0, 10)); err != nil {
		t.Fatal(err)
	}
	acks := func(first, n int) (times []int64) {
		for i := range n {
			times = append(times, availableOf(first+i))
		}
		return times
	}
	check(t, seg.Acked(2, acks(2, 3))) // out of order, as pipelines answer
	check(t, seg.Acked(6, acks(6, 2)))
	check(t, seg.Close())
	before := seg.Hash()

	seg, r, err := OpenSegment(sink.OS, path, h)
	check(t, err)
	if seg.Hash() != before || seg.AckedRows() != 4 || r.Acked != 4 || r.Refused != 1 || r.TornBytes != 0 {
		t.Errorf("reopened: %d rows, %+v", seg.AckedRows(), r)
	}
	var doubts []uint64
	for _, d := range r.InDoubt {
		if want := smallRow(int(d.Sequence)); text(&d.Row) != text(&want) {
			t.Errorf("in doubt %+v, want %+v", d.Row, want)
		}
		doubts = append(doubts, d.Sequence)
	}
	if fmt.Sprint(doubts) != "[0 1 5 8 9]" || seg.InDoubt() != 5 {
		t.Errorf("in doubt %v", doubts)
	}
	newest := map[string]int64{}
	check(t, r.Newest(func(entity []byte, v sink.Version, available int64) error {
		if available != availableOf(int(v.Offset)) {
			t.Errorf("%s: version %v at %d", entity, v, available)
		}
		newest[string(entity)] = v.Offset
		return nil
	}))
	if fmt.Sprint(newest) != "map[u0:3 u1:7 u2:2]" {
		t.Errorf("newest %v", newest)
	}
	check(t, seg.Acked(0, acks(0, 2)))
	check(t, seg.Acked(8, acks(8, 2)))
	if first := must(seg.Sent(smallRows(10, 1)))(t); first != 10 {
		t.Errorf("the row after 10 has number %d", first)
	}
	if got := fmt.Sprint(offsets(t, seg)); got != "[0 1 2 3 4 7 8 9]" {
		t.Errorf("log rows %v", got)
	}
	check(t, seg.Verify(seg.Ref("segment")))
	check(t, seg.Close())
}

func TestSegmentRefusesWhatItCannotHold(t *testing.T) {
	path := filepath.Join(t.TempDir(), "segment")
	seg := must(CreateSegment(sink.OS, path, headerOf(smallSpec())))(t)
	must(seg.Sent(smallRows(0, 3)))(t)
	check(t, seg.Acked(1, []int64{1}))
	length := seg.Len()
	twoFeatures := smallRow(3)
	twoFeatures.Values = append(twoFeatures.Values, schemas.IntValue(1))
	long := smallRow(3)
	long.Entity = make([]byte, schemas.MaxEntityBytes+1)
	nothing := smallRow(3)
	nothing.Cause = 0
	for what, err := range map[string]error{
		"acknowledging twice":        seg.Acked(1, []int64{2}),
		"across what is settled":     seg.Acked(0, []int64{2, 2, 2}),
		"what was never sent":        seg.Acked(2, []int64{2, 2}),
		"a time before 1970":         seg.Acked(0, []int64{-5}),
		"a log row without time":     seg.Rows(smallRows(3, 1)),
		"another number of features": second(seg.Sent([]sink.Row{twoFeatures})),
		"a long entity":              second(seg.Sent([]sink.Row{long})),
		"a row without cause":        second(seg.Sent([]sink.Row{nothing})),
	} {
		if err == nil {
			t.Errorf("%s is taken", what)
		}
	}
	if seg.Len() != length {
		t.Error("something was written")
	}
	check(t, seg.Close())
	other := headerOf(smallSpec())
	other.SpecHash++
	if _, _, err := OpenSegment(sink.OS, path, other); err == nil {
		t.Error("another definition's segment is opened")
	}
	if h, err := ReadHeader(sink.OS, path); err != nil || h != headerOf(smallSpec()) {
		t.Errorf("header %+v, %v", h, err)
	}
}

func second[T any](_ T, err error) error { return err }

// TestCreateSegmentSparesTheBucket: the segment before may be an object by another name.
func TestCreateSegmentSparesTheBucket(t *testing.T) {
	dir := t.TempDir()
	path, object := filepath.Join(dir, "segment"), filepath.Join(dir, "object")
	check(t, createSegment(t, sink.OS, path, smallSpec(), nil).Close())
	check(t, os.Link(path, object))
	before := must(os.ReadFile(object))(t)
	h := headerOf(smallSpec())
	h.Number++
	check(t, must(CreateSegment(sink.OS, path, h))(t).Close())
	if !bytes.Equal(must(os.ReadFile(object))(t), before) {
		t.Error("creating a segment changed the object that was it")
	}
}

// syncedSegment returns the bytes of a segment whose first frames are synced, and where the synced part ends.
func syncedSegment(t *testing.T) (data []byte, synced int64) {
	path := filepath.Join(t.TempDir(), "segment")
	seg := must(CreateSegment(sink.OS, path, headerOf(smallSpec())))(t)
	for i := range 6 {
		must(seg.Sent(smallRows(2*i, 2)))(t)
		check(t, seg.Acked(uint64(2*i), []int64{availableOf(2 * i), availableOf(2*i + 1)}))
		if i == 3 {
			check(t, seg.Sync())
			synced = seg.Len()
		}
	}
	check(t, seg.Close())
	return must(os.ReadFile(path))(t), synced
}

// prefixOf reports whether got are the first rows of all: those a torn tail leaves.
func prefixOf(got []int64) bool {
	next := int64(0)
	for _, o := range got {
		for availableOf(int(next)) == 0 {
			next++
		}
		if o != next {
			return false
		}
		next++
	}
	return true
}

func TestSegmentTruncatedAnywhere(t *testing.T) {
	data, _ := syncedSegment(t)
	path := filepath.Join(t.TempDir(), "segment")
	most := 0
	for n := range len(data) + 1 {
		check(t, os.WriteFile(path, data[:n], 0o644))
		seg, r, err := OpenSegment(sink.OS, path, headerOf(smallSpec()))
		if err != nil {
			if n >= 42 || !errors.Is(err, ErrNoHeader) {
				t.Fatalf("%d bytes: %v", n, err)
			}
			continue
		}
		got := offsets(t, seg)
		if !prefixOf(got) || len(got) < most || seg.Len()+r.TornBytes != int64(n) {
			t.Fatalf("%d bytes: rows %v", n, got)
		}
		most = len(got)
		// What is written next follows the last whole frame.
		next := int(seg.next)
		must(seg.Sent(smallRows(next, 1)))(t)
		check(t, seg.Close())
		if _, r, err = OpenSegment(sink.OS, path, headerOf(smallSpec())); err != nil || r.TornBytes != 0 || r.InDoubt[len(r.InDoubt)-1].Sequence != uint64(next) {
			t.Fatalf("%d bytes, one row more: %+v, %v", n, r, err)
		}
	}
	if most != 11 {
		t.Errorf("the whole segment has %d rows", most)
	}
}

// TestSegmentFlippedAnywhere: a flipped bit in what is durable, with anything written after the next sync, is an error; behind that it may
// be taken for a torn tail, which a manifest's hash tells. Never are rows wrong.
func TestSegmentFlippedAnywhere(t *testing.T) {
	data, synced := syncedSegment(t)
	path := filepath.Join(t.TempDir(), "segment")
	for i := range data {
		for _, bit := range []byte{1, 0x80} {
			flipped := bytes.Clone(data)
			flipped[i] ^= bit
			check(t, os.WriteFile(path, flipped, 0o644))
			seg, _, err := OpenSegment(sink.OS, path, headerOf(smallSpec()))
			if err != nil {
				if !bytes.Equal(must(os.ReadFile(path))(t), flipped) {
					t.Fatalf("byte %d: refused, but changed", i)
				}
				if i >= int(synced) || !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrNoHeader) {
					t.Fatalf("byte %d: %v", i, err)
				}
				if errors.Is(err, ErrDamaged) && !strings.Contains(err.Error(), "at byte ") {
					t.Fatalf("byte %d: %v does not say where", i, err)
				}
				continue
			}
			if i < int(synced) {
				t.Fatalf("byte %d of %d synced ones: opened", i, synced)
			}
			if got := offsets(t, seg); !prefixOf(got) {
				t.Fatalf("byte %d: rows %v", i, got)
			}
			if err := seg.Verify(SegmentRef{Length: int64(len(data))}); !errors.Is(err, ErrDamaged) {
				t.Fatalf("byte %d: the manifest's hash: %v", i, err)
			}
			check(t, seg.Close())
		}
	}
}

// crashFS adapts Pebble's crashable file system in memory.
type crashFS struct {
	sink.FS // nil: what is not used here
	mem     *vfs.MemFS
}

type crashFile struct{ vfs.File }

func (f crashFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (c crashFS) file(f vfs.File, err error) (sink.File, error) {
	if err != nil {
		return nil, err
	}
	return crashFile{f}, nil
}

func (c crashFS) Create(name string) (sink.File, error) { return c.file(c.mem.Create(name, "")) }
func (c crashFS) Open(name string) (sink.File, error)   { return c.file(c.mem.Open(name)) }
func (c crashFS) Remove(name string) error              { return c.mem.Remove(name) }

func (c crashFS) Append(name string) (sink.File, error) {
	f, err := c.mem.OpenReadWrite(name, "")
	if err == nil {
		_, err = io.Copy(io.Discard, f) // reading and writing share a position
	}
	return c.file(f, err)
}

func (c crashFS) Truncate(name string, size int64) error {
	data := make([]byte, size)
	f, err := c.mem.Open(name)
	if err != nil {
		return err
	}
	if _, err := io.ReadFull(f, data); err != nil {
		return err
	}
	g, err := c.mem.Create(name+".new", "")
	if err != nil {
		return err
	}
	if _, err := g.Write(data); err != nil {
		return err
	}
	return errors.Join(f.Close(), g.Sync(), g.Close(), c.mem.Rename(name+".new", name))
}

func (c crashFS) SyncDir(dir string) error {
	f, err := c.mem.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// TestSegmentSurvivesPowerLoss: of what was not synced any pages may be left, holes between them. All that was synced is read back, and
// nothing that was not written.
func TestSegmentSurvivesPowerLoss(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	holes := 0
	for round := range 60 {
		mem := vfs.NewCrashableMem()
		check(t, mem.MkdirAll("/d", 0o755))
		check(t, crashFS{mem: mem}.SyncDir("/"))
		fs := sink.FS(crashFS{mem: mem})
		seg := must(CreateSegment(fs, "/d/segment", headerOf(smallSpec())))(t)
		next, synced := 0, SegmentRef{}
		for crash := range 3 {
			for range r.IntN(30) {
				n := 1 + r.IntN(60)
				first := must(seg.Sent(smallRows(next, n)))(t)
				next += n
				if r.IntN(4) > 0 {
					var times []int64
					for i := range n {
						times = append(times, availableOf(int(first)+i))
					}
					check(t, seg.Acked(first, times))
				}
				if r.IntN(12) == 0 {
					check(t, seg.Sync())
					synced = seg.Ref("")
				}
			}
			fs = crashFS{mem: mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 30 * r.IntN(4), RNG: r})}
			mem = fs.(crashFS).mem
			var rec *Recovered
			var err error
			if seg, rec, err = OpenSegment(fs, "/d/segment", headerOf(smallSpec())); err != nil {
				t.Fatalf("round %d, crash %d: %v", round, crash, err)
			}
			check(t, crashFS{mem: mem}.SyncDir("/d"))
			if synced.Length > 0 {
				check(t, seg.Verify(synced))
			}
			if rec.TornBytes > 4096 {
				holes++
			}
			offsets(t, seg)
			next = int(seg.next)
			synced = seg.Ref("")
		}
	}
	if holes == 0 {
		t.Error("no crash has left holes: the test tests nothing")
	}
}

func TestSegmentFailsForGood(t *testing.T) {
	seg := createSegment(t, sink.OS, filepath.Join(t.TempDir(), "segment"), smallSpec(), nil)
	check(t, seg.file.Close()) // a disk that fails
	_, first := seg.Sent(smallRows(0, 1))
	_, second := seg.Sent(smallRows(0, 1))
	if first == nil || second == nil || seg.Sync() == nil || seg.AckedRows() != 0 || seg.InDoubt() != 0 {
		t.Errorf("after a write has failed (%v): %v", first, second)
	}
}

// FuzzOpenSegment: any bytes are an error, or rows that can be read.
func FuzzOpenSegment(f *testing.F) {
	data, err := os.ReadFile(filepath.Join("testdata", "segment.hex"))
	if err != nil {
		f.Fatal(err)
	}
	raw, err := hex.DecodeString(strings.TrimSpace(string(data)))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw, false)
	f.Add(raw[:len(raw)-3], true)
	f.Fuzz(func(t *testing.T, data []byte, seal bool) {
		if seal { // get past the checksums
			data = bytes.Clone(data)
			sealFrames(data)
		}
		fs := crashFS{mem: vfs.NewMem()}
		file := must(fs.Create("segment"))(t)
		must(file.Write(data))(t)
		check(t, file.Close())
		seg, r, err := OpenSegment(fs, "segment", headerOf(smallSpec()))
		if err != nil {
			return
		}
		n := 0
		if err := seg.Each(func(*sink.Row) error { n++; return nil }); err == nil && n != r.Acked {
			t.Fatalf("%d rows, %d counted", n, r.Acked)
		}
		check(t, seg.Close())
	})
}
