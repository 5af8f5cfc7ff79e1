package processor

import (
	"sync"

	"github.com/freshet-dev/freshet/processor/kafka"
)

// Source is where a shard's records come from: *kafka.Reader, or a file in a replay.
type Source interface {
	Add(tp kafka.TP, offset int64)
	Remove(tp kafka.TP)
	Pause(tp kafka.TP)
	Resume(tp kafka.TP)
}

// feed is the queue of fetches between a source and a shard. The source's goroutine offers, the shard's takes. Past its limit in bytes the
// partition is paused, so it holds one fetch more than the limit at most.
type feed struct {
	src   Source
	tp    kafka.TP
	limit int
	wake  chan struct{} // has a token when there may be something new

	mu      sync.Mutex
	fetches []kafka.Fetch
	bytes   int
	paused  bool
}

func newFeed(src Source, tp kafka.TP, limit int) *feed {
	return &feed{src: src, tp: tp, limit: limit, wake: make(chan struct{}, 1)}
}

func fetchBytes(f *kafka.Fetch) int {
	n := 0
	for i := range f.Records {
		n += len(f.Records[i].Key) + len(f.Records[i].Value) + 96
	}
	return n
}

func (f *feed) offer(x kafka.Fetch) {
	f.mu.Lock()
	f.fetches = append(f.fetches, x)
	f.bytes += fetchBytes(&x)
	if f.bytes > f.limit && !f.paused {
		f.paused = true
		f.src.Pause(f.tp)
	}
	f.mu.Unlock()
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

func (f *feed) take() (x kafka.Fetch, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.fetches) == 0 {
		return x, false
	}
	x = f.fetches[0]
	f.fetches[0] = kafka.Fetch{}
	f.fetches = f.fetches[1:]
	f.bytes -= fetchBytes(&x)
	if f.paused && f.bytes < f.limit/2 {
		f.paused = false
		f.src.Resume(f.tp)
	}
	return x, true
}

func (f *feed) empty() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.fetches) == 0
}
