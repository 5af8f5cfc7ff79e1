package parquet

import (
	"bytes"
	"cmp"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"

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
