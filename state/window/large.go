package window

import (
	"slices"
	"sort"
	"unsafe"

	"github.com/freshet-dev/freshet/schemas"
	"github.com/freshet-dev/freshet/state/agg"
)

// chunkMax is the number of events in a chunk. A full one that an event falls into is halved; one that it follows at the end is left full.
const chunkMax = 512

// large holds the events of a large entity, and per window what its features need:
//
//   - a cursor at the first event in the window and exact accumulators that it leaves subtract from;
//   - for minimum and maximum, shared by all windows, the suffix extrema: those events that no later event equals or beats, so that a window's
//     extremum is the first of them inside it;
//   - for distinct values, shared, the last occurrence of each: a window holds a value if it holds its last occurrence;
//   - the first event of each lane that needs one, looked for anew only when it has left.
//
// All of it is made anew by Decode and none of it is in the record: it is a function of the events and of the windows' starts.
type large struct {
	chunks []*chunk // ascending; none is empty
	n      int      // events
	words  int      // capacity of the chunks, for memBytes
	dirty  []*chunk // changed since the last DirtyChunks
	wins   []windowState
	lanes  []laneState
}

// chunk is a run of events. Those before skip are dropped; they stay in it until another change, so that dropping rewrites nothing.
type chunk struct {
	no    uint32
	dirty bool
	dead  bool // left the entity while it was dirty
	skip  int  // words
	ev    []uint64
}

// windowState follows one window.
type windowState struct {
	start  int64  // the window holds events with a time beyond it
	cursor place  // of the first of them
	cells  []cell // per lane of the window
	firsts []first
}

// place is an event: a chunk, and the word where it starts in it. It may lie at the end of a chunk: then it is the first event of the next.
type place struct{ chunk, at int }

// cell is what can be subtracted from.
type cell struct {
	n, distinct int64
	sum         agg.Sum
	squares     agg.Squares
}

// first is the first event in a window that passes a filter and has a column (−1: any).
type first struct {
	set  bool
	time int64
	id   uint64
	word [2]uint64 // the column's
}

// laneState is what all windows share.
type laneState struct {
	min, max extrema
	last     first
	seen     map[[2]uint64]occurrence // distinct values, each at its last occurrence
}

type occurrence struct {
	time int64
	id   uint64
}

func (o occurrence) before(time int64, id uint64) bool {
	return o.time < time || o.time == time && o.id < id
}

// extrema are the suffix extrema, ascending by time: values strictly towards the middle from front to back.
type extrema struct {
	items []extremum
	head  int // items before it are dropped
}

type extremum struct {
	time int64
	key  agg.Key
}

// add enters a value; max tells which side.
func (x *extrema) add(t int64, k agg.Key, max bool) {
	items := x.items
	beats := func(a, b agg.Key) bool { // a makes an earlier b needless
		if max {
			return !a.Less(b)
		}
		return !b.Less(a)
	}
	at := len(items)
	for at > x.head && items[at-1].time > t {
		at-- // late events are few and not far back
	}
	if at < len(items) && beats(items[at].key, k) {
		return
	}
	if at > x.head && items[at-1].time == t && beats(items[at-1].key, k) {
		return
	}
	from := at
	for from > x.head && beats(k, items[from-1].key) {
		from--
	}
	x.items = slices.Replace(items, from, at, extremum{t, k})
}

// after returns the extremum of the events with a time beyond start.
func (x *extrema) after(start int64) (agg.Key, bool) {
	items := x.items[x.head:]
	i := sort.Search(len(items), func(i int) bool { return items[i].time > start })
	if i == len(items) {
		return agg.Key{}, false
	}
	return items[i].key, true
}

// drop forgets events with time ≤ bound.
func (x *extrema) drop(bound int64) {
	for x.head < len(x.items) && x.items[x.head].time <= bound {
		x.head++
	}
	if x.head > 16 && x.head > len(x.items)/2 {
		x.items = x.items[:copy(x.items, x.items[x.head:])]
		x.head = 0
	}
}

// enlarge makes a small entity large.
func (e *Entity) enlarge(l *Layout) {
	b := &large{}
	b.addChunk(0, &chunk{no: e.nextChunk(), ev: e.ev})
	b.markDirty(b.chunks[0])
	b.n = len(e.ev) / l.stride
	e.ev, e.big = nil, b
	b.build(l, e)
}

