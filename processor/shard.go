package processor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/freshet-dev/freshet/processor/kafka"
	"github.com/freshet-dev/freshet/schemas/event"
	"github.com/freshet-dev/freshet/schemas/feature"
	"github.com/freshet-dev/freshet/sink"
	"github.com/freshet-dev/freshet/sink/parquet"
	"github.com/freshet-dev/freshet/sink/redis"
	"github.com/freshet-dev/freshet/state"
	"github.com/freshet-dev/freshet/state/window"
)

// Broker is what a shard asks of the broker besides records.
type Broker interface {
	// Offsets returns the first offset of a partition and its last stable offset.
	Offsets(ctx context.Context, tp kafka.TP) (start, end int64, err error)
	// DeadLetter writes records to the dead-letter topic of the shard's topic and returns once they are acknowledged.
	DeadLetter(ctx context.Context, topic string, recs []kafka.Record) error
	// Commit tells lag tools how far a shard is. Nothing is ever read back from it but the store it names.
	Commit(ctx context.Context, tp kafka.TP, offset int64, metadata string) error
	// Committed returns the metadata of the last Commit for the partition; empty if there was none.
	Committed(ctx context.Context, tp kafka.TP) (metadata string, err error)
}

// Deps is what a shard stands on.
type Deps struct {
	Log     *slog.Logger
	Metrics *Metrics
	Config  Config
	Bucket  sink.Bucket
	FS      sink.FS                                // of segments and of checkpoints on their way to the bucket
	Open    func(dir string) (*state.Store, error) // opens a store in the live directory
	Budget  *state.Budget                          // of decoded entities, shared by the shards of a process
	Source  Source
	Broker  Broker
	Online  func(partition int32) Online
	RunIDs  func(ctx context.Context) (map[string]string, error) // of the online store's nodes
	Decoder *event.Decoder                                       // of the group version's columns
	Layout  *window.Layout                                       // of the group version
	Now     func() time.Time
	Tap     func(r *sink.Row) // sees every row as it is made, before it goes anywhere; for benchmarks and proofs; nil: nothing
	StoreID string
	Owner   string
}

// Shard is one group version × one topic partition. Its goroutine owns all below but what says otherwise; it is the only writer of its keys.
type Shard struct {
	Deps
	plan *feature.Plan
	spec sink.Spec
	tp   kafka.TP
	id   string // group/v1/topic/3
	log  *slog.Logger
	m    *shardMetrics

	partitions int32
	topicID    string

	feed      *feed
	step      *Step
	store     *state.Store
	dir       string
	seg       *parquet.Segment
	segs      rowSegments
	pipe      *pipeline
	recovered []recoveredSegment
	online    Online
	history   *historyRows
	letters   deadLetters

	phase    phase
	boot     parquet.Bootstrap
	replayTo int64                // recovery: the end of the partition when it began
	touched  map[string]struct{}  // recovery
	tail     map[string]loggedRow // recovery: the newest acknowledged row of entities in the segment past the manifest
	end      int64                // the last stable offset, as last told

	manifest *parquet.Manifest // the last one published; checkpoints read it
	ckpt     checkpoints
	refill   refill

	limited string                 // Status.Limited
	stop    chan struct{}          // closed to make the shard drain, checkpoint and end
	status  atomic.Pointer[Status] // read by anyone
}

// phase is what a shard does with the rows it makes.
type phase uint8

const (
	recovering phase = iota // replays, muted, what a former owner had applied
	inHistory               // before the end offset of its bootstrap
	live
)

var phaseNames = [...]string{"recovering", "history", "live"}

// String returns the phase as /readyz shows it.
func (p phase) String() string { return phaseNames[p] }

// Status is what /readyz tells of a shard.
type Status struct {
	Shard    string
	Phase    string
	Position int64
	End      int64
	Clock    int64  // ms
	Tick     int64  // the last tick begun, ms
	Behind   bool   // it is worked off in part
	Err      string // why it stopped; empty while it runs
	Limited  string // the feature that was last null because an entity outgrew its limit; empty if none was

	Checkpoint time.Time // when the last one that was committed was begun

	told time.Time // by the shard's goroutine
}

