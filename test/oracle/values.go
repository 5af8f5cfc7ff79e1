package oracle

import (
	"math"
	"slices"
	"sort"
)

// aggregations are those the oracle knows.
var aggregations = []string{
	"count", "sum", "avg", "min", "max", "variance", "variance_pop", "stddev", "stddev_pop", "count_distinct",
	"first", "last", "first_time", "last_time", "time_since_first", "time_since_last",
}

// Value is one feature as Redis holds it: its text, or null.
type Value struct {
	Null bool
	Text string
}

// timeline is an entity's events in the total order: by event time, then by identity. Where one of them stands does not depend on when it came.
type timeline struct {
	g      *Group
	events []*event
	age    int // how many events came: two windows of one age over the same stretch are the same events
	memo   []remembered
	cells  []cell
	over   []bool // features that outgrew their limit
}

// remembered is what a feature was over events[from:to], which saves working it out again while nothing came or went.
type remembered struct {
	age, from, to int
	value         cell
}

func newTimeline(g *Group) *timeline {
	return &timeline{g: g, memo: make([]remembered, len(g.Features)), cells: make([]cell, len(g.Features)), over: make([]bool, len(g.Features))}
}

// insert adds an event; clock is the stream clock after it, at which limits are checked.
func (t *timeline) insert(e *event, clock int64) {
	i := sort.Search(len(t.events), func(i int) bool {
		o := t.events[i]
		return o.time > e.time || o.time == e.time && o.id > e.id
	})
	t.events = slices.Insert(t.events, i, e)
	t.age++
	for i := range t.g.Features {
		f := &t.g.Features[i]
		if f.agg == "count_distinct" && len(t.events) > f.maxDistinct {
			from, to := t.window(f, clock)
			t.over[i] = t.over[i] || distinct(t.inputs(f, from, to)) > f.maxDistinct
		}
	}
}

// window returns the bounds of the events in a feature's window at an instant: asOf − W < event time ≤ asOf.
func (t *timeline) window(f *Feature, asOf int64) (from, to int) {
	to = sort.Search(len(t.events), func(i int) bool { return t.events[i].time > asOf })
	if f.window > 0 {
		from = sort.Search(to, func(i int) bool { return t.events[i].time > asOf-f.window })
	}
	return from, to
}

// selected are the events of a stretch that pass the feature's filter.
func (t *timeline) selected(f *Feature, from, to int) []*event {
	var list []*event
	for _, e := range t.events[from:to] {
		if f.filter < 0 || e.passes[f.filter] {
			list = append(list, e)
		}
	}
	return list
}

// inputs are the non-null values of a feature's column in a stretch, in order.
func (t *timeline) inputs(f *Feature, from, to int) []cell {
	var list []cell
	for _, e := range t.selected(f, from, to) {
		if c := e.cells[f.column]; !c.null() {
			list = append(list, c)
		}
	}
	return list
}

// values works out all features at an instant. The result is valid until the next call.
func (t *timeline) values(asOf int64) []cell {
	for i := range t.g.Features {
		f := &t.g.Features[i]
		switch {
		case f.derive != nil:
			t.cells[i] = f.derive.value(t.feature)
		case t.over[i]:
			t.cells[i] = cell{}
		case f.unit > 0:
			from, to := t.window(f, asOf)
			t.cells[i] = since(f, t.selected(f, from, to), asOf)
		default:
			from, to := t.window(f, asOf)
			m := &t.memo[i]
			if m.age != t.age || m.from != from || m.to != to {
				*m = remembered{t.age, from, to, t.aggregate(f, from, to)}
			}
			t.cells[i] = m.value
		}
	}
	return t.cells
}

// feature finds a feature by its name, for derive.
func (t *timeline) feature(name string) (cell, bool) {
	for i := range t.g.Features {
		if t.g.Features[i].Name == name {
			return t.cells[i], true
		}
	}
	return cell{}, false
}

