package processor

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/freshet-dev/freshet/sink/parquet"
	"github.com/freshet-dev/freshet/sink/redis"
)

// checkpoints is when a shard takes its checkpoints, and the one that is being published.
type checkpoints struct {
	every     time.Duration
	next      time.Time
	retry     time.Duration                // after one was given up
	publish   chan error                   // of the publication under way; nil while there is none
	hashes    map[string]parquet.StateFile // by file name and size: what the store's immutable files hash to
	parts     int                          // closed segments that the publication under way covers
	begun     time.Time                    // of the publication under way
	published time.Time                    // when the last committed one was begun
	flushed   <-chan struct{}              // of the flush ahead of the checkpoint that is due; nil while there is none
}

func (c *checkpoints) due(now time.Time) bool { return !now.Before(c.next) }

// taken says how a checkpoint came out.
type taken uint8

const (
	ckptTaken taken = iota
	ckptUnchanged
	ckptGivenUp // rows, dead letters or the publication before it did not finish in time
)

// checkpointPatience is how long a due checkpoint waits for a moment with few rows unacknowledged.
const checkpointPatience = 2 * time.Second

// checkpoint takes one that is due, or gives it up and tries again later: an outage of Redis delays checkpoints, it does not stop the shard.
func (s *Shard) checkpoint(ctx context.Context) error {
	if s.phase == recovering { // nothing of the replay may be committed before its rows are out
		s.ckpt.next = s.Now().Add(time.Second)
		return nil
	}
	if ready, err := s.flushAhead(); err != nil || !ready {
		return err
	}
	if rows, _ := s.pipe.backlog(); rows > s.Config.PipelineRows && s.Now().Before(s.ckpt.next.Add(checkpointPatience)) {
		return nil // the pause would be spent waiting for redis; it is asked again in a moment
	}
	how, err := s.takeCheckpoint(ctx, min(max(time.Second, 2*s.ckpt.retry), s.Config.DrainLimit))
	if err != nil {
		return err
	}
	if how == ckptGivenUp {
		s.ckpt.retry = min(max(2*s.ckpt.retry, 500*time.Millisecond), max(s.ckpt.every, s.Config.DrainLimit))
		s.ckpt.next = s.Now().Add(s.ckpt.retry)
		return nil
	}
	s.ckpt.retry = 0
	s.ckpt.next = s.Now().Add(s.ckpt.every)
	return nil
}

// flushAhead writes the state to tables while records are applied, so that the pause has only the rest to write. It returns false, to be asked again,
// until that is done.
func (s *Shard) flushAhead() (ready bool, err error) {
	if err := s.store.Err(); err != nil || !s.store.Dirty() {
		return err == nil, err
	}
	if s.ckpt.flushed == nil {
		s.ckpt.flushed, err = s.store.Flush()
		return false, err
	}
	select {
	case <-s.ckpt.flushed:
		s.ckpt.flushed = nil
		return true, nil
	default:
		return false, nil
	}
}

