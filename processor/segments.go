package processor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/freshet-dev/freshet/sink"
	"github.com/freshet-dev/freshet/sink/parquet"
)

// rowSegments are the segments of a shard whose rows are in no committed part: the open one (Shard.seg) and closed ones before it. They lie
// in the local state directory, and are linked into the bucket at each checkpoint, so that another owner finds what a manifest names.
type rowSegments struct {
	dir     string
	number  int64 // of the open segment
	opened  time.Time
	closed  []closedSegment
	pending *parquet.Manifest // set by publish, taken by committed: the manifest just published
}

// closedSegment takes no more rows. Its parts are made and committed by the next manifest.
type closedSegment struct {
	seg  *parquet.Segment
	name string
	end  int64 // the shard's position when it was closed; of a former owner's, the position it had committed
}

func segmentName(epoch, number int64) string { return fmt.Sprintf("%010d-%010d.seg", epoch, number) }

// bucketSegment is where a segment of that length lies in the bucket.
func (s *Shard) bucketSegment(ref parquet.SegmentRef) string {
	return path.Join("state", s.id, "segments", fmt.Sprintf("%s-%d", strings.TrimSuffix(ref.Name, ".seg"), ref.Length))
}

func (s *Shard) segmentHeader(epoch, number int64) parquet.Header {
	return parquet.Header{
		SpecHash: s.plan.Hash, Features: len(s.plan.Features), Group: s.plan.Group, Version: s.plan.Version,
		Topic: s.tp.Topic, Partition: s.tp.Partition, Epoch: epoch, Generation: s.step.meta.Generation, Number: number,
	}
}

// openSegment starts a new segment.
func (s *Shard) openSegment() error {
	if err := s.FS.MkdirAll(s.segs.dir); err != nil {
		return err
	}
	s.segs.number++
	name := segmentName(s.manifest.Epoch, s.segs.number)
	seg, err := parquet.CreateSegment(s.FS, filepath.Join(s.segs.dir, name), s.segmentHeader(s.manifest.Epoch, s.segs.number))
	if err != nil {
		return err
	}
	s.seg, s.segs.opened = seg, s.Now()
	if s.pipe != nil {
		s.pipe.seg = seg
		s.pipe.written.Store(0)
	}
	return nil
}

func (s *Shard) openName() string { return segmentName(s.manifest.Epoch, s.segs.number) }

// partDue reports whether the open part is to close: by size, by age, or because the UTC day of its rows has ended.
func (s *Shard) partDue(now time.Time) bool {
	if s.seg.AckedRows() == 0 {
		return false
	}
	return s.seg.Len() >= s.Config.PartMaxBytes || now.Sub(s.segs.opened) >= s.Config.PartMaxAge ||
		s.phase == live && now.UTC().YearDay() != s.segs.opened.UTC().YearDay()
}

// roll closes the open segment. No row of it may be unacknowledged.
func (s *Shard) roll() error {
	s.segs.closed = append(s.segs.closed, closedSegment{s.seg, s.openName(), s.step.meta.Position})
	if err := s.seg.Sync(); err != nil {
		return fmt.Errorf("sync the row segment: %w", err)
	}
	if err := s.seg.Close(); err != nil {
		return fmt.Errorf("close the row segment: %w", err)
	}
	return s.openSegment()
}

