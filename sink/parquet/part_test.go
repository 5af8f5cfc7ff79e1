package parquet

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"github.com/freshet-dev/freshet/schemas"
	"github.com/freshet-dev/freshet/sink"
)

func readAll(tb testing.TB, path string, part Part) []sink.Row {
	tb.Helper()
	r, err := OpenPart(sink.OS, path, part)
	if err != nil {
		tb.Fatal(err)
	}
	defer r.Close()
	var rows []sink.Row
	if err := r.Rows(func(row *sink.Row) error {
		rows = append(rows, cloneRow(row))
		return nil
	}); err != nil {
		tb.Fatal(err)
	}
	return rows
}

func sorted(rows []sink.Row) []sink.Row {
	rows = slices.Clone(rows)
	slices.SortFunc(rows, func(a, b sink.Row) int {
		return cmp.Or(bytes.Compare(a.Entity, b.Entity), cmp.Compare(a.AvailableAt, b.AvailableAt))
	})
	return rows
}

func TestPartRoundTrip(t *testing.T) {
	spec := everySpec()
	rows := everyRows(rand.New(rand.NewPCG(1, 1)), spec, 5000)
	dir := t.TempDir()
	seg := createSegment(t, sink.OS, filepath.Join(dir, "segment"), spec, rows)
	defer seg.Close()
	path := filepath.Join(dir, "part")
	part, err := WritePart(sink.OS, path, seg, spec, PartInfo{Partition: 3, Seq: 12, K: 1, OffsetStart: 100, OffsetEnd: 5100})
	if err != nil {
		t.Fatal(err)
	}
	if want := "log/shoppers/v2/date=2025-10-15/00003-0000000012-001.parquet"; part.Name != want {
		t.Errorf("name %s, want %s", part.Name, want)
	}
	got := readAll(t, path, part)
	want := sorted(rows)
	if len(got) != len(want) {
		t.Fatalf("%d rows, want %d", len(got), len(want))
	}
	for i := range want {
		if text(&got[i]) != text(&want[i]) {
			t.Fatalf("row %d:\n got %+v\nwant %+v", i, got[i], want[i])
		}
	}
}

// writeSmall writes a part of n rows of smallSpec, or of what change makes of them.
func writeSmall(t *testing.T, n int, change func(i int, row *sink.Row)) (path string, part Part, rows []sink.Row, err error) {
	t.Helper()
	rows = smallRows(0, n)
	for i := range rows {
		rows[i].AvailableAt = (day + int64(i)) * 1000
		if change != nil {
			change(i, &rows[i])
		}
	}
	dir := t.TempDir()
	seg := createSegment(t, sink.OS, filepath.Join(dir, "segment"), smallSpec(), rows)
	defer seg.Close()
	path = filepath.Join(dir, "part")
	part, err = WritePart(sink.OS, path, seg, smallSpec(), PartInfo{OffsetEnd: int64(n)})
	return path, part, rows, err
}

func TestPartOfManyRowGroups(t *testing.T) {
	n := rowGroupRows*2 + 1000
	path, part, rows, err := writeSmall(t, n, func(i int, row *sink.Row) {
		row.Entity = fmt.Appendf(nil, "u%d", i*7919%50_000)
		row.Values[0] = schemas.IntValue(int64(i) * int64(i))
	})
	check(t, err)
	if part.Rows != int64(n) || part.TimeMin != day*1000 || part.TimeMax != (day+int64(n)-1)*1000 || part.Date != "2025-10-15" {
		t.Errorf("%+v", part)
	}
	got, want := readAll(t, path, part), sorted(rows)
	for i := range want {
		if text(&got[i]) != text(&want[i]) {
			t.Fatalf("row %d:\n got %+v\nwant %+v", i, got[i], want[i])
		}
	}
}

func TestPartIsDeterministic(t *testing.T) {
	_, a, _, err := writeSmall(t, 3000, nil)
	check(t, err)
	_, b, _, err := writeSmall(t, 3000, nil)
	check(t, err)
	if a != b {
		t.Errorf("the same rows give\n%+v and\n%+v", a, b)
	}
}

func TestPartRefusesWhatBreaksTheLog(t *testing.T) {
	for what, change := range map[string]func(i int, row *sink.Row){
		"two rows at one instant":    func(i int, row *sink.Row) { row.AvailableAt, row.Entity = (day+int64(i/2))*1000, []byte("u") },
		"a version that goes back":   func(i int, row *sink.Row) { row.Version.Offset = -int64(i) },
		"another kind":               func(i int, row *sink.Row) { row.Values[0] = schemas.DoubleValue(1) },
		"rows of two days":           func(i int, row *sink.Row) { row.AvailableAt += int64(i) * dayMicros / 2 },
		"no entity of the key field": func(i int, row *sink.Row) { row.Entity = []byte("a|b") },
	} {
		if _, _, _, err := writeSmall(t, 4, change); err == nil {
			t.Errorf("%s is written", what)
		}
	}
	if _, _, _, err := writeSmall(t, 0, nil); !errors.Is(err, ErrNoRows) {
		t.Errorf("no rows: %v", err)
	}
}

