package demo

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/freshet-dev/freshet/cmd/freshet/internal/app"
	"github.com/freshet-dev/freshet/cmd/freshet/internal/show"
	"github.com/freshet-dev/freshet/processor/kafka"
	"github.com/freshet-dev/freshet/schemas/catalog"
	"github.com/freshet-dev/freshet/schemas/feature"
	"github.com/freshet-dev/freshet/sink"
	"github.com/freshet-dev/freshet/sink/parquet"
	"github.com/freshet-dev/freshet/test/oracle"
)

// comparison is how the log of a group compares with the oracle, which worked every row out again from the records alone. Its fields may be
// read while it goes on.
type comparison struct {
	rows, values, mismatches atomic.Int64

	spoil func(m *matcher, r *sink.Row) error // for tests of the comparison: takes each row instead; nil: none

	mu      sync.Mutex
	reasons map[string]int64 // the oracle's verdicts; guarded by mu
	first   []string         // the first mismatches; guarded by mu
}

const toldMismatches = 10

func (c *comparison) mismatch(n int64, format string, args ...any) {
	c.mismatches.Add(n)
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.first) < toldMismatches {
		c.first = append(c.first, fmt.Sprintf(format, args...))
	}
}

// compare has every row of the log of a stream's group recomputed, of every partition at once. The service must have ended. Memory: all
// records, and the rows of one row group of a part for each partition.
func (w *world) compare(ctx context.Context, st stream, p *feature.Plan, c *comparison) error {
	definition, err := catalog.File(st.group + ".yaml")
	if err != nil {
		return err
	}
	schema, err := catalog.File(st.schema)
	if err != nil {
		return err
	}
	group, err := oracle.Load(definition, schema)
	if err != nil {
		return fmt.Errorf("oracle: %w", err)
	}
	parts, err := parquet.Parts(ctx, app.Bucket(&w.config), p.Group, p.Version)
	if err != nil {
		return err
	}
	c.reasons = map[string]int64{}
	var wg sync.WaitGroup
	errs := make([]error, partitions)
	for partition := range int32(partitions) {
		wg.Go(func() {
			records, err := w.records(ctx, kafka.TP{Topic: st.topic, Partition: partition})
			if err != nil {
				errs[partition] = err
				return
			}
			h, err := group.Admit(records, func(id int32) []byte {
				if id == w.ids[st.topic] {
					return schema
				}
				return nil
			})
			if err != nil {
				errs[partition] = fmt.Errorf("oracle: %w", err)
				return
			}
			c.count(h)
			m := matcher{c: c, plan: p, h: h, expected: map[string]*expected{}, logDir: w.config.LogDir()}
			errs[partition] = m.all(ctx, ofPartition(parts, partition))
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (c *comparison) count(h *oracle.History) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, v := range h.Verdicts {
		c.reasons[v.Reason]++
	}
}

// records reads a whole partition.
func (w *world) records(ctx context.Context, tp kafka.TP) ([]oracle.Record, error) {
	r, err := kafka.NewReader(w.config.Kafka, w.log, nil)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	r.Add(tp, 0)
	var records []oracle.Record
	for {
		fetches, err := r.Poll(ctx)
		if err != nil {
			return nil, err
		}
		for _, f := range fetches {
			if f.Err != nil {
				return nil, fmt.Errorf("read %s/%d: %w", tp.Topic, tp.Partition, f.Err)
			}
			for _, rec := range f.Records {
				records = append(records, oracle.Record{Offset: rec.Offset, Timestamp: rec.Timestamp, Key: rec.Key, Value: rec.Value, Partition: tp.Partition, Partitions: partitions})
			}
			if f.Next >= f.End {
				return records, nil
			}
		}
	}
}

// ofPartition are the parts of a partition in the order in which they were made, so that an entity's rows come in theirs.
func ofPartition(parts []parquet.Part, partition int32) []parquet.Part {
	prefix := fmt.Sprintf("%05d-", partition)
	mine := slices.DeleteFunc(slices.Clone(parts), func(p parquet.Part) bool { return !strings.HasPrefix(path.Base(p.Name), prefix) })
	slices.SortFunc(mine, func(a, b parquet.Part) int { return strings.Compare(path.Base(a.Name), path.Base(b.Name)) })
	return mine
}

// matcher compares the rows of one partition.
type matcher struct {
	c        *comparison
	plan     *feature.Plan
	h        *oracle.History
	expected map[string]*expected
	logDir   string
	text     []byte // scratch
}

// expected are the rows an entity should have, made one by one.
type expected struct {
	next func() (*oracle.Row, bool)
	stop func()
}

func (m *matcher) all(ctx context.Context, parts []parquet.Part) (err error) {
	for _, entity := range m.h.Entities() {
		e := &expected{}
		e.next, e.stop = iter.Pull(m.rowsOf(entity, &err))
		defer e.stop()
		m.expected[entity] = e
	}
	take := m.row
	if m.c.spoil != nil {
		take = func(r *sink.Row) error { return m.c.spoil(m, r) }
	}
	for _, p := range parts {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		r, err := parquet.OpenPart(sink.OS, filepath.Join(m.logDir, strings.TrimPrefix(p.Name, "log/")), p)
		if err != nil {
			return err
		}
		if err := errors.Join(r.Rows(take), r.Close()); err != nil {
			return err
		}
	}
	for _, entity := range slices.Sorted(maps.Keys(m.expected)) {
		for {
			row, more := m.expected[entity].next()
			if !more {
				break
			}
			m.c.mismatch(1, "%s: the row as of %s is not in the log", entity, show.Instant(row.AsOf))
		}
	}
	return err
}

var errStop = errors.New("stop")

// rowsOf is the oracle's RowsOf as an iterator.
func (m *matcher) rowsOf(entity string, failure *error) iter.Seq[*oracle.Row] {
	return func(yield func(*oracle.Row) bool) {
		err := m.h.RowsOf(entity, func(r *oracle.Row) error {
			if !yield(r) {
				return errStop
			}
			return nil
		})
		if err != nil && !errors.Is(err, errStop) {
			*failure = errors.Join(*failure, err)
		}
	}
}

// row compares one row of the log with the next one that its entity should have.
func (m *matcher) row(r *sink.Row) error {
	m.c.rows.Add(1)
	m.c.values.Add(int64(len(r.Values)))
	e, known := m.expected[string(r.Entity)]
	if !known {
		m.c.mismatch(1, "%s: a row as of %s, and no event of it was accepted", r.Entity, show.Instant(r.Version.AsOf))
		return nil
	}
	want, more := e.next()
	switch {
	case !more:
		m.c.mismatch(1, "%s: the row as of %s is one too many", r.Entity, show.Instant(r.Version.AsOf))
		return nil
	case want.AsOf != r.Version.AsOf || want.Offset != r.Version.Offset || want.ValidUntil != r.ValidUntil:
		m.c.mismatch(1, "%s: the row is as of %d, of offset %d, valid until %d; the oracle's is as of %d, of offset %d, valid until %d", r.Entity,
			r.Version.AsOf, r.Version.Offset, r.ValidUntil, want.AsOf, want.Offset, want.ValidUntil)
	}
	for i, v := range r.Values {
		w := want.Values[i]
		m.text = m.text[:0]
		if !v.IsNull() {
			m.text = sink.AppendText(m.text, v, m.plan.Features[i].Type)
		}
		if v.IsNull() != w.Null || string(m.text) != w.Text {
			m.c.mismatch(1, "%s as of %s: %s is %s; the oracle says %s", r.Entity, show.Instant(r.Version.AsOf), m.plan.Features[i].Name,
				told(string(m.text), v.IsNull()), told(w.Text, w.Null))
		}
	}
	return nil
}

func told(text string, null bool) string {
	if null {
		return show.Null
	}
	return show.Untyped(text)
}
