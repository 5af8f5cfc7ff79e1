package kafka

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// TP is a partition of a topic.
type TP struct {
	Topic     string
	Partition int32
}

// Header is one header of a record.
type Header struct {
	Key   string
	Value []byte
}

// Record is one record of a partition. A null key or value is nil. Its bytes lie in the batch it came in: they stay valid as long as
// they are referenced, and keep the whole batch in memory for as long.
type Record struct {
	Offset    int64
	Timestamp int64 // ms since the epoch: the producer's, or the broker's where the topic has LogAppendTime; −1: none
	Key       []byte
	Value     []byte
	Headers   []Header
}

// Fetch is what became known about a partition: records, or that its position or its end moved, or an error. Where it is the first of a
// partition that stands at its end, it says just that.
type Fetch struct {
	TP       TP
	Records  []Record // in offset order
	From     int64    // the position before this fetch
	Next     int64    // the position after this fetch: past markers, aborted records and holes, even where Records is empty
	End      int64    // the last stable offset: Next == End means that the partition had nothing more; −1 unknown (with Err)
	LogStart int64    // the first offset there is; −1 unknown (with Err)
	Err      error    // one of the errors of this package; Next has not moved then
}

// Reader reads partitions from exact offsets, read-committed. Its methods may be called from any goroutine, Poll from one at a time.
// One goroutine a broker fetches, one looks up leaders; Close ends them.
type Reader struct {
	cfg     Config
	log     *slog.Logger
	metrics *Metrics
	cl      *kgo.Client
	dec     kgo.Decompressor

	ctx     context.Context // of the goroutines; canceled by Close
	cancel  context.CancelFunc
	wg      sync.WaitGroup
	ready   chan struct{} // has room for one: there may be something to poll
	resolve chan struct{} // has room for one: there may be a partition without a leader

	mu       sync.Mutex // guards what follows and all parts
	parts    map[TP]*part
	fetchers map[int32]*fetcher // by broker
	pending  []*part            // with something to poll (paused ones too)
	buffered int                // bytes of all parts
}

// part is one partition of a Reader. A partition that is removed and added again is another part, so what comes late for the old one
// is recognized. Guarded by Reader.mu.
type part struct {
	tp       TP
	topicID  [16]byte // zero until first looked up
	next     int64    // the offset to ask for next
	polled   int64    // the position after what was polled
	leader   int32    // −1: to be looked up
	paused   bool
	removed  bool
	retryAt  time.Time // after a failure
	failures int       // in a row
	queue    []Fetch   // not yet polled; of fetches without records only the last is kept
	buffered int       // bytes of queue
	pending  bool      // in Reader.pending
	lag      int64

	told               bool // the fields below are what the newest fetch in the queue, or polled, said
	toldNext           int64
	toldEnd, toldStart int64
}

// NewReader returns a Reader without partitions. It connects when there is one. metrics may be nil.
func NewReader(cfg Config, log *slog.Logger, metrics *Metrics) (*Reader, error) {
	cl, err := cfg.client(log)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &Reader{
		cfg: cfg, log: log, metrics: metrics, cl: cl,
		// The client's own, because only that one is bounded by MaxDecompressedBytes.
		dec: cl.OptValue(kgo.WithDecompressor).(kgo.Decompressor),
		ctx: ctx, cancel: cancel,
		ready: make(chan struct{}, 1), resolve: make(chan struct{}, 1),
		parts: map[TP]*part{}, fetchers: map[int32]*fetcher{},
	}
	r.wg.Go(r.resolveLoop)
	return r, nil
}

// Add starts reading tp at offset (≥ 0). A partition that is being read is put there instead. A topic that does not exist is an error of
// its fetches, and is read once it does. Up to Config.PartitionBufferBytes wait to be polled; one answer of the broker may go beyond.
func (r *Reader) Add(tp TP, offset int64) {
	p := &part{tp: tp, next: max(offset, 0), polled: max(offset, 0), leader: -1}
	r.mu.Lock()
	if old := r.parts[tp]; old != nil {
		p.paused, p.leader, p.topicID = old.paused, old.leader, old.topicID
		r.drop(old)
	}
	r.parts[tp] = p
	leader := p.leader
	r.mu.Unlock()
	if leader < 0 {
		signal(r.resolve)
	} else {
		r.wake(leader)
	}
}

// Remove stops reading tp. No Poll that begins later returns anything of it.
func (r *Reader) Remove(tp TP) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if p := r.parts[tp]; p != nil {
		r.drop(p)
	}
}

// drop forgets a part. r.mu is held.
func (r *Reader) drop(p *part) {
	p.removed = true
	delete(r.parts, p.tp)
	r.release(p)
	p.queue = nil
	r.setLag(p, 0)
}

// Pause stops fetching tp. What is fetched already is kept until it is resumed, unless half of Config.ReaderBufferBytes is in use: then it
// is fetched again, lest partitions that are paused for long take the room of the others.
func (r *Reader) Pause(tp TP) { r.setPaused(tp, true) }

// Resume is the opposite of Pause.
func (r *Reader) Resume(tp TP) { r.setPaused(tp, false) }

