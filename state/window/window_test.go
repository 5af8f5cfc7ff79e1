package window

import (
	"bytes"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/freshet-dev/freshet/schemas"
	"github.com/freshet-dev/freshet/schemas/feature"
)

const (
	minute = int64(60_000)
	hour   = 60 * minute
	day    = 24 * hour
)

// world says what a random run is like.
type world struct {
	kinds    []schemas.Type
	filters  int
	windows  []int64
	lifetime bool
	limits   []int64 // of count_distinct, one at random
	hashed   bool
	step     int64 // mean time between events
	disorder int64
	values   int // distinct values, about
	extreme  bool
	events   int
}

// planOf makes a plan of every aggregation over every column that it is for, each at random present, under random filters.
func planOf(r *rand.Rand, w *world) *feature.Plan {
	p := &feature.Plan{Group: "g", Source: feature.Source{IDColumn: -1}}
	if w.hashed {
		p.Source.IDColumn = 0
	}
	for i, t := range w.kinds {
		p.Columns = append(p.Columns, feature.Column{Path: fmt.Sprint("c", i), Type: t, Nullable: true})
		p.Stored = append(p.Stored, i)
	}
	p.Filters = make([]*feature.Program, w.filters)
	add := func(a feature.Agg, col int, window int64) {
		if r.IntN(3) == 0 {
			return
		}
		f := feature.Feature{Name: fmt.Sprint("f", len(p.Features)), Agg: a, Column: col, Window: window, Filter: r.IntN(w.filters+1) - 1, Unit: hour * int64(1+r.IntN(3))}
		if col >= 0 {
			f.ColumnType = w.kinds[col]
		}
		if a == feature.CountDistinct {
			f.MaxDistinct = w.limits[r.IntN(len(w.limits))]
		}
		p.Features = append(p.Features, f)
	}
	windows := slices.Clone(w.windows)
	if w.lifetime {
		windows = append(windows, feature.Lifetime)
	}
	for _, win := range windows {
		p.Horizon = max(p.Horizon, win)
		for _, a := range []feature.Agg{feature.Count, feature.FirstTime, feature.LastTime, feature.TimeSinceFirst, feature.TimeSinceLast} {
			if win != feature.Lifetime || a < feature.TimeSinceFirst {
				add(a, -1, win)
			}
		}
		for col, t := range w.kinds {
			add(feature.Count, col, win)
			add(feature.CountDistinct, col, win)
			add(feature.First, col, win)
			add(feature.Last, col, win)
			if t.Kind == schemas.Int || t.Kind == schemas.Double || t.Kind == schemas.Decimal {
				for a := feature.Sum; a <= feature.StddevPop; a++ {
					add(a, col, win)
				}
			}
			if t.Kind == schemas.Time {
				add(feature.Min, col, win)
				add(feature.Max, col, win)
			}
		}
	}
	p.Horizon += int64(r.IntN(2)) * hour
	return p
}

var extremes = []float64{1e308, -1e308, math.MaxFloat64, -math.MaxFloat64, 5e-324, -5e-324, 1, 1e16, -1e16, 0.1, 2.2250738585072014e-308, 1e-200}

func (w *world) value(r *rand.Rand, t schemas.Type) schemas.Value {
	if r.IntN(8) == 0 {
		return schemas.Value{}
	}
	k := r.IntN(w.values)
	switch t.Kind {
	case schemas.Bool:
		return schemas.BoolValue(k&1 == 0)
	case schemas.Int:
		if w.extreme && r.IntN(4) == 0 {
			return schemas.IntValue([]int64{math.MaxInt64, math.MinInt64, math.MaxInt64 - 1, -1}[r.IntN(4)])
		}
		return schemas.IntValue(int64(k) - 3)
	case schemas.Time:
		return schemas.TimeValue(int64(k) * 1000)
	case schemas.Double:
		if w.extreme {
			return schemas.DoubleValue(extremes[r.IntN(len(extremes))])
		}
		if r.IntN(3) == 0 {
			return schemas.DoubleValue(r.NormFloat64())
		}
		return schemas.DoubleValue(float64(k) / 100)
	case schemas.Decimal:
		if w.extreme && r.IntN(2) == 0 {
			return schemas.DecimalValue([]int64{math.MaxInt64, math.MinInt64, 0x4b3b4ca85a86c47a, 1}[r.IntN(4)], r.Uint64())
		}
		return schemas.DecimalValue(0, uint64(k))
	case schemas.UUID:
		return schemas.Value{Kind: schemas.UUID, Bytes: fmt.Appendf(nil, "%016d", k)}
	}
	return schemas.Value{Kind: t.Kind, Bytes: fmt.Appendf(nil, "%d %s", k, bytes.Repeat([]byte("x"), k%17*k%200))}
}

