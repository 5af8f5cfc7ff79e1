package window

import (
	"bytes"
	"math"
	"math/big"
	"slices"
	"sort"

	"github.com/freshet-dev/freshet/schemas"
	"github.com/freshet-dev/freshet/schemas/feature"
)

// oracle keeps raw events and computes every feature from them by brute force.
type oracle struct {
	plan   *feature.Plan
	events []Event
	life   []Event
	over   map[int]bool
}

func newOracle(p *feature.Plan) *oracle { return &oracle{plan: p, over: map[int]bool{}} }

func (o *oracle) insert(ev Event, clock int64) (duplicate bool) {
	o.trim(clock)
	for _, x := range after(o.events, ev.Time-1) {
		if x.Time == ev.Time && x.ID == ev.ID {
			return true
		}
	}
	o.events = ordered(o.events, ev)
	o.life = ordered(o.life, ev)
	for i := range o.plan.Features {
		f := &o.plan.Features[i]
		if f.Agg == feature.CountDistinct && f.MaxDistinct > 0 {
			evs := o.life
			if f.Window != feature.Lifetime {
				evs = after(o.events, max(clock, ev.Time)-f.Window)
			}
			if int64(len(evs)) > f.MaxDistinct && !o.over[i] && int64(len(distinct(o.in(f, evs), f.Column))) > f.MaxDistinct {
				o.over[i] = true
			}
		}
	}
	return false
}

func ordered(s []Event, ev Event) []Event {
	at := sort.Search(len(s), func(i int) bool { return s[i].Time > ev.Time || s[i].Time == ev.Time && s[i].ID > ev.ID })
	return slices.Insert(s, at, ev)
}

func (o *oracle) trim(clock int64) { o.events = after(o.events, clock-o.plan.Horizon) }

func after(evs []Event, start int64) []Event {
	return evs[sort.Search(len(evs), func(i int) bool { return evs[i].Time > start }):]
}

// in returns the events that count for a feature: its filter holds and its column is not null.
func (o *oracle) in(f *feature.Feature, evs []Event) []Event {
	out := []Event{}
	for _, x := range evs {
		if f.Filter >= 0 && x.Mask>>(f.Filter+1)&1 == 0 || f.Column >= 0 && x.Columns[f.Column].IsNull() {
			continue
		}
		out = append(out, x)
	}
	return out
}

type exact struct {
	hi   int64
	bits uint64
	text string
}

func distinct(evs []Event, col int) map[exact]bool {
	m := map[exact]bool{}
	for _, x := range evs {
		v := &x.Columns[col]
		m[exact{v.Hi, v.Bits, string(v.Bytes)}] = true
	}
	return m
}

func (o *oracle) evaluate(asOf int64) (out []schemas.Value, next int64, c Counters) {
	next = Never
	for i := range o.plan.Features {
		f := &o.plan.Features[i]
		evs := o.life
		if f.Window != feature.Lifetime {
			evs = after(o.events, asOf-f.Window)
			noColumn := *f
			noColumn.Column = -1
			if all := o.in(&noColumn, evs); len(all) > 0 {
				next = min(next, all[0].Time+f.Window)
			}
		}
		if o.over[i] {
			c.OverLimit++
			out = append(out, schemas.Value{})
			continue
		}
		v := o.value(f, o.in(f, evs), asOf, &next, &c)
		out = append(out, v)
	}
	return out, next, c
}

func (o *oracle) value(f *feature.Feature, evs []Event, asOf int64, next *int64, c *Counters) schemas.Value {
	n := int64(len(evs))
	since := func(t int64) schemas.Value {
		*next = min(*next, t+((asOf-t)/f.Unit+1)*f.Unit)
		return schemas.IntValue((asOf - t) / f.Unit)
	}
	switch f.Agg {
	case feature.Count:
		return schemas.IntValue(n)
	case feature.CountDistinct:
		return schemas.IntValue(int64(len(distinct(evs, f.Column))))
	case feature.Sum:
		return o.sum(f, evs, c)
	}
	if n == 0 {
		return schemas.Value{}
	}
	first, last := evs[0], evs[n-1]
	switch f.Agg {
	case feature.First:
		return first.Columns[f.Column]
	case feature.Last:
		return last.Columns[f.Column]
	case feature.FirstTime:
		return schemas.TimeValue(first.Time)
	case feature.LastTime:
		return schemas.TimeValue(last.Time)
	case feature.TimeSinceFirst:
		return since(first.Time)
	case feature.TimeSinceLast:
		return since(last.Time)
	case feature.Min, feature.Max:
		best := first.Columns[f.Column]
		for _, x := range evs {
			if d := number(x.Columns[f.Column], 0).Cmp(number(best, 0)); d < 0 && f.Agg == feature.Min || d > 0 && f.Agg == feature.Max {
				best = x.Columns[f.Column]
			}
		}
		return best
	}
	return o.moments(f, evs, c)
}