// Ready reports whether the shard serves fresh values.
func (s *Status) Ready() bool { return s.Err == "" && s.Phase == live.String() }

var errStopped = errors.New("stopped")

// run is the life of a shard. It returns nil when it was stopped.
func (s *Shard) run(ctx context.Context) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	var watching sync.WaitGroup
	defer func() { cancel(); watching.Wait(); err = errors.Join(err, s.close()) }()
	watching.Go(func() { s.watch(ctx) })
	go func() { // ends with ctx: whatever the shard waits for, it does not wait longer than it may take to leave
		select {
		case <-s.stop:
		case <-ctx.Done():
			return
		}
		t := time.NewTimer(s.Config.DrainLimit)
		defer t.Stop()
		select {
		case <-t.C:
			cancel()
		case <-ctx.Done():
		}
	}()
	s.letters.start(ctx)
	if err := s.recover(ctx); err != nil {
		return err
	}
	for {
		f, err := s.next(ctx)
		if errors.Is(err, errStopped) {
			return s.leave(ctx)
		}
		if err == nil {
			err = s.apply(ctx, f)
		}
		if err == nil {
			err = s.tick(ctx)
		}
		if err == nil {
			err = s.keepHouse(ctx)
		}
		if err != nil {
			return err
		}
	}
}

// next waits for records, but not past the time at which something else is due: then the fetch is empty.
func (s *Shard) next(ctx context.Context) (kafka.Fetch, error) {
	timer := time.NewTimer(s.idle())
	defer timer.Stop()
	for {
		select {
		case <-s.stop:
			return kafka.Fetch{}, errStopped
		case <-s.pipe.done:
			return kafka.Fetch{}, s.pipe.failure()
		case <-ctx.Done():
			return kafka.Fetch{}, ctx.Err()
		default:
		}
		if f, ok := s.feed.take(); ok {
			if f.Err != nil {
				err := fmt.Errorf("read %s from offset %d: %w", s.id, s.step.meta.Position, f.Err)
				if Permanent(err) {
					return f, err
				}
				s.tellStatus(err.Error()) // the reader goes on trying
				continue
			}
			s.end = max(s.end, f.End)
			return f, nil
		}
		select {
		case <-s.feed.wake:
		case <-s.stop:
		case <-ctx.Done():
		case <-s.pipe.done:
			return kafka.Fetch{}, s.pipe.failure()
		case <-timer.C:
			return kafka.Fetch{Next: s.step.meta.Position, End: s.end}, nil
		}
	}
}

// idle is how long the shard may wait for records.
func (s *Shard) idle() time.Duration {
	d := 200 * time.Millisecond
	if s.step.pending && s.step.meta.Position >= s.end { // else the rest of the tick waits for records, as tick does
		return 0
	}
	if s.refill.active && s.phase == live {
		if rows, _ := s.pipe.backlog(); rows <= refillRows {
			return 0
		}
		d = 5 * time.Millisecond
	}
	if s.phase == live && s.Config.Idle == IdleWall {
		now := s.Now().UnixMilli()
		d = min(d, time.Duration(s.plan.Tick-now%s.plan.Tick)*time.Millisecond)
	}
	return d
}

