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
