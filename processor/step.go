package processor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/freshet-dev/freshet/processor/kafka"
	"github.com/freshet-dev/freshet/schemas"
	"github.com/freshet-dev/freshet/schemas/event"
	"github.com/freshet-dev/freshet/schemas/feature"
	"github.com/freshet-dev/freshet/sink"
	"github.com/freshet-dev/freshet/state"
	"github.com/freshet-dev/freshet/state/window"
)

// Step folds records into the state of one shard and works off its ticks. Given the same state, records and ticks it makes the same rows
// and leaves the same state, whatever the batches. The shard's goroutine owns it.
type Step struct {
	plan   *feature.Plan
	layout *window.Layout
	store  *state.Store
	cache  *state.Cache[*entity]
	dec    *event.Decoder
	out    Rows
	stats  Stats
	log    *slog.Logger
	now    func() time.Time
	tap    func(*sink.Row)

	meta    Meta
	floor   int64 // no row is stamped earlier than this: the last tick known of a former owner, ms
	decay   timers
	cleanup timers

	adm     admission
	batch   *state.Batch
	dirty   []*entity
	gone    []*entity
	row     sink.Row // scratch
	rec     []byte   // scratch
	cols    []schemas.Value
	scratch event.Scratch
	cands   []candidate
	slab    []byte
	stored  []schemas.Value
	missing []*entity
	wall    int64       // µs, of the batch
	pending bool        // a tick is worked off in part
	flooded bool        // more than half of the last 1,000 records were rubbish
	written Meta        // the position last flushed
	empty   int         // Batch.Len of an empty batch
	waiting func(error) // told while records wait for a schema
	flood   flood
}

// use puts the step on a store.
func (s *Step) use(store *state.Store, meta Meta) {
	s.store, s.meta, s.batch = store, meta, store.NewBatch()
	s.written, s.empty = meta, s.batch.Len()
	s.decay = timers{kind: decayTimer, store: store, limit: nearTimers}
	s.cleanup = timers{kind: cleanupTimer, store: store, limit: nearTimers}
}

// Rows takes the rows a Step makes.
type Rows interface {
	// Row takes a row, which is valid during the call only. published is when its record was published, or when its change was due, in ms.
	Row(r *sink.Row, published int64) error
	// Before is called before an entity changes from its last row (as-of lastAsOf) to one at asOf, or ends (asOf is Never): it says whether
	// the last row must first be made again, as it was, and given to Again.
	Before(lastAsOf, asOf int64) bool
	Again(r *sink.Row) error
	// Refused takes a record that goes to the dead-letter topic. It is valid during the call only.
	Refused(rec *kafka.Record, why Reason) error
}

// Stats counts what a Step did; the shard's goroutine adds, metrics read at leisure.
type Stats struct {
	Records [reasons]uint64
	Rows    uint64
	Decays  uint64
	window.Counters
}

// entity is the decoded state of one entity in the cache.
type entity struct {
	*window.Entity
	key     string
	place   state.Place // in the cache
	dirty   bool
	missing bool // is to be loaded in this batch
	gone    bool // was deleted in this batch
}

// Size is what the entity takes in memory, in bytes.
func (e *entity) Size() int {
	n := len(e.key) + 96
	if e.Entity != nil { // else it is still to be loaded
		n += e.Entity.Size()
	}
	return n
}

func byKey(a, b *entity) int { return strings.Compare(a.key, b.key) }

// ErrFlood ends a shard whose input is mostly rubbish.
var ErrFlood = errors.New("more than half of the last 1,000 records are undecodable or invalid: the producer or `source.schema` is wrong; mend it and restart (the records are in the dead-letter topic)")

// Limits of a Step's batches.
const (
	maxBatchRecords = 4096
	maxFiredTimers  = 1024
	nearTimers      = 1 << 15
)

// Apply folds records, in offset order, and the ticks that their times pass. next is the position after them. recs may be empty: then only
// the position moves.
func (s *Step) Apply(ctx context.Context, recs []kafka.Record, next int64) error {
	s.wall = s.now().UnixMicro()
	for len(recs) > 0 {
		n := min(len(recs), maxBatchRecords)
		if err := s.apply(ctx, recs[:n]); err != nil {
			return err
		}
		recs = recs[n:]
	}
	s.meta.Position = next
	return s.end()
}

