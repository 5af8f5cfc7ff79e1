package state

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// small is a configuration that makes flushes and compactions frequent.
func small() Config {
	c := Default()
	c.BlockCacheBytes, c.MemTablesBytes, c.MemTableBytes = 4<<20, 1<<20, minMemTableBytes
	return c
}

func resources(t testing.TB, c Config) *Resources {
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	r := NewResources(c, nil, nil)
	t.Cleanup(r.Close)
	return r
}

// open opens a store that the test's end closes.
func open(t testing.TB, dir string, r *Resources, fs vfs.FS) *Store {
	t.Helper()
	s, err := Open(dir, r, fs)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func commit(t testing.TB, s *Store, fill func(b *Batch)) {
	t.Helper()
	b := s.NewBatch()
	defer b.Close()
	fill(b)
	if err := b.Commit(); err != nil {
		t.Fatal(err)
	}
}

// dump returns everything in the store (of chunks, those of awkward entities) through its read methods, one line each.
func dump(s *Store, kinds ...uint8) ([]string, error) {
	var lines []string
	err := s.Each(context.Background(), nil, func(entity, record []byte) error {
		lines = append(lines, fmt.Sprintf("entity %q %q", entity, record))
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, e := range awkward {
		if err := s.Chunks(e, func(no uint32, data []byte) error {
			lines = append(lines, fmt.Sprintf("chunk %q %d %q", e, no, data))
			return nil
		}); err != nil {
			return nil, err
		}
	}
	for _, k := range kinds {
		if err := s.Timers(k, math.MaxInt64, math.MaxInt, func(at int64, entity []byte) error {
			lines = append(lines, fmt.Sprintf("timer %d %d %q", k, at, entity))
			return nil
		}); err != nil {
			return nil, err
		}
	}
	meta, err := s.Meta()
	return append(lines, fmt.Sprintf("meta %q", meta)), err
}

// awkward entities: none, prefixes of each other, and all that the escapes are made of.
var awkward = [][]byte{
	{}, {0}, {0, 0}, {0, 0, 0}, {0, 0, 0, 0, 0}, {0, 1}, {0, 0xff}, {0, 0xff, 0, 1}, {1}, {1, 0}, []byte("a"), []byte("a\x00"), []byte("a\x00\x01"),
	[]byte("a\x00\xff"), []byte("a\x01"), []byte("ab"), []byte("ab\x00\x00\x00\x00"), []byte("b"), {0xfe}, {0xff}, {0xff, 0}, {0xff, 0xff}, {0xff, 0xff, 0xff, 0xff, 0xff},
}

func TestKeysKeepOrderAndPrefixes(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	entities := slices.Clone(awkward)
	for range 300 {
		e := make([]byte, r.IntN(6))
		for i := range e {
			e[i] = []byte{0, 1, 2, 'a', 0xfe, 0xff}[r.IntN(6)]
		}
		entities = append(entities, e)
	}
	for _, a := range entities {
		from, to := appendChunkPrefix(nil, a), appendChunkEnd(nil, a)
		for _, b := range entities {
			want := bytes.Compare(a, b)
			if got := bytes.Compare(appendEntityKey(nil, a), appendEntityKey(nil, b)); got != want {
				t.Fatalf("entity keys of %x and %x compare %d, want %d", a, b, got, want)
			}
			if got := bytes.Compare(appendTimerKey(nil, 3, -5, a), appendTimerKey(nil, 3, -5, b)); got != want {
				t.Fatalf("timer keys of %x and %x compare %d, want %d", a, b, got, want)
			}
			if got := bytes.Compare(appendChunkKey(nil, a, 7), appendChunkKey(nil, b, 7)); got != want {
				t.Fatalf("chunk keys of %x and %x compare %d, want %d", a, b, got, want)
			}
			for _, no := range []uint32{0, 1, math.MaxUint32} {
				k := appendChunkKey(nil, b, no)
				if in := bytes.Compare(k, from) >= 0 && bytes.Compare(k, to) < 0; in != (want == 0) {
					t.Fatalf("chunk %d of %x lies within the chunks of %x: %t", no, b, a, in)
				}
			}
		}
	}
	instants := []int64{math.MinInt64, -1 << 40, -1, 0, 1, 1 << 40, math.MaxInt64}
	for _, a := range instants {
		for _, b := range instants {
			if got, want := bytes.Compare(appendTimerKey(nil, 0, a, nil), appendTimerKey(nil, 0, b, nil)), cmp.Compare(a, b); got != want {
				t.Fatalf("timer keys at %d and %d compare %d, want %d", a, b, got, want)
			}
		}
	}
}

func TestGoldenFormat(t *testing.T) {
	s := open(t, "db", resources(t, small()), vfs.NewMem())
	commit(t, s, func(b *Batch) {
		b.Set([]byte("u1"), []byte("record"))
		b.Set([]byte{}, []byte("none"))
		b.SetChunk([]byte("a\x00b"), 0x01020304, []byte("data"))
		b.SetTimer(0, -1, []byte("u1"))
		b.SetTimer(0, 0x0102030405060708, []byte("u1"))
		b.SetTimer(255, math.MaxInt64, []byte("u2"))
		b.SetMeta([]byte("meta"))
	})
	var got strings.Builder
	if err := s.scan(s.db, nil, nil, func(k, v []byte) error {
		fmt.Fprintf(&got, "%x = %x\n", k, v)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(filepath.Join("testdata", "format1.txt"))
	if err != nil {
		t.Fatal(err)
	}
	if got.String() != string(want) {
		t.Errorf("the stored format has changed; it needs a new FormatVersion and FORMAT.md\ngot:\n%s\nwant:\n%s", got.String(), want)
	}
}

// restored opens a store that holds exactly the keys of a golden dump.
func restored(t *testing.T, r *Resources, dump string) (*Store, error) {
	fs := vfs.NewMem()
	s, err := Open("raw", r, fs)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(dump) {
		k, v, _ := strings.Cut(strings.TrimSpace(line), " =")
		key, err1 := hex.DecodeString(k)
		value, err2 := hex.DecodeString(strings.TrimSpace(v))
		if err := errors.Join(err1, err2, s.db.Set(key, value, pebble.NoSync)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(s.Checkpoint("db"), s.Close()); err != nil {
		t.Fatal(err)
	}
	return Open("db", r, fs)
}

func TestGoldenFormatIsRead(t *testing.T) {
	golden, err := os.ReadFile(filepath.Join("testdata", "format1.txt"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := restored(t, resources(t, small()), string(golden))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	got, err := dump(s, 0, 255)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		`entity "" "none"`, `entity "u1" "record"`, `timer 0 -1 "u1"`, `timer 0 72623859790382856 "u1"`, `timer 255 9223372036854775807 "u2"`, `meta "meta"`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	var chunks []string
	if err := s.Chunks([]byte("a\x00b"), func(no uint32, data []byte) error {
		chunks = append(chunks, fmt.Sprintf("%x %s", no, data))
		return nil
	}); err != nil || !slices.Equal(chunks, []string{"1020304 data"}) {
		t.Errorf("chunks %q, %v", chunks, err)
	}
}

func TestOpenRefusesOtherFormats(t *testing.T) {
	for name, c := range map[string]struct{ dump, want string }{
		"newer":       {"0000 = 00000002\n", "version 2, this binary knows version 1 only; run the binary that wrote it"},
		"no version":  {"0175 = 00\n", "no format version"},
		"bad version": {"0000 = 01\n", "corrupt"},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := restored(t, resources(t, small()), c.dump)
			if err == nil {
				s.Close()
				t.Fatal("it was opened")
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %q does not say %q", err, c.want)
			}
		})
	}
}

// TestModel drives a store and a plain map with the same random operations, with awkward entities, over flushes and reopenings.
func TestModel(t *testing.T) {
	res := resources(t, small())
	fs := vfs.NewMem()
	s, err := Open("db", res, fs)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { s.Close() }()
	m := newModel()
	r := rand.New(rand.NewPCG(7, 7))
	for step := range 400 {
		b := s.NewBatch()
		for range r.IntN(30) {
			m.random(r, b)
		}
		b.SetMeta(binary.BigEndian.AppendUint32(nil, uint32(step)))
		m.meta = string(binary.BigEndian.AppendUint32(nil, uint32(step)))
		if err := b.Commit(); err != nil {
			t.Fatal(err)
		}
		b.Close()
		if step%7 == 0 {
			m.check(t, s)
		}
		m.checkTimers(t, s, r)
		if step%40 == 39 {
			dir := fmt.Sprintf("checkpoint-%d", step)
			if !s.Dirty() {
				t.Fatal("a store that was written is not dirty")
			}
			if err := errors.Join(s.Checkpoint(dir), s.Close()); err != nil {
				t.Fatal(err)
			}
			if s, err = Open(dir, res, fs); err != nil {
				t.Fatal(err)
			}
			if s.Dirty() {
				t.Fatal("a store just opened is dirty")
			}
			m.check(t, s)
		}
	}
}

// model is what a Store should hold.
type model struct {
	records map[string]string
	chunks  map[string]map[uint32]string
	timers  map[string]struct{} // by key without the space byte
	meta    string
}

func newModel() *model {
	return &model{records: map[string]string{}, chunks: map[string]map[uint32]string{}, timers: map[string]struct{}{}}
}

func (m *model) random(r *rand.Rand, b *Batch) {
	e := awkward[r.IntN(len(awkward))]
	value := fmt.Sprint(r.Uint64())
	no, at, kind := uint32(r.IntN(4)), int64(r.IntN(40)-20), uint8(r.IntN(2)*255)
	timer := string(appendTimerKey(nil, kind, at, e))
	switch r.IntN(8) {
	case 0, 1:
		b.Set(e, []byte(value))
		m.records[string(e)] = value
	case 2:
		b.Delete(e)
		delete(m.records, string(e))
		delete(m.chunks, string(e))
	case 3:
		b.SetChunk(e, no, []byte(value))
		if m.chunks[string(e)] == nil {
			m.chunks[string(e)] = map[uint32]string{}
		}
		m.chunks[string(e)][no] = value
	case 4:
		b.DeleteChunk(e, no)
		delete(m.chunks[string(e)], no)
	case 5:
		b.SetTimer(kind, at, e)
		m.timers[timer] = struct{}{}
	case 6, 7:
		b.DeleteTimer(kind, at, e)
		delete(m.timers, timer)
	}
}

// dump returns what dump of a store should.
func (m *model) dump() []string {
	var lines []string
	for _, e := range slices.Sorted(maps.Keys(m.records)) {
		lines = append(lines, fmt.Sprintf("entity %q %q", e, m.records[e]))
	}
	for _, e := range awkward {
		for _, no := range slices.Sorted(maps.Keys(m.chunks[string(e)])) {
			lines = append(lines, fmt.Sprintf("chunk %q %d %q", e, no, m.chunks[string(e)][no]))
		}
	}
	for _, k := range slices.Sorted(maps.Keys(m.timers)) {
		lines = append(lines, fmt.Sprintf("timer %d %d %q", k[1], int64(binary.BigEndian.Uint64([]byte(k[2:]))^1<<63), k[timerHead:]))
	}
	if m.meta == "" {
		return append(lines, `meta ""`)
	}
	return append(lines, fmt.Sprintf("meta %q", m.meta))
}

func (m *model) check(t *testing.T, s *Store) {
	t.Helper()
	keys := slices.Clone(awkward)
	slices.SortFunc(keys, bytes.Compare)
	calls := 0
	if err := s.Load(keys, func(i int, record []byte) error {
		calls++
		if want, ok := m.records[string(keys[i])]; ok != (record != nil) || string(record) != want {
			t.Errorf("record of %x is %q, want %q", keys[i], record, want)
		}
		return nil
	}); err != nil || calls != len(keys) {
		t.Fatalf("load called %d times of %d: %v", calls, len(keys), err)
	}
	for _, e := range keys {
		got, last := map[uint32]string{}, -1
		if err := s.Chunks(e, func(no uint32, data []byte) error {
			if int(no) <= last {
				t.Errorf("chunk %d comes after %d", no, last)
			}
			got[no], last = string(data), int(no)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if want := m.chunks[string(e)]; len(want) != len(got) {
			t.Errorf("chunks of %x are %v, want %v", e, got, want)
		}
		for no, data := range m.chunks[string(e)] {
			if got[no] != data {
				t.Errorf("chunk %d of %x is %q, want %q", no, e, got[no], data)
			}
		}
	}
	if meta, err := s.Meta(); err != nil || string(meta) != m.meta {
		t.Errorf("meta %q, %v; want %q", meta, err, m.meta)
	}
}

func (m *model) checkTimers(t *testing.T, s *Store, r *rand.Rand) {
	t.Helper()
	for _, kind := range []uint8{0, 255} {
		upTo, limit := int64(r.IntN(50)-25), 1+r.IntN(10)
		var want, got []string
		first, any := int64(0), false
		for _, k := range slices.Sorted(maps.Keys(m.timers)) {
			at, _, err := parseTimerKey([]byte(k))
			if err != nil {
				t.Fatal(err)
			}
			if k[1] != kind {
				continue
			}
			if !any {
				first, any = at, true
			}
			if at <= upTo && len(want) < limit {
				want = append(want, k)
			}
		}
		if err := s.Timers(kind, upTo, limit, func(at int64, entity []byte) error {
			got = append(got, string(appendTimerKey(nil, kind, at, entity)))
			return nil
		}); err != nil || !slices.Equal(got, want) {
			t.Fatalf("timers of kind %d up to %d, %d of them: %q, %v; want %q", kind, upTo, limit, got, err, want)
		}
		if at, ok, err := s.NextTimer(kind); err != nil || ok != any || at != first {
			t.Fatalf("next timer of kind %d: %d, %t, %v; want %d, %t", kind, at, ok, err, first, any)
		}
	}
}

// TestEachIsASnapshot writes between the calls of fn, past several restarts of the iterator.
func TestEachIsASnapshot(t *testing.T) {
	s := open(t, "db", resources(t, small()), vfs.NewMem())
	const n = 3*eachRestart + 5
	key := func(i int) []byte { return binary.BigEndian.AppendUint32(nil, uint32(i)) }
	commit(t, s, func(b *Batch) {
		for i := range n {
			b.Set(key(i), []byte("old"))
		}
	})
	next := 0
	if err := s.Each(context.Background(), nil, func(entity, record []byte) error {
		if want := key(next); !bytes.Equal(entity, want) || string(record) != "old" {
			return fmt.Errorf("entity %x, record %q; want %x, old", entity, record, want)
		}
		if next%5000 == 0 {
			commit(t, s, func(b *Batch) {
				b.Set(key((next+eachRestart)%n), []byte("new"))
				b.Delete(key(next + 1))
				b.Set(append(key(next), 'x'), []byte("new"))
			})
		}
		next++
		return nil
	}); err != nil || next != n {
		t.Fatalf("%d of %d entities, %v", next, n, err)
	}
	next = 0
	if err := s.Each(context.Background(), key(n-3), func(_, _ []byte) error { next++; return nil }); err != nil || next != 3 {
		t.Errorf("from the third last on: %d entities, %v", next, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.Each(ctx, nil, func(_, _ []byte) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled Each ends with %v", err)
	}
	own := errors.New("own")
	if err := s.Each(context.Background(), nil, func(_, _ []byte) error { return own }); err != own {
		t.Errorf("the callback's error came back as %v", err)
	}
	if err := s.Load([][]byte{key(0)}, func(int, []byte) error { return own }); err != own || s.Err() != nil {
		t.Errorf("the callback's error came back as %v, the store has %v", err, s.Err())
	}
}

func TestBatchIsReusedAfterReset(t *testing.T) {
	s := open(t, "db", resources(t, small()), vfs.NewMem())
	b := s.NewBatch()
	defer b.Close()
	if err := b.Commit(); err != nil || s.Dirty() {
		t.Fatalf("an empty batch: %v, dirty %t", err, s.Dirty())
	}
	large := bytes.Repeat([]byte("x"), minMemTableBytes) // goes past the memtable
	for i, record := range [][]byte{[]byte("one"), large, []byte("three"), {}} {
		b.Reset()
		b.Set([]byte{byte(i)}, record)
		if b.Len() < len(record) {
			t.Errorf("the batch has %d bytes with a record of %d", b.Len(), len(record))
		}
		if err := b.Commit(); err != nil {
			t.Fatal(err)
		}
		if err := s.Load([][]byte{{byte(i)}}, func(_ int, got []byte) error {
			if got == nil || !bytes.Equal(got, record) {
				t.Errorf("record %d has %d bytes (nil %t), want %d", i, len(got), got == nil, len(record))
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestOpenTwiceIsRefused(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "db")
	r := resources(t, small())
	open(t, dir, r, nil)
	if s, err := Open(dir, r, nil); err == nil {
		s.Close()
		t.Error("a directory was opened twice")
	}
}
