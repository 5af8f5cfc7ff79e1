package processor

import (
	"fmt"

	"github.com/freshet-dev/freshet/processor/kafka"
	"github.com/freshet-dev/freshet/schemas"
	"github.com/freshet-dev/freshet/sink"
)

const dayMs = 86_400_000

// The ways of a shard's rows. A shard has one of them at a time: history until the position its first manifest names, then live; recovery
// while it repeats what a former owner did.

// liveRows sends every row to the online store and the log.
type liveRows struct{ s *Shard }

// Row implements Rows.
func (l liveRows) Row(r *sink.Row, published int64) error {
	if r.Cause == sink.Decay { // nobody published it, and it waited for its tick: freshet_decay_lag_seconds tells how late those are
		published = unpublished
	}
	return l.s.pipe.add(r, published, true)
}

// Before implements Rows.
func (l liveRows) Before(int64, int64) bool { return false }

// Again implements Rows.
func (l liveRows) Again(*sink.Row) error { return nil }

// Refused implements Rows.
func (l liveRows) Refused(rec *kafka.Record, why Reason) error { return l.s.refuse(rec, why) }

// mutedRows makes no rows while records are replayed that a former owner had applied already: it notes which entities they touch.
type mutedRows struct{ s *Shard }

// Row implements Rows.
func (m mutedRows) Row(r *sink.Row, _ int64) error {
	m.s.touched[string(r.Entity)] = struct{}{}
	return nil
}

// Before implements Rows.
func (m mutedRows) Before(int64, int64) bool { return false }

// Again implements Rows.
func (m mutedRows) Again(*sink.Row) error { return nil }

// Refused implements Rows: dead letters are delivered at least once.
func (m mutedRows) Refused(rec *kafka.Record, why Reason) error { return m.s.refuse(rec, why) }

// historyRows writes rows to the log alone, as if they had been served the freshness SLA after their as-of, but not after the start of
// the version. They are made again, the same, if the shard stops before a manifest covers them.
type historyRows struct {
	s     *Shard
	mode  string // rows; daily: only an entity's last row of each UTC day of its as-of; none
	buf   []sink.Row
	bytes []byte
	vals  []schemas.Value
}

const historyFlushRows = 512

// Row implements Rows.
func (h *historyRows) Row(r *sink.Row, _ int64) error {
	if h.mode != "rows" {
		return nil
	}
	return h.write(r)
}

// Before implements Rows: with `daily` a row becomes the last of its day when the entity changes on a later one, or ends.
func (h *historyRows) Before(lastAsOf, asOf int64) bool {
	return h.mode == "daily" && lastAsOf/dayMs < asOf/dayMs
}

// Again implements Rows.
func (h *historyRows) Again(r *sink.Row) error { return h.write(r) }

func (h *historyRows) write(r *sink.Row) error {
	s := h.s
	at := min(r.Version.AsOf+s.plan.Freshness, s.boot.Start) * 1000
	if h.mode == "rows" || at == s.boot.Start*1000 { // daily rows are told late, but an entity's days rise by themselves, up to the start
		at = max(s.step.meta.Available+1, at)
	}
	s.step.meta.Available = max(s.step.meta.Available, at)
	c := *r
	c.AvailableAt, c.Cause = at, sink.Backfill
	c.Entity = h.keep(r.Entity)
	n := len(h.vals)
	for _, v := range r.Values {
		v.Bytes = h.keep(v.Bytes)
		h.vals = append(h.vals, v)
	}
	c.Values = h.vals[n:len(h.vals):len(h.vals)]
	h.buf = append(h.buf, c)
	if len(h.buf) >= historyFlushRows {
		return h.flush()
	}
	return nil
}

func (h *historyRows) keep(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	n := len(h.bytes)
	h.bytes = append(h.bytes, b...)
	return h.bytes[n:len(h.bytes):len(h.bytes)]
}

func (h *historyRows) flush() error {
	if len(h.buf) == 0 {
		return nil
	}
	if err := h.s.seg.Rows(h.buf); err != nil {
		return fmt.Errorf("append to the row segment: %w", err)
	}
	h.s.m.rows.Add(float64(len(h.buf)))
	h.buf, h.bytes, h.vals = h.buf[:0], h.bytes[:0], h.vals[:0]
	return nil
}

// Refused implements Rows.
func (h *historyRows) Refused(rec *kafka.Record, why Reason) error { return h.s.refuse(rec, why) }

// flood notices when more than half of the last 1,000 records are undecodable or invalid.
type flood struct {
	bad   [1000 / 8]byte
	n     int // records seen, up to 1,000
	at    int
	count int
}

func (f *flood) add(bad bool) (flooded bool) {
	i, bit := f.at/8, byte(1)<<(f.at%8)
	if f.bad[i]&bit != 0 {
		f.bad[i] &^= bit
		f.count--
	}
	if bad {
		f.bad[i] |= bit
		f.count++
	}
	f.at = (f.at + 1) % 1000
	f.n = min(f.n+1, 1000)
	return f.n == 1000 && f.count > 500
}
