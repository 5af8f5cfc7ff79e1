// Package shard runs one shard of the service in the test's own process, without a broker and a Redis server: records go in by a call, every
// row is seen as it is made, and the state and the log lie in a directory that the next run may go on from. Everything between is the
// service's own: decoding, admission, Step, state, row segments, checkpoints and recovery.
package shard

import (
	"context"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/freshet-dev/freshet/processor"
	"github.com/freshet-dev/freshet/processor/kafka"
	"github.com/freshet-dev/freshet/schemas/event"
	"github.com/freshet-dev/freshet/schemas/feature"
	"github.com/freshet-dev/freshet/sink"
	"github.com/freshet-dev/freshet/state"
	"github.com/freshet-dev/freshet/state/window"
)

// Group is a compiled group version whose events are all written with its reader's schema, as schema 1.
type Group struct {
	Plan   *feature.Plan
	Spec   sink.Spec
	layout *window.Layout
	schema *event.Schema
}

// Parse compiles a definition.
func Parse(t testing.TB, definition, schema []byte) *Group {
	t.Helper()
	plan, problems := feature.Parse("group.yaml", definition, func(string) ([]byte, error) { return schema, nil })
	if err := problems.Err(); err != nil {
		t.Fatalf("%v\n%s", err, definition)
	}
	layout, err := window.NewLayout(plan)
	if err != nil {
		t.Fatal(err)
	}
	reader, err := event.Parse(schema)
	if err != nil {
		t.Fatal(err)
	}
	return &Group{plan, processor.SpecOf(plan), layout, reader}
}

// Options say how a shard runs.
type Options struct {
	Dir    string // of state and log
	Online *Online
	Config processor.Config // Data is set to Dir
	Cache  int64            // of decoded entities, bytes
	End    int64            // the end offset of the partition: at a first start what lies before it is history
	Now    func() time.Time // the wall clock
	Tap    func(*sink.Row)  // sees every row as it is made; may be nil
}

// Shard is a shard that runs, and its broker: it implements processor.Source and processor.Broker.
type Shard struct {
	t      testing.TB
	o      Options
	tp     kafka.TP
	group  *processor.Group
	res    *state.Resources
	reg    *prometheus.Registry
	cancel context.CancelFunc
	end    atomic.Int64 // of the partition

	mu      sync.Mutex
	cond    *sync.Cond
	added   bool  // guarded by mu
	from    int64 // the position it asked for; guarded by mu; valid once added
	paused  bool  // guarded by mu
	stopped bool
}

// Start starts a shard of g on what Dir holds, and returns once it takes records. It is stopped by t.Cleanup at the latest.
func Start(t testing.TB, g *Group, o Options) *Shard {
	t.Helper()
	s := &Shard{t: t, o: o, tp: kafka.TP{Topic: g.Plan.Source.Topic}, reg: prometheus.NewRegistry()}
	s.cond = sync.NewCond(&s.mu)
	s.end.Store(o.End)
	sc := state.Default()
	sc.BlockCacheBytes, sc.MemTableBytes, sc.MemTablesBytes, sc.EntityCacheBytes = 8<<20, 1<<20, 8<<20, o.Cache
	log := slog.New(slog.DiscardHandler)
	s.res = state.NewResources(sc, log, nil)
	o.Config.Data = o.Dir
	var paths []string
	for _, c := range g.Plan.Columns {
		paths = append(paths, c.Path)
	}
	s.group = processor.NewGroup(processor.Deps{
		Log: log, Metrics: processor.NewMetrics(s.reg), Config: o.Config, Bucket: sink.NewDir(sink.OS, filepath.Join(o.Dir, "bucket")), FS: sink.OS,
		Open: func(dir string) (*state.Store, error) { return state.Open(dir, s.res, nil) }, Budget: s.res.Entities(), Source: s, Broker: s,
		Online: func(int32) processor.Online { return o.Online }, RunIDs: func(context.Context) (map[string]string, error) { return nil, nil },
		Decoder: event.NewDecoder(g.schema, paths, event.NewFiles(g.schema)), Layout: g.layout, Now: o.Now, Tap: o.Tap, StoreID: "store", Owner: "test",
	}, g.Plan, processor.Topic{ID: "topic", Partitions: 1})
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	t.Cleanup(s.Crash)
	s.group.Assign(ctx, []kafka.TP{s.tp})
	s.await(func(processor.Status) bool { s.mu.Lock(); defer s.mu.Unlock(); return s.added })
	return s
}

