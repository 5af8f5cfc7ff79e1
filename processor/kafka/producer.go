package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// ByKey, as a partition, leaves the choice to the record's key: Murmur2Partition, and in turn for records without a key.
const ByKey int32 = -1

// Producer writes records, idempotently and acknowledged by all in-sync replicas. A partition's records are written in the order they are
// given. Its methods may be called from any goroutine.
type Producer struct {
	cl      *kgo.Client
	metrics *Metrics
}

// NewProducer returns a Producer. It connects when it is first used. metrics may be nil.
func NewProducer(cfg Config, log *slog.Logger, metrics *Metrics) (*Producer, error) {
	cl, err := cfg.client(log,
		kgo.RecordPartitioner(kgo.BasicConsistentPartitioner(partitioner)),
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.MaxBufferedBytes(cfg.ProducerBufferBytes),
		kgo.MaxBufferedRecords(1<<20), // bytes are the limit
		// No RecordDeliveryTimeout: it counts from the record's own timestamp, so that all of history would be too old to write. The
		// callers' contexts bound the waiting instead, whatever state a record is in.
		kgo.AllowIdempotentProduceCancellation(),
		kgo.ProducerLinger(5*time.Millisecond),
	)
	if err != nil {
		return nil, err
	}
	return &Producer{cl, metrics}, nil
}

func partitioner(string) func(*kgo.Record, int) int {
	var turn atomic.Uint32
	return func(r *kgo.Record, n int) int {
		switch {
		case r.Partition >= 0:
			return int(r.Partition) // beyond the topic's partitions the client refuses the record
		case r.Key == nil:
			return int(turn.Add(1) % uint32(n))
		default:
			return int(Murmur2Partition(r.Key, int32(n)))
		}
	}
}

// Produce writes records to a partition, or each to the one of its key ([ByKey]), and returns when all are acknowledged or have failed.
// Unless ctx ends it, it tries for ever; a record whose acknowledgement was lost may then have been written. The records' Offset is ignored; a Timestamp of 0 is now.
func (p *Producer) Produce(ctx context.Context, topic string, records []Record, partition int32) error {
	var wg sync.WaitGroup
	var mu sync.Mutex
	var first error
	failed := 0
	wg.Add(len(records))
	for i := range records {
		p.Send(ctx, topic, records[i], partition, func(err error) {
			if err != nil {
				mu.Lock()
				if failed++; first == nil {
					first = err
				}
				mu.Unlock()
			}
			wg.Done()
		})
	}
	wg.Wait()
	if first != nil {
		return fmt.Errorf("%d of %d records: %w", failed, len(records), first)
	}
	return nil
}

// Send is Produce without waiting: done is called once, from another goroutine, in the order of the partition, when the record is
// acknowledged or has failed. It must be quick. Send itself waits while Config.ProducerBufferBytes are unacknowledged. The record's
// bytes must not change until done.
func (p *Producer) Send(ctx context.Context, topic string, r Record, partition int32, done func(error)) {
	k := &kgo.Record{Topic: topic, Partition: partition, Key: r.Key, Value: r.Value}
	if r.Timestamp != 0 {
		k.Timestamp = time.UnixMilli(r.Timestamp)
	}
	for _, h := range r.Headers {
		k.Headers = append(k.Headers, kgo.RecordHeader(h))
	}
	p.cl.Produce(ctx, k, func(_ *kgo.Record, err error) {
		if p.metrics != nil {
			if err == nil {
				p.metrics.Produced.Inc()
			} else {
				p.metrics.ProduceErrors.Inc()
			}
		}
		if err != nil {
			err = produceError(topic, err)
		}
		done(err)
	})
}

func produceError(topic string, err error) error {
	if errors.Is(err, kgo.ErrClientClosed) {
		err = ErrClosed
	}
	return fmt.Errorf("write to topic %s: %w", topic, err)
}

// Flush waits until all that was sent is acknowledged or has failed.
func (p *Producer) Flush(ctx context.Context) error { return p.cl.Flush(ctx) }

// Close closes the connections. What is not acknowledged fails with ErrClosed.
func (p *Producer) Close() { p.cl.Close() }
