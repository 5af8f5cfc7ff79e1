package scripts

import (
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

// service is a shard of the service as an engine. Its wall clock stands where Advance left it.
type service struct {
	group *shard.Group
	shard *shard.Shard
	wall  atomic.Int64 // ms
	seen  map[string]int

	mu   sync.Mutex
	rows []oracle.Row // guarded by mu
}

func openShard(t testing.TB, definition []byte) Engine {
	s := &service{group: shard.Parse(t, definition, Schema()), seen: map[string]int{}}
	c := processor.Default()
	c.Idle = processor.IdleWall
	s.shard = shard.Start(t, s.group, shard.Options{Dir: t.TempDir(), Online: shard.NewOnline(), Config: c, Cache: 1 << 20,
		Now: func() time.Time { return time.UnixMilli(s.wall.Load()) },
		Tap: func(r *sink.Row) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.rows = append(s.rows, s.group.Ideal(r))
		}})
	s.shard.WaitLive()
	return s
}

func (s *service) Apply(r oracle.Record) (string, error) {
	s.shard.Offer([]kafka.Record{shard.Record(&r)})
	s.shard.Wait(r.Offset + 1)
	counts := s.shard.Counts()
	verdict := ""
	for reason, n := range counts {
		if n > s.seen[reason] {
			verdict = reason
		}
	}
	s.seen = counts
	return verdict, nil
}

func (s *service) Advance(to int64) error {
	s.wall.Store(to)
	s.shard.Tick(to, s.group.Plan.Tick)
	return nil
}

func (s *service) Rows() ([]oracle.Row, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	rows := slices.Clone(s.rows)
	s.rows = nil
	return rows, nil
}

func TestShard(t *testing.T) { Run(t, openShard) }
