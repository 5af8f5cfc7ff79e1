package processor

import (
	"context"
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
	nextLook  time.Time // and then tell: looking comes first, or the new progress would hide that the old one was lost
	runIDs    map[string]string
	told      redis.Progress // the progress last written
}

const refillRows = 512 // rows between two looks at the records

// refillSome looks, now and then, whether the online store has lost data, and goes on with a refill that is under way.
func (s *Shard) refillSome(ctx context.Context) error {
	r, now := &s.refill, s.Now()
	if now.After(r.nextLook) && !s.pipe.troubled.Load() {
		r.nextLook = now.Add(s.Config.ProgressEvery)
		if why := s.lost(ctx); why != "" {
			s.log.Warn("redis lost data: writing every entity again from the state", "why", why)
			s.m.refills.Inc()
			r.active, r.from = true, nil
		}
		if err := s.tell(ctx); err != nil {
			return err
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

// lost says why the online store is believed to have lost data; empty if it is not, or does not answer.
func (s *Shard) lost(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	p, ok, err := s.online.ReadProgress(ctx)
	if err != nil {
		return ""
	}
	told := s.refill.told
	switch {
	case told.Store == "":
		return ""
	case !ok:
		return "its progress hash is gone"
	case p.Store == told.Store && p.Position < told.Position:
		return "its progress hash went back"
	}
	ids, err := s.RunIDs(ctx)
	if err != nil {
		return "" // asked again in a moment; the hash has told its part
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
