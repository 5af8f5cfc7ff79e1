package window

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/freshet-dev/freshet/schemas"
	"github.com/freshet-dev/freshet/schemas/feature"
)

// peersPlan is 4 windows × 8 aggregates: what other engines were measured with.
func peersPlan() *feature.Plan {
	p := &feature.Plan{Group: "bench", Stored: []int{0, 1, 2}, Horizon: 90 * day, Source: feature.Source{IDColumn: 0}}
	for i, k := range []schemas.Kind{schemas.Double, schemas.Int, schemas.Int} {
		p.Columns = append(p.Columns, feature.Column{Path: fmt.Sprint("c", i), Type: schemas.Type{Kind: k}})
	}
	for _, days := range []int64{1, 7, 30, 90} {
		add := func(a feature.Agg, col int) {
			f := feature.Feature{Name: fmt.Sprint(a, "_", days), Agg: a, Column: col, Window: days * day, Filter: -1, MaxDistinct: 1_000_000}
			if col >= 0 {
				f.ColumnType = p.Columns[col].Type
			}
			p.Features = append(p.Features, f)
		}
		add(feature.Count, -1)
		for _, a := range []feature.Agg{feature.Sum, feature.Avg, feature.Min, feature.Max, feature.Stddev} {
			add(a, 0)
		}
		add(feature.Sum, 1)
		add(feature.CountDistinct, 2)
	}
	return p
}

func randomEvent(r *rand.Rand, ev *Event, t int64) {
	ev.Time, ev.ID, ev.Mask = t, r.Uint64(), 1
	ev.Columns = append(ev.Columns[:0], schemas.DoubleValue(float64(r.IntN(50_000)+1)/100), schemas.IntValue(int64(1+r.IntN(5))), schemas.IntValue(int64(r.IntN(20_000))))
}

func layoutOf(tb testing.TB, p *feature.Plan) *Layout {
	l, err := NewLayout(p)
	if err != nil {
		tb.Fatal(err)
	}
	return l
}

// processor measures the CPU time of the benchmark's thread: wall time says little on a machine that is shared.
type processor time.Duration

func startProcessor() processor {
	runtime.LockOSThread()
	var u syscall.Rusage
	if err := syscall.Getrusage(1, &u); err != nil { // RUSAGE_THREAD
		panic(err)
	}
	return processor(u.Utime.Nano() + u.Stime.Nano())
}

func (p processor) report(b *testing.B) {
	b.ReportMetric(float64(startProcessor()-p)/float64(b.N), "cpu-ns/op")
	runtime.UnlockOSThread()
	runtime.UnlockOSThread()
}

// BenchmarkSmall is one event of an entity with so many in 90 days: in a cache, and from and to its record.
func BenchmarkSmall(b *testing.B) {
	p := peersPlan()
	l := layoutOf(b, p)
	out := make([]schemas.Value, len(p.Features))
	var c Counters
	for _, n := range []int64{5, 20, 100} {
		// Time would run out of its range: every few thousand events begin anew.
		play := func(b *testing.B, each func(e *Entity, ev *Event) *Entity) {
			var e *Entity
			var now int64
			r, ev, i := rand.New(rand.NewPCG(1, 2)), Event{}, 0
			one := func() {
				now += r.Int64N(180*day/int64(n)) + 1
				randomEvent(r, &ev, now)
			}
			b.ReportAllocs()
			cpu := startProcessor()
			for b.Loop() {
				if i++; i%4096 == 1 {
					for e, now = l.NewEntity(), 1000*day; now < 1090*day; {
						one()
						e.Insert(l, &ev, now)
					}
				}
				one()
				e = each(e, &ev)
			}
			cpu.report(b)
			b.ReportMetric(float64(e.Size()), "B")
		}
		b.Run(fmt.Sprint("cached/", n), func(b *testing.B) {
			play(b, func(e *Entity, ev *Event) *Entity {
				e.Insert(l, ev, ev.Time)
				e.Evaluate(l, ev.Time, out, &c)
				return e
			})
		})
		b.Run(fmt.Sprint("record/", n), func(b *testing.B) {
			var rec []byte
			play(b, func(e *Entity, ev *Event) *Entity {
				rec = e.Append(l, rec[:0])
				e, err := l.Decode(rec, nil)
				if err != nil {
					b.Fatal(err)
				}
				e.Insert(l, ev, ev.Time)
				e.Evaluate(l, ev.Time, out, &c)
				return e
			})
			b.ReportMetric(float64(len(rec)), "B-record")
		})
	}
}

// BenchmarkLarge is one event of an entity with 600,000 in 90 days, up to an hour out of order.
func BenchmarkLarge(b *testing.B) {
	p := peersPlan()
	l := layoutOf(b, p)
	out := make([]schemas.Value, len(p.Features))
	var c Counters
	r, e, ev, now := rand.New(rand.NewPCG(1, 2)), l.NewEntity(), Event{}, 1000*day
	step := 90 * day / 600_000
	next := func(evaluate bool) {
		now += r.Int64N(2*step) + 1
		randomEvent(r, &ev, now-r.Int64N(hour))
		e.Insert(l, &ev, now)
		if evaluate {
			e.Evaluate(l, now, out, &c)
		}
	}
	for range 620_000 {
		next(true)
	}
	b.ReportAllocs()
	worst := time.Duration(0)
	cpu := startProcessor()
	for b.Loop() {
		start := time.Now()
		next(true)
		worst = max(worst, time.Since(start))
	}
	cpu.report(b)
	b.ReportMetric(float64(e.Size())/float64(e.big.n), "B/event")
	b.ReportMetric(float64(worst.Microseconds()), "µs-worst")
	st := store{}
	st.write(l, e)
	size := 0
	for _, c := range st.chunks {
		size += len(c)
	}
	b.ReportMetric(float64(size)/float64(e.big.n), "B/stored")
	start := time.Now()
	if _, err := st.read(l); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(time.Since(start).Milliseconds()), "ms-decode")
}
