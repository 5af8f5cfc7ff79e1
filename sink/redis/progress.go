package redis

import (
	"context"
	"fmt"
	"strconv"
)

// Progress is what a shard tells readers and its later owners: how far it is, so that a quiet entity is told from a dead pipeline.
type Progress struct {
	Position   int64  // the offset of the next record
	AsOf       int64  // ms: all changes up to it are in Redis
	Wall       int64  // ms: the wall clock when it was written
	Generation uint32 // of the shard's versions
	Seq        int64  // of the newest manifest
	Store      string // the id of the store that holds the manifests

	After int64 // not stored: the Wall of the write before this one, which must still be there, or a later one; 0: anything may
}

// WriteProgress writes the shard's progress hash, <prefix>:_progress:<group>:v<N>:<partition>, which never expires. It returns ErrFenced,
// and writes nothing, where a later generation or a later manifest has been told; and ErrLost, and writes nothing, where what p.After names is
// gone. (Looking first and writing then would hide a loss between the two.)
func (w *Writer) WriteProgress(ctx context.Context, p Progress) error {
	act := "write the progress of " + w.progress
	accepted, err := progressScript.Run(ctx, w.c.rdb, []string{w.progress}, int64(p.Generation), p.Seq, p.After,
		"position", p.Position, "as_of", p.AsOf, "wall", p.Wall, "generation", int64(p.Generation), "seq", p.Seq, "store", p.Store).Int()
	if err != nil {
		return w.c.explain(act, err)
	}
	switch accepted {
	case 0:
		return fmt.Errorf("%s: generation %d, manifest %d: %w", act, p.Generation, p.Seq, ErrFenced)
	case 2:
		return fmt.Errorf("%s: %w", act, ErrLost)
	}
	return nil
}

// ReadProgress reads what WriteProgress wrote; ok is false where there is nothing.
func (w *Writer) ReadProgress(ctx context.Context) (p Progress, ok bool, err error) {
	return w.c.readProgress(ctx, w.progress)
}

func progressPrefix(prefix, group string, version int) string {
	return fmt.Sprintf("%s:_progress:%s:v%d:", prefix, group, version)
}

func (c *Client) readProgress(ctx context.Context, key string) (p Progress, ok bool, err error) {
	act := "read the progress of " + key
	m, err := c.rdb.HGetAll(ctx, key).Result()
	if err != nil {
		return Progress{}, false, c.explain(act, err)
	}
	if len(m) == 0 {
		return Progress{}, false, nil
	}
	var generation int64
	for _, f := range []struct {
		name string
		to   *int64
	}{{"position", &p.Position}, {"as_of", &p.AsOf}, {"wall", &p.Wall}, {"generation", &generation}, {"seq", &p.Seq}} {
		if *f.to, err = strconv.ParseInt(m[f.name], 10, 64); err != nil {
			return Progress{}, false, fmt.Errorf("%s: field %s: %w", act, f.name, err)
		}
	}
	if generation < 0 || generation > 1<<32-1 {
		return Progress{}, false, fmt.Errorf("%s: generation %d is out of range", act, generation)
	}
	p.Generation, p.Store = uint32(generation), m["store"]
	return p, true, nil
}