// forget removes the segments whose parts m has committed, and the links of those before in the bucket.
func (s *Shard) forget(ctx context.Context, old, m *parquet.Manifest, n int) error {
	for _, c := range s.segs.closed[:n] {
		if err := s.FS.Remove(filepath.Join(s.segs.dir, c.name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove a row segment: %w", err)
		}
	}
	s.segs.closed = s.segs.closed[n:]
	if old.Segment.Name != "" && old.Segment != m.Segment {
		return s.Bucket.Delete(ctx, s.bucketSegment(old.Segment))
	}
	return nil
}

// openSegments opens the segments that the manifest does not have parts of: what a former owner on this machine left, or the copy in the
// bucket of what the manifest names. In history what lies past the manifest is dropped, since it is made again, the same. Later, rows past
// it are facts: the online store had acknowledged them.
func (s *Shard) openSegments(ctx context.Context, m *parquet.Manifest) error {
	names, err := s.FS.List(s.segs.dir)
	if err != nil {
		return err
	}
	found := false
	for _, name := range names {
		switch {
		case !strings.HasSuffix(name, ".seg"):
			continue
		case name < m.Segment.Name || name > m.Segment.Name && !m.Bootstrap.Done && m.Position <= m.Bootstrap.EndOffset && !s.filling(m):
			if err := s.FS.Remove(filepath.Join(s.segs.dir, name)); err != nil {
				return err
			}
			continue
		case name == m.Segment.Name:
			found = true
		}
		if err := s.reopen(name, m); err != nil {
			return err
		}
	}
	if found || m.Segment.Name == "" {
		return nil
	}
	data, err := s.Bucket.Get(ctx, s.bucketSegment(m.Segment))
	if err != nil {
		return fmt.Errorf("fetch the row segment that manifest %d names: %w", m.Seq, err)
	}
	if int64(len(data)) < m.Segment.Length {
		return fmt.Errorf("row segment %s: %w: %d bytes, manifest %d says %d", m.Segment.Name, parquet.ErrDamaged, len(data), m.Seq, m.Segment.Length)
	}
	if err := s.writeFile(filepath.Join(s.segs.dir, m.Segment.Name), data[:m.Segment.Length]); err != nil {
		return err
	}
	return s.reopen(m.Segment.Name, m)
}

// filling reports whether the manifest stands between history and live: its rows past it were acknowledged by the online store.
func (s *Shard) filling(m *parquet.Manifest) bool {
	return !m.Bootstrap.Done && m.Position >= m.Bootstrap.EndOffset
}

func (s *Shard) writeFile(name string, data []byte) error {
	if err := s.FS.MkdirAll(filepath.Dir(name)); err != nil {
		return err
	}
	f, err := s.FS.Create(name)
	if err != nil {
		return err
	}
	if _, err = f.Write(data); err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// reopen opens one segment a former owner left, settles what is in doubt in it, and queues it to become parts.
func (s *Shard) reopen(name string, m *parquet.Manifest) error {
	p := filepath.Join(s.segs.dir, name)
	if name == m.Segment.Name && !m.Bootstrap.Done && !s.filling(m) {
		if err := s.FS.Truncate(p, m.Segment.Length); err != nil {
			return err
		}
	}
	h, err := parquet.ReadHeader(s.FS, p)
	if errors.Is(err, parquet.ErrNoHeader) && name != m.Segment.Name {
		return s.FS.Remove(p)
	}
	if err != nil {
		return err
	}
	want := s.segmentHeader(h.Epoch, h.Number)
	want.Generation = h.Generation
	seg, rec, err := parquet.OpenSegment(s.FS, p, want)
	if err != nil {
		return err
	}
	if name == m.Segment.Name {
		if err := seg.Verify(m.Segment); err != nil {
			return err
		}
	}
	s.segs.number = max(s.segs.number, h.Number)
	s.recovered = append(s.recovered, recoveredSegment{seg, rec, name})
	return nil
}

// recoveredSegment is a segment of a former owner whose rows in doubt are to be settled.
type recoveredSegment struct {
	seg  *parquet.Segment
	rec  *parquet.Recovered
	name string
}

// settle asks the online store about the rows in doubt: those sent by a former owner and not acknowledged. What it holds, and all before
// it, readers may have seen: it becomes log rows now. The rest never was, nor was what is older than a row of the log: the store had that one
// already and refused it.
func (s *Shard) settle(ctx context.Context) error {
	// First what is known: the times given now must be later than all that the former owner gave, whose clock may have been ahead of ours.
	for _, r := range s.recovered {
		err := r.seg.Each(func(row *sink.Row) error {
			s.logged(row)
			s.step.meta.Available = max(s.step.meta.Available, row.AvailableAt)
			return nil
		})
		if err != nil {
			return err
		}
	}
	for _, r := range s.recovered {
		if err := s.settleDoubts(ctx, r); err != nil {
			return err
		}
		if err := errors.Join(r.seg.Sync(), r.seg.Close()); err != nil {
			return err
		}
		s.segs.closed = append(s.segs.closed, closedSegment{r.seg, r.name, s.step.meta.Position})
	}
	s.recovered = nil
	return s.wentBack(ctx)
}

// tailSample is how many entities are asked for in wentBack.
const tailSample = 512

// wentBack looks whether the online store holds what the log says it had acknowledged. If it does not (it was restored from an older copy,
// say), every entity is written again.
func (s *Shard) wentBack(ctx context.Context) error {
	var entities [][]byte
	for k := range s.tail {
		if entities = append(entities, []byte(k)); len(entities) == tailSample {
			break
		}
	}
	if len(entities) == 0 {
		return nil
	}
	versions, known, err := s.versions(ctx, entities)
	if err != nil {
		return fmt.Errorf("compare redis with the log: %w", err)
	}
	for i, e := range entities {
		if !known[i] || versions[i].Compare(s.tail[string(e)].Version) < 0 {
			s.refill.active = true
		}
	}
	return nil
}

// loggedRow is what recovery knows of an entity's newest log row.
type loggedRow struct {
	sink.Version
	validUntil int64 // ms
}

// logged notes a log row of a former owner.
func (s *Shard) logged(row *sink.Row) {
	if old, ok := s.tail[string(row.Entity)]; !ok || row.Version.Compare(old.Version) > 0 {
		s.tail[string(row.Entity)] = loggedRow{row.Version, row.ValidUntil}
	}
	s.step.floor = max(s.step.floor, row.Version.AsOf)
}

func (s *Shard) settleDoubts(ctx context.Context, r recoveredSegment) error {
	var entities [][]byte
	for i := range r.rec.InDoubt {
		entities = append(entities, r.rec.InDoubt[i].Row.Entity)
	}
	if len(entities) == 0 {
		return nil
	}
	versions, known, err := s.versions(ctx, entities)
	if err != nil {
		return fmt.Errorf("ask redis about rows in doubt: %w", err)
	}
	now := s.Now().UnixMicro()
	for i, d := range r.rec.InDoubt {
		at := int64(0)
		newest, ok := s.tail[string(d.Row.Entity)]
		if known[i] && d.Row.Version.Compare(versions[i]) <= 0 && (!ok || d.Row.Version.Compare(newest.Version) > 0) {
			s.step.meta.Available = max(s.step.meta.Available+1, now)
			at = s.step.meta.Available
			s.logged(&d.Row)
		}
		if err := r.seg.Acked(d.Sequence, []int64{at}); err != nil {
			return err
		}
	}
	return nil
}

func (s *Shard) versions(ctx context.Context, entities [][]byte) (versions []sink.Version, known []bool, err error) {
	wait := newBackoff()
	for {
		if versions, known, err = s.online.Versions(ctx, entities); err == nil {
			wait.recovered(s.log, "redis answers")
			return versions, known, nil
		}
		if err := wait.sleep(ctx, s.log, "redis does not answer; the shard waits to start", err); err != nil {
			return nil, nil, err
		}
	}
}
