package processor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/freshet-dev/freshet/processor/kafka"
	"github.com/freshet-dev/freshet/schemas"
	"github.com/freshet-dev/freshet/schemas/feature"
	"github.com/freshet-dev/freshet/sink"
	"github.com/freshet-dev/freshet/sink/parquet"
	"github.com/freshet-dev/freshet/sink/redis"
	"github.com/freshet-dev/freshet/state"
)

// SpecOf returns what the sinks must know of a plan's rows.
func SpecOf(p *feature.Plan) sink.Spec {
	s := sink.Spec{Group: p.Group, Version: p.Version, Hash: p.Hash, Entity: p.EntityName}
	for _, k := range p.Keys {
		s.Keys = append(s.Keys, sink.Field{Name: k.Name, Type: k.Type})
	}
	for _, f := range p.Features {
		s.Features = append(s.Features, sink.Field{Name: f.Name, Type: f.Type})
	}
	if !p.HasLifetime {
		s.TTL = time.Duration(p.Reach)*time.Millisecond + 24*time.Hour
	}
	return s
}

// Topic is what the broker says of a plan's topic.
type Topic struct {
	ID         string
	Partitions int32
}

// Group runs the shards of one group version on the partitions that are ours. Assign and Revoke are called from one goroutine.
type Group struct {
	deps  Deps
	plan  *feature.Plan
	topic Topic
	log   *slog.Logger

	mu     sync.Mutex
	shards map[kafka.TP]*running // guarded by mu
}

// running is a shard, or its next try after an error.
type running struct {
	stop chan struct{}
	once sync.Once
	done chan struct{}

	mu    sync.Mutex
	shard *Shard // guarded by mu
}

// NewGroup returns a group version without shards.
func NewGroup(deps Deps, plan *feature.Plan, topic Topic) *Group {
	log := deps.Log.With("group", plan.Group, "version", plan.Version)
	return &Group{deps: deps, plan: plan, topic: topic, log: log, shards: map[kafka.TP]*running{}}
}

// Offer hands a fetch to its shard. Fetches of partitions that are not ours (any more) are dropped.
func (g *Group) Offer(f kafka.Fetch) {
	g.mu.Lock()
	r := g.shards[f.TP]
	g.mu.Unlock()
	if r == nil {
		return
	}
	r.mu.Lock()
	s := r.shard
	r.mu.Unlock()
	if s != nil {
		s.feed.offer(f)
	}
}

// Assign starts the shards of partitions that are ours from now on. It returns at once: they restore by themselves.
func (g *Group) Assign(ctx context.Context, tps []kafka.TP) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, tp := range tps {
		old := g.shards[tp]
		if tp.Topic != g.plan.Source.Topic || old != nil && !isClosed(old.stop) {
			continue
		}
		r := &running{stop: make(chan struct{}), done: make(chan struct{})}
		g.shards[tp] = r
		go g.keep(ctx, tp, r, old) // ended by Revoke, awaited there
	}
}

