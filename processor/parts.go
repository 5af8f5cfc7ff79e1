package processor

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/freshet-dev/freshet/sink/parquet"
)

// encodeParts makes the parts of the closed segments, stages them in the bucket and adds them to m.
func (s *Shard) encodeParts(ctx context.Context, m *parquet.Manifest, closed []closedSegment) error {
	info := parquet.PartInfo{Partition: s.tp.Partition, Seq: m.Seq, OffsetStart: m.OffsetsTiled}
	dir := filepath.Join(s.Config.Data, "staging", strings.ReplaceAll(s.id, "/", "~")+".parts")
	if err := s.FS.RemoveAll(dir); err != nil {
		return err
	}
	for _, c := range closed {
		info.OffsetEnd = max(c.end, info.OffsetStart)
		// A name of its own for each part: the file before may have become a staged part by then.
		local := func(i int) string { return filepath.Join(dir, fmt.Sprintf("%03d-%05d", info.K, i)) }
		parts, err := parquet.WriteParts(s.FS, local, c.seg, s.spec, info)
		if errors.Is(err, parquet.ErrNoRows) {
			continue // its offsets go to the next part
		}
		if err != nil {
			return err
		}
		for i, p := range parts {
			if err := s.Bucket.PutFile(ctx, parquet.StagedName(p.Name), local(i)); err != nil {
				return fmt.Errorf("stage part %s: %w", p.Name, err)
			}
		}
		m.PartsAdded = append(m.PartsAdded, parts...)
		info.K++
		info.OffsetStart = info.OffsetEnd
		m.OffsetsTiled = info.OffsetEnd
	}
	return s.FS.RemoveAll(dir)
}

// fullList gives every FullEvery-th manifest the list of all parts, so that readers walk back a bounded way.
func (s *Shard) fullList(ctx context.Context, m *parquet.Manifest) error {
	if m.PartsFull = m.Seq%parquet.FullEvery == 0; !m.PartsFull {
		m.Parts = nil
		return nil
	}
	parts, err := parquet.ShardParts(ctx, s.Bucket, s.manifest)
	if err != nil {
		return err
	}
	m.Parts = append(parts, m.PartsAdded...)
	return nil
}

// publishParts gives the parts that m committed the names that readers glob. A crash before it leaves them staged; recovery does it again.
func (s *Shard) publishParts(ctx context.Context, m *parquet.Manifest) error {
	for _, p := range m.PartsAdded {
		if err := s.Bucket.Publish(ctx, parquet.StagedName(p.Name), p.Name); err != nil {
			return fmt.Errorf("publish part %s: %w", p.Name, err)
		}
		if err := s.Bucket.Delete(ctx, parquet.StagedName(p.Name)); err != nil {
			return fmt.Errorf("remove a staged part: %w", err)
		}
	}
	return nil
}