func TestPartsByDay(t *testing.T) {
	rows := smallRows(0, 90)
	for i := range rows {
		rows[i].AvailableAt = day*1000 + int64(i%3)*dayMicros + int64(i)
		rows[i].Entity = fmt.Appendf(nil, "u%d", i)
	}
	dir := t.TempDir()
	seg := createSegment(t, sink.OS, filepath.Join(dir, "segment"), smallSpec(), rows)
	defer seg.Close()
	path := func(k int) string { return filepath.Join(dir, fmt.Sprint(k)) }
	parts, err := WriteParts(sink.OS, path, seg, smallSpec(), PartInfo{Partition: 1, Seq: 5, K: 2, OffsetStart: 10, OffsetEnd: 100})
	check(t, err)
	if len(parts) != 3 {
		t.Fatalf("%d parts", len(parts))
	}
	for i, p := range parts {
		date := fmt.Sprintf("2025-10-%d", 15+i)
		if p.Name != PartName("g", 1, date, 1, 5, 2) || p.Rows != 30 || p.Date != date || p.OffsetEnd != 100 || (p.OffsetStart == 10) != (i == 0) {
			t.Errorf("part %d: %+v", i, p)
		}
		for _, row := range readAll(t, path(i), p) {
			if dateOf(row.AvailableAt) != date {
				t.Errorf("%+v in the part of %s", row, date)
			}
		}
	}
}

// TestPartSortsAsItsColumns: engines trust the sorting that the footer declares, which is by columns, not by the entity's text.
func TestPartSortsAsItsColumns(t *testing.T) {
	kind := func(name string, k schemas.Kind) sink.Field {
		return sink.Field{Name: name, Type: schemas.Type{Kind: k}}
	}
	str := func(s string) schemas.Value { return schemas.StringValue([]byte(s)) }
	for _, c := range []struct {
		keys []sink.Field
		want [][]schemas.Value // in order
	}{
		{[]sink.Field{kind("a", schemas.Int)}, [][]schemas.Value{{schemas.IntValue(math.MinInt64)}, {schemas.IntValue(-10)}, {schemas.IntValue(-9)},
			{schemas.IntValue(2)}, {schemas.IntValue(10)}, {schemas.IntValue(1 << 60)}}},
		{[]sink.Field{kind("a", schemas.String)}, [][]schemas.Value{{str("")}, {str("a")}, {str("a\x00")}, {str("a\x00b")}, {str("a]")}, {str("a|")},
			{str("a}")}, {str("common-prefix-longer-than-eight-1")}, {str("common-prefix-longer-than-eight-10")}, {str("ü")}}},
		{[]sink.Field{kind("a", schemas.String), kind("b", schemas.Int)}, [][]schemas.Value{{str("a"), schemas.IntValue(9)},
			{str("a"), schemas.IntValue(10)}, {str("a\x00"), schemas.IntValue(1)}, {str("ab"), schemas.IntValue(-1)}, {str("a|b"), schemas.IntValue(0)}}},
		{[]sink.Field{kind("a", schemas.UUID)}, [][]schemas.Value{{{Kind: schemas.UUID, Bytes: []byte("0123456789abcdef")}},
			{{Kind: schemas.UUID, Bytes: []byte("0123456789abcdeg")}}, {{Kind: schemas.UUID, Bytes: []byte("\xff123456789abcdef")}}}},
		{[]sink.Field{kind("a", schemas.Bytes)}, [][]schemas.Value{{{Kind: schemas.Bytes, Bytes: []byte{}}}, {{Kind: schemas.Bytes, Bytes: []byte{0}}},
			{{Kind: schemas.Bytes, Bytes: []byte{0, 1}}}, {{Kind: schemas.Bytes, Bytes: []byte{200}}}}},
	} {
		spec := smallSpec()
		spec.Keys = c.keys
		var rows []sink.Row
		for i := range c.want {
			row := smallRow(i)
			row.Entity = schemas.AppendEntity(nil, c.want[i]...)
			row.AvailableAt = (day+100)*1000 - int64(i) // the later its key, the earlier
			rows = append(rows, row)
		}
		rand.New(rand.NewPCG(1, 1)).Shuffle(len(rows), func(i, j int) { rows[i], rows[j] = rows[j], rows[i] })
		dir := t.TempDir()
		seg := createSegment(t, sink.OS, filepath.Join(dir, "segment"), spec, rows)
		part := must(WritePart(sink.OS, filepath.Join(dir, "part"), seg, spec, PartInfo{}))(t)
		check(t, seg.Close())
		for i, row := range readAll(t, filepath.Join(dir, "part"), part) {
			if want := schemas.AppendEntity(nil, c.want[i]...); !bytes.Equal(row.Entity, want) {
				t.Errorf("keys %v: row %d is %q, want %q", c.keys, i, row.Entity, want)
			}
		}
	}
}

