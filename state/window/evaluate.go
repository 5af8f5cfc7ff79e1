package window

import (
	"math"
	"math/bits"

	"github.com/freshet-dev/freshet/schemas"
	"github.com/freshet-dev/freshet/schemas/feature"
	"github.com/freshet-dev/freshet/state/agg"
)

// scratch is what one evaluation or encoding works with; it is taken from the layout's pool.
type scratch struct {
	lanes    []reading
	seen     []seenTable // per lane
	oldest   []int64     // per filter + 1: time of the oldest event that passed
	texts    []uint32    // references in the order of their first appearance in a block
	life     lifeScratch
	buf, key []byte
}

func newScratch(l *Layout) *scratch {
	return &scratch{lanes: make([]reading, len(l.lanes)), seen: make([]seenTable, len(l.lanes)), oldest: make([]int64, len(l.plan.Filters)+1)}
}

// reading is what there is to know of a lane over one window. Filled by the pass over a small entity, by the accumulators of a large one or by
// those of a lifetime; read by [emit].
type reading struct {
	n        int64 // events in the lane
	distinct int64
	sum      *agg.Sum
	squares  *agg.Squares
	min, max agg.Key
	first    moment
	last     moment

	ownSum     agg.Sum
	ownSquares agg.Squares
	total      double // the sum as a double, once it is needed
	spread     [2]double
}

// moment is an event of a lane: its time and its column's value.
type moment struct {
	time  int64
	value schemas.Value
}

// double is a result that is computed once and may be beyond range.
type double struct {
	value  float64
	known  bool
	exceed bool
}

func (r *reading) reset() {
	r.n, r.distinct = 0, 0
	r.sum, r.squares = &r.ownSum, &r.ownSquares
	r.ownSum.Reset()
	r.ownSquares.Reset()
	r.stale()
}

// stale forgets computed results, since an event came or went.
func (r *reading) stale() { r.total, r.spread = double{}, [2]double{} }

// Evaluate computes all features at asOf, in ms, which must not be before any event kept, any clock given to Insert or any earlier asOf, into
// out (len(Plan.Features)). Bytes in out are valid until the next call on e. next is the first instant after asOf at which any feature changes
// without a new event, or may: the departure of an event from the window of a feature whose filter it passes, or a step of time_since_*.
func (e *Entity) Evaluate(l *Layout, asOf int64, out []schemas.Value, c *Counters) (next int64) {
	sc := l.scratch.Get().(*scratch)
	next = Never
	if e.big != nil {
		next = e.big.evaluate(l, e, asOf, out, c, sc)
	} else if len(l.windows) > 0 {
		next = e.evaluateSmall(l, asOf, out, c, sc)
	}
	if l.life.lanes != nil {
		next = min(next, e.evaluateLifetime(l, asOf, out, c, sc))
	}
	for _, i := range l.derived {
		v, err := l.plan.Features[i].Derive.Value(out)
		if err {
			c.DeriveErrors++
			v = schemas.Value{}
		}
		out[i] = v
	}
	l.scratch.Put(sc)
	return next
}

// evaluateSmall goes once from the newest event to the oldest, adds each to its lanes, and reads them out at the start of each window.
func (e *Entity) evaluateSmall(l *Layout, asOf int64, out []schemas.Value, c *Counters, sc *scratch) (next int64) {
	for i := range sc.lanes {
		sc.lanes[i].reset()
		sc.seen[i].reset()
	}
	for i := range sc.oldest {
		sc.oldest[i] = -1
	}
	x := emitter{e: e, out: out, c: c, asOf: asOf, next: Never}
	at := len(e.ev)
	for wi := range l.windows {
		w := &l.windows[wi]
		was := at
		for start := asOf - w.length; at > 0 && timeOf(e.ev[at-l.stride:]) > start; {
			at -= l.stride
		}
		if x.unchanged = wi > 0 && at == was; !x.unchanged {
			for i := range l.lanes {
				if l.lanes[i].last >= wi && at < was {
					e.feed(l, i, at, was, sc)
				}
			}
		}
		x.departures(l, w, at, was, sc)
		for i := range w.features {
			f := &w.features[i]
			x.emit(f, &sc.lanes[f.lane], l.lanes[f.lane].scale)
		}
	}
	return x.next
}