func (o *oracle) sum(f *feature.Feature, evs []Event, c *Counters) schemas.Value {
	s := total(f, evs, 0, 1)
	switch f.ColumnType.Kind {
	case schemas.Double:
		x, _ := s.Float64()
		if math.IsInf(x, 0) {
			break
		}
		return schemas.DoubleValue(x)
	case schemas.Int:
		if s.Num().IsInt64() {
			return schemas.IntValue(s.Num().Int64())
		}
	default:
		if len(new(big.Int).Abs(s.Num()).String()) <= 38 {
			m := new(big.Int).And(s.Num(), new(big.Int).SetUint64(math.MaxUint64))
			return schemas.DecimalValue(new(big.Int).Rsh(s.Num(), 64).Int64(), m.Uint64())
		}
	}
	c.Overflow++
	return schemas.Value{}
}

func (o *oracle) moments(f *feature.Feature, evs []Event, c *Counters) schemas.Value {
	n := int64(len(evs))
	double := func(x float64) schemas.Value {
		if math.IsInf(x, 0) {
			c.Overflow++
			return schemas.Value{}
		}
		return schemas.DoubleValue(x)
	}
	s := total(f, evs, f.ColumnType.Scale, 1)
	if f.Agg == feature.Avg {
		x, _ := s.Float64()
		return double(x / float64(n))
	}
	d := n * (n - 1)
	if f.Agg == feature.VariancePop || f.Agg == feature.StddevPop {
		d = n * n
	}
	if d == 0 {
		return schemas.Value{}
	}
	v := total(f, evs, f.ColumnType.Scale, 2)
	v.Mul(v, big.NewRat(n, 1)).Sub(v, s.Mul(s, s)).Quo(v, big.NewRat(d, 1))
	x, _ := v.Float64()
	if f.Agg == feature.Stddev || f.Agg == feature.StddevPop {
		x = math.Sqrt(x)
	}
	return double(x)
}

func total(f *feature.Feature, evs []Event, scale, power int) *big.Rat {
	// Sums of integers on a common grid: a double is an integer times 2^−1074. big.Rat's own additions would take minutes.
	s, grid := new(big.Int), new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(scale)), nil)
	if f.ColumnType.Kind == schemas.Double {
		grid = new(big.Int).Lsh(big.NewInt(1), 1074)
	}
	for _, x := range evs {
		r := number(x.Columns[f.Column], scale)
		v := new(big.Int).Quo(new(big.Int).Mul(r.Num(), grid), r.Denom())
		if power == 2 {
			v.Mul(v, v)
		}
		s.Add(s, v)
	}
	if power == 2 {
		grid = new(big.Int).Mul(grid, grid)
	}
	return new(big.Rat).SetFrac(s, grid)
}

func number(v schemas.Value, scale int) *big.Rat {
	switch v.Kind {
	case schemas.Double:
		return new(big.Rat).SetFloat64(v.Float64())
	case schemas.Decimal:
		i := new(big.Int).Lsh(big.NewInt(v.Hi), 64)
		i.Add(i, new(big.Int).SetUint64(v.Bits))
		return new(big.Rat).SetFrac(i, new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(scale)), nil))
	}
	return new(big.Rat).SetInt64(v.Int64())
}

func equal(a, b schemas.Value) bool {
	return a.Kind == b.Kind && a.Hi == b.Hi && a.Bits == b.Bits && bytes.Equal(a.Bytes, b.Bytes)
}
