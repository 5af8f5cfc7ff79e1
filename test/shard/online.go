package shard

import (
	"context"
	"slices"
	"sync"

	"github.com/freshet-dev/freshet/schemas"
	"github.com/freshet-dev/freshet/sink"
	"github.com/freshet-dev/freshet/sink/redis"
)

// Online is what outlives shards besides their directory: an online store in memory, with the guard that Redis has (a row is refused where
// a strictly newer one is), and what the broker keeps of the group's offset.
type Online struct {
	mu       sync.Mutex
	rows     map[string]sink.Row // guarded by mu
	progress *redis.Progress     // guarded by mu
	metadata string              // guarded by mu: of the last offset committed
}

// NewOnline returns an empty store.
func NewOnline() *Online { return &Online{rows: map[string]sink.Row{}} }

// Row returns the row of an entity.
func (o *Online) Row(entity string) (sink.Row, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	r, ok := o.rows[entity]
	return r, ok
}

// Clone returns a copy of a row that stays valid.
func Clone(r *sink.Row) sink.Row {
	c := *r
	c.Entity, c.Values = slices.Clone(r.Entity), make([]schemas.Value, len(r.Values))
	for i, v := range r.Values {
		v.Bytes = slices.Clone(v.Bytes)
		c.Values[i] = v
	}
	return c
}

// Write implements processor.Online.
func (o *Online) Write(_ context.Context, rows []sink.Row, out []redis.Outcome) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	for i := range rows {
		old, known := o.rows[string(rows[i].Entity)]
		switch c := rows[i].Version.Compare(old.Version); {
		case known && c < 0:
			out[i] = redis.Stale
			continue
		case known && c == 0:
			out[i] = redis.Equal
		default:
			out[i] = redis.Written
		}
		o.rows[string(rows[i].Entity)] = Clone(&rows[i])
	}
	return nil
}

// Versions implements processor.Online.
func (o *Online) Versions(_ context.Context, entities [][]byte) ([]sink.Version, []bool, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	versions, known := make([]sink.Version, len(entities)), make([]bool, len(entities))
	for i, e := range entities {
		var r sink.Row
		r, known[i] = o.rows[string(e)]
		versions[i] = r.Version
	}
	return versions, known, nil
}

// WriteProgress implements processor.Online.
func (o *Online) WriteProgress(_ context.Context, p redis.Progress) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if p.After > 0 && (o.progress == nil || o.progress.Wall < p.After) {
		return redis.ErrLost
	}
	p.After = 0
	o.progress = &p
	return nil
}

// ReadProgress implements processor.Online.
func (o *Online) ReadProgress(context.Context) (redis.Progress, bool, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.progress == nil {
		return redis.Progress{}, false, nil
	}
	return *o.progress, true, nil
}

func (o *Online) commit(metadata string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.metadata = metadata
}

func (o *Online) committed() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.metadata
}