// Position returns the offset of the record that the shard wants next, as it started.
func (s *Shard) Position() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.from
}

// Offer gives the shard the next records of the partition, in one fetch. It waits while the shard has enough.
func (s *Shard) Offer(recs []kafka.Record) {
	if len(recs) == 0 {
		return
	}
	s.mu.Lock()
	for s.paused {
		s.cond.Wait()
	}
	s.mu.Unlock()
	next := recs[len(recs)-1].Offset + 1
	s.end.Store(max(s.end.Load(), next))
	s.group.Offer(kafka.Fetch{TP: s.tp, Records: recs, Next: next, End: s.end.Load()})
}

// Wait returns once the shard has applied all that lies before the offset next.
func (s *Shard) Wait(next int64) {
	s.t.Helper()
	s.await(func(st processor.Status) bool { return st.Position >= next })
}

// WaitLive returns once the shard has left history and recovery behind.
func (s *Shard) WaitLive() {
	s.t.Helper()
	s.await(func(st processor.Status) bool { return st.Ready() })
}

// Tick returns once the wall clock, which stands at the instant to in ms, has been followed: all ticks up to it are worked off.
func (s *Shard) Tick(to int64, tick int64) {
	s.t.Helper()
	s.group.Offer(kafka.Fetch{TP: s.tp, Next: s.end.Load(), End: s.end.Load()}) // wakes it
	s.await(func(st processor.Status) bool { return st.Tick >= to-to%tick && !st.Behind })
}

// limit is how long anything may take.
const limit = 10 * time.Second

// await polls the shard's status.
func (s *Shard) await(done func(processor.Status) bool) {
	s.t.Helper()
	for begun := time.Now(); ; time.Sleep(100 * time.Microsecond) {
		for _, st := range s.group.Statuses() {
			switch {
			case st.Err != "":
				s.t.Fatalf("the shard has stopped: %s", st.Err)
			case done(st):
				return
			case time.Since(begun) > limit:
				s.t.Fatalf("the shard does not get on: %+v", st)
			}
		}
	}
}

// Stop lets the shard drain, take its last checkpoint and leave.
func (s *Shard) Stop() { s.close(false) }

// Crash ends the shard without a checkpoint, but for one that is being published.
func (s *Shard) Crash() { s.close(true) }

func (s *Shard) close(crash bool) {
	s.t.Helper()
	if s.stopped {
		return
	}
	s.stopped = true
	if crash {
		s.cancel()
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	s.group.Close(ctx)
	if ctx.Err() != nil {
		s.t.Error("the shard does not stop")
	}
	s.cancel()
	s.res.Close()
}

// Counts returns how many records were applied, by what became of them in the words of admission.
func (s *Shard) Counts() map[string]int {
	s.t.Helper()
	families, err := s.reg.Gather()
	if err != nil {
		s.t.Fatal(err)
	}
	counts := map[string]int{}
	for _, f := range families {
		if f.GetName() != "freshet_records_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if n := int(m.GetCounter().GetValue()); l.GetName() == "reason" && n > 0 {
					counts[l.GetValue()] = n
				}
			}
		}
	}
	return counts
}

// Add implements processor.Source.
func (s *Shard) Add(_ kafka.TP, offset int64) {
	s.mu.Lock()
	s.added, s.from = true, offset
	s.mu.Unlock()
}

// Remove implements processor.Source.
func (s *Shard) Remove(kafka.TP) { s.Resume(s.tp) }

// Pause implements processor.Source.
func (s *Shard) Pause(kafka.TP) {
	s.mu.Lock()
	s.paused = true
	s.mu.Unlock()
}

// Resume implements processor.Source.
func (s *Shard) Resume(kafka.TP) {
	s.mu.Lock()
	s.paused = false
	s.mu.Unlock()
	s.cond.Broadcast()
}

// Offsets implements processor.Broker.
func (s *Shard) Offsets(context.Context, kafka.TP) (start, end int64, err error) {
	return 0, s.end.Load(), nil
}

// DeadLetter implements processor.Broker: it takes them; Counts tells how many there were.
func (s *Shard) DeadLetter(context.Context, string, []kafka.Record) error { return nil }

// Commit implements processor.Broker.
func (s *Shard) Commit(_ context.Context, _ kafka.TP, _ int64, metadata string) error {
	s.o.Online.commit(metadata)
	return nil
}

// Committed implements processor.Broker.
func (s *Shard) Committed(context.Context, kafka.TP) (string, error) {
	return s.o.Online.committed(), nil
}
