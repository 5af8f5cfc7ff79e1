package state

import (
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// database is the other side of the scheduler: it wants some compactions, asks as Pebble does (once, then it waits to be called), and runs
// them at once in goroutines.
type database struct {
	c       *compactions
	m       *meter
	mu      sync.Mutex
	wanted  int
	waiting bool // it was refused and will not ask again until it declines
	allowed int
}

// meter counts what runs in all databases.
type meter struct {
	mu                 sync.Mutex
	running, most, ran int
	finished           sync.WaitGroup
}

func (d *database) GetAllowedWithoutPermission() int { return d.allowed }

func (d *database) GetWaitingCompaction() (bool, pebble.WaitingCompaction) {
	panic("not used by slots")
}

func (d *database) Schedule(h pebble.CompactionGrantHandle) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.waiting {
		return false
	}
	if d.wanted == 0 {
		d.waiting = false
		return false
	}
	d.start(h)
	return true
}

// start runs a compaction; d.mu is held.
func (d *database) start(h pebble.CompactionGrantHandle) {
	d.wanted--
	go func() {
		d.m.mu.Lock()
		d.m.running++
		d.m.most = max(d.m.most, d.m.running)
		d.m.mu.Unlock()
		time.Sleep(100 * time.Microsecond)
		d.m.mu.Lock()
		d.m.running--
		d.m.ran++
		d.m.mu.Unlock()
		h.Done()
		d.ask()
		d.m.finished.Done()
	}()
}

func (d *database) want(n int) {
	d.m.finished.Add(n)
	d.mu.Lock()
	d.wanted += n
	d.mu.Unlock()
	d.ask()
}

func (d *database) ask() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for !d.waiting && d.wanted > 0 {
		ok, h := d.c.TrySchedule()
		if !ok {
			d.waiting = true
			return
		}
		d.start(h)
	}
}

// TestSlotsAreSharedAndNobodyIsForgotten: with fewer slots than databases, never more than the slots run, and all that is wanted gets done.
func TestSlotsAreSharedAndNobodyIsForgotten(t *testing.T) {
	for _, slotCount := range []int{1, 2, 5} {
		s := &slots{free: slotCount}
		m := &meter{}
		databases := make([]*database, 8)
		for i := range databases {
			databases[i] = &database{c: newCompactions(s), m: m, allowed: 1 + i%3}
			databases[i].c.Register(2, databases[i])
		}
		var started sync.WaitGroup
		for _, d := range databases {
			started.Go(func() {
				for range 10 {
					d.want(5)
				}
			})
		}
		started.Wait()
		all := make(chan struct{})
		go func() { m.finished.Wait(); close(all) }()
		select {
		case <-all:
		case <-time.After(20 * time.Second):
			t.Fatalf("%d slots: %d compactions ran, the rest waits for ever", slotCount, m.ran)
		}
		for _, d := range databases {
			d.c.Unregister()
		}
		if m.ran != 8*50 || m.most > slotCount || s.free != slotCount {
			t.Errorf("%d slots: %d ran, %d at once, %d slots are free", slotCount, m.ran, m.most, s.free)
		}
		if ok, _ := databases[0].c.TrySchedule(); ok {
			t.Error("a database that has unregistered was granted a compaction")
		}
	}
}