// since is the age of the first or the last event in whole units.
func since(f *Feature, list []*event, asOf int64) cell {
	if len(list) == 0 {
		return cell{}
	}
	return intCell((asOf - agedFrom(f, list)) / f.unit)
}

// agedFrom is the time of the event whose age time_since_first and time_since_last tell.
func agedFrom(f *Feature, list []*event) int64 {
	if f.agg == "time_since_first" {
		return list[0].time
	}
	return list[len(list)-1].time
}

// aggregate works out one feature over a stretch of events.
func (t *timeline) aggregate(f *Feature, from, to int) cell {
	if f.column >= 0 {
		return aggregateCells(f, t.inputs(f, from, to))
	}
	list := t.selected(f, from, to)
	switch {
	case f.agg == "count":
		return intCell(int64(len(list)))
	case len(list) == 0:
		return cell{}
	case f.agg == "first_time":
		return timeCell(list[0].time)
	}
	return timeCell(list[len(list)-1].time) // last_time
}

// aggregateCells works out one feature over the non-null values of its column.
func aggregateCells(f *Feature, list []cell) cell {
	switch f.agg {
	case "count":
		return intCell(int64(len(list)))
	case "count_distinct":
		return intCell(int64(distinct(list)))
	case "sum":
		return sum(f, list)
	}
	if len(list) == 0 {
		return cell{}
	}
	switch f.agg {
	case "avg":
		s, _ := sums(list)
		if d, ok := s.double(); ok {
			return doubleCell(d / float64(len(list)))
		}
		return cell{}
	case "min":
		return slices.MinFunc(list, cell.compare)
	case "max":
		return slices.MaxFunc(list, cell.compare)
	case "first":
		return list[0]
	case "last":
		return list[len(list)-1]
	case "variance", "stddev", "variance_pop", "stddev_pop":
		return spread(f.agg, list)
	}
	return cell{}
}

func sum(f *Feature, list []cell) cell {
	s, _ := sums(list)
	switch f.Kind {
	case kindInt:
		if s.mantissa.IsInt64() {
			return intCell(s.mantissa.Int64())
		}
	case kindDecimal:
		if s.mantissa.CmpAbs(powerOfTen(38)) < 0 {
			return cell{kind: kindDecimal, big: &s.mantissa, scale: f.scale}
		}
	default:
		if d, ok := s.double(); ok {
			return doubleCell(d)
		}
	}
	return cell{}
}

func spread(agg string, list []cell) cell {
	population := agg == "variance_pop" || agg == "stddev_pop"
	if len(list) < 2 && !population {
		return cell{}
	}
	v, ok := variance(list, population)
	switch {
	case !ok:
		return cell{}
	case agg == "stddev" || agg == "stddev_pop":
		return doubleCell(math.Sqrt(v))
	}
	return doubleCell(v)
}

func distinct(list []cell) int {
	seen := map[string]bool{}
	for _, c := range list {
		seen[c.text()] = true
	}
	return len(seen)
}

// validUntil is the first instant after asOf at which an event leaves or enters a window it counts in, or an age takes a step.
func (t *timeline) validUntil(asOf int64) int64 {
	until := int64(neverChanges)
	for i := range t.g.Features {
		f := &t.g.Features[i]
		if f.derive != nil {
			continue
		}
		from, to := t.window(f, asOf)
		if f.window > 0 {
			if list := t.selected(f, from, to); len(list) > 0 {
				until = min(until, list[0].time+f.window)
				if f.unit > 0 {
					age := since(f, list, asOf).n
					until = min(until, agedFrom(f, list)+(age+1)*f.unit)
				}
			}
		}
		if list := t.selected(f, to, len(t.events)); len(list) > 0 {
			until = min(until, list[0].time)
		}
	}
	return until
}

// text turns cells into values.
func text(cells []cell) []Value {
	values := make([]Value, len(cells))
	for i, c := range cells {
		values[i] = Value{Null: c.null()}
		if !c.null() {
			values[i].Text = c.text()
		}
	}
	return values
}