// departures finds when the first event leaves the window whose start lies before place from; those from place to on were in the window before.
func (x *emitter) departures(l *Layout, w *windowOf, from, to int, sc *scratch) {
	ev := x.e.ev
	if from < to {
		sc.oldest[0] = timeOf(ev[from:])
		for i := 1; i < len(sc.oldest); i++ {
			f := l.filterFlag(i - 1)
			for at := from; at < to; at += l.stride {
				if f.in(ev[at:]) {
					sc.oldest[i] = timeOf(ev[at:])
					break
				}
			}
		}
	}
	for _, f := range w.filters {
		if t := sc.oldest[f+1]; t >= 0 {
			x.next = min(x.next, t+w.length)
		}
	}
}

// feed adds the events from place lo up to hi to lane li. They are all before those it was given so far.
func (e *Entity) feed(l *Layout, li, lo, hi int, sc *scratch) {
	la, r := &l.lanes[li], &sc.lanes[li]
	was := r.n
	switch {
	case la.needs == 0 && la.flag.mask|la.pass.mask == 0:
		r.n += int64((hi - lo) / l.stride)
	case la.needs&^(needSum|needSquares|needMin|needMax) == 0 && la.kind == schemas.Double:
		e.feedDoubles(l, la, r, e.ev[lo:hi])
	case la.needs == needSum && la.kind == schemas.Int:
		e.feedInts(l, la, r, e.ev[lo:hi])
	default:
		for at := hi - l.stride; at >= lo; at -= l.stride {
			if ev := e.ev[at : at+l.stride]; la.passes(ev) {
				e.feedOne(la, r, ev)
				if la.needs&needDistinct != 0 && sc.seen[li].add(la, e.ev, at) {
					r.distinct++
				}
			}
		}
	}
	if r.n != was {
		r.stale()
	}
}

// feedDoubles is feed for the moments and extremes of doubles.
func (e *Entity) feedDoubles(l *Layout, la *lane, r *reading, ev []uint64) {
	if r.n == 0 {
		r.min.Hi, r.max.Hi = math.MaxInt64, math.MinInt64
	}
	for ; len(ev) > 0; ev = ev[l.stride:] {
		if !la.passes(ev) {
			continue
		}
		r.n++
		x := math.Float64frombits(ev[la.word])
		switch {
		case la.needs&needSquares != 0:
			agg.AddDouble(r.sum, r.squares, x)
		case la.needs&needSum != 0:
			r.sum.AddDouble(x)
		}
		if la.needs&(needMin|needMax) != 0 {
			k := agg.DoubleKey(ev[la.word]).Hi
			r.min.Hi, r.max.Hi = min(r.min.Hi, k), max(r.max.Hi, k)
		}
	}
}

// feedInts is feed for the sum of integers.
func (e *Entity) feedInts(l *Layout, la *lane, r *reading, ev []uint64) {
	var hi, lo, c uint64
	for ; len(ev) > 0; ev = ev[l.stride:] {
		if la.passes(ev) {
			r.n++
			v := ev[la.word]
			lo, c = bits.Add64(lo, v, 0)
			hi += uint64(int64(v)>>63) + c
		}
	}
	r.sum.AddInt(int64(hi), lo)
}

// feedOne adds an event to all but the distinct values of a lane that it passes.
func (e *Entity) feedOne(la *lane, r *reading, ev []uint64) {
	r.n++
	la.addTo(r.sum, r.squares, ev)
	if la.needs&(needMin|needMax) != 0 {
		k := la.key(ev)
		if r.n == 1 || k.Less(r.min) {
			r.min = k
		}
		if r.n == 1 || r.max.Less(k) {
			r.max = k
		}
	}
	if la.needs&needFirst != 0 {
		r.first = e.moment(la, ev)
	}
	if la.needs&needLast != 0 && r.n == 1 {
		r.last = e.moment(la, ev)
	}
}

