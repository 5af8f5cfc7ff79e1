package processor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/freshet-dev/freshet/sink"
	"github.com/freshet-dev/freshet/sink/parquet"
	"github.com/freshet-dev/freshet/sink/redis"
)

const maxTouched = 1 << 18 // entities noted in a replay before they are emitted

// recover makes the shard ours and brings it to where it may apply records: steps 6 and 9 of the commit protocol.
func (s *Shard) recover(ctx context.Context) error {
	m, err := parquet.Latest(ctx, s.Bucket, s.plan.Group, s.plan.Version, s.tp.Topic, s.tp.Partition)
	if errors.Is(err, sink.ErrNotExist) {
		m, err = nil, nil
	}
	if err != nil {
		return fmt.Errorf("read the newest manifest: %w", err)
	}
	start, end, err := s.Broker.Offsets(ctx, s.tp)
	if err != nil {
		return fmt.Errorf("ask for the offsets of %s: %w", s.id, err)
	}
	told, override, err := s.notLost(ctx, m)
	if err != nil {
		return err
	}
	if m != nil { // before the claim, which does not name them: after it nobody would know
		if err := s.publishParts(ctx, m); err != nil {
			return err
		}
	}
	if m, err = s.take(m, start, end, override); err != nil {
		return err
	}
	if override {
		m.Generation = max(m.Generation, told.Generation+1)
	}
	if err := parquet.PublishManifest(ctx, s.Bucket, m); err != nil {
		return fmt.Errorf("claim the shard: %w", err)
	}
	s.manifest, s.boot = m, m.Bootstrap
	if err := s.restore(ctx, m); err != nil {
		return fmt.Errorf("restore the state of manifest %d: %w", m.Seq, err)
	}
	if err := s.openSegments(ctx, m); err != nil {
		return err
	}
	if err := s.settle(ctx); err != nil {
		return err
	}
	if err := s.openSegment(); err != nil {
		return err
	}
	return s.begin(ctx, end)
}

// take returns the manifest that makes the shard ours: the first of all, the next of the chain, or, where a person has allowed it and there is
// reason to, one that begins the state anew.
func (s *Shard) take(m *parquet.Manifest, start, end int64, anew bool) (*parquet.Manifest, error) {
	if m == nil {
		return s.firstManifest(start, end), nil
	}
	c, err := s.claim(m, start, end)
	if errors.Is(err, errOffsets) && s.anew() || err == nil && anew {
		s.log.Warn("the state is begun anew under the next generation", "instead_of", err)
		return s.nextGeneration(m, start, end), nil
	}
	return c, err
}

// firstManifest is that of a version's first start: what lies before the end of the partition now is history.
func (s *Shard) firstManifest(start, end int64) *parquet.Manifest {
	now := s.Now()
	return &parquet.Manifest{
		Format: parquet.ManifestFormat, Store: s.StoreID, Group: s.plan.Group, GroupVersion: s.plan.Version,
		DefinitionHash: fmt.Sprintf("%016x", s.plan.Hash), Topic: s.tp.Topic, TopicID: s.topicID,
		Partition: s.tp.Partition, Partitions: s.partitions, Seq: 1, Epoch: 1, Owner: s.Owner,
		Generation: uint32(now.Unix()), Position: start, Clock: -1, OffsetsTiled: start,
		Bootstrap: parquet.Bootstrap{Start: now.UnixMilli(), EndOffset: end, History: s.plan.Source.History, Done: end <= start},
		CreatedAt: now.UTC().Format(time.RFC3339Nano), PartsFull: true,
	}
}

// anew reports whether a person has allowed this group version to begin its state anew.
func (s *Shard) anew() bool {
	return s.Config.NewGeneration[fmt.Sprintf("%s@%d", s.plan.Group, s.plan.Version)]
}

// nextGeneration begins the state anew behind m: what the partition holds now is history, and its rows become available after all before.
func (s *Shard) nextGeneration(m *parquet.Manifest, start, end int64) *parquet.Manifest {
	c := s.firstManifest(start, end)
	c.Seq, c.Epoch, c.Generation = m.Seq+1, m.Epoch+1, max(c.Generation, m.Generation+1)
	c.AvailableClock, c.Segment, c.PartsFull = m.AvailableClock, m.Segment, false
	return c
}