// shrink makes a large entity small.
func (e *Entity) shrink(l *Layout) {
	b := e.big
	ev := make([]uint64, 0, (b.n+2)*l.stride)
	x := e.extra()
	for _, c := range b.chunks {
		ev = append(ev, c.ev[c.skip:]...)
		x.gone = append(x.gone, c.no)
	}
	for _, c := range b.dirty {
		c.dead = true
	}
	e.ev, e.big = ev, nil
}

func (b *large) addChunk(at int, c *chunk) {
	b.chunks = slices.Insert(b.chunks, at, c)
	b.words += cap(c.ev)
}

func (b *large) markDirty(c *chunk) {
	if !c.dirty {
		c.dirty = true
		b.dirty = append(b.dirty, c)
	}
}

func (b *large) newest(l *Layout) int64 {
	c := b.chunks[len(b.chunks)-1]
	return timeOf(c.ev[len(c.ev)-l.stride:])
}

// build makes the accumulators from the events.
func (b *large) build(l *Layout, e *Entity) {
	b.lanes = make([]laneState, len(l.lanes))
	for i := range b.lanes {
		if l.lanes[i].needs&needDistinct != 0 {
			b.lanes[i].seen = map[[2]uint64]occurrence{}
		}
	}
	b.wins = make([]windowState, len(l.windows))
	newest := b.newest(l)
	for i := range b.wins {
		w := &l.windows[i]
		b.wins[i] = windowState{start: newest - w.length, cells: make([]cell, len(w.lanes)), firsts: make([]first, len(w.firsts))}
	}
	for _, c := range b.chunks {
		for at := c.skip; at < len(c.ev); at += l.stride {
			b.fold(l, c.ev[at:at+l.stride])
		}
	}
	for i := range b.wins {
		b.wins[i].cursor = b.seek(l, b.wins[i].start)
	}
}

// insert folds ev, which is not there yet, into the entity.
func (b *large) insert(l *Layout, e *Entity, ev *Event) {
	p := b.find(l, ev.Time, ev.ID)
	c := b.chunks[p.chunk]
	e.makeRoom(l, ev)
	end := p.chunk == len(b.chunks)-1 && p.at == len(c.ev)
	w := b.open(l, e, p)
	e.put(l, w, ev)
	b.n++
	b.fold(l, w)
	for i := range b.wins {
		// At the very end an event moves no cursor, but one that stood there stands before it now: right only if it is in the window.
		if s := &b.wins[i]; ev.Time <= s.start || !end && s.cursor.chunk >= p.chunk {
			s.cursor = b.seek(l, s.start)
		}
	}
}

// find returns the place of (time, id), or where it belongs: at the end of a chunk only if that is the last one.
func (b *large) find(l *Layout, time int64, id uint64) place {
	lastBefore := func(i int) bool { // the chunk's last event is not before it
		c := b.chunks[i]
		return !before(c.ev[len(c.ev)-l.stride:], time, id)
	}
	last := len(b.chunks) - 1
	ci := last
	if last > 0 && lastBefore(last-1) {
		ci = sort.Search(last-1, lastBefore)
	}
	c := b.chunks[ci]
	n := (len(c.ev) - c.skip) / l.stride
	at := n
	if n > 0 && lastBefore(ci) {
		at = sort.Search(n, func(i int) bool { return !before(c.ev[c.skip+i*l.stride:], time, id) })
	}
	return place{ci, c.skip + at*l.stride}
}

// seek returns the place of the first event with a time beyond start.
func (b *large) seek(l *Layout, start int64) place {
	ci := sort.Search(len(b.chunks), func(i int) bool {
		c := b.chunks[i]
		return timeOf(c.ev[len(c.ev)-l.stride:]) > start
	})
	if ci == len(b.chunks) {
		ci--
		return place{ci, len(b.chunks[ci].ev)}
	}
	c := b.chunks[ci]
	n := (len(c.ev) - c.skip) / l.stride
	return place{ci, c.skip + l.stride*sort.Search(n, func(i int) bool { return timeOf(c.ev[c.skip+i*l.stride:]) > start })}
}