func (e *Entity) moment(la *lane, ev []uint64) moment {
	m := moment{time: timeOf(ev)}
	if la.col >= 0 {
		m.value = e.value(la, ev)
	}
	return m
}

// addTo adds the event's column to a sum and its square to q, as far as the lane needs them.
func (la *lane) addTo(s *agg.Sum, q *agg.Squares, ev []uint64) {
	if la.needs&needSum == 0 {
		return
	}
	squares := la.needs&needSquares != 0
	if la.kind == schemas.Double {
		if x := math.Float64frombits(ev[la.word]); squares {
			agg.AddDouble(s, q, x)
		} else {
			s.AddDouble(x)
		}
		return
	}
	hi, lo := la.integer(ev)
	s.AddInt(hi, lo)
	if squares {
		q.AddInt(hi, lo)
	}
}

// subFrom takes out what addTo added.
func (la *lane) subFrom(s *agg.Sum, q *agg.Squares, ev []uint64) {
	if la.needs&needSum == 0 {
		return
	}
	squares := la.needs&needSquares != 0
	if la.kind == schemas.Double {
		if x := math.Float64frombits(ev[la.word]); squares {
			agg.SubDouble(s, q, x)
		} else {
			s.SubDouble(x)
		}
		return
	}
	hi, lo := la.integer(ev)
	s.SubInt(hi, lo)
	if squares {
		q.SubInt(hi, lo)
	}
}

// integer returns the event's column as 128 bits.
func (la *lane) integer(ev []uint64) (hi int64, lo uint64) {
	if la.kind == schemas.Decimal {
		return int64(ev[la.word]), ev[la.word+1]
	}
	return int64(ev[la.word]) >> 63, ev[la.word]
}

// key returns the event's column as an ordered key.
func (la *lane) key(ev []uint64) agg.Key {
	switch la.kind {
	case schemas.Double:
		return agg.DoubleKey(ev[la.word])
	case schemas.Decimal:
		return agg.Key{Hi: int64(ev[la.word]), Lo: ev[la.word+1]}
	}
	return agg.Key{Hi: int64(ev[la.word])}
}

// setKey writes the value that k is the key of.
func setKey(v *schemas.Value, kind schemas.Kind, k agg.Key) {
	switch kind {
	case schemas.Double:
		set(v, kind, k.Double())
	case schemas.Decimal:
		set(v, kind, k.Lo)
		v.Hi = k.Hi
	default:
		set(v, kind, uint64(k.Hi))
	}
}

// emitter writes features to a row.
type emitter struct {
	e          *Entity
	out        []schemas.Value
	c          *Counters
	asOf, next int64
	unchanged  bool // since the window before: no event lies between the starts of the two
}

// emit writes one feature; scale is that of its column. Values are written in place, field by field: a row is 48 bytes a feature, and most of it
// does not change from one to the next.
func (x *emitter) emit(f *featureOf, r *reading, scale int) {
	v := &x.out[f.out]
	if f.over >= 0 && x.e.isOver(f.over) {
		x.c.OverLimit++
		x.c.LastOver = f.out
		set(v, schemas.Null, 0)
		return
	}
	if x.unchanged && f.same >= 0 && x.out[f.same].Kind != schemas.Null {
		setTo(v, &x.out[f.same])
		return
	}
	switch f.agg {
	case feature.Count:
		set(v, schemas.Int, uint64(r.n))
	case feature.Sum:
		x.sum(v, f.kind, r)
	case feature.CountDistinct:
		set(v, schemas.Int, uint64(r.distinct))
	default:
		if r.n == 0 {
			set(v, schemas.Null, 0)
			return
		}
		x.some(v, f, r, scale)
	}
}

// set writes a value that has no bytes.
func set(v *schemas.Value, kind schemas.Kind, bits uint64) {
	v.Kind, v.Hi, v.Bits = kind, 0, bits
	if v.Bytes != nil {
		v.Bytes = nil
	}
}

// setTo copies a value.
func setTo(v, from *schemas.Value) {
	set(v, from.Kind, from.Bits)
	v.Hi = from.Hi
	if from.Bytes != nil {
		v.Bytes = from.Bytes
	}
}

