package processor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/freshet-dev/freshet/schemas"
	"github.com/freshet-dev/freshet/sink"
	"github.com/freshet-dev/freshet/sink/parquet"
	"github.com/freshet-dev/freshet/sink/redis"
)

// ErrSplitEntity ends a shard: one of its entities was written from another partition.
var ErrSplitEntity = errors.New("split entity: an entity's values in Redis come from another partition of the topic; all its producers must use the partitioner that `source.partitioner` names")

// Online is the online store as one shard sees it: *redis.Writer.
type Online interface {
	Write(ctx context.Context, rows []sink.Row, out []redis.Outcome) error
	Versions(ctx context.Context, entities [][]byte) ([]sink.Version, []bool, error)
	WriteProgress(ctx context.Context, p redis.Progress) error
	ReadProgress(ctx context.Context) (redis.Progress, bool, error)
}

// pipeline carries rows to the online store and, once it has acknowledged them, into the row segment. The shard's goroutine adds rows; the
// pipeline's own goroutine sends them, in order, one pipeline at a time. While the store is slow or away the queue fills to its limit:
// first each entity keeps only its newest waiting row, then add blocks, and the shard with it.
type pipeline struct {
	online   Online
	log      *slog.Logger
	m        *shardMetrics
	features int
	limit    int // bytes of queued rows
	rows     int // rows a pipeline
	now      func() time.Time

	mu        sync.Mutex
	cond      *sync.Cond
	queue     []*chunk          // guarded by mu; the last one is being filled
	queued    int               // bytes; guarded by mu
	unacked   int               // rows queued or in flight; guarded by mu
	newest    map[string]uint64 // entity → number of its newest queued row, while the queue is long; guarded by mu
	number    uint64            // of the last row added; guarded by mu
	err       error             // guarded by mu: why it ended
	closed    bool              // guarded by mu
	available int64             // µs, the last given; guarded by mu, moved by run
	acked     sink.Version      // of the last row acknowledged; guarded by mu

	troubled atomic.Bool // the online store does not take writes

	written atomic.Int64 // bytes of seg, as of the last row acknowledged

	done chan struct{}    // closed when run has ended
	seg  *parquet.Segment // used by run while rows are unacknowledged, by the shard while none is
}

// chunk holds encoded rows.
type chunk struct {
	buf  []byte
	rows []queuedRow
}

type queuedRow struct {
	start, end int
	number     uint64
	published  int64 // ms
	log        bool
}

const chunkRows = 256

func newPipeline(p *pipeline) *pipeline {
	p.cond = sync.NewCond(&p.mu)
	p.newest = map[string]uint64{}
	p.done = make(chan struct{})
	return p
}

// add queues a row; log says whether it makes a row of the log too. It blocks while the queue is full.
func (p *pipeline) add(r *sink.Row, published int64, log bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.queued >= p.limit && p.err == nil && !p.closed {
		p.cond.Wait()
	}
	if p.err != nil {
		return p.err
	}
	if p.closed {
		return errStopped
	}
	var c *chunk
	if n := len(p.queue); n > 0 && len(p.queue[n-1].rows) < chunkRows {
		c = p.queue[n-1]
	} else {
		c = &chunk{}
		p.queue = append(p.queue, c)
	}
	start := len(c.buf)
	c.buf = sink.AppendRow(c.buf, r)
	p.number++
	c.rows = append(c.rows, queuedRow{start, len(c.buf), p.number, published, log})
	p.queued += len(c.buf) - start
	p.unacked++
	if log && p.queued > p.limit/4 { // a row that makes no log row must not take the place of one that does
		p.newest[string(r.Entity)] = p.number
	}
	if p.unacked == 1 {
		p.cond.Broadcast()
	}
	return nil
}

// idle reports whether every row is acknowledged, or waits until it is so, at most for the given time (0: does not wait).
func (p *pipeline) idle(ctx context.Context, wait time.Duration) (bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if wait > 0 {
		stop := context.AfterFunc(ctx, p.cond.Broadcast)
		timer := time.AfterFunc(wait, func() { p.mu.Lock(); wait = 0; p.mu.Unlock(); p.cond.Broadcast() })
		defer stop()
		defer timer.Stop()
		for p.unacked > 0 && p.err == nil && wait > 0 && ctx.Err() == nil {
			p.cond.Wait()
		}
	}
	return p.unacked == 0, p.err
}

// backlog returns the rows that are not acknowledged, and the bytes queued.
func (p *pipeline) backlog() (rows, bytes int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.unacked, p.queued
}

// newestAcked returns the version of the last row acknowledged. Rows are sent in order: all before it are in the store.
func (p *pipeline) newestAcked() sink.Version {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.acked
}

// clock returns the last available_at given, in µs.
func (p *pipeline) clock() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.available
}

// stop ends run once it has sent what it is sending. Rows still queued are dropped: the next owner makes them again.
func (p *pipeline) stop() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.cond.Broadcast()
}

// run sends rows until stop, an error that no retry mends, or the end of ctx.
func (p *pipeline) run(ctx context.Context) {
	defer close(p.done)
	stop := context.AfterFunc(ctx, p.stop)
	defer stop()
	var b sendBatch
	for p.take(&b) {
		if err := p.send(ctx, &b); err != nil {
			p.mu.Lock()
			p.err = err
			p.mu.Unlock()
			p.cond.Broadcast()
			return
		}
		p.mu.Lock()
		p.unacked -= b.taken
		p.mu.Unlock()
		p.cond.Broadcast()
	}
}