// claim is the manifest that takes the shard over: the same state under the next epoch. The former owner's next manifest loses the race.
func (s *Shard) claim(m *parquet.Manifest, start, end int64) (*parquet.Manifest, error) {
	switch {
	case m.DefinitionHash != fmt.Sprintf("%016x", s.plan.Hash):
		return nil, permanent("%s was run with the definition %s, now it is %016x: a version is immutable once run; give the changed one the next `version:`", s.id, m.DefinitionHash, s.plan.Hash)
	case m.Partitions != s.partitions:
		return nil, permanent("topic %s had %d partitions when %s first ran and has %d now, so entities have moved between partitions: start a new `version:` of group %s, which reads the topic anew",
			s.tp.Topic, m.Partitions, s.id, s.partitions, s.plan.Group)
	case m.TopicID != s.topicID, m.Position > end:
		return nil, offsets("topic %s was created anew or truncated: the position of %s is %d, the partition ends at %d; offsets have lost their meaning: start a new `version:`, or begin this one's state anew with --new-generation %s@%d",
			s.tp.Topic, s.id, m.Position, end, s.plan.Group, s.plan.Version)
	case m.Position < start:
		return nil, offsets("records %d to %d of %s were deleted before %s had read them (retention): what they would have counted is lost; start a new `version:`, or begin this one's state anew with --new-generation %s@%d",
			m.Position, start-1, s.tp.Topic, s.id, s.plan.Group, s.plan.Version)
	}
	c := *m
	c.Seq, c.Epoch, c.Owner = m.Seq+1, m.Epoch+1, s.Owner
	c.CreatedAt = s.Now().UTC().Format(time.RFC3339Nano)
	c.PartsAdded, c.PartsReplaced, c.Parts, c.PartsFull = nil, nil, nil, false
	return &c, nil
}

// notLost refuses to take a lost directory for a first start: the online store's progress hash tells of manifests that are not there.
// What the hash says is returned, and whether it would be a reason to refuse had a person not allowed to begin anew.
func (s *Shard) notLost(ctx context.Context, m *parquet.Manifest) (told redis.Progress, override bool, err error) {
	if m == nil && !s.anew() {
		meta, err := s.Broker.Committed(ctx, s.tp)
		if store, _, ok := strings.Cut(meta, ":"); err == nil && ok && store != s.StoreID {
			return told, false, permanent("%s: the consumer group's offset tells of store %s, this one (%s) is %s and has no manifest: the directory was lost or is another one; point `data:` at the right one, use another kafka.group, or begin the state anew with --new-generation %s@%d",
				s.id, store, s.Config.Data, s.StoreID, s.plan.Group, s.plan.Version)
		}
	}
	wait := newBackoff()
	for {
		p, ok, err := s.online.ReadProgress(ctx)
		if err == nil {
			if ok && m != nil && p.Store == m.Store {
				s.step.floor = max(s.step.floor, p.AsOf)
			}
			if m != nil && m.Bootstrap.Done && (!ok || p.Seq < m.Seq) { // it may only not have been told in time: writing all again does no harm
				s.refill.active = true
			}
			if ok && (m == nil || p.Store == m.Store && p.Seq > m.Seq) {
				if s.anew() {
					return p, true, nil
				}
				have := "none"
				if m != nil {
					have = fmt.Sprintf("manifest %d", m.Seq)
				}
				return p, false, permanent("%s: Redis tells of manifest %d in store %s, but store %s (%s) has %s: the directory was lost or is another one; point `data:` at the right one, or begin the state anew with --new-generation %s@%d",
					s.id, p.Seq, p.Store, s.StoreID, s.Config.Data, have, s.plan.Group, s.plan.Version)
			}
			wait.recovered(s.log, "redis answers")
			return p, false, nil
		}
		if err := wait.sleep(ctx, s.log, "redis does not answer; the shard waits to start", err); err != nil {
			return told, false, err
		}
	}
}

