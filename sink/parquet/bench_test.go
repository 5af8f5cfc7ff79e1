//go:build unix

package parquet

import (
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/freshet-dev/freshet/sink"
)

// BenchmarkWritePart encodes a million rows of 29 columns, and reports the largest heap seen on the way beyond what was there before.
func BenchmarkWritePart(b *testing.B) {
	const n = 1_000_000
	spec := wideSpec()
	dir := b.TempDir()
	seg := createSegment(b, sink.OS, filepath.Join(dir, "segment"), spec, wideRows(n, 300_000))
	defer seg.Close()
	before := liveHeap()
	var peak atomic.Uint64
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			case <-time.After(5 * time.Millisecond):
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				peak.Store(max(peak.Load(), m.HeapAlloc))
			}
		}
	}()
	b.ResetTimer()
	cpu := cpuTime()
	var part Part
	for b.Loop() {
		var err error
		if part, err = WritePart(sink.OS, filepath.Join(dir, "part"), seg, spec, PartInfo{}); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	cpu = cpuTime() - cpu
	close(stop)
	<-done
	b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
	b.ReportMetric(float64(n)*float64(b.N)/cpu.Seconds(), "rows/CPU-s")
	b.ReportMetric(float64(seg.Len())/n, "segment-B/row")
	b.ReportMetric(float64(part.Bytes)/n, "part-B/row")
	b.ReportMetric(float64(peak.Load()-before)/(1<<20), "peak-MiB")
	if keep := os.Getenv("FRESHET_KEEP_PART"); keep != "" {
		if err := os.Link(filepath.Join(dir, "part"), keep); err != nil {
			b.Fatal(err)
		}
	}
}

func liveHeap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// cpuTime returns the processor time this process has used, collector included: on a busy machine it says more than the clock.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkSegment appends rows as sent and as acknowledged, a thousand at a time, into the page cache.
func BenchmarkSegment(b *testing.B) {
	spec := wideSpec()
	rows := wideRows(1000, 1000)
	times := make([]int64, len(rows))
	for i := range rows {
		times[i] = rows[i].AvailableAt
	}
	path := filepath.Join(b.TempDir(), "segment")
	seg := createSegment(b, sink.OS, path, spec, nil)
	cpu := cpuTime()
	n := 0
	for b.Loop() {
		if seg.Len() > 64<<20 {
			if err := seg.Close(); err != nil {
				b.Fatal(err)
			}
			seg = createSegment(b, sink.OS, path, spec, nil)
		}
		first, err := seg.Sent(rows)
		if err != nil {
			b.Fatal(err)
		}
		if err := seg.Acked(first, times); err != nil {
			b.Fatal(err)
		}
		n += len(rows)
	}
	b.ReportMetric(float64(n)/(cpuTime()-cpu).Seconds(), "rows/CPU-s")
	if err := seg.Close(); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkReadColumns reads available_at, the key and seven features of a part.
func BenchmarkReadColumns(b *testing.B) {
	const n = 300_000
	spec := wideSpec()
	dir := b.TempDir()
	path := filepath.Join(dir, "part")
	seg := createSegment(b, sink.OS, filepath.Join(dir, "segment"), spec, wideRows(n, 100_000))
	defer seg.Close()
	part, err := WritePart(sink.OS, path, seg, spec, PartInfo{})
	if err != nil {
		b.Fatal(err)
	}
	names := []string{"user_id", ColumnAvailableAt}
	for _, f := range spec.Features[5:12] {
		names = append(names, f.Name)
	}
	var c Column
	cpu := cpuTime()
	for b.Loop() {
		r, err := OpenPart(sink.OS, path, part)
		if err != nil {
			b.Fatal(err)
		}
		for g := range r.RowGroups() {
			for _, name := range names {
				if err := r.ReadColumn(g, name, &c); err != nil {
					b.Fatal(err)
				}
			}
		}
		if err := r.Close(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(n*float64(b.N)/(cpuTime()-cpu).Seconds(), "rows/CPU-s")
}