// failure is why run ended, if it did not end well.
func (p *pipeline) failure() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// setClock sees to it that the next available_at is later than at, in µs.
func (p *pipeline) setClock(at int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.available = max(p.available, at)
}

// sendBatch is what one pipeline sends: rows[:logged] make log rows.
type sendBatch struct {
	chunks    []*chunk
	rows      []sink.Row
	log       []bool
	published []int64 // ms
	values    []schemas.Value
	out       []redis.Outcome
	available []int64
	taken     int // rows taken from the queue, superseded ones included
}

// take waits for rows and moves the oldest whole chunks of them, about p.rows rows, into b, without those that a newer one supersedes.
func (p *pipeline) take(b *sendBatch) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.queue) == 0 && !p.closed {
		p.cond.Wait()
	}
	if p.closed {
		return false
	}
	b.chunks, b.rows, b.log, b.published, b.values, b.taken = b.chunks[:0], b.rows[:0], b.log[:0], b.published[:0], b.values[:0], 0
	for len(p.queue) > 0 && len(b.rows) < p.rows {
		c := p.queue[0]
		p.queue = p.queue[1:]
		p.queued -= len(c.buf)
		b.chunks = append(b.chunks, c)
		for _, q := range c.rows {
			b.taken++
			row := sink.Row{}
			if err := b.decode(c.buf[q.start:q.end], &row, p.features); err != nil {
				panic(fmt.Sprintf("a queued row does not decode: %v", err))
			}
			if len(p.newest) > 0 {
				if n, ok := p.newest[string(row.Entity)]; ok && n > q.number {
					b.values = b.values[:len(b.values)-p.features]
					p.m.coalesced.Inc()
					continue
				} else if ok {
					delete(p.newest, string(row.Entity))
				}
			}
			b.rows, b.log, b.published = append(b.rows, row), append(b.log, q.log), append(b.published, q.published)
		}
	}
	p.cond.Broadcast()
	return true
}

func (b *sendBatch) decode(buf []byte, row *sink.Row, features int) error {
	n := len(b.values)
	if cap(b.values) < n+features {
		b.values = make([]schemas.Value, 0, max(2*cap(b.values), 64*features)) // rows decoded before keep the old array
		n = 0
	}
	b.values = b.values[:n+features]
	row.Values = b.values[n : n : n+features]
	_, err := sink.DecodeRow(buf, row, features)
	return err
}

// send writes b to the segment as sent, to the online store until it takes it, and to the segment as acknowledged.
func (p *pipeline) send(ctx context.Context, b *sendBatch) error {
	if len(b.rows) == 0 {
		return nil
	}
	logged := b.logged()
	first, err := p.seg.Sent(logged)
	if err != nil {
		return fmt.Errorf("append to the row segment: %w", err)
	}
	b.out = append(b.out[:0], make([]redis.Outcome, len(b.rows))...)
	if err := p.write(ctx, b); err != nil {
		return err
	}
	now := p.now().UnixMicro()
	p.mu.Lock()
	defer p.mu.Unlock()
	if last := len(b.rows) - 1; b.log[last] { // rows of a refill are older
		p.acked = b.rows[last].Version
	}
	b.available = b.available[:0]
	for i := range b.rows {
		p.m.outcome(b.out[i])
		if b.out[i] == redis.Split {
			return fmt.Errorf("entity %q: %w", b.rows[i].Entity, ErrSplitEntity)
		}
		if !b.log[i] {
			continue
		}
		at := int64(0)
		if b.out[i] != redis.Stale {
			p.available = max(p.available+1, now)
			at = p.available
		}
		b.available = append(b.available, at)
	}
	if len(logged) == 0 {
		return nil
	}
	if err := p.seg.Acked(first, b.available); err != nil {
		return fmt.Errorf("append to the row segment: %w", err)
	}
	p.written.Store(p.seg.Len())
	return nil
}

func (b *sendBatch) logged() []sink.Row {
	all := true
	for _, l := range b.log {
		all = all && l
	}
	if all {
		return b.rows
	}
	var rows []sink.Row
	for i, l := range b.log {
		if l {
			rows = append(rows, b.rows[i])
		}
	}
	return rows
}

// write retries for as long as the online store is away: nothing is dropped.
func (p *pipeline) write(ctx context.Context, b *sendBatch) error {
	wait := newBackoff()
	for {
		err := p.online.Write(ctx, b.rows, b.out)
		if err == nil {
			p.m.freshness(b, p.now())
			p.troubled.Store(false)
			wait.recovered(p.log, "redis takes writes again")
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		p.troubled.Store(true)
		p.m.redisErrors.Inc()
		if err := wait.sleep(ctx, p.log, "redis does not take writes; rows wait", err); err != nil {
			return err
		}
	}
}

// backoff waits 50 ms, doubling to 5 s, and says once that it waits and once that it need not any more.
type backoff struct {
	next  time.Duration
	since time.Time
}

func newBackoff() *backoff { return &backoff{next: 50 * time.Millisecond} }

func (b *backoff) sleep(ctx context.Context, log *slog.Logger, what string, err error) error {
	if b.since.IsZero() {
		b.since = time.Now()
		log.Warn(what, "err", err)
	}
	t := time.NewTimer(b.next)
	defer t.Stop()
	b.next = min(2*b.next, 5*time.Second)
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (b *backoff) recovered(log *slog.Logger, what string) {
	if !b.since.IsZero() {
		log.Info(what, "after", time.Since(b.since).Round(time.Millisecond))
	}
}