// restore fills the live directory, which is disposable, from the manifest's state files and opens the store.
func (s *Shard) restore(ctx context.Context, m *parquet.Manifest) error {
	if err := s.FS.RemoveAll(s.dir); err != nil {
		return err
	}
	if err := s.FS.MkdirAll(s.dir); err != nil {
		return err
	}
	for _, f := range m.State {
		to := filepath.Join(s.dir, f.Name)
		if immutable(f.Name) {
			if err := s.Bucket.GetFile(ctx, s.stateName(f), to); err != nil {
				return fmt.Errorf("fetch %s: %w", f.Name, err)
			}
			continue
		}
		data, err := s.Bucket.Get(ctx, s.stateName(f)) // the store may append to these: they must not be links
		if err == nil {
			err = s.writeFile(to, data)
		}
		if err != nil {
			return fmt.Errorf("fetch %s: %w", f.Name, err)
		}
	}
	var err error
	if s.store, err = s.Open(s.dir); err != nil {
		return err
	}
	meta := Meta{Position: m.Position, Clock: m.Clock, LastTick: m.LastTick, Available: m.AvailableClock, Generation: m.Generation}
	stored, err := s.store.Meta()
	if err != nil {
		return err
	}
	if stored != nil {
		if got, err := decodeMeta(stored); err != nil || got.Position != m.Position || got.Clock != m.Clock {
			return errors.Join(fmt.Errorf("the state stands at %+v, the manifest at %+v", got, meta), err)
		}
	}
	s.step.use(s.store, meta)
	s.ckpt.hashes = map[string]parquet.StateFile{}
	for _, f := range m.State {
		s.ckpt.hashes[f.Name] = f
	}
	return nil
}

// begin sets the phase and starts the pipeline and the source.
func (s *Shard) begin(ctx context.Context, end int64) error {
	s.end = end
	s.startPipeline(ctx)
	switch {
	case !s.boot.Done:
		s.step.floor = 0 // history has no rows but those its own ticks make
		s.enterHistory()
	case s.step.meta.Position < end || len(s.tail) > 0:
		s.step.meta.LastTick = max(s.step.meta.LastTick, s.step.floor-s.step.floor%s.plan.Tick)
		s.phase, s.replayTo, s.step.out = recovering, end, mutedRows{s}
	default:
		s.step.meta.LastTick = max(s.step.meta.LastTick, s.step.floor-s.step.floor%s.plan.Tick)
		s.enterLive()
	}
	s.ckpt.next = s.Now().Add(time.Duration(float64(s.ckpt.every) * s.stagger()))
	s.Source.Add(s.tp, s.step.meta.Position)
	if s.step.meta.Position >= s.phaseEnd() {
		return s.endPhase(ctx)
	}
	s.m.observe(s)
	return nil
}

// stagger spreads the checkpoints of shards: a number in [0.5, 1).
func (s *Shard) stagger() float64 {
	h := uint32(2166136261)
	for _, c := range []byte(s.id) {
		h = (h ^ uint32(c)) * 16777619
	}
	return 0.5 + float64(h)/(2*math.MaxUint32+2)
}

func (s *Shard) startPipeline(ctx context.Context) {
	s.pipe = newPipeline(&pipeline{
		online: s.online, log: s.log, m: s.m, features: len(s.plan.Features), limit: s.Config.QueueBytes, rows: s.Config.PipelineRows,
		now: s.Now, available: s.step.meta.Available, seg: s.seg,
	})
	go s.pipe.run(ctx) // ended by close
}

func (s *Shard) enterHistory() {
	s.phase = inHistory
	s.history = &historyRows{s: s, mode: s.boot.History}
	s.step.out = s.history
}

func (s *Shard) enterLive() {
	s.phase, s.history, s.step.out = live, nil, liveRows{s}
	s.touched, s.tail = nil, nil
}