// checkpointNow takes a checkpoint and waits until its manifest is published.
func (s *Shard) checkpointNow(ctx context.Context) error {
	for {
		how, err := s.takeCheckpoint(ctx, s.Config.DrainLimit)
		if err != nil {
			return err
		}
		if how != ckptGivenUp {
			break
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return s.published(ctx, true)
}

// takeCheckpoint is steps 3 and 4 of the commit protocol (processor/DESIGN.md). Applying pauses in it; hashing, encoding parts and publishing the
// manifest go on behind it, one at a time.
func (s *Shard) takeCheckpoint(ctx context.Context, wait time.Duration) (taken, error) {
	if err := s.published(ctx, wait == s.Config.DrainLimit); err != nil {
		return 0, err
	}
	if s.ckpt.publish != nil {
		return ckptGivenUp, nil
	}
	begun := s.Now()
	if s.history != nil {
		if err := s.history.flush(); err != nil {
			return 0, err
		}
	}
	if ok, err := s.pipe.idle(ctx, wait); err != nil || !ok {
		return ckptGivenUp, err
	}
	if ok, err := s.letters.flush(ctx, wait); err != nil || !ok {
		return ckptGivenUp, err
	}
	s.step.meta.Available = max(s.step.meta.Available, s.pipe.clock())
	if s.partDue(begun) {
		if err := s.roll(); err != nil {
			return 0, err
		}
	}
	if s.unchanged() {
		s.ckpt.published = begun
		return ckptUnchanged, nil
	}
	m := s.nextManifest(begun)
	if err := s.seg.Sync(); err != nil {
		return 0, fmt.Errorf("sync the row segment: %w", err)
	}
	m.Segment = s.seg.Ref(s.openName())
	tmp := filepath.Join(s.Config.Data, "staging", strings.ReplaceAll(s.id, "/", "~"))
	if err := s.FS.RemoveAll(tmp); err != nil {
		return 0, err
	}
	if err := s.FS.MkdirAll(filepath.Dir(tmp)); err != nil {
		return 0, err
	}
	if err := s.store.Checkpoint(tmp); err != nil {
		return 0, fmt.Errorf("checkpoint the state: %w", err)
	}
	s.m.pause.Observe(s.Now().Sub(begun).Seconds())
	closed := slices.Clone(s.segs.closed)
	done := make(chan error, 1)
	s.ckpt.publish = done
	s.ckpt.parts, s.ckpt.begun = len(closed), begun
	go func() { done <- s.publish(ctx, m, tmp, closed) }() // awaited by published and close
	return ckptTaken, nil
}

func (s *Shard) unchanged() bool {
	m := s.manifest
	return !s.store.Dirty() && len(s.segs.closed) == 0 && m.Position == s.step.meta.Position &&
		m.Segment.Length == s.seg.Len() && m.Bootstrap == s.boot && m.Segment.Name == s.openName()
}

// nextManifest is the manifest of the state as it stands, but for files and parts.
func (s *Shard) nextManifest(now time.Time) *parquet.Manifest {
	m := *s.manifest
	m.Seq++
	m.Generation, m.Position, m.Clock = s.step.meta.Generation, s.step.meta.Position, s.step.meta.Clock
	m.LastTick, m.AvailableClock, m.Bootstrap = s.step.meta.LastTick, s.step.meta.Available, s.boot
	m.CreatedAt = now.UTC().Format(time.RFC3339Nano)
	m.PartsAdded, m.PartsReplaced, m.State = nil, nil, nil
	return &m
}

// published takes the result of the publication under way, waiting for it if asked, and makes its manifest the shard's last.
func (s *Shard) published(ctx context.Context, wait bool) error {
	if s.ckpt.publish == nil {
		return nil
	}
	var err error
	if wait {
		select {
		case err = <-s.ckpt.publish:
		case <-ctx.Done():
			return ctx.Err()
		}
	} else {
		select {
		case err = <-s.ckpt.publish:
		default:
			return nil
		}
	}
	s.ckpt.publish = nil
	if err != nil {
		return fmt.Errorf("publish the checkpoint: %w", err)
	}
	return s.committed(ctx)
}

// publish makes the checkpoint durable and commits it with its manifest. It runs beside the shard, and touches nothing of it but
// s.ckpt.hashes and s.segs.committed, which the shard leaves alone meanwhile.
func (s *Shard) publish(ctx context.Context, m *parquet.Manifest, dir string, closed []closedSegment) error {
	names, err := s.FS.List(dir)
	if err != nil {
		return err
	}
	if err := s.Bucket.PutFile(ctx, s.bucketSegment(m.Segment), filepath.Join(s.segs.dir, m.Segment.Name)); err != nil {
		return fmt.Errorf("store the row segment: %w", err)
	}
	seen := map[string]parquet.StateFile{}
	for _, name := range names {
		f, err := s.putState(ctx, dir, name)
		if err != nil {
			return fmt.Errorf("store the state file %s: %w", name, err)
		}
		seen[name] = f
		m.State = append(m.State, f)
	}
	s.ckpt.hashes = seen
	if err := s.encodeParts(ctx, m, closed); err != nil {
		return err
	}
	if err := s.fullList(ctx, m); err != nil {
		return err
	}
	if err := parquet.PublishManifest(ctx, s.Bucket, m); err != nil {
		return err
	}
	s.segs.pending = m
	s.tellOffset(ctx, m)
	return s.FS.RemoveAll(dir)
}

// putState stores one file of the checkpoint under its hash. Tables never change once written, so they are hashed once.
func (s *Shard) putState(ctx context.Context, dir, name string) (parquet.StateFile, error) {
	f, err := s.FS.Open(filepath.Join(dir, name))
	if err != nil {
		return parquet.StateFile{}, err
	}
	size, err := f.Size()
	if err != nil {
		return parquet.StateFile{}, errors.Join(err, f.Close())
	}
	if old, ok := s.ckpt.hashes[name]; ok && immutable(name) && old.Bytes == size {
		return old, f.Close()
	}
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return parquet.StateFile{}, errors.Join(err, f.Close())
	}
	if err := f.Close(); err != nil {
		return parquet.StateFile{}, err
	}
	sf := parquet.StateFile{Name: name, SHA256: hex.EncodeToString(h.Sum(nil)), Bytes: size}
	return sf, s.Bucket.PutFile(ctx, s.stateName(sf), filepath.Join(dir, name))
}

func immutable(name string) bool {
	return strings.HasSuffix(name, ".sst") || strings.HasSuffix(name, ".blob")
}

// stateName is where a state file lies in the bucket: by content, within the shard.
func (s *Shard) stateName(f parquet.StateFile) string {
	return path.Join("state", s.id, "files", f.SHA256)
}

// committed is what follows the commit: parts get the names that readers glob, and what no manifest needs goes.
// All of it is idempotent and is done again in recovery.
func (s *Shard) committed(ctx context.Context) error {
	old, m := s.manifest, s.segs.pending
	s.manifest, s.segs.pending = m, nil
	s.ckpt.published = s.ckpt.begun
	if err := s.publishParts(ctx, m); err != nil {
		return err
	}
	if err := s.forget(ctx, old, m, s.ckpt.parts); err != nil {
		return err
	}
	if err := s.collect(ctx, old, m); err != nil {
		return err
	}
	if m.PartsFull {
		if err := parquet.Prune(ctx, s.Bucket, m, parquet.FullEvery); err != nil {
			return err
		}
	}
	return nil
}

// tellOffset tells lag tools the position. It is called beside the owner, which a coordinator that does not answer must not hold up.
func (s *Shard) tellOffset(ctx context.Context, m *parquet.Manifest) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if err := s.Broker.Commit(ctx, s.tp, m.Position, fmt.Sprintf("%s:%d", m.Store, m.Seq)); err != nil {
		s.log.Debug("commit the group offset", "err", err) // advice only
	}
}