func (r *Reader) setPaused(tp TP, paused bool) {
	r.mu.Lock()
	p := r.parts[tp]
	if p == nil || p.paused == paused {
		r.mu.Unlock()
		return
	}
	p.paused = paused
	if paused && r.crowded() {
		r.release(p)
		p.queue, p.next, p.told = nil, p.polled, false
	}
	leader := p.leader
	r.mu.Unlock()
	if !paused {
		signal(r.ready)
		r.wake(leader)
	}
}

// crowded reports whether paused partitions must not hold more. r.mu is held.
func (r *Reader) crowded() bool { return r.buffered > r.cfg.ReaderBufferBytes/2 }

// Poll returns the fetches that have come since the last Poll, each partition's in order, and waits while there are none. It returns
// ctx's error, or ErrClosed.
func (r *Reader) Poll(ctx context.Context) ([]Fetch, error) {
	for {
		if r.ctx.Err() != nil {
			return nil, ErrClosed
		}
		if fetches := r.take(); len(fetches) > 0 {
			return fetches, nil
		}
		select {
		case <-r.ready:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-r.ctx.Done():
		}
	}
}

// take empties the queues of the partitions that are not paused.
func (r *Reader) take() []Fetch {
	r.mu.Lock()
	full := r.buffered >= r.cfg.ReaderBufferBytes
	var fetches []Fetch
	var wake []int32
	kept := r.pending[:0]
	for _, p := range r.pending {
		switch {
		case p.removed:
			continue
		case p.paused:
			kept = append(kept, p)
			continue
		}
		for _, f := range p.queue {
			fetches = append(fetches, f)
			p.polled = f.Next
		}
		if full || p.buffered >= r.cfg.PartitionBufferBytes {
			wake = append(wake, p.leader)
		}
		r.release(p)
		p.queue, p.pending = nil, false
	}
	clear(r.pending[len(kept):])
	r.pending = kept
	if full {
		wake = wake[:0]
		for id := range r.fetchers {
			wake = append(wake, id)
		}
	}
	r.mu.Unlock()
	for _, id := range wake {
		r.wake(id)
	}
	return fetches
}

// release gives back the bytes of a part's queue. r.mu is held.
func (r *Reader) release(p *part) {
	r.buffered -= p.buffered
	if r.metrics != nil {
		r.metrics.BufferedBytes.Sub(float64(p.buffered))
	}
	p.buffered = 0
}

func (r *Reader) setLag(p *part, lag int64) {
	if r.metrics != nil {
		r.metrics.LagRecords.Add(float64(lag - p.lag))
	}
	p.lag = lag
}

// deliver puts what an answer said into p's queue, if it is news. size is the bytes of its records. r.mu is held.
func (r *Reader) deliver(p *part, f Fetch, size int) {
	if p.removed || p.paused && r.crowded() {
		return // asked for again when it is resumed
	}
	f.From = p.next
	if f.Err == nil {
		p.next, p.failures, p.retryAt = f.Next, 0, time.Time{}
		r.setLag(p, max(f.End-f.Next, 0))
		if len(f.Records) == 0 && p.told && f.Next == p.toldNext && f.End == p.toldEnd && f.LogStart == p.toldStart {
			return
		}
	}
	p.told, p.toldNext, p.toldEnd, p.toldStart = f.Err == nil, f.Next, f.End, f.LogStart
	if n := len(p.queue); n > 0 && len(p.queue[n-1].Records) == 0 {
		f.From = p.queue[n-1].From
		p.queue[n-1] = f
	} else {
		p.queue = append(p.queue, f)
	}
	p.buffered += size
	r.buffered += size
	if r.metrics != nil {
		r.metrics.BufferedBytes.Add(float64(size))
		r.metrics.Records.Add(float64(len(f.Records)))
	}
	if !p.pending {
		p.pending = true
		r.pending = append(r.pending, p)
	}
	signal(r.ready)
}

// The waits between the tries of a partition that fails.
const (
	retryMin = 100 * time.Millisecond
	retryMax = 5 * time.Second

	quietFailures = 2 // that are not told, of the kind that looking up the leader again may mend
)

// fail backs p off and tells of err. A broker that is not the leader any more, or that is briefly away, is everyday life: the first
// failures of that kind in a row are not told. r.mu is held.
func (r *Reader) fail(p *part, err error, stale bool) {
	if p.removed {
		return
	}
	p.retryAt = time.Now().Add(min(retryMin<<min(p.failures, 10), retryMax))
	p.failures++
	if stale {
		p.leader = -1
		signal(r.resolve)
	}
	if r.metrics != nil {
		r.metrics.Errors.WithLabelValues(reason(err)).Inc()
	}
	if stale && p.failures <= quietFailures {
		return
	}
	r.deliver(p, Fetch{TP: p.tp, Next: p.next, End: -1, LogStart: -1, Err: err}, 0)
}

// Close ends the Reader and waits for its goroutines.
func (r *Reader) Close() {
	r.cancel()
	r.wg.Wait()
	r.cl.Close()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.parts {
		r.drop(p)
	}
}

// signal wakes the goroutine that waits on c, now or at its next wait.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
