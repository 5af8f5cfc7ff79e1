package produce

import (
	"sync/atomic"
	"time"
)

// reporter counts, and reports from the run's goroutine.
type reporter struct {
	opts      Options
	rows, bad int64
	published atomic.Int64 // from the producer's goroutine
	bytes     int64        // read
	size      int64        // of the input; 0 unknown
	total     int64        // to publish, once all is read
	begun     time.Time    // the reading, or the writing
	next      time.Time
}

func (r *reporter) begin(opts Options, size int64) {
	if opts.ReportEach <= 0 {
		opts.ReportEach = Default().ReportEach
	}
	r.opts, r.size, r.begun = opts, size, time.Now()
	r.next = r.begun.Add(opts.ReportEach)
}

func (r *reporter) row(bytes int64) {
	r.rows++
	r.bytes = bytes
	r.tick()
}

// writing says that all is read and n records are to be published.
func (r *reporter) writing(n int64) { r.total, r.begun = n, time.Now() }

func (r *reporter) tick() {
	if r.opts.Progress == nil {
		return
	}
	if now := time.Now(); !now.Before(r.next) {
		r.next = now.Add(r.opts.ReportEach)
		r.opts.Progress(r.now(now))
	}
}

func (r *reporter) now(now time.Time) Progress {
	p := Progress{Rows: r.rows, Bad: r.bad, Published: r.published.Load(), Done: -1, Left: -1}
	took := now.Sub(r.begun)
	p.PerSecond = float64(p.Rows) / took.Seconds()
	switch {
	case r.total > 0:
		p.Writing, p.PerSecond = true, float64(p.Published)/took.Seconds()
		p.Done = float64(p.Published) / float64(r.total)
	case r.size > 0:
		p.Done = min(float64(r.bytes)/float64(r.size), 1)
	}
	if p.Done > 0 {
		p.Left = time.Duration(float64(took) * (1 - p.Done) / p.Done)
	}
	return p
}

func (r *reporter) end() {
	if r.opts.Progress != nil {
		r.opts.Progress(r.now(time.Now()))
	}
}

// failure keeps the first error of the producer.
type failure struct{ first atomic.Pointer[error] }

func (f *failure) set(err error) { f.first.CompareAndSwap(nil, &err) }

func (f *failure) err() error {
	if err := f.first.Load(); err != nil {
		return *err
	}
	return nil
}