// open makes room for an event at p and returns its words. Unless p is the very end, cursors in its chunk and after it are off then.
func (b *large) open(l *Layout, e *Entity, p place) []uint64 {
	c := b.chunks[p.chunk]
	end := p.chunk == len(b.chunks)-1 && p.at == len(c.ev)
	full := len(c.ev) >= chunkMax*l.stride
	switch {
	case end && full:
		p = place{p.chunk + 1, 0}
		b.addChunk(p.chunk, &chunk{no: e.nextChunk(), ev: make([]uint64, 0, chunkMax*l.stride)})
	case end:
	case c.skip > 0:
		p.at -= c.skip
		c.ev = c.ev[:copy(c.ev, c.ev[c.skip:])]
		c.skip = 0
	case full:
		p = b.split(l, e, p)
	}
	c = b.chunks[p.chunk]
	b.markDirty(c)
	old := cap(c.ev)
	c.ev = slices.Grow(c.ev, l.stride)[:len(c.ev)+l.stride]
	b.words += cap(c.ev) - old
	copy(c.ev[p.at+l.stride:], c.ev[p.at:])
	return c.ev[p.at : p.at+l.stride]
}

func (e *Entity) nextChunk() uint32 {
	no := e.extra().chunks
	e.ext.chunks++
	return no
}

// split makes two of the full chunk at p, of which nothing is dropped, and returns where p is then. The last one is cut near its end: late
// events fall close to it, and halves would stay halves.
func (b *large) split(l *Layout, e *Entity, p place) place {
	c := b.chunks[p.chunk]
	cut, room := chunkMax/2, chunkMax/2+chunkMax/8
	if p.chunk == len(b.chunks)-1 {
		cut, room = chunkMax*7/8, chunkMax
	}
	cut *= l.stride
	upper := &chunk{no: e.nextChunk(), ev: make([]uint64, len(c.ev)-cut, room*l.stride)}
	copy(upper.ev, c.ev[cut:])
	c.ev = c.ev[:cut]
	b.addChunk(p.chunk+1, upper)
	b.markDirty(upper)
	b.markDirty(c)
	if p.at > cut {
		return place{p.chunk + 1, p.at - cut}
	}
	return p
}

// fold adds an event to what all windows share and to the windows that hold it.
func (b *large) fold(l *Layout, ev []uint64) {
	t, id := timeOf(ev), ev[1]
	for i := range l.lanes {
		la := &l.lanes[i]
		if !la.passes(ev) {
			continue
		}
		s := &b.lanes[i]
		if la.needs&(needMin|needMax) != 0 {
			k := la.key(ev)
			if la.needs&needMin != 0 {
				s.min.add(t, k, false)
			}
			if la.needs&needMax != 0 {
				s.max.add(t, k, true)
			}
		}
		if la.needs&needLast != 0 && (!s.last.set || s.last.time < t || s.last.time == t && s.last.id < id) {
			s.last = la.first(ev)
		}
		if la.needs&needDistinct != 0 {
			b.foldDistinct(l, i, ev)
		}
	}
	for wi := range b.wins {
		if s := &b.wins[wi]; t > s.start {
			s.fold(l, &l.windows[wi], ev)
		}
	}
}

// foldDistinct enters the event's value: windows that hold the event, but not the last occurrence so far, hold one value more.
func (b *large) foldDistinct(l *Layout, lane int, ev []uint64) {
	s, t := &b.lanes[lane], timeOf(ev)
	k := l.lanes[lane].word2(ev)
	last, ok := s.seen[k]
	if !ok || last.before(t, ev[1]) {
		s.seen[k] = occurrence{t, ev[1]}
	}
	for wi := range b.wins {
		w := &b.wins[wi]
		if t <= w.start || ok && last.time > w.start {
			continue
		}
		if ci := slices.Index(l.windows[wi].lanes, lane); ci >= 0 {
			w.cells[ci].distinct++
		}
	}
}

// word2 returns the column's words, the second 0 where there is one.
func (la *lane) word2(ev []uint64) (k [2]uint64) {
	k[0] = ev[la.word]
	if la.kind == schemas.Decimal {
		k[1] = ev[la.word+1]
	}
	return k
}

func (la *lane) first(ev []uint64) first {
	f := first{set: true, time: timeOf(ev), id: ev[1]}
	if la.col >= 0 {
		f.word = la.word2(ev)
	}
	return f
}