// Revoke stops the shards of partitions that are not ours any more, and waits for them until ctx ends.
func (g *Group) Revoke(ctx context.Context, tps []kafka.TP) {
	g.mu.Lock()
	var leaving []*running
	for _, tp := range tps {
		if r := g.shards[tp]; r != nil {
			r.once.Do(func() { close(r.stop) })
			leaving = append(leaving, r)
		}
	}
	g.mu.Unlock()
	for _, r := range leaving {
		select {
		case <-r.done:
		case <-ctx.Done():
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, tp := range tps {
		if r := g.shards[tp]; r != nil && isClosed(r.done) {
			delete(g.shards, tp)
		}
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// Close stops all shards and waits for them until ctx ends.
func (g *Group) Close(ctx context.Context) {
	g.mu.Lock()
	tps := make([]kafka.TP, 0, len(g.shards))
	for tp := range g.shards {
		tps = append(tps, tp)
	}
	g.mu.Unlock()
	g.Revoke(ctx, tps)
}

// Statuses returns where the shards stand, by partition.
func (g *Group) Statuses() []Status {
	g.mu.Lock()
	defer g.mu.Unlock()
	var all []Status
	for tp, r := range g.shards {
		r.mu.Lock()
		s := r.shard
		r.mu.Unlock()
		if s == nil || s.status.Load() == nil {
			all = append(all, Status{Shard: shardID(g.plan, tp), Phase: "starting"})
			continue
		}
		all = append(all, *s.status.Load())
	}
	slices.SortFunc(all, func(a, b Status) int {
		if a.Shard < b.Shard {
			return -1
		}
		return 1
	})
	return all
}

// fencedWait is how long a shard whose partition another process took over waits before it takes it back, if it is still ours by then.
const fencedWait = 30 * time.Second

// keep runs the shard of tp until it is stopped. After an error that may pass it starts it again, ever more slowly; one that only a person can
// mend leaves it stopped, and says so.
func (g *Group) keep(ctx context.Context, tp kafka.TP, r, before *running) {
	defer close(r.done)
	if before != nil { // it was revoked too slowly, and the partition is back
		<-before.done
	}
	wait := time.Second
	for {
		s := g.newShard(tp, r.stop)
		r.mu.Lock()
		r.shard = s
		r.mu.Unlock()
		begun := time.Now()
		err := s.run(ctx)
		if err == nil || ctx.Err() != nil || isClosed(r.stop) {
			s.m.forget()
			return
		}
		s.m.failed.Set(1)
		s.tellStatus(err.Error())
		if time.Since(begun) > time.Minute {
			wait = time.Second
		}
		if Permanent(err) {
			s.log.Error("the shard has stopped and needs a person", "err", err)
			select {
			case <-r.stop:
			case <-ctx.Done():
			}
			s.m.forget()
			return
		}
		if errors.Is(err, parquet.ErrFenced) || errors.Is(err, redis.ErrFenced) {
			wait = fencedWait // another owner has it: we may not know yet that it is not ours
		}
		s.log.Error("the shard has stopped and will be started again", "err", err, "in", wait)
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-r.stop:
			t.Stop()
			s.m.forget()
			return
		case <-ctx.Done():
			t.Stop()
			return
		}
		wait = min(2*wait, time.Minute)
		s.m.failed.Set(0)
	}
}

// permanentError is one that no repetition mends.
type permanentError struct{ error }

func (e permanentError) Unwrap() error { return e.error }

// Permanent reports whether only a person can mend err.
func Permanent(err error) bool {
	var p permanentError
	for _, e := range []error{ErrFlood, ErrSplitEntity, kafka.ErrOutOfRange, kafka.ErrTopicRecreated} {
		if errors.Is(err, e) {
			return true
		}
	}
	return errors.As(err, &p)
}

func shardID(p *feature.Plan, tp kafka.TP) string {
	return fmt.Sprintf("%s/v%d/%s/%d", p.Group, p.Version, tp.Topic, tp.Partition)
}

// newShard returns a shard that has not begun.
func (g *Group) newShard(tp kafka.TP, stop chan struct{}) *Shard {
	id := shardID(g.plan, tp)
	log := g.log.With("topic", tp.Topic, "partition", tp.Partition)
	s := &Shard{
		Deps: g.deps, plan: g.plan, spec: SpecOf(g.plan), tp: tp, id: id, log: log,
		m: g.deps.Metrics.shard(g.plan.Group, g.plan.Version, tp.Partition), partitions: g.topic.Partitions, topicID: g.topic.ID,
		feed: newFeed(g.deps.Source, tp, g.deps.Config.FeedBytes), dir: filepath.Join(g.deps.Config.Data, "live", filepath.FromSlash(id)),
		online: g.deps.Online(tp.Partition), touched: map[string]struct{}{}, tail: map[string]loggedRow{}, stop: stop,
	}
	s.segs.dir = filepath.Join(g.deps.Config.Data, "segments", filepath.FromSlash(id))
	s.ckpt = checkpoints{every: g.deps.Config.CheckpointEvery, hashes: nil, published: s.Now()}
	s.step = NewStep(g.deps, g.plan, tp.Partition, g.topic.Partitions)
	s.step.waiting = func(err error) {
		s.m.schemaRetries.Inc()
		s.tellStatus("waits for a schema: " + err.Error())
	}
	s.letters = deadLetters{broker: g.deps.Broker, topic: tp.Topic, log: log, limit: g.deps.Config.DeadLetterBytes,
		headers: letterHeaders(g.plan, tp), onSent: func(n int) { s.m.deadLetters.Add(float64(n)) }}
	return s
}

func letterHeaders(p *feature.Plan, tp kafka.TP) []kafka.Header {
	text := func(key, format string, args ...any) kafka.Header {
		return kafka.Header{Key: "freshet-" + key, Value: fmt.Appendf(nil, format, args...)}
	}
	return []kafka.Header{text("group", "%s", p.Group), text("version", "%d", p.Version), text("topic", "%s", tp.Topic), text("partition", "%d", tp.Partition)}
}

// NewStep returns a step without a store.
func NewStep(deps Deps, plan *feature.Plan, partition, partitions int32) *Step {
	return &Step{
		plan: plan, layout: deps.Layout, dec: deps.Decoder, now: deps.Now, log: deps.Log.With("group", plan.Group, "version", plan.Version, "partition", partition), tap: deps.Tap, cache: state.NewCache[*entity](deps.Budget),
		adm:  admission{plan: plan, partition: partition, partitions: partitions, maxBody: deps.Config.MaxBodyBytes},
		row:  sink.Row{Values: make([]schemas.Value, len(plan.Features))},
		cols: make([]schemas.Value, len(plan.Columns)),
	}
}
