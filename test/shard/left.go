package shard

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"testing"

	"github.com/freshet-dev/freshet/processor/kafka"
	"github.com/freshet-dev/freshet/sink"
	"github.com/freshet-dev/freshet/sink/parquet"
	"github.com/freshet-dev/freshet/state"
	"github.com/freshet-dev/freshet/test/oracle"
)

// What a shard has left in its directory once it has stopped.

// Log returns all rows of the log: those of the committed parts, and those that the newest manifest has in its row segment.
func (g *Group) Log(t testing.TB, dir string) []sink.Row {
	t.Helper()
	var rows []sink.Row
	if err := g.log(dir, func(r *sink.Row) error { rows = append(rows, Clone(r)); return nil }); err != nil {
		t.Fatalf("read the log: %v", err)
	}
	return rows
}

func (g *Group) log(dir string, fn func(*sink.Row) error) error {
	ctx, bucket := context.Background(), sink.NewDir(sink.OS, filepath.Join(dir, "bucket"))
	m, err := parquet.Latest(ctx, bucket, g.Plan.Group, g.Plan.Version, g.Plan.Source.Topic, 0)
	if err != nil {
		return err
	}
	parts, err := parquet.ShardParts(ctx, bucket, m)
	if err != nil {
		return err
	}
	at := int64(0)
	for _, p := range parts {
		if p.OffsetStart != at {
			return fmt.Errorf("part %s begins at offset %d, the one before ends at %d", p.Name, p.OffsetStart, at)
		}
		at = p.OffsetEnd
		r, err := parquet.OpenPart(sink.OS, filepath.Join(dir, "bucket", filepath.FromSlash(p.Name)), p)
		if err != nil {
			return err
		}
		if err := errors.Join(r.Rows(fn), r.Close()); err != nil {
			return err
		}
	}
	path := filepath.Join(dir, "segments", filepath.FromSlash(g.id()), m.Segment.Name)
	h, err := parquet.ReadHeader(sink.OS, path)
	if err != nil {
		return err
	}
	seg, rec, err := parquet.OpenSegment(sink.OS, path, h)
	if err != nil {
		return err
	}
	if seg.Len() != m.Segment.Length || len(rec.InDoubt) > 0 {
		err = fmt.Errorf("the segment has %d bytes, the manifest says %d; %d rows are in doubt", seg.Len(), m.Segment.Length, len(rec.InDoubt))
	}
	return errors.Join(err, seg.Each(fn), seg.Close())
}

// id is the shard's.
func (g *Group) id() string {
	return fmt.Sprintf("%s/v%d/%s/0", g.Plan.Group, g.Plan.Version, g.Plan.Source.Topic)
}

// availableInMeta are the bytes of the shard's own record that hold the last available_at, which is the wall clock's.
const availableInMeta, availableInMetaEnd = 25, 33

// Dump returns everything in the store of a shard that has stopped: records, chunks, timers and the position, as text that tells where two differ.
func (g *Group) Dump(t testing.TB, dir string) []string {
	t.Helper()
	res := state.NewResources(state.Default(), nil, nil)
	defer res.Close()
	st, err := state.Open(filepath.Join(dir, "live", filepath.FromSlash(g.id())), res, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	}()
	dump, err := Contents(st)
	if err != nil {
		t.Fatal(err)
	}
	return dump
}

// Contents returns everything in a store but the last available_at.
func Contents(st *state.Store) (dump []string, err error) {
	add := func(format string, args ...any) { dump = append(dump, fmt.Sprintf(format, args...)) }
	meta, err := st.Meta()
	if err != nil {
		return nil, err
	}
	if len(meta) > availableInMetaEnd {
		clear(meta[availableInMeta:availableInMetaEnd])
	}
	add("meta %x", meta)
	err = st.Each(context.Background(), nil, func(entity, record []byte) error {
		add("entity %q %x", entity, record)
		return st.Chunks(entity, func(no uint32, data []byte) error { add("chunk %q %d %x", entity, no, data); return nil })
	})
	for kind := range uint8(4) {
		err = errors.Join(err, st.Timers(kind, math.MaxInt64, math.MaxInt, func(at int64, entity []byte) error {
			add("timer %d %d %q", kind, at, entity)
			return nil
		}))
	}
	return dump, err
}

// Ideal is a row as the oracle tells it.
func (g *Group) Ideal(r *sink.Row) oracle.Row {
	row := oracle.Row{Entity: string(r.Entity), Offset: r.Version.Offset, AsOf: r.Version.AsOf, ValidUntil: r.ValidUntil, Cause: r.Cause.String(),
		Values: make([]oracle.Value, len(r.Values))}
	for i, v := range r.Values {
		if row.Values[i].Null = v.IsNull(); !v.IsNull() {
			row.Values[i].Text = string(sink.AppendText(nil, v, g.Spec.Features[i].Type))
		}
	}
	row.Last = r.ValidUntil == sink.Never && !g.Plan.HasLifetime
	return row
}

// Record is a record of the oracle as the broker gives it.
func Record(r *oracle.Record) kafka.Record {
	return kafka.Record{Offset: r.Offset, Timestamp: r.Timestamp, Key: r.Key, Value: r.Value}
}