// fold adds an event of the window.
func (s *windowState) fold(l *Layout, w *windowOf, ev []uint64) {
	for i, li := range w.lanes {
		la := &l.lanes[li]
		if !la.passes(ev) {
			continue
		}
		c := &s.cells[i]
		c.n++
		la.addTo(&c.sum, &c.squares, ev)
	}
	for i := range w.firsts {
		f, t := &s.firsts[i], timeOf(ev)
		if (!f.set || t < f.time || t == f.time && ev[1] < f.id) && w.firsts[i].passes(ev) {
			*f = w.firsts[i].first(ev)
		}
	}
}

// advance moves the start of window wi to start and takes out the events that it leaves behind.
func (b *large) advance(l *Layout, wi int, start int64) {
	s, w := &b.wins[wi], &l.windows[wi]
	if start <= s.start {
		return
	}
	s.start = start
	for {
		c := b.chunks[s.cursor.chunk]
		if s.cursor.at == len(c.ev) {
			if s.cursor.chunk+1 == len(b.chunks) {
				break
			}
			s.cursor = place{s.cursor.chunk + 1, b.chunks[s.cursor.chunk+1].skip}
			continue
		}
		ev := c.ev[s.cursor.at : s.cursor.at+l.stride]
		if timeOf(ev) > start {
			break
		}
		b.leave(l, s, w, ev)
		s.cursor.at += l.stride
	}
	for i := range s.firsts {
		if f := &s.firsts[i]; f.set && f.time <= start {
			*f = b.firstFrom(l, s.cursor, &w.firsts[i].lane)
		}
	}
}

// leave takes an event out of a window.
func (b *large) leave(l *Layout, s *windowState, w *windowOf, ev []uint64) {
	for i, li := range w.lanes {
		la := &l.lanes[li]
		if !la.passes(ev) {
			continue
		}
		c := &s.cells[i]
		c.n--
		la.subFrom(&c.sum, &c.squares, ev)
		if la.needs&needDistinct != 0 && b.isLast(la, li, ev) {
			c.distinct--
		}
	}
}

// isLast reports whether an event is the last occurrence of its value.
func (b *large) isLast(la *lane, li int, ev []uint64) bool {
	o := b.lanes[li].seen[la.word2(ev)]
	return o.time == timeOf(ev) && o.id == ev[1]
}

// firstFrom returns the first event of a lane from p on. All events before p have left the window, and p never goes back but for late events, so
// in the long run an event is passed over once.
func (b *large) firstFrom(l *Layout, p place, la *lane) first {
	for ; p.chunk < len(b.chunks); p = b.startOf(p.chunk + 1) {
		for c := b.chunks[p.chunk]; p.at < len(c.ev); p.at += l.stride {
			if ev := c.ev[p.at : p.at+l.stride]; la.passes(ev) {
				return la.first(ev)
			}
		}
	}
	return first{}
}

func (b *large) startOf(chunk int) place {
	if chunk < len(b.chunks) {
		return place{chunk, b.chunks[chunk].skip}
	}
	return place{chunk, 0}
}

// trim drops events with time ≤ bound.
func (b *large) trim(l *Layout, e *Entity, bound int64) {
	c := b.chunks[0]
	if timeOf(c.ev[c.skip:]) > bound {
		return
	}
	for wi := range b.wins {
		b.advance(l, wi, bound)
	}
	gone := 0
	for gone < len(b.chunks) {
		c := b.chunks[gone]
		for c.skip < len(c.ev) && timeOf(c.ev[c.skip:]) <= bound {
			b.forget(l, c.ev[c.skip:c.skip+l.stride])
			c.skip += l.stride
			b.n--
		}
		if c.skip < len(c.ev) {
			break
		}
		c.dead = true
		b.words -= cap(c.ev)
		e.extra().gone = append(e.ext.gone, c.no)
		gone++
	}
	b.chunks = slices.Delete(b.chunks, 0, gone)
	for wi := range b.wins {
		if s := &b.wins[wi]; gone > 0 && len(b.chunks) > 0 {
			s.cursor = b.seek(l, s.start)
		}
	}
	for i := range b.lanes {
		s := &b.lanes[i]
		s.min.drop(bound)
		s.max.drop(bound)
		if s.last.set && s.last.time <= bound {
			s.last = first{}
		}
	}
}

