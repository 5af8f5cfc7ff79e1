package state

import (
	"slices"
	"sync"

	"github.com/cockroachdb/pebble/v2"
)

// slots shares a number of compactions among all stores of a process. Pebble's own scheduler knows one store only, and wakes ten times
// a second for each.
//
// Lock order: a store's locks come before slots.mu, so slots.mu is never held while a store is called.
type slots struct {
	mu      sync.Mutex
	free    int
	waiting []*compactions // stores that were refused, oldest first; each at most once
}

// compactions is the scheduler of one store. All fields but the first two are guarded by slots.mu.
type compactions struct {
	slots   *slots
	db      pebble.DBForCompaction // set by Register, before any other call
	running int
	calls   int  // calls into db in flight; Unregister waits for them
	closed  bool // no compaction starts any more
	idle    sync.Cond
}

var _ pebble.CompactionScheduler = (*compactions)(nil)

func newCompactions(s *slots) *compactions {
	c := &compactions{slots: s}
	c.idle.L = &s.mu
	return c
}

// Register is called once by the store as it opens.
func (c *compactions) Register(_ int, db pebble.DBForCompaction) { c.db = db }

// TrySchedule grants a compaction, or remembers that the store waits for one.
func (c *compactions) TrySchedule() (bool, pebble.CompactionGrantHandle) {
	allowed := c.db.GetAllowedWithoutPermission()
	s := c.slots
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case c.closed:
		return false, nil
	case s.free > 0 && c.running < allowed:
		s.free--
		c.running++
		return true, c
	}
	c.wait()
	return false, nil
}

// wait queues c. slots.mu is held.
func (c *compactions) wait() {
	if !c.closed && !slices.Contains(c.slots.waiting, c) {
		c.slots.waiting = append(c.slots.waiting, c)
	}
}

// Done gives the slot back and hands it on. It may come after Unregister.
func (c *compactions) Done() {
	c.slots.mu.Lock()
	c.running--
	c.slots.free++
	c.slots.mu.Unlock()
	c.slots.grant()
}

// UpdateGetAllowedWithoutPermission is called by the store, under its locks, when it may be allowed more than before. Nothing is lost by
// leaving it to the next TrySchedule or Done: a store whose compaction is refused for its own limit has one running.
func (c *compactions) UpdateGetAllowedWithoutPermission() {}

// stop refuses further compactions; those that run go on. It may be called more than once.
func (c *compactions) stop() {
	s := c.slots
	s.mu.Lock()
	defer s.mu.Unlock()
	c.closed = true
	if i := slices.Index(s.waiting, c); i >= 0 {
		s.waiting = slices.Delete(s.waiting, i, i+1)
	}
}

// Unregister returns once the store is not called any more.
func (c *compactions) Unregister() {
	c.stop()
	c.slots.mu.Lock()
	defer c.slots.mu.Unlock()
	for c.calls > 0 {
		c.idle.Wait()
	}
}

// Started, MeasureCPU and CumulativeStats are of no use to us.
func (c *compactions) Started()                                          {}
func (c *compactions) MeasureCPU(pebble.CompactionGoroutineKind)         {}
func (c *compactions) CumulativeStats(pebble.CompactionGrantHandleStats) {}

// grant offers free slots to the stores that wait, oldest first. A store that was served goes to the end of the queue, because it does not
// ask again while it has more to compact; one that declines leaves it, because it then asks. One that has reached its own limit stays: its
// running compaction's Done comes here again.
func (s *slots) grant() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for passed := 0; s.free > 0 && passed < len(s.waiting); {
		c := s.waiting[0]
		s.waiting = slices.Delete(s.waiting, 0, 1)
		if c.running >= c.db.GetAllowedWithoutPermission() {
			c.wait()
			passed++
			continue
		}
		s.free--
		c.running++
		c.calls++
		s.mu.Unlock()
		accepted := c.db.Schedule(c)
		s.mu.Lock()
		c.calls--
		c.idle.Broadcast()
		if accepted {
			c.wait()
		} else {
			c.running--
			s.free++
		}
		passed = 0 // while unlocked, any store may have been refused a slot that is free now
	}
}
