package props

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/freshet-dev/freshet/processor"
	"github.com/freshet-dev/freshet/processor/kafka"
	"github.com/freshet-dev/freshet/sink"
	"github.com/freshet-dev/freshet/test/oracle"
	"github.com/freshet-dev/freshet/test/shard"
)

// way is how a world's records go through a shard.
type way struct {
	rng     *rand.Rand
	fetch   func() int // records in the next fetch
	cache   int64      // decoded entities, bytes
	every   time.Duration
	breaks  int // restarts
	crashes bool
	live    int  // the last so many records are live
	wall    bool // the wall clock stands still but for advances
	moves   []move
}

// move of the wall clock: once after records had been applied.
type move struct {
	after int
	to    int64 // ms
}

func (x way) String() string {
	return fmt.Sprintf("cache %d, checkpoints every %v, %d breaks (crashes: %v), %d records live, wall %v", x.cache, x.every, x.breaks, x.crashes, x.live, x.wall)
}

// trip is a world's way through a shard.
type trip struct {
	t      testing.TB
	w      *world
	way    way
	dir    string
	online *shard.Online
	clock  atomic.Int64 // ms
	counts map[string]int
	tapped func(from int64, rows []oracle.Row) // sees what each life of the shard made

	mu   sync.Mutex
	rows []oracle.Row // of this life; guarded by mu
}

// longAgo is before all events of all worlds, in ms.
const longAgo = 1_680_000_000_000

// run takes the world through and leaves the shard stopped.
func (w *world) run(t testing.TB, x way, tapped func(from int64, rows []oracle.Row)) *trip {
	t.Helper()
	tr := &trip{t: t, w: w, way: x, dir: t.TempDir(), online: shard.NewOnline(), tapped: tapped}
	if tr.clock.Store(w.records[0].Timestamp); x.wall {
		tr.clock.Store(longAgo)
	}
	var cuts []int
	for range x.breaks {
		cuts = append(cuts, x.rng.IntN(len(w.records)))
	}
	cuts = append(cuts, len(w.records))
	slices.Sort(cuts)
	seen := 0
	for i, cut := range cuts {
		s := tr.start(seen)
		seen = max(seen, cut)
		tr.feed(s, cut)
		if i == len(cuts)-1 {
			s.WaitLive()
			tr.counts = s.Counts()
		}
		if x.crashes && i < len(cuts)-1 && cut < len(w.records)-x.live {
			s.Crash()
		} else {
			s.Stop()
		}
		tr.tapped(s.Position(), tr.rows)
	}
	return tr
}

func (tr *trip) start(seen int) *shard.Shard {
	c := processor.Default()
	c.Idle, c.CheckpointEvery, c.PartMaxAge, c.QueueBytes = processor.IdleHold, tr.way.every, 3*tr.way.every, 64<<20
	now := func() time.Time { return time.UnixMilli(tr.clock.Add(1)) } // each look takes a millisecond
	if tr.way.wall {
		c.Idle = processor.IdleWall
		now = func() time.Time { return time.UnixMilli(tr.clock.Load()) }
	}
	tr.rows = nil
	return shard.Start(tr.t, tr.w.group, shard.Options{Dir: tr.dir, Online: tr.online, Config: c, Cache: tr.way.cache, Now: now,
		End: int64(max(seen, len(tr.w.records)-tr.way.live)),
		Tap: func(r *sink.Row) {
			tr.mu.Lock()
			defer tr.mu.Unlock()
			tr.rows = append(tr.rows, tr.w.group.Ideal(r))
		}})
}

// feed gives the shard the records up to the cut, and moves the wall clock in between.
func (tr *trip) feed(s *shard.Shard, cut int) {
	for at := int(s.Position()); at < cut || len(tr.way.moves) > 0 && tr.way.moves[0].after <= cut; {
		if len(tr.way.moves) > 0 && tr.way.moves[0].after <= at {
			m := tr.way.moves[0]
			tr.way.moves = tr.way.moves[1:]
			s.Wait(int64(at))
			if tr.clock.Store(m.to); at >= len(tr.w.records)-tr.way.live {
				s.WaitLive()
				s.Tick(m.to, tr.w.judge.Tick)
			}
			continue
		}
		n := min(tr.way.fetch(), cut-at)
		if len(tr.way.moves) > 0 {
			n = min(n, tr.way.moves[0].after-at)
		}
		var recs []kafka.Record
		for i := at; i < at+n; i++ {
			recs = append(recs, shard.Record(&tr.w.records[i]))
		}
		s.Offer(recs)
		at += n
	}
	s.Wait(int64(cut))
}

// firstFrom is the index of the first ideal row that is made once a shard stands at an offset.
func firstFrom(ideal []oracle.Row, offset int64) int {
	i := slices.IndexFunc(ideal, func(r oracle.Row) bool {
		return r.Offset >= offset || r.Offset == offset-1 && r.Cause == oracle.CauseDecay
	})
	if i < 0 {
		return len(ideal)
	}
	return i
}

// difference says where two lists of rows part; empty if they are the same.
func difference(got, want []oracle.Row) string {
	for i := range max(len(got), len(want)) {
		switch {
		case i >= len(got):
			return fmt.Sprintf("%d rows, not %d: the first missing is %+v", len(got), len(want), want[i])
		case i >= len(want):
			return fmt.Sprintf("%d rows, not %d: the first too many is %+v", len(got), len(want), got[i])
		case !equal(&got[i], &want[i]):
			return fmt.Sprintf("row %d is\n     %+v, not\n     %+v", i, got[i], want[i])
		}
	}
	return ""
}

func equal(a, b *oracle.Row) bool {
	return a.Entity == b.Entity && a.Offset == b.Offset && a.AsOf == b.AsOf && a.ValidUntil == b.ValidUntil && a.Cause == b.Cause && slices.Equal(a.Values, b.Values)
}