// some writes a feature that is null over no event, over one or more.
func (x *emitter) some(v *schemas.Value, f *featureOf, r *reading, scale int) {
	switch f.agg {
	case feature.Avg:
		x.double(v, r.mean(scale))
	case feature.Min:
		setKey(v, f.kind, r.min)
	case feature.Max:
		setKey(v, f.kind, r.max)
	case feature.Variance, feature.Stddev:
		if r.n < 2 {
			set(v, schemas.Null, 0)
			return
		}
		x.double(v, r.deviation(scale, 0, f.agg == feature.Stddev))
	case feature.VariancePop, feature.StddevPop:
		x.double(v, r.deviation(scale, 1, f.agg == feature.StddevPop))
	case feature.First:
		setTo(v, &r.first.value)
	case feature.Last:
		setTo(v, &r.last.value)
	case feature.FirstTime:
		set(v, schemas.Time, uint64(r.first.time))
	case feature.LastTime:
		set(v, schemas.Time, uint64(r.last.time))
	case feature.TimeSinceFirst:
		x.since(v, r.first.time, f.unit)
	case feature.TimeSinceLast:
		x.since(v, r.last.time, f.unit)
	}
}

func (x *emitter) sum(v *schemas.Value, kind schemas.Kind, r *reading) {
	switch kind {
	case schemas.Int:
		if i, ok := r.sum.Int64(); ok {
			set(v, kind, uint64(i))
			return
		}
	case schemas.Decimal:
		if hi, lo, ok := r.sum.Int128(); ok {
			set(v, kind, lo)
			v.Hi = hi
			return
		}
	default:
		x.double(v, r.sumDouble(0))
		return
	}
	x.c.Overflow++
	set(v, schemas.Null, 0)
}

func (x *emitter) double(v *schemas.Value, d double) {
	if d.exceed {
		x.c.Overflow++
		set(v, schemas.Null, 0)
		return
	}
	set(v, schemas.Double, math.Float64bits(d.value+0)) // −0.0 + 0 is 0.0
}

// since is the age in whole units; its next step is a change.
func (x *emitter) since(v *schemas.Value, t, unit int64) {
	n := (x.asOf - t) / unit
	x.next = min(x.next, t+(n+1)*unit)
	set(v, schemas.Int, uint64(n))
}

func (r *reading) sumDouble(scale int) double {
	if !r.total.known {
		f, ok := r.sum.Float64(scale)
		r.total = double{f, true, !ok}
	}
	return r.total
}

func (r *reading) mean(scale int) double {
	d := r.sumDouble(scale)
	d.value /= float64(r.n)
	return d
}

// deviation returns the variance (pop 1: of the population) or its square root.
func (r *reading) deviation(scale, pop int, root bool) double {
	d := &r.spread[pop]
	if !d.known {
		f, ok := agg.Variance(r.sum, r.squares, r.n, scale, pop == 1)
		*d = double{f, true, !ok}
	}
	if root {
		return double{math.Sqrt(d.value), true, d.exceed}
	}
	return *d
}

// seenTable finds the distinct values of a lane in the pass over a small entity.
type seenTable struct {
	slots [2 * smallMax]seenSlot
	round uint32
}

// seenSlot is taken if its round is the table's.
type seenSlot struct {
	round uint32
	at    uint32 // place of the event
}

func (s *seenTable) reset() {
	if s.round++; s.round == 0 {
		*s = seenTable{round: 1}
	}
}

// add reports whether the value of the event at place at is new.
func (s *seenTable) add(la *lane, ev []uint64, at int) bool {
	v, v2 := ev[at+la.word], uint64(0)
	if la.kind == schemas.Decimal {
		v2 = ev[at+la.word+1]
	}
	for i := (v + v2*3) * 0x9e3779b97f4a7c15 >> (64 - 8); ; i = (i + 1) % uint64(len(s.slots)) {
		slot := &s.slots[i]
		if slot.round != s.round {
			*slot = seenSlot{s.round, uint32(at)}
			return true
		}
		if o := int(slot.at) + la.word; ev[o] == v && (la.kind != schemas.Decimal || ev[o+1] == v2) {
			return false
		}
	}
}