// TestPartDamagedAnywhere flips each byte and cuts everywhere: the hash tells, before the Parquet library, which some such bytes make panic
// or run out of memory, sees any of them.
func TestPartDamagedAnywhere(t *testing.T) {
	path, part, _, err := writeSmall(t, 40, nil)
	check(t, err)
	data := must(os.ReadFile(path))(t)
	mem := memory{}
	read := func(want Part) error {
		r, err := OpenPart(mem, "part", want)
		if err != nil {
			return err
		}
		return errors.Join(r.Rows(func(*sink.Row) error { return nil }), r.Close())
	}
	mem["part"] = data
	check(t, read(part))
	try := func(what string, damaged []byte) {
		mem["part"] = damaged
		if err := read(part); !errors.Is(err, ErrDamaged) {
			t.Fatalf("%s: %v", what, err)
		}
	}
	for i := range data {
		flipped := bytes.Clone(data)
		flipped[i] ^= 1 << (i % 8)
		try(fmt.Sprintf("byte %d flipped", i), flipped)
		if i%3 == 0 {
			try(fmt.Sprintf("cut at byte %d", i), data[:i])
		}
	}
	later := part
	later.Format++
	if _, err := OpenPart(sink.OS, path, later); err == nil || errors.Is(err, ErrDamaged) {
		t.Errorf("a later format: %v", err)
	}
}

// memory is files of which only reading is asked.
type memory map[string][]byte

type memoryFile struct {
	*bytes.Reader
	sink.File // nil: what is not used here
}

func (f memoryFile) Read(b []byte) (int, error)             { return f.Reader.Read(b) }
func (f memoryFile) ReadAt(b []byte, at int64) (int, error) { return f.Reader.ReadAt(b, at) }
func (f memoryFile) Size() (int64, error)                   { return f.Reader.Size(), nil }
func (f memoryFile) Close() error                           { return nil }
func (m memory) Open(name string) (sink.File, error) {
	return memoryFile{Reader: bytes.NewReader(m[name])}, nil
}
func (m memory) Create(string) (sink.File, error) { return nil, fs.ErrPermission }
func (m memory) Append(string) (sink.File, error) { return nil, fs.ErrPermission }
func (m memory) Link(string, string) error        { return fs.ErrPermission }
func (m memory) Rename(string, string) error      { return fs.ErrPermission }
func (m memory) Remove(string) error              { return fs.ErrPermission }
func (m memory) RemoveAll(string) error           { return fs.ErrPermission }
func (m memory) MkdirAll(string) error            { return fs.ErrPermission }
func (m memory) List(string) ([]string, error)    { return nil, fs.ErrPermission }
func (m memory) Truncate(string, int64) error     { return fs.ErrPermission }
func (m memory) SyncDir(string) error             { return fs.ErrPermission }

func TestReadColumn(t *testing.T) {
	path, part, _, err := writeSmall(t, 10, func(i int, row *sink.Row) {
		if i == 3 {
			row.Values[0] = schemas.Value{}
		}
	})
	check(t, err)
	r := must(OpenPart(sink.OS, path, part))(t)
	defer r.Close()
	var c Column
	check(t, r.ReadColumn(0, ColumnAvailableAt, &c))
	if !c.Micros || len(c.Ints) != 10 || c.Ints[0] != day*1000 {
		t.Errorf("%+v", c)
	}
	check(t, r.ReadColumn(0, "n", &c)) // u0 has rows 0, 3, 6, 9
	if fmt.Sprint(c.Ints[:4], c.Valid[:4]) != "[0 0 6 9] [true false true true]" {
		t.Errorf("%+v", c)
	}
	if err := r.ReadColumn(0, "m", &c); err == nil {
		t.Error("a column that is not there")
	}
	if end, ok := r.Lookup("freshet.offset_end"); !ok || end != "10" {
		t.Errorf("offset end %q", end)
	}
	if spec := r.Spec(); !reflect.DeepEqual(spec, smallSpec()) {
		t.Errorf("spec %+v", spec)
	}
}