// endPhase is called at the exact position where a phase ends.
func (s *Shard) endPhase(ctx context.Context) error {
	switch s.phase {
	case recovering:
		for done := false; !done; { // what had decayed by the last instant known may be in the log already
			var err error
			if done, err = s.step.Advance(s.step.meta.LastTick); err != nil {
				return err
			}
			if len(s.touched) > maxTouched {
				if err := s.emitTouched(ctx); err != nil {
					return err
				}
			}
		}
		if err := s.emitTouched(ctx); err != nil {
			return err
		}
		s.enterLive()
	case inHistory:
		if err := s.history.flush(); err != nil {
			return err
		}
		// What history left is committed before the first row that somebody sees, so that rows past that manifest are facts. Where a former
		// owner did that and filled a part, its rows stay in the segments until all are there: from a part nobody would know them again.
		if !s.filling(s.manifest) {
			if err := s.checkpointNow(ctx); err != nil {
				return err
			}
		}
		if err := s.fillOnline(ctx); err != nil {
			return err
		}
		s.boot.Done = true
		s.enterLive()
		if err := s.checkpointNow(ctx); err != nil {
			return err
		}
	}
	s.log.Info("live", "position", s.step.meta.Position)
	return nil
}

// fillOnline writes every entity to the online store once, at its last row. With `rows` the log has that row already.
func (s *Shard) fillOnline(ctx context.Context) error {
	s.pipe.setClock(s.step.meta.Available)
	var from []byte
	for {
		next, done, err := s.step.Rewrite(ctx, from, 1024, func(r *sink.Row) error {
			log := s.boot.History != "rows"
			if v, ok := s.tail[string(r.Entity)]; ok && v.Version == r.Version {
				log = false // acknowledged before a former owner stopped in the middle of this
			}
			if log {
				r.Cause = sink.Backfill
			}
			return s.pipe.add(r, s.Now().UnixMilli(), log)
		})
		if err != nil || done {
			return err
		}
		from = next
	}
}

// emitTouched emits, once, every entity that the replay touched and that is not in the segment as it stands now.
func (s *Shard) emitTouched(ctx context.Context) error {
	s.pipe.setClock(s.step.meta.Available)
	keys := make([]string, 0, len(s.touched))
	for k := range s.touched {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	muted := s.step.out
	s.step.out = liveRows{s}
	for len(keys) > 0 {
		n := min(len(keys), maxBatchRecords)
		if err := s.step.Emit(keys[:n], s.unlogged); err != nil {
			return err
		}
		keys = keys[n:]
	}
	s.step.out = muted
	clear(s.touched)
	return ctx.Err()
}

// unlogged reports whether an entity that the replay touched must be emitted: its newest log row is not of all its events, or not of the
// instant that the replay evaluated it at. Where it is of both, that row becomes the entity's last again, so that what is written to the
// online store from the state, should it lose its data, is what the log has.
func (s *Shard) unlogged(e *entity) bool {
	v, ok := s.tail[e.key]
	if !ok || v.Generation != s.step.meta.Generation || v.Offset < e.LastOffset || v.validUntil <= e.LastAsOf {
		return true
	}
	e.LastAsOf, e.LastOffset = v.AsOf, v.Offset
	s.step.touch(e)
	return false
}

// close ends the pipeline and the store. The live directory stays: the next owner of this machine throws it away.
func (s *Shard) close() error {
	var err error
	s.Source.Remove(s.tp)
	if s.ckpt.publish != nil {
		err = <-s.ckpt.publish
		s.ckpt.publish = nil
	}
	if s.pipe != nil {
		s.pipe.stop()
		<-s.pipe.done
	}
	s.letters.wg.Wait()
	s.step.cache.Close()
	var closers []io.Closer
	for _, r := range s.recovered {
		closers = append(closers, r.seg)
	}
	if s.seg != nil {
		closers = append(closers, s.seg)
	}
	if s.step.batch != nil {
		s.step.batch.Close()
	}
	if s.store != nil {
		closers = append(closers, s.store)
	}
	for _, c := range closers {
		err = errors.Join(err, c.Close())
	}
	return err
}

// errOffsets says that offsets have lost their meaning, or that records are gone: --new-generation gets over it.
var errOffsets = errors.New("offsets")

func permanent(format string, args ...any) error { return permanentError{fmt.Errorf(format, args...)} }

type offsetsError struct{ error }

func (e offsetsError) Unwrap() error { return e.error }

func (offsetsError) Is(target error) bool { return target == errOffsets }

func offsets(format string, args ...any) error { return offsetsError{permanent(format, args...)} }
