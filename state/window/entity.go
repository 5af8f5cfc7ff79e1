// Package window holds the events of one entity and computes its features over sliding windows, exactly. It is pure: no clock, no files.
//
// A small entity keeps its events packed in one slice and is evaluated in one pass from the newest event to the oldest. A large one keeps them
// in chunks, and accumulators that follow each window's start (see large.go). Which of the two an entity is depends only on the calls of
// Insert and Trim made on it, and survives encoding. FORMAT.md describes the bytes.
package window

import (
	"github.com/freshet-dev/freshet/schemas"
)

// An entity with more than smallMax events becomes large, a large one with at most largeMin small again.
const (
	smallMax = 128
	largeMin = 64
)

// Event is an accepted event.
type Event struct {
	Time    int64           // ms since the epoch, 0 ≤ Time < 2^44
	ID      uint64          // identity
	Mask    uint64          // bit 0 always set; bit i+1: Plan.Filters[i] is true
	Columns []schemas.Value // in the order of Plan.Stored; copied by Insert
}

// Entity is the decoded state of one entity. It is owned by one goroutine, that of its shard.
type Entity struct {
	// Bookkeeping of the caller, encoded with the record and not read here.
	LastAsOf   int64 // of the last row, −1 before any
	LastOffset int64 // of the last folded event, −1 before any
	Armed      int64 // instant of the timer, 0: none
	ArmedKind  uint8
	Due        int64 // next of the last row's Evaluate, Never before any

	l    *Layout
	ev   []uint64 // small: the events, ascending by (time, identity), Layout.stride words each
	dict *dict    // texts of the events, nil where there was none
	big  *large   // large: the events and their accumulators
	ext  *extra   // what few plans need
}

// extra is what an entity has beside its events.
type extra struct {
	over   []uint64  // sticky bits of features beyond their max_distinct
	life   []byte    // accumulators of lifetime features (see lifetime.go); nil: nothing was ever accepted
	sets   []lifeSet // their distinct values
	chunks uint32    // number of the next chunk
	gone   []uint32  // chunks to delete
}

// Counters count features that are null for another reason than an empty window, once an evaluation.
type Counters struct {
	Overflow     uint64 // a result beyond its type's range
	DeriveErrors uint64 // a derive that erred or had a null operand
	OverLimit    uint64 // beyond max_distinct
	LastOver     int    // index of the feature that OverLimit was last raised for
}

// NewEntity returns an entity without events.
func (l *Layout) NewEntity() *Entity { return &Entity{LastAsOf: -1, LastOffset: -1, Due: Never, l: l} }

func (e *Entity) extra() *extra {
	if e.ext == nil {
		e.ext = &extra{}
	}
	return e.ext
}

// Insert drops events with time ≤ clock − Horizon and folds ev, of any time within the horizon, unless the same (Time, ID) is there: then it
// returns true and changes nothing, so that a duplicate need not be written. clock is the stream clock in ms; no later Evaluate may have an
// asOf before it.
func (e *Entity) Insert(l *Layout, ev *Event, clock int64) (duplicate bool) {
	if e.Contains(ev.Time, ev.ID) {
		return true
	}
	e.Trim(l, clock)
	if e.big == nil {
		e.insertSmall(l, ev)
	} else {
		e.big.insert(l, e, ev)
	}
	if l.life.lanes != nil {
		e.foldLifetime(l, ev)
	}
	if l.limited != nil {
		e.checkLimits(l, max(clock, ev.Time))
	}
	if e.big == nil && len(e.ev) > smallMax*l.stride {
		e.enlarge(l)
	}
	return false
}

// Contains reports whether an event with that time, in ms, and identity is kept: Insert would return true for it, unless it lies beyond the
// horizon by then.
func (e *Entity) Contains(time int64, id uint64) bool {
	l := e.l
	if e.big != nil {
		p := e.big.find(l, time, id)
		c := e.big.chunks[p.chunk]
		return p.at < len(c.ev) && same(c.ev[p.at:], time, id)
	}
	at := len(e.ev) - l.stride
	for at >= 0 && !before(e.ev[at:], time, id) {
		if same(e.ev[at:], time, id) {
			return true
		}
		at -= l.stride
	}
	return false
}

// Trim drops events with time ≤ clock − Horizon.
func (e *Entity) Trim(l *Layout, clock int64) {
	bound := clock - l.horizon
	if e.big != nil {
		if e.big.trim(l, e, bound); e.big.n <= largeMin {
			e.shrink(l)
		}
		return
	}
	drop := 0
	for drop < len(e.ev) && timeOf(e.ev[drop:]) <= bound {
		drop += l.stride
	}
	if drop > 0 {
		e.ev = e.ev[:copy(e.ev, e.ev[drop:])]
	}
}

// Empty reports whether no event is left and nothing of a lifetime.
func (e *Entity) Empty() bool {
	return len(e.ev) == 0 && e.big == nil && (e.ext == nil || e.ext.life == nil)
}

// Newest returns the time of the newest event kept, −1 if there is none.
func (e *Entity) Newest() int64 {
	if e.big != nil {
		return e.big.newest(e.l)
	}
	if len(e.ev) == 0 {
		return -1
	}
	return timeOf(e.ev[len(e.ev)-e.l.stride:])
}

// timeOf returns the time of an event.
func timeOf(ev []uint64) int64 { return int64(ev[0] >> timeShift) }

// before reports whether event a is before (time, id) in the total order.
func before(a []uint64, time int64, id uint64) bool {
	t := timeOf(a)
	return t < time || t == time && a[1] < id
}

