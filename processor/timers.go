package processor

import (
	"container/heap"

	"github.com/freshet-dev/freshet/state"
)

// The kinds of timer in the store.
const (
	decayTimer   uint8 = 1 // at a tick: a value of the entity changes by then
	cleanupTimer uint8 = 2 // at newest event time + horizon: nothing of the entity is needed any more
)

// timers is the near end of the store's timers of one kind, in memory. Every armed timer is in the store; those with at < until are in near as
// well, so that a tick costs a heap's pop, not a scan. Near is bounded: it is read ahead as far as its limit goes, and where one instant has
// more timers than that, in turns. The shard's goroutine owns it.
type timers struct {
	kind  uint8
	store *state.Store
	limit int
	ahead int64 // ms that refill reads ahead: doubled while few timers are found, halved when the limit is
	near  timerHeap
	until int64
}

type timer struct {
	at  int64
	key string
}

type timerHeap []timer

func (h timerHeap) Len() int { return len(h) }
func (h timerHeap) Less(i, j int) bool {
	return h[i].at < h[j].at || h[i].at == h[j].at && h[i].key < h[j].key
}
func (h timerHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }

// Push implements heap.Interface.
func (h *timerHeap) Push(x any) { *h = append(*h, x.(timer)) }

// Pop implements heap.Interface.
func (h *timerHeap) Pop() any {
	old := *h
	x := old[len(old)-1]
	*h = old[:len(old)-1]
	return x
}

func (t *timers) push(at int64, key string) {
	if at < t.until {
		heap.Push(&t.near, timer{at, key})
	}
}

// peek returns the earliest timer at or before upTo. flush must make the store complete; it is called before the store is read.
func (t *timers) peek(upTo int64, flush func() error) (at int64, ok bool, err error) {
	if len(t.near) == 0 && t.until <= upTo {
		if err := flush(); err != nil {
			return 0, false, err
		}
		if err := t.refill(upTo); err != nil {
			return 0, false, err
		}
	}
	if len(t.near) == 0 || t.near[0].at > upTo {
		return 0, false, nil
	}
	return t.near[0].at, true, nil
}

// refill reads the next timers of the store. Near is empty and the store complete, so what is read is not in near.
func (t *timers) refill(upTo int64) error {
	t.ahead = min(max(t.ahead, 1000), 1<<50)
	err := t.store.Timers(t.kind, upTo+t.ahead, t.limit, func(at int64, entity []byte) error {
		t.near = append(t.near, timer{at, string(entity)}) // ascending, so a heap
		return nil
	})
	switch {
	case err != nil:
		return err
	case len(t.near) == t.limit: // the last instant may have more: they are read when these have gone
		t.until, t.ahead = t.near[len(t.near)-1].at, t.ahead/2
	default:
		t.until = upTo + t.ahead + 1
		if len(t.near) < t.limit/4 {
			t.ahead *= 2
		}
	}
	return nil
}

// pop removes the timers at instant at, up to max of them, in key order and without repeats.
func (t *timers) pop(at int64, max int, keys []string) []string {
	for len(t.near) > 0 && t.near[0].at == at && len(keys) < max {
		k := heap.Pop(&t.near).(timer).key
		if len(keys) == 0 || keys[len(keys)-1] != k {
			keys = append(keys, k)
		}
	}
	return keys
}

// bound drops what is near when there is too much of it. To be called when the store is complete.
func (t *timers) bound() {
	if len(t.near) > 4*t.limit {
		t.near, t.until = nil, 0
	}
}
