package oracle

import (
	"container/heap"
	"maps"
	"slices"
	"sort"
)

// History is what became of the records of one partition. Once made it is only read, but for Advance: goroutines may share it.
type History struct {
	Group    *Group
	Records  []Record
	Verdicts []Verdict // per record

	byEntity map[string][]*event // accepted, in offset order
	advances []advance

	// reached[i] is the instant up to which ticks are worked off before record i is; the last element is after all records.
	reached []int64
}

// advance says that once after records had been applied, all ticks up to and including the instant to were worked off.
type advance struct {
	after int
	to    int64
}

// Advance tells of the wall clock: once after records had been applied, all ticks up to and including the instant to (ms) were worked off.
// Without it ticks follow the stream clock alone, as in history. Calls are in order of time.
func (h *History) Advance(after int, to int64) {
	h.advances = append(h.advances, advance{after, to})
	h.reach()
}

// reach works out reached.
func (h *History) reach() {
	h.reached = make([]int64, len(h.Records)+1)
	advances, latest := h.advances, int64(noClock)
	for i := range h.reached {
		for len(advances) > 0 && advances[0].after <= i {
			latest = max(latest, advances[0].to)
			advances = advances[1:]
		}
		if i < len(h.Records) {
			latest = max(latest, h.Verdicts[i].Clock)
		}
		h.reached[i] = latest
	}
}

// The causes of rows.
const (
	CauseEvent = "event"
	CauseLate  = "late"
	CauseDecay = "decay"
)

// Row is one version of all features of an entity.
type Row struct {
	Entity     string
	Offset     int64 // of the value version: of the entity's event, or for a decay row the last record applied before it
	AsOf       int64 // ms
	ValidUntil int64 // ms; [Never]
	Cause      string
	Last       bool // nothing of the entity is left
	Values     []Value
}

// Never is the ValidUntil of a row that no passing of time changes.
const Never int64 = neverChanges

// Entities returns all entities that ever had an accepted event, in byte order.
func (h *History) Entities() []string { return slices.Sorted(maps.Keys(h.byEntity)) }

// Values works out an entity's features at an instant over the accepted events with an offset of at most upTo; nil if there is none.
func (h *History) Values(entity string, asOf, upTo int64) []Value {
	t := newTimeline(h.Group)
	for _, e := range h.byEntity[entity] {
		if h.Records[e.record].Offset <= upTo {
			t.insert(e, h.Verdicts[e.record].Clock)
		}
	}
	if len(t.events) == 0 {
		return nil
	}
	return text(t.values(asOf))
}

// Final works out the features of all entities at an instant, over all accepted events.
func (h *History) Final(asOf int64) map[string][]Value {
	all := map[string][]Value{}
	for entity := range h.byEntity {
		all[entity] = h.Values(entity, asOf, Never)
	}
	return all
}

// RowsOf gives the rows of one entity to fn, in order: one for each accepted event, and one for each tick that has a due change. It costs the
// events of the entity, not those of all, so that many entities may be judged side by side.
func (h *History) RowsOf(entity string, fn func(*Row) error) error {
	w := h.walk(entity)
	for w.next() {
		if err := fn(w.row()); err != nil {
			return err
		}
	}
	return nil
}

// Rows gives the rows of all entities to fn in the order in which one shard makes them: a tick's before the record that works it off, those
// of one tick by entity.
func (h *History) Rows(fn func(*Row) error) error {
	walks := make(walkHeap, 0, len(h.byEntity))
	for entity := range h.byEntity {
		if w := h.walk(entity); w.next() {
			walks = append(walks, w)
		}
	}
	heap.Init(&walks)
	for len(walks) > 0 {
		w := walks[0]
		if err := fn(w.row()); err != nil {
			return err
		}
		if w.next() {
			heap.Fix(&walks, 0)
		} else {
			heap.Pop(&walks)
		}
	}
	return nil
}

// walk makes the rows of one entity one by one.
type walk struct {
	h      *History
	entity string
	coming []*event // not yet folded
	t      *timeline
	due    int64 // ValidUntil of the last row

	// What the next row is.
	record int   // it comes before this record, or with it
	tick   int64 // −1: the row of the record's event
}

func (h *History) walk(entity string) *walk {
	return &walk{h: h, entity: entity, coming: h.byEntity[entity], t: newTimeline(h.Group), due: Never}
}

// next finds the next row; false if there is none.
func (w *walk) next() bool {
	record := len(w.h.Records)
	if len(w.coming) > 0 {
		record = w.coming[0].record
	}
	if w.due != Never {
		tick := (w.due + w.h.Group.Tick - 1) / w.h.Group.Tick * w.h.Group.Tick
		if tick <= w.h.reached[record] {
			w.record, w.tick = sort.Search(record, func(i int) bool { return w.h.reached[i] >= tick }), tick
			return true
		}
	}
	w.record, w.tick = record, -1
	return len(w.coming) > 0
}

// row makes the row that next found.
func (w *walk) row() *Row {
	r := &Row{Entity: w.entity, Cause: CauseDecay, AsOf: w.tick}
	if w.tick >= 0 {
		r.Offset = w.h.Records[w.record-1].Offset
	} else {
		v := w.h.Verdicts[w.record]
		r.Offset, r.Cause = w.h.Records[w.record].Offset, CauseEvent
		if v.Reason == Late {
			r.Cause = CauseLate
		}
		r.AsOf = max(v.Clock, w.h.reached[w.record]/w.h.Group.Tick*w.h.Group.Tick)
		w.t.insert(w.coming[0], v.Clock)
		w.coming = w.coming[1:]
	}
	r.Values = text(w.t.values(r.AsOf))
	r.ValidUntil = w.t.validUntil(r.AsOf)
	r.Last = r.ValidUntil == Never && !w.h.Group.hasLifetime
	w.due = r.ValidUntil
	return r
}

// walkHeap orders walks by their next rows.
type walkHeap []*walk

func (h walkHeap) Len() int      { return len(h) }
func (h walkHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }

func (h walkHeap) Less(i, j int) bool {
	a, b := h[i], h[j]
	switch {
	case a.record != b.record:
		return a.record < b.record
	case a.tick < 0 || b.tick < 0:
		return a.tick >= 0 && b.tick < 0 // ticks come before the record
	case a.tick != b.tick:
		return a.tick < b.tick
	}
	return a.entity < b.entity
}

// Push implements heap.Interface.
func (h *walkHeap) Push(x any) { *h = append(*h, x.(*walk)) }

// Pop implements heap.Interface.
func (h *walkHeap) Pop() any {
	old := *h
	w := old[len(old)-1]
	*h = old[:len(old)-1]
	return w
}
