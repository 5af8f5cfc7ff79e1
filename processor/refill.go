package processor

import (
	"context"
	"errors"
	"time"

	"github.com/freshet-dev/freshet/sink"
	"github.com/freshet-dev/freshet/sink/redis"
)

// refill writes every entity to the online store again from the state: when the store has lost data, and as a sweep once in a while.
// Versions are the same, so nothing that is newer is touched, and no log rows are made.
type refill struct {
	active    bool
	from      []byte
	nextSweep time.Time
	nextLook  time.Time
	runIDs    map[string]string
	told      redis.Progress // the progress last written
}

const refillRows = 512 // rows between two looks at the records

// refillSome looks, now and then, whether the online store has lost data, and goes on with a refill that is under way.
func (s *Shard) refillSome(ctx context.Context) error {
	r, now := &s.refill, s.Now()
	if now.After(r.nextLook) && !s.pipe.troubled.Load() {
		r.nextLook = now.Add(s.Config.ProgressEvery)
		why := s.restarted(ctx)
		err := s.tell(ctx)
		if errors.Is(err, redis.ErrLost) {
			why = err.Error()
			r.told = redis.Progress{} // told anew at once, whatever is there: what is lost from here on is noticed again
			err = s.tell(ctx)
		}
		if err != nil {
			return err
		}
		if why != "" {
			s.log.Warn("redis lost data: writing every entity again from the state", "why", why)
			s.m.refills.Inc()
			r.active, r.from = true, nil
		}
	}
	if r.nextSweep.IsZero() {
		r.nextSweep = now.Add(s.Config.SweepEvery)
	} else if now.After(r.nextSweep) {
		r.nextSweep = now.Add(s.Config.SweepEvery)
		r.active, r.from = true, nil
	}
	if !r.active {
		return nil
	}
	if rows, _ := s.pipe.backlog(); rows > refillRows { // live rows first
		return nil
	}
	next, done, err := s.step.Rewrite(ctx, r.from, refillRows, func(row *sink.Row) error { return s.pipe.add(row, s.Now().UnixMilli(), false) })
	if err != nil {
		return err
	}
	r.from, r.active = next, !done
	return nil
}

// restarted says which node of the online store is not the process it was; empty if none, or if it does not answer. The progress hash
// tells the rest.
func (s *Shard) restarted(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	ids, err := s.RunIDs(ctx)
	if err != nil {
		return "" // asked again in a moment
	}
	old := s.refill.runIDs
	s.refill.runIDs = ids
	if old != nil {
		for node, id := range ids {
			if was, ok := old[node]; !ok || was != id {
				return "node " + node + " restarted or is another one"
			}
		}
	}
	return ""
}