// forget removes the event's values of which it was the last occurrence.
func (b *large) forget(l *Layout, ev []uint64) {
	for i := range l.lanes {
		if la := &l.lanes[i]; la.needs&needDistinct != 0 && la.passes(ev) && b.isLast(la, i, ev) {
			delete(b.lanes[i].seen, la.word2(ev))
		}
	}
}

// evaluate moves the windows to asOf and reads them out.
func (b *large) evaluate(l *Layout, e *Entity, asOf int64, out []schemas.Value, c *Counters, sc *scratch) (next int64) {
	x := emitter{e: e, out: out, c: c, asOf: asOf, next: Never}
	for wi := range l.windows {
		b.advance(l, wi, asOf-l.windows[wi].length)
		s, w := &b.wins[wi], &l.windows[wi]
		for i := range s.firsts {
			if f := &s.firsts[i]; f.set && w.firsts[i].departs {
				x.next = min(x.next, f.time+w.length)
			}
		}
		for i, li := range w.lanes {
			b.read(l, e, wi, i, &sc.lanes[li])
		}
		for i := range w.features {
			f := &w.features[i]
			x.emit(f, &sc.lanes[f.lane], l.lanes[f.lane].scale)
		}
	}
	return x.next
}

// read makes the reading of a lane over a window.
func (b *large) read(l *Layout, e *Entity, wi, cellNo int, r *reading) {
	s, w := &b.wins[wi], &l.windows[wi]
	c, li := &s.cells[cellNo], w.lanes[cellNo]
	la, shared := &l.lanes[li], &b.lanes[li]
	r.stale()
	r.n, r.distinct, r.sum, r.squares = c.n, c.distinct, &c.sum, &c.squares
	if la.needs&needMin != 0 {
		r.min, _ = shared.min.after(s.start)
	}
	if la.needs&needMax != 0 {
		r.max, _ = shared.max.after(s.start)
	}
	if la.needs&needLast != 0 && c.n > 0 { // the last event of the lane is in every window that holds any of it
		r.last = e.momentOf(la, &shared.last)
	}
	if at := w.firstOf[cellNo]; at >= 0 && c.n > 0 {
		r.first = e.momentOf(la, &s.firsts[at])
	}
}

func (e *Entity) momentOf(la *lane, f *first) moment {
	m := moment{time: f.time}
	switch {
	case la.col < 0:
	case la.text:
		m.value = schemas.Value{Kind: la.kind, Bytes: e.dict.text(f.word[0])}
	case la.kind == schemas.Decimal:
		m.value = schemas.DecimalValue(int64(f.word[0]), f.word[1])
	default:
		m.value = schemas.Value{Kind: la.kind, Bits: f.word[0]}
	}
	return m
}

// eachText replaces each reference to the dictionary by what fn returns for it.
func (b *large) eachText(l *Layout, fn func(ref uint64) uint64) {
	for _, c := range b.chunks {
		eachText(l, c.ev, fn)
	}
	for i := range b.lanes {
		s, la := &b.lanes[i], &l.lanes[i]
		if !la.text {
			continue
		}
		if s.last.set {
			s.last.word[0] = fn(s.last.word[0])
		}
		if s.seen != nil {
			seen := make(map[[2]uint64]occurrence, len(s.seen))
			for k, o := range s.seen {
				seen[[2]uint64{fn(k[0]), 0}] = o
			}
			s.seen = seen
		}
	}
	for wi := range b.wins {
		for i := range b.wins[wi].firsts {
			if f := &b.wins[wi].firsts[i]; f.set && l.windows[wi].firsts[i].text {
				f.word[0] = fn(f.word[0])
			}
		}
	}
}

// memBytes is the memory b takes.
func (b *large) memBytes() int {
	n := 8*b.words + len(b.chunks)*64
	for i := range b.lanes {
		s := &b.lanes[i]
		n += int(unsafe.Sizeof(*s)) + int(unsafe.Sizeof(extremum{}))*(cap(s.min.items)+cap(s.max.items)) + 50*len(s.seen)
	}
	for i := range b.wins {
		s := &b.wins[i]
		n += int(unsafe.Sizeof(*s)) + int(unsafe.Sizeof(first{}))*len(s.firsts)
		for j := range s.cells {
			n += int(unsafe.Sizeof(cell{})) + s.cells[j].sum.MemBytes() + s.cells[j].squares.MemBytes()
		}
	}
	return n
}
