package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/twmb/franz-go/pkg/kgo"
)

// load publishes purchases that happen as they are published: each to the broker at once, whatever becomes of them (an open loop). Some of
// them are probes, at fixed intervals: a reader polls Redis until it sees them there.
type load struct {
	client *kgo.Client
	rdb    *goredis.Client
	shop   *shop
	rng    *rand.Rand
	users  int
	failed atomic.Pointer[error]

	mu      sync.Mutex
	pending []probe   // guarded by mu; oldest first
	seen    []sighted // guarded by mu
}

// probe is an event that the reader waits for.
type probe struct {
	user string
	time int64     // ms, of the event
	sent time.Time // when it was handed to the client
}

type sighted struct {
	sent time.Time
	took time.Duration
}

const (
	probeEvery = 5 * time.Millisecond
	pollEvery  = 500 * time.Microsecond
	maxPolled  = 256 // probes in one poll
)

func newLoad(broker, redis string, users int) (*load, error) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(broker), kgo.DefaultProduceTopic("purchases"), kgo.ProducerLinger(0), kgo.MaxBufferedRecords(1<<20),
		kgo.ProducerBatchCompression(kgo.Lz4Compression()))
	if err != nil {
		return nil, err
	}
	return &load{client: cl, rdb: goredis.NewClient(&goredis.Options{Addr: redis, DisableIdentity: true}), shop: newShop(3), rng: newShop(4).rng, users: users}, nil
}

func (l *load) close() error {
	l.client.Close()
	return l.rdb.Close()
}

// publish hands one purchase to the client, as published at a time.
func (l *load) publish(ctx context.Context, p purchase, at time.Time) {
	r := &kgo.Record{Key: []byte(userID(p.user)), Value: l.shop.append(make([]byte, 0, 192), p), Timestamp: at}
	l.client.Produce(ctx, r, func(_ *kgo.Record, err error) {
		if err != nil && ctx.Err() == nil {
			l.failed.CompareAndSwap(nil, &err)
		}
	})
}

// history publishes n purchases of the 100 days before now.
func (l *load) history(ctx context.Context, n int) error {
	const span = int64(100 * 24 * time.Hour / time.Millisecond)
	from := time.Now().UnixMilli() - span
	for i := range n {
		at := from + int64(float64(i)/float64(n)*float64(span))
		l.publish(ctx, l.shop.next(l.rng.IntN(l.users), at), time.UnixMilli(at))
	}
	return l.flush(ctx)
}

func (l *load) flush(ctx context.Context) error {
	if err := l.client.Flush(ctx); err != nil {
		return err
	}
	if err := l.failed.Load(); err != nil {
		return fmt.Errorf("publish: %w", *err)
	}
	return nil
}

// burst publishes n purchases as fast as the broker takes them, then some probes, and returns how long it took until all of these are
// readable: since a partition is worked off in order, so is all before them.
func (l *load) burst(ctx context.Context, n int) (time.Duration, error) {
	began := time.Now()
	for range n {
		now := time.Now()
		l.publish(ctx, l.shop.next(l.rng.IntN(l.users), now.UnixMilli()), now)
	}
	if err := l.flush(ctx); err != nil {
		return 0, err
	}
	for range 8 * partitions {
		l.probe(ctx)
	}
	return time.Since(began), l.settle(ctx, func(oldest time.Duration) bool { return oldest == 0 })
}

// probe publishes a purchase that the reader waits for.
func (l *load) probe(ctx context.Context) {
	now := time.Now()
	p := l.shop.next(l.rng.IntN(l.users), now.UnixMilli())
	p.cancelled = false // it would be filtered
	l.mu.Lock()
	l.pending = append(l.pending, probe{userID(p.user), p.time, now})
	l.mu.Unlock()
	l.publish(ctx, p, now)
}

// run publishes at a rate, in events a second, until ctx ends. It returns how late the generator itself was at most.
func (l *load) run(ctx context.Context, rate float64) (late time.Duration) {
	began, sent, probed := time.Now(), 0, 0
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return late
		case <-tick.C:
		}
		elapsed := time.Since(began)
		due := int(elapsed.Seconds() * rate)
		if due > sent {
			late = max(late, elapsed-time.Duration(float64(sent+1)/rate*1e9))
		}
		for ; sent < due; sent++ {
			if time.Duration(probed)*probeEvery <= elapsed {
				probed++
				l.probe(ctx)
				continue
			}
			now := time.Now()
			at := now.UnixMilli()
			if l.rng.IntN(20) == 0 {
				at -= l.rng.Int64N(60_000) // one in twenty comes late
			}
			l.publish(ctx, l.shop.next(l.rng.IntN(l.users), at), now)
		}
	}
}

// read polls for the pending probes until ctx ends. A probe is seen when the last purchase of its shopper that Redis tells of is not older.
func (l *load) read(ctx context.Context) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		l.mu.Lock()
		asked := slices.Clone(l.pending[:min(len(l.pending), maxPolled)])
		l.mu.Unlock()
		if len(asked) == 0 {
			continue
		}
		pipe := l.rdb.Pipeline()
		for _, p := range asked {
			pipe.HGet(ctx, "features:user_purchases:v1:"+p.user, "last_purchase_at")
		}
		answers, err := pipe.Exec(ctx)
		if err != nil && err != goredis.Nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("poll redis: %w", err)
		}
		now := time.Now()
		l.mu.Lock()
		left := l.pending[:0]
		for i, p := range l.pending {
			if i < len(asked) && newer(answers[i].(*goredis.StringCmd).Val(), p.time) {
				l.seen = append(l.seen, sighted{p.sent, now.Sub(p.sent)})
			} else {
				left = append(left, p)
			}
		}
		l.pending = left
		l.mu.Unlock()
	}
}

func newer(text string, than int64) bool {
	at, err := strconv.ParseInt(text, 10, 64)
	return err == nil && at >= than
}

// settle waits until ok says that the age of the oldest pending probe is good; it is 0 if none is pending.
func (l *load) settle(ctx context.Context, ok func(oldest time.Duration) bool) error {
	for {
		l.mu.Lock()
		var oldest time.Duration
		if len(l.pending) > 0 {
			oldest = time.Since(l.pending[0].sent)
		}
		l.mu.Unlock()
		if ok(oldest) {
			return nil
		}
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("events did not become readable, the oldest for %.1f s: %w", oldest.Seconds(), ctx.Err())
		}
	}
}

// sightings returns the latencies of the probes sent since, sorted.
func (l *load) sightings(since time.Time) []time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	var took []time.Duration
	for _, s := range l.seen {
		if s.sent.After(since) {
			took = append(took, s.took)
		}
	}
	slices.Sort(took)
	return took
}