func (s *Step) apply(ctx context.Context, recs []kafka.Record) error {
	if err := s.admit(ctx, recs); err != nil {
		return err
	}
	ents, err := s.lookUp(0)
	if err != nil {
		return err
	}
	for i := range recs {
		s.meta.Position = recs[i].Offset // a tick before the record carries the offset before it, wherever a fetch ended
		c := &s.cands[i]
		if c.reason == Accepted {
			if ents, err = s.passTicks(c, i, ents); err != nil {
				return err
			}
			if c.reason, err = s.fold(ents[i], c, &recs[i]); err != nil {
				return err
			}
		}
		s.stats.Records[c.reason]++
		if s.flood.add(c.reason == Undecodable || c.reason == Invalid) {
			s.flooded = true
		}
		if c.reason.DeadLetter() {
			if err := s.out.Refused(&recs[i], c.reason); err != nil {
				return err
			}
		}
		s.meta.Position = recs[i].Offset + 1
	}
	return s.end()
}

// end writes what the batch left to write, and only then lets entities go from the cache: until then they may be in use.
func (s *Step) end() error {
	if err := s.flush(); err != nil {
		return err
	}
	for _, e := range s.gone {
		if e.gone {
			s.cache.Delete([]byte(e.key))
		}
	}
	s.gone = s.gone[:0]
	s.cache.Shrink()
	return nil
}

// admit decodes every record and decides all that depends on the record alone.
func (s *Step) admit(ctx context.Context, recs []kafka.Record) error {
	n := len(s.plan.Stored)
	s.cands = slices.Grow(s.cands[:0], len(recs))[:len(recs)]
	s.stored = slices.Grow(s.stored[:0], n*len(recs))[:n*len(recs)]
	s.slab = s.slab[:0]
	s.scratch.Reset()
	for i := range recs {
		c := &s.cands[i]
		*c = candidate{columns: s.stored[i*n : (i+1)*n]}
		err := s.decode(ctx, &recs[i])
		if err != nil && ctx.Err() != nil {
			return ctx.Err()
		}
		s.slab = s.adm.admit(&recs[i], s.cols, err, c, s.slab)
		if c.reason == Accepted {
			for j, col := range s.plan.Stored {
				c.columns[j] = s.cols[col]
			}
		}
	}
	return nil
}

// decode retries while the registry cannot tell the writer's schema: an unknown id is not the record's fault.
func (s *Step) decode(ctx context.Context, rec *kafka.Record) error {
	if len(rec.Value) > s.adm.maxBody {
		return nil
	}
	wait := backoff{next: 50 * time.Millisecond}
	for {
		err := s.dec.Decode(rec.Value, s.cols, &s.scratch)
		var need *event.NeedSchema
		if !errors.As(err, &need) {
			return err
		}
		if err := s.dec.Prepare(ctx, need.ID); err != nil {
			if s.waiting != nil {
				s.waiting(err)
			}
			if err := wait.sleep(ctx, s.log, "a schema cannot be had; its records wait", err); err != nil {
				return err
			}
			continue
		}
		wait.recovered(s.log, "the schema is there")
	}
}

// lookUp finds the entity of every candidate from the given one on, and loads those that are not in the cache in one sorted pass.
func (s *Step) lookUp(from int) ([]*entity, error) {
	ents := make([]*entity, len(s.cands))
	for i := from; i < len(s.cands); i++ {
		if s.cands[i].reason == Accepted {
			ents[i] = s.find(s.cands[i].entity)
		}
	}
	return ents, s.load()
}

// find returns the entity from the cache, or a place for it that load fills.
func (s *Step) find(key []byte) *entity {
	if e, ok := s.cache.Get(key); ok {
		return e
	}
	e := &entity{key: string(key), missing: true}
	s.missing = append(s.missing, e)
	e.place = s.cache.Put(e.key, e)
	return e
}