// store is what a database keeps of one entity.
type store struct {
	record []byte
	chunks map[uint32][]byte
}

func (s *store) write(l *Layout, e *Entity) {
	if s.chunks == nil {
		s.chunks = map[uint32][]byte{}
	}
	s.record = e.Append(l, nil)
	e.DirtyChunks(func(no uint32, data []byte) {
		if data == nil {
			delete(s.chunks, no)
		} else {
			s.chunks[no] = bytes.Clone(data)
		}
	})
}

func (s *store) read(l *Layout) (*Entity, error) {
	return l.Decode(s.record, func(fn func(no uint32, data []byte) error) error {
		for _, no := range slices.Sorted(maps.Keys(s.chunks)) {
			if err := fn(no, s.chunks[no]); err != nil {
				return err
			}
		}
		return nil
	})
}

// run plays a world: three entities get the same calls, one of them never encoded, one encoded and decoded at random, one evaluated at random
// only. All must equal the oracle and each other, in values and bytes.
func run(t *testing.T, seed uint64, w *world) {
	r := rand.New(rand.NewPCG(seed, 7))
	p := planOf(r, w)
	l, err := NewLayout(p)
	if err != nil {
		t.Fatal(err)
	}
	o := newOracle(p)
	live, kept, lazy := l.NewEntity(), l.NewEntity(), l.NewEntity()
	var st, stLive store
	now, asOf := 1_000*day, int64(0)
	recent := []Event{}
	for i := range w.events {
		now += r.Int64N(2*w.step + 1)
		if r.IntN(w.events) < 2 {
			now += p.Horizon / 2 // a quiet time
		}
		ev := Event{Time: max(now-int64(r.IntN(2))*r.Int64N(w.disorder+1), now-p.Horizon+1), ID: uint64(i), Mask: 1 | r.Uint64()<<1}
		if r.IntN(5) == 0 {
			ev.Time -= ev.Time % hour // ties
			ev.Time = max(ev.Time, now-p.Horizon+1)
		}
		if w.hashed {
			ev.ID = r.Uint64()
		}
		for _, ty := range w.kinds {
			ev.Columns = append(ev.Columns, w.value(r, ty))
		}
		if len(recent) > 0 && r.IntN(10) == 0 {
			if d := recent[r.IntN(len(recent))]; d.Time > now-p.Horizon {
				ev.Time, ev.ID = d.Time, d.ID // the first one wins
			}
		}
		recent = append(recent, ev)
		want := o.insert(ev, now)
		for _, e := range []*Entity{live, kept, lazy} {
			if got := e.Insert(l, &ev, now); got != want {
				t.Fatalf("seed %d event %d: duplicate %v, want %v", seed, i, got, want)
			}
		}
		asOf = max(asOf, now)
		if r.IntN(6) == 0 {
			asOf += r.Int64N(w.windows[0]) // a tick of the wall clock
		}
		every := 1 + w.events/30
		if i%every == 0 {
			check(t, l, o, asOf, fmt.Sprintf("seed %d event %d live", seed, i), live)
			check(t, l, o, asOf, fmt.Sprintf("seed %d event %d kept", seed, i), kept)
			if r.IntN(20) == 0 {
				check(t, l, o, asOf, fmt.Sprintf("seed %d event %d lazy", seed, i), lazy)
			}
		}
		if r.IntN(4*every) == 0 || i == w.events-1 {
			st.write(l, kept)
			if kept, err = st.read(l); err != nil {
				t.Fatalf("seed %d event %d: %v", seed, i, err)
			}
		}
		if r.IntN(40*every) == 0 || i == w.events-1 {
			kept.LastAsOf, live.LastAsOf = now, now
			st.write(l, kept)
			stLive.write(l, live)
			if !bytes.Equal(st.record, stLive.record) || !maps.EqualFunc(st.chunks, stLive.chunks, bytes.Equal) {
				t.Fatalf("seed %d event %d: bytes differ between an entity kept in memory and one that was encoded and decoded", seed, i)
			}
			if live.Newest() != kept.Newest() || live.Empty() != kept.Empty() {
				t.Fatalf("seed %d event %d: Newest or Empty differ", seed, i)
			}
		}
	}
	for _, e := range []*Entity{live, kept} { // ticks until nothing is left
		for at := asOf; at < asOf+p.Horizon+3*day; at += p.Horizon/5 + 1 {
			o.trim(at)
			e.Trim(l, at)
			check(t, l, o, at, fmt.Sprintf("seed %d at the end", seed), e)
		}
		if e.Empty() != !w.lifetime || e.Newest() != -1 {
			t.Fatalf("seed %d: an expired entity has Empty %v, Newest %d", seed, e.Empty(), e.Newest())
		}
		o.events = after(o.life, now-p.Horizon)
	}
	st.write(l, kept)
	if !w.lifetime && len(st.chunks) > 0 {
		t.Fatalf("seed %d: %d chunks left of an expired entity", seed, len(st.chunks))
	}
}

