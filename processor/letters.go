package processor

import (
	"context"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/freshet-dev/freshet/processor/kafka"
)

// deadLetters carries refused records to the dead-letter topic, at least once: a checkpoint waits until they are acknowledged. The shard's
// goroutine adds; one goroutine of its own sends while there is something to send.
type deadLetters struct {
	broker  Broker
	topic   string // of the shard
	log     *slog.Logger
	ctx     context.Context
	headers []kafka.Header // group, version, topic, partition
	limit   int            // bytes
	onSent  func(n int)

	mu      sync.Mutex
	cond    *sync.Cond
	queue   []kafka.Record // guarded by mu
	bytes   int            // queued or in flight; guarded by mu
	pending int            // records queued or in flight; guarded by mu
	wg      sync.WaitGroup // of send
	sending bool           // guarded by mu
}

func (d *deadLetters) start(ctx context.Context) {
	d.ctx, d.cond = ctx, sync.NewCond(&d.mu)
	context.AfterFunc(ctx, d.cond.Broadcast)
}

// add queues a copy of the record. It blocks while the queue is full.
func (d *deadLetters) add(rec *kafka.Record, why Reason) error {
	h := append(append([]kafka.Header(nil), rec.Headers...), d.headers...)
	h = append(h, kafka.Header{Key: "freshet-offset", Value: strconv.AppendInt(nil, rec.Offset, 10)},
		kafka.Header{Key: "freshet-reason", Value: []byte(why.String())})
	d.mu.Lock()
	defer d.mu.Unlock()
	for d.bytes > d.limit && d.ctx.Err() == nil {
		d.cond.Wait()
	}
	if d.ctx.Err() != nil {
		return d.ctx.Err()
	}
	d.queue = append(d.queue, kafka.Record{Timestamp: rec.Timestamp, Key: rec.Key, Value: rec.Value, Headers: h})
	d.bytes += len(rec.Key) + len(rec.Value)
	d.pending++
	if !d.sending {
		d.sending = true
		d.wg.Go(d.send) // ends when the queue is empty, or with ctx
	}
	return nil
}

func (d *deadLetters) send() {
	wait := newBackoff()
	for {
		d.mu.Lock()
		batch := d.queue
		d.queue = nil
		if len(batch) == 0 {
			d.sending = false
			d.mu.Unlock()
			d.cond.Broadcast()
			return
		}
		d.mu.Unlock()
		for {
			err := d.broker.DeadLetter(d.ctx, d.topic, batch)
			if err == nil {
				wait.recovered(d.log, "the dead-letter topic takes records again")
				break
			}
			if wait.sleep(d.ctx, d.log, "the dead-letter topic does not take records; they wait", err) != nil {
				d.mu.Lock()
				d.sending = false
				d.mu.Unlock()
				d.cond.Broadcast()
				return
			}
		}
		d.onSent(len(batch))
		d.mu.Lock()
		d.pending -= len(batch)
		for i := range batch {
			d.bytes -= len(batch[i].Key) + len(batch[i].Value)
		}
		d.mu.Unlock()
		d.cond.Broadcast()
	}
}

// flush waits until all are acknowledged, at most for the given time.
func (d *deadLetters) flush(ctx context.Context, wait time.Duration) (bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	over := false
	timer := time.AfterFunc(wait, func() { d.mu.Lock(); over = true; d.mu.Unlock(); d.cond.Broadcast() })
	defer timer.Stop()
	stop := context.AfterFunc(ctx, d.cond.Broadcast)
	defer stop()
	for d.pending > 0 && !over && ctx.Err() == nil && d.ctx.Err() == nil {
		d.cond.Wait()
	}
	return d.pending == 0, ctx.Err()
}