func (s *Step) load() error {
	if len(s.missing) == 0 {
		return nil
	}
	slices.SortFunc(s.missing, byKey)
	keys := make([][]byte, len(s.missing))
	for i, e := range s.missing {
		keys[i] = []byte(e.key)
	}
	err := s.store.Load(keys, func(i int, record []byte) error {
		e := s.missing[i]
		e.missing = false
		if record == nil {
			e.Entity = s.layout.NewEntity()
			return nil
		}
		var err error
		e.Entity, err = s.layout.Decode(record, func(fn func(uint32, []byte) error) error { return s.store.Chunks(keys[i], fn) })
		if err != nil {
			return fmt.Errorf("decode the state of entity %q: %w", e.key, err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, e := range s.missing {
		s.cache.Resized(e.place)
	}
	s.missing = s.missing[:0]
	return nil
}

// fold applies one admitted event: the ticks up to its clock, then the event, then its row.
func (s *Step) fold(e *entity, c *candidate, rec *kafka.Record) (Reason, error) {
	before := s.meta.Clock
	clock := max(before, c.time)
	if c.time <= clock-s.plan.Horizon {
		return LateExpired, nil
	}
	asOf := max(clock, s.meta.LastTick, s.floor, e.LastAsOf)
	if e.LastAsOf >= 0 && s.out.Before(e.LastAsOf, asOf) && !e.Contains(c.time, c.id) {
		if err := s.again(e); err != nil {
			return 0, err
		}
	}
	ev := window.Event{Time: c.time, ID: c.id, Mask: c.mask, Columns: c.columns}
	if e.Insert(s.layout, &ev, clock) {
		return Duplicate, nil
	}
	s.meta.Clock = clock
	cause, reason := sink.Event, Accepted
	if c.time < before {
		cause, reason = sink.Late, AcceptedLate
	}
	s.touch(e)
	return reason, s.emit(e, rec.Offset, asOf, cause, rec.Timestamp)
}

// touch notes that the entity's record must be written.
func (s *Step) touch(e *entity) {
	e.gone = false
	if !e.dirty {
		e.dirty = true
		s.dirty = append(s.dirty, e)
	}
}

// emit evaluates the entity at asOf, hands the row on and arms the entity's timer.
func (s *Step) emit(e *entity, offset, asOf int64, cause sink.Cause, published int64) error {
	e.LastAsOf, e.LastOffset = asOf, offset
	e.Due = e.Evaluate(s.layout, asOf, s.row.Values, &s.stats.Counters)
	s.fill(e, cause)
	s.stats.Rows++
	if s.tap != nil {
		s.tap(&s.row)
	}
	if err := s.out.Row(&s.row, published); err != nil {
		return err
	}
	return s.arm(e)
}

// again hands on the entity's last row as it was: equal version, equal bytes.
func (s *Step) again(e *entity) error {
	e.Evaluate(s.layout, e.LastAsOf, s.row.Values, &window.Counters{})
	s.fill(e, sink.Event)
	return s.out.Again(&s.row)
}

func (s *Step) fill(e *entity, cause sink.Cause) {
	s.row.Entity = append(s.row.Entity[:0], e.key...)
	s.row.Version = sink.Version{Generation: s.meta.Generation, Offset: e.LastOffset, AsOf: e.LastAsOf}
	s.row.ValidUntil, s.row.ComputedAt, s.row.AvailableAt, s.row.Cause = e.Due, s.wall, 0, cause
}

// arm sees to it that a timer stands at or before the instant at which something of the entity is due. An earlier one may stay: it is
// lazy, and looks when it fires.
func (s *Step) arm(e *entity) error {
	var kind uint8
	var at int64
	switch {
	case e.Due != sink.Never:
		kind, at = decayTimer, ceilTo(e.Due, s.plan.Tick)
	case e.Newest() >= 0:
		kind, at = cleanupTimer, e.Newest()+s.plan.Horizon
	default:
		return nil
	}
	if e.Armed != 0 && e.ArmedKind == kind && e.Armed <= at {
		return nil
	}
	if e.Armed != 0 {
		s.batch.DeleteTimer(e.ArmedKind, e.Armed, []byte(e.key))
	}
	e.Armed, e.ArmedKind = at, kind
	s.batch.SetTimer(kind, at, []byte(e.key))
	if kind == decayTimer {
		s.decay.push(at, e.key)
	} else {
		s.cleanup.push(at, e.key)
	}
	return nil
}

func ceilTo(t, unit int64) int64 {
	if r := t % unit; r != 0 {
		return t + unit - r
	}
	return t
}

// passTicks works off what is due before candidate i is folded. That may be more than the cache should hold at once (a gap in the stream lets
// every timer fire): then what is done is written, the cache shrinks, and the entities of the candidates left are looked up again.
func (s *Step) passTicks(c *candidate, i int, ents []*entity) ([]*entity, error) {
	if c.time <= s.meta.Clock {
		return ents, nil
	}
	again := false
	for {
		done, err := s.workOff(c.time)
		if err != nil {
			return nil, err
		}
		if done {
			break
		}
		again = true
		if err := s.end(); err != nil {
			return nil, err
		}
	}
	if !again {
		return ents, nil
	}
	return s.lookUp(i)
}

// maxWorkedOff is how many timers, about, are worked off between two looks at the size of the cache.
const maxWorkedOff = 8 * maxFiredTimers

// workOff works off, in order, every tick up to and including the instant to, and deletes the state that nothing needs at that stream clock;
// done once nothing of it is left.
func (s *Step) workOff(to int64) (done bool, err error) {
	for range maxWorkedOff / maxFiredTimers {
		if done, err = s.tick(to); err != nil {
			return false, err
		}
		if done {
			break
		}
	}
	for range maxWorkedOff / maxFiredTimers {
		if !done {
			return false, nil
		}
		at, ok, err := s.cleanup.peek(to, s.flush)
		if err != nil || !ok {
			return true, err
		}
		if err := s.fire(&s.cleanup, at, func(e *entity) error { return s.clean(e, to) }); err != nil {
			return false, err
		}
	}
	return false, nil
}

// tick fires up to maxFiredTimers timers of the earliest tick that is due by the instant to; done once none is.
func (s *Step) tick(to int64) (done bool, err error) {
	at, ok, err := s.decay.peek(to, s.flush)
	if err != nil {
		return false, err
	}
	if !ok {
		s.meta.LastTick = max(s.meta.LastTick, to-to%s.plan.Tick)
		return true, nil
	}
	s.meta.LastTick = max(s.meta.LastTick, at)
	return false, s.fire(&s.decay, at, func(e *entity) error { return s.decayed(e, at) })
}

// Advance works off wall-clock ticks up to the instant to, at most maxFiredTimers timers a call, so that ingest goes first.
func (s *Step) Advance(to int64) (done bool, err error) {
	s.wall = s.now().UnixMicro()
	if done, err = s.tick(to); err != nil {
		return false, err
	}
	return done, s.end()
}

// backlog is how far the earliest timer lies behind the instant to, in ms: the decay lag.
func (s *Step) backlog(to int64) int64 {
	if len(s.decay.near) == 0 || s.decay.near[0].at > to {
		return 0
	}
	return to - s.decay.near[0].at
}

// fire takes some of the timers of one instant, loads their entities in one pass and calls fn for those whose timer it still is.
func (s *Step) fire(t *timers, at int64, fn func(*entity) error) error {
	keys := t.pop(at, maxFiredTimers, nil)
	ents := make([]*entity, len(keys))
	for i, k := range keys {
		ents[i] = s.find([]byte(k))
		s.batch.DeleteTimer(t.kind, at, []byte(k))
	}
	if err := s.load(); err != nil {
		return err
	}
	for _, e := range ents {
		if e.Armed != at || e.ArmedKind != t.kind {
			continue // the entity has moved on: a stale timer
		}
		e.Armed = 0
		s.touch(e)
		if err := fn(e); err != nil {
			return err
		}
	}
	return nil
}

// decayed emits the change that is due at tick at, if there is one, and arms the next timer.
func (s *Step) decayed(e *entity, at int64) error {
	asOf := max(at, s.floor)
	if e.Due > asOf || asOf <= e.LastAsOf {
		return s.arm(e)
	}
	if s.out.Before(e.LastAsOf, asOf) {
		if err := s.again(e); err != nil {
			return err
		}
	}
	s.stats.Decays++
	return s.emit(e, s.meta.Position-1, asOf, sink.Decay, e.Due)
}

// clean drops what lies beyond the horizon, and the entity with it if nothing is left.
func (s *Step) clean(e *entity, clock int64) error {
	e.Trim(s.layout, clock)
	if !e.Empty() {
		return s.arm(e)
	}
	if s.out.Before(e.LastAsOf, sink.Never) {
		if err := s.again(e); err != nil {
			return err
		}
	}
	// An event later in this batch may bring it back: then it is new, as it would be in a batch of its own.
	s.batch.Delete([]byte(e.key))
	e.Entity, e.gone = s.layout.NewEntity(), true
	s.gone = append(s.gone, e)
	return nil
}

// Emit makes one row now of each of the entities that want it, as of the last instant known.
func (s *Step) Emit(keys []string, want func(*entity) bool) error {
	s.wall = s.now().UnixMicro()
	ents := make([]*entity, len(keys))
	for i, k := range keys {
		ents[i] = s.find([]byte(k))
	}
	if err := s.load(); err != nil {
		return err
	}
	asOf := max(s.meta.Clock, s.meta.LastTick, s.floor)
	for _, e := range ents {
		if e.LastAsOf < 0 { // it ended in the replay, and readers may hold what it was before
			if err := s.emitEnded(e, asOf); err != nil {
				return err
			}
			continue
		}
		if !want(e) {
			continue
		}
		s.touch(e)
		if err := s.emit(e, s.meta.Position-1, asOf, sink.Event, s.now().UnixMilli()); err != nil {
			return err
		}
	}
	return s.end()
}

// emitEnded makes the last row of an entity of which nothing is left any more, nor its state.
func (s *Step) emitEnded(e *entity, asOf int64) error {
	e.Evaluate(s.layout, asOf, s.row.Values, &s.stats.Counters)
	s.fill(e, sink.Decay)
	s.row.Version.Offset, s.row.Version.AsOf, s.row.ValidUntil = s.meta.Position-1, asOf, sink.Never
	s.stats.Rows++
	if s.tap != nil {
		s.tap(&s.row)
	}
	return s.out.Row(&s.row, s.now().UnixMilli())
}

// Rewrite makes the last rows of up to max entities from the key from on again, as they were, and gives them to fn. It changes nothing.
func (s *Step) Rewrite(ctx context.Context, from []byte, max int, fn func(*sink.Row) error) (next []byte, done bool, err error) {
	s.wall = s.now().UnixMicro()
	errEnough := errors.New("enough")
	n := 0
	err = s.store.Each(ctx, from, func(key, record []byte) error {
		if n == max {
			next = append([]byte(nil), key...)
			return errEnough
		}
		n++
		e, ok := s.cache.Get(key)
		if !ok {
			w, err := s.layout.Decode(record, func(chunk func(uint32, []byte) error) error { return s.store.Chunks(key, chunk) })
			if err != nil {
				return fmt.Errorf("decode the state of entity %q: %w", key, err)
			}
			e = &entity{Entity: w, key: string(key)}
		}
		if e.LastAsOf < 0 {
			return nil
		}
		e.Evaluate(s.layout, e.LastAsOf, s.row.Values, &window.Counters{})
		s.fill(e, sink.Event)
		return fn(&s.row)
	})
	if errors.Is(err, errEnough) {
		return next, false, nil
	}
	return nil, err == nil, err
}

// flush writes the dirty entities and the position in one batch.
func (s *Step) flush() error {
	slices.SortFunc(s.dirty, byKey) // the store takes ascending keys faster
	for _, e := range s.dirty {
		key := []byte(e.key)
		e.dirty = false
		if e.gone {
			continue
		}
		s.rec = e.Append(s.layout, s.rec[:0])
		s.batch.Set(key, s.rec)
		e.DirtyChunks(func(no uint32, data []byte) {
			if data == nil {
				s.batch.DeleteChunk(key, no)
			} else {
				s.batch.SetChunk(key, no, data)
			}
		})
		s.cache.Resized(e.place)
	}
	s.dirty = s.dirty[:0]
	was := s.written
	if was.LastTick = s.meta.LastTick; was == s.meta && s.batch.Len() == s.empty {
		return nil // at most an empty tick has passed: nothing to write for
	}
	s.written = s.meta
	s.batch.SetMeta(s.meta.append(nil))
	if err := s.batch.Commit(); err != nil {
		return err
	}
	s.batch.Reset()
	s.decay.bound()
	s.cleanup.bound()
	return nil
}