func check(t *testing.T, l *Layout, o *oracle, asOf int64, where string, e *Entity) {
	t.Helper()
	var c Counters
	out := make([]schemas.Value, len(l.plan.Features))
	next := e.Evaluate(l, asOf, out, &c)
	want, wantNext, wantC := o.evaluate(asOf)
	if c.OverLimit > 0 && !o.over[c.LastOver] {
		t.Fatalf("%s: feature %d is told to be beyond its limit", where, c.LastOver)
	}
	c.LastOver = 0
	for i := range out {
		if !equal(out[i], want[i]) {
			t.Fatalf("%s: feature %+v: got %+v, want %+v (%d events)", where, l.plan.Features[i], out[i], want[i], len(o.events))
		}
	}
	if next != wantNext || c != wantC {
		t.Fatalf("%s: next %d, want %d; counters %+v, want %+v", where, next, wantNext, c, wantC)
	}
}

func kinds(ks ...schemas.Kind) (ts []schemas.Type) {
	for _, k := range ks {
		t := schemas.Type{Kind: k}
		if k == schemas.Decimal {
			t.Scale = 2
		}
		ts = append(ts, t)
	}
	return ts
}

func TestSmall(t *testing.T) {
	for seed := range uint64(40) {
		run(t, seed, &world{kinds: kinds(schemas.Double, schemas.Int, schemas.String, schemas.Decimal), filters: int(seed % 4),
			windows: []int64{day, 7 * day, 30 * day}, lifetime: seed%2 == 0, limits: []int64{0, 3, 1000}, hashed: seed%3 == 0,
			step: day, disorder: 3 * day, values: 2 + int(seed%7)*5, extreme: seed%5 == 0, events: 60})
	}
}

func TestAllKinds(t *testing.T) {
	all := kinds(schemas.Bool, schemas.Int, schemas.Double, schemas.Decimal, schemas.String, schemas.Bytes, schemas.UUID, schemas.Time, schemas.Floats)
	for seed := range uint64(3) {
		many := slices.Concat(all, all, kinds(schemas.Int))
		run(t, 100+seed, &world{kinds: many, filters: 30 + int(seed), windows: []int64{hour, 5 * hour, 2 * day}, lifetime: true,
			limits: []int64{0, 10}, step: hour / 10, disorder: day, values: 40, events: 300})
	}
}

func TestLarge(t *testing.T) {
	for seed := range uint64(8) {
		run(t, 200+seed, &world{kinds: kinds(schemas.Double, schemas.Int, schemas.String), filters: int(seed % 3), windows: []int64{2 * hour, day, 2 * day},
			lifetime: seed%2 == 0, limits: []int64{0, 30, 300, 100_000}, hashed: seed%2 == 0, step: 2 * minute, disorder: []int64{0, hour, 2 * day}[seed%3],
			values: []int{5, 200, 5000}[seed%3], extreme: seed%7 == 0, events: 3000})
	}
}

func TestBoundary(t *testing.T) { // around the sizes where entities become large and small again
	for seed := range uint64(12) {
		run(t, 300+seed, &world{kinds: kinds(schemas.Double, schemas.Decimal, schemas.String), filters: 1, windows: []int64{hour, 10 * hour},
			limits: []int64{0, 20, 90}, hashed: true, step: 5 * minute, disorder: []int64{0, 9 * hour}[seed%2], values: 50, extreme: seed%4 == 0, events: 700})
	}
}