// collect deletes the state files that only the manifest before the last needed.
func (s *Shard) collect(ctx context.Context, old, m *parquet.Manifest) error {
	keep := map[string]bool{}
	for _, f := range m.State {
		keep[f.SHA256] = true
	}
	for _, f := range old.State {
		if !keep[f.SHA256] {
			if err := s.Bucket.Delete(ctx, s.stateName(f)); err != nil {
				return fmt.Errorf("delete an old state file: %w", err)
			}
		}
	}
	return nil
}

// tell writes the progress hash, from which readers tell a quiet entity from a dead pipeline, and a later owner that a manifest is missing.
func (s *Shard) tell(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	p := s.refill.told
	if rows, _ := s.pipe.backlog(); rows == 0 && !s.step.pending {
		p.Position, p.AsOf = s.step.meta.Position, max(s.step.meta.Clock, s.step.meta.LastTick, s.step.floor)
	} else if v := s.pipe.newestAcked(); v.Offset >= p.Position || p.Store == "" { // what waits is not in the store yet
		p.Position, p.AsOf = max(v.Offset+1, s.manifest.Position), max(v.AsOf, p.AsOf, s.step.floor)
	}
	p.Wall, p.Generation, p.Seq, p.Store = s.Now().UnixMilli(), s.step.meta.Generation, s.manifest.Seq, s.manifest.Store
	p.After = s.refill.told.Wall
	switch err := s.online.WriteProgress(ctx, p); {
	case errors.Is(err, redis.ErrFenced), errors.Is(err, redis.ErrLost):
		return err
	case err == nil:
		s.refill.told = p
	} // else the store is away: the pipeline waits for it and says so
	return nil
}