func same(a []uint64, time int64, id uint64) bool { return timeOf(a) == time && a[1] == id }

// insertSmall folds ev, which is not there yet, into a small entity.
func (e *Entity) insertSmall(l *Layout, ev *Event) {
	at := len(e.ev)
	for at > 0 && !before(e.ev[at-l.stride:], ev.Time, ev.ID) {
		at -= l.stride
	}
	e.makeRoom(l, ev)
	n := len(e.ev)
	if n+l.stride > cap(e.ev) {
		w := make([]uint64, n, n+(n/4/l.stride+2)*l.stride)
		copy(w, e.ev)
		e.ev = w
	}
	e.ev = e.ev[:n+l.stride]
	copy(e.ev[at+l.stride:], e.ev[at:n])
	e.put(l, e.ev[at:at+l.stride], ev)
}

// put writes ev into the words w. The dictionary has room for its texts.
func (e *Entity) put(l *Layout, w []uint64, ev *Event) {
	clear(w)
	w[0], w[1] = uint64(ev.Time)<<timeShift, ev.ID
	for i := range l.columns {
		c := &l.columns[i]
		v := &ev.Columns[i]
		if v.Kind == schemas.Null {
			continue
		}
		w[c.flag.word] |= c.flag.mask
		switch {
		case c.text:
			w[c.word] = e.dict.intern(v.Bytes)
		case c.kind == schemas.Decimal:
			w[c.word], w[c.word+1] = uint64(v.Hi), v.Bits
		default:
			w[c.word] = plainZero(c.kind, v.Bits)
		}
	}
	for i := range l.plan.Filters {
		if ev.Mask>>(i+1)&1 != 0 {
			f := l.filterFlag(i)
			w[f.word] |= f.mask
		}
	}
}

// plainZero makes 0.0 of −0.0.
func plainZero(kind schemas.Kind, b uint64) uint64 {
	if kind == schemas.Double && b == 1<<63 {
		return 0
	}
	return b
}

// makeRoom makes room in the dictionary for the texts of ev, sweeping out those of dropped events where it is full.
func (e *Entity) makeRoom(l *Layout, ev *Event) {
	room := 0
	for i := range l.columns {
		if l.columns[i].text && ev.Columns[i].Kind != schemas.Null {
			room += entryBytes(ev.Columns[i].Bytes)
		}
	}
	switch {
	case room == 0:
	case e.dict == nil:
		e.dict = &dict{heap: make([]byte, 0, room)}
	case len(e.dict.heap)+room > cap(e.dict.heap):
		e.sweep(l, room)
	}
}

// sweep copies the dictionary with room for more bytes, leaving out the texts of no event, and moves the references. It costs a pass over the
// events, so it leaves spare room in proportion to them: a sweep is paid for by the events before it.
func (e *Entity) sweep(l *Layout, room int) {
	old := e.dict
	for at := 0; at < len(old.heap); at = old.next(at) {
		old.setMark(uint64(at/4), 0)
	}
	e.eachText(l, func(ref uint64) uint64 { old.setMark(ref, 1); return ref })
	live := 0
	for at := 0; at < len(old.heap); {
		next := old.next(at)
		if old.mark(uint64(at/4)) == 1 {
			live += next - at
		}
		at = next
	}
	spare := live / 4
	if e.big != nil {
		spare = max(live, 8*e.big.n)
	}
	d := &dict{heap: make([]byte, 0, live+room+spare)}
	for at := 0; at < len(old.heap); {
		next := old.next(at)
		if ref := uint64(at / 4); old.mark(ref) == 1 {
			to := len(d.heap) / 4
			d.heap = append(d.heap, old.heap[at:next]...)
			d.setMark(uint64(to), 0)
			old.setMark(ref, uint32(to))
			d.n++
		}
		at = next
	}
	e.eachText(l, func(ref uint64) uint64 { return uint64(old.mark(ref)) })
	if d.n > dictLinear {
		d.reindex(2 * d.n)
	}
	e.dict = d
}

// eachText replaces each reference to the dictionary by what fn returns for it.
func (e *Entity) eachText(l *Layout, fn func(ref uint64) uint64) {
	if e.big != nil {
		e.big.eachText(l, fn)
		return
	}
	eachText(l, e.ev, fn)
}

func eachText(l *Layout, ev []uint64, fn func(ref uint64) uint64) {
	for i := range l.columns {
		c := &l.columns[i]
		if !c.text {
			continue
		}
		for at := 0; at < len(ev); at += l.stride {
			if w := ev[at : at+l.stride]; c.flag.in(w) {
				w[c.word] = fn(w[c.word])
			}
		}
	}
}

// value returns the column of a lane of an event.
func (e *Entity) value(la *lane, ev []uint64) schemas.Value {
	switch {
	case la.text:
		return schemas.Value{Kind: la.kind, Bytes: e.dict.text(ev[la.word])}
	case la.kind == schemas.Decimal:
		return schemas.DecimalValue(int64(ev[la.word]), ev[la.word+1])
	}
	return schemas.Value{Kind: la.kind, Bits: ev[la.word]}
}

// Size is roughly the bytes of memory that e takes.
func (e *Entity) Size() int {
	n := 96 + 8*cap(e.ev)
	if e.dict != nil {
		n += e.dict.memBytes()
	}
	if e.big != nil {
		n += e.big.memBytes()
	}
	if x := e.ext; x != nil {
		n += 128 + 8*cap(x.over) + cap(x.life) + 4*cap(x.gone)
		for i := range x.sets {
			n += 80 + x.sets[i].set.MemBytes() + 4*cap(x.sets[i].nos)
		}
	}
	return n
}