// apply folds a fetch, and changes phase exactly at the position where one ends.
func (s *Shard) apply(ctx context.Context, f kafka.Fetch) error {
	if f.From > s.step.meta.Position {
		return nil // of an earlier reading of the partition, before it was taken away and came back: ours is on its way
	}
	recs := f.Records
	for len(recs) > 0 && recs[0].Offset < s.step.meta.Position { // before our position: another shard's past
		recs = recs[1:]
	}
	for {
		end := s.phaseEnd()
		n := min(len(recs), maxBatchRecords)
		for n > 0 && recs[n-1].Offset >= end {
			n--
		}
		next := max(f.Next, s.step.meta.Position)
		if n < len(recs) {
			next = min(recs[n].Offset, end)
		}
		if n > 0 || next > s.step.meta.Position {
			if err := s.step.Apply(ctx, recs[:n], next); err != nil {
				return err
			}
		}
		recs = recs[n:]
		if s.step.flooded {
			return errors.Join(ErrFlood, s.checkpointNow(ctx)) // or the next start would meet the same records
		}
		if err := s.published(ctx, false); err != nil {
			return err
		}
		s.m.observe(s)
		if s.step.meta.Position >= end {
			if err := s.endPhase(ctx); err != nil {
				return err
			}
		} else if len(recs) == 0 {
			return nil
		}
		if s.phase == recovering && len(s.touched) > maxTouched {
			if err := s.emitTouched(ctx); err != nil {
				return err
			}
		}
		if s.checkpointDue() {
			if err := s.checkpoint(ctx); err != nil {
				return err
			}
		}
	}
}

func (s *Shard) phaseEnd() int64 {
	switch s.phase {
	case recovering:
		return s.replayTo
	case inHistory:
		return s.boot.EndOffset
	}
	return 1<<63 - 1
}

// tick works off wall-clock ticks while the shard stands at the end of its partition. One call does a bounded part of a tick, so that
// records that came meanwhile go first.
func (s *Shard) tick(ctx context.Context) error {
	if s.phase != live || s.Config.Idle != IdleWall || !s.feed.empty() || s.step.meta.Position < s.end {
		return nil
	}
	now := s.Now().UnixMilli()
	if s.step.meta.LastTick >= now-now%s.plan.Tick && !s.step.pending {
		return nil
	}
	done, err := s.step.Advance(now - now%s.plan.Tick)
	s.step.pending = !done
	s.m.observe(s)
	return err
}

// keepHouse does what is due besides records: the checkpoint, the progress hash, the refill of a store that lost data.
func (s *Shard) keepHouse(ctx context.Context) error {
	if err := s.published(ctx, false); err != nil {
		return err
	}
	if s.phase == live {
		if err := s.refillSome(ctx); err != nil {
			return err
		}
	}
	if s.checkpointDue() {
		return s.checkpoint(ctx)
	}
	return nil
}

// checkpointDue reports whether it is time, or the open part has its size.
func (s *Shard) checkpointDue() bool {
	now := s.Now()
	return s.ckpt.due(now) || s.pipe.written.Load() >= s.Config.PartMaxBytes && s.ckpt.retry == 0 ||
		s.phase == inHistory && s.seg.Len() >= s.Config.PartMaxBytes
}

// refuse queues a dead letter, and ends the shard when its input is mostly rubbish.
func (s *Shard) refuse(rec *kafka.Record, why Reason) error {
	return s.letters.add(rec, why)
}

// leave drains the pipeline and takes a last checkpoint, both within Config.DrainLimit. In a replay there is nothing to commit: its rows are
// not out.
func (s *Shard) leave(ctx context.Context) error {
	if s.phase == recovering {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.Config.DrainLimit)
	defer cancel()
	if _, err := s.pipe.idle(ctx, s.Config.DrainLimit); err != nil {
		return err
	}
	if err := s.checkpointNow(ctx); err != nil {
		s.log.Warn("left without a last checkpoint: the next owner replays from the one before", "err", err)
		return nil
	}
	if s.phase == live {
		if err := s.tell(ctx); !errors.Is(err, redis.ErrLost) { // a loss is noticed by the next owner
			return err
		}
	}
	return nil
}

// tellStatus lets others see where the shard stands.
func (s *Shard) tellStatus(why string) {
	s.status.Store(&Status{Shard: s.id, Phase: s.phase.String(), Position: s.step.meta.Position, End: s.end, Clock: s.step.meta.Clock,
		Tick: s.step.meta.LastTick, Behind: s.step.pending, Err: why, Limited: s.limited, Checkpoint: s.ckpt.published, told: s.Now()})
}
