package shop

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/freshet-dev/freshet/processor/kafka"
	"github.com/freshet-dev/freshet/schemas/event"
)

// Publisher writes a shop's events to Kafka, each no earlier than its publishing time: what is past as fast as it goes, the rest live.
type Publisher struct {
	Shop     *Shop
	Producer *kafka.Producer
	Encoders map[string]*event.Encoder // by topic
	Skip     func(Event) bool          // true for an event that is there already, from an earlier run of the same stream; may be nil
	Live     func()                    // called once, when all of the past is acknowledged; may be nil

	published atomic.Int64
	failure   atomic.Pointer[error]
}

// Published returns how many records are acknowledged. It may be called at any time from any goroutine.
func (p *Publisher) Published() int64 { return p.published.Load() }

// Run publishes until ctx ends, then returns nil, or until a record could not be written.
func (p *Publisher) Run(ctx context.Context) error {
	for behind := true; ; {
		e := p.Shop.Next()
		if wait := time.Until(time.UnixMilli(e.PublishTime)); wait > 0 {
			if behind {
				behind = false
				if err := p.caughtUp(ctx); err != nil {
					return err
				}
			}
			select {
			case <-time.After(wait):
			case <-ctx.Done():
			}
		}
		if ctx.Err() != nil {
			return nil
		}
		if err := p.failure.Load(); err != nil {
			return *err
		}
		if p.Skip != nil && p.Skip(e) {
			continue
		}
		if err := p.send(ctx, e); err != nil {
			return err
		}
	}
}

func (p *Publisher) caughtUp(ctx context.Context) error {
	if err := p.Producer.Flush(ctx); err != nil && ctx.Err() == nil {
		return fmt.Errorf("publish history: %w", err)
	}
	if p.Live != nil && ctx.Err() == nil {
		p.Live()
	}
	return nil
}

func (p *Publisher) send(ctx context.Context, e Event) error {
	value := e.Raw
	if value == nil {
		enc := p.Encoders[e.Topic]
		if enc == nil {
			return fmt.Errorf("publish to %s: no encoder for it", e.Topic)
		}
		var err error
		if value, err = enc.Encode(nil, e.Fields); err != nil {
			return fmt.Errorf("encode a record for %s: %w", e.Topic, err)
		}
	}
	r := kafka.Record{Timestamp: e.PublishTime, Key: e.Key, Value: value}
	p.Producer.Send(ctx, e.Topic, r, kafka.ByKey, func(err error) {
		switch {
		case err == nil:
			p.published.Add(1)
		case ctx.Err() == nil:
			p.failure.CompareAndSwap(nil, &err)
		}
	})
	return nil
}
