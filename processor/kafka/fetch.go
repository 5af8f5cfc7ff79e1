package kafka

import (
	"context"
	"errors"
	"fmt"
	"time"
	"unsafe"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	// While a partition's buffer is full its broker is asked without it, and for this long only, or it would have to wait for the end of
	// a long poll of the others once there is room again.
	fullWait = 20 * time.Millisecond
	// An answer smaller than smallFetchBytes is followed by a rest, so that a trickle over many partitions does not become a request for
	// each record.
	smallFetchBytes = 16 << 10
	smallFetchRest  = 2 * time.Millisecond

	lookupTimeout = 5 * time.Second
)

// fetcher is the goroutine that fetches from one broker.
type fetcher struct {
	broker *kgo.Broker
	id     int32
	wakeUp chan struct{} // has room for one
	slab   slab          // the goroutine's own
}

// wake makes a broker's fetcher look again for what to fetch.
func (r *Reader) wake(leader int32) {
	r.mu.Lock()
	f := r.fetchers[leader]
	r.mu.Unlock()
	if f != nil {
		signal(f.wakeUp)
	}
}

// sleep waits until c is signaled, d has passed (0: for ever) or the Reader is closed; then it returns false.
func (r *Reader) sleep(c chan struct{}, d time.Duration) bool {
	var timer <-chan time.Time
	if d > 0 {
		timer = time.After(d)
	}
	select {
	case <-c:
	case <-timer:
	case <-r.ctx.Done():
		return false
	}
	return true
}

// fetchLoop asks one broker for the partitions it leads, one request at a time.
func (r *Reader) fetchLoop(f *fetcher) {
	for r.ctx.Err() == nil {
		req, asked, idle := r.request(f)
		if req == nil {
			if !r.sleep(f.wakeUp, idle) {
				return
			}
			continue
		}
		kresp, err := f.broker.Request(r.ctx, req)
		if err == nil {
			if code := kresp.(*kmsg.FetchResponse).ErrorCode; code != 0 {
				err = kerr.ErrorForCode(code)
			}
		}
		if err != nil {
			r.failAll(asked, fmt.Errorf("%w: %w", ErrUnavailable, err))
			continue
		}
		if size := r.answer(f, kresp.(*kmsg.FetchResponse), asked); size < smallFetchBytes && !r.sleep(nil, smallFetchRest) {
			return
		}
	}
}

// asking is what a request asks of a partition.
type asking struct {
	part *part
	from int64
}

// request returns the next request to a broker and what is asked, or how long to wait for there to be one (0: until woken).
func (r *Reader) request(f *fetcher) (req *kmsg.FetchRequest, asked map[TP]asking, idle time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	wait := r.cfg.FetchMaxWait
	var parts []*part
	for _, p := range r.parts {
		switch {
		case p.leader != f.id || p.paused:
		case p.buffered >= r.cfg.PartitionBufferBytes || r.buffered >= r.cfg.ReaderBufferBytes:
			wait = min(wait, fullWait) // woken when there is room; asked again soon where others are to be fetched
		case p.retryAt.After(now):
			if d := p.retryAt.Sub(now); idle == 0 || d < idle {
				idle = d
			}
		default:
			parts = append(parts, p)
		}
	}
	if len(parts) == 0 {
		return nil, nil, idle
	}
	if idle > 0 {
		wait = min(wait, max(idle, time.Millisecond))
	}
	return r.build(f, parts, wait)
}

// build makes the request. A broker fills its answer in the order of the request, up to the limit; Go's map order, random anew for each
// range, takes care that no partition is always last. r.mu is held.
func (r *Reader) build(f *fetcher, parts []*part, wait time.Duration) (*kmsg.FetchRequest, map[TP]asking, time.Duration) {
	req := kmsg.NewPtrFetchRequest()
	req.MaxWaitMillis = int32(wait.Milliseconds())
	req.MinBytes = 1
	req.MaxBytes = int32(r.cfg.FetchMaxBytes)
	req.IsolationLevel = 1 // read committed
	asked := make(map[TP]asking, len(parts))
	type topic struct {
		name string
		id   [16]byte
	}
	topics := map[topic]int{} // by both: after a topic was made anew, parts of the old one and of the new one are two topics
	for _, p := range parts {
		i, ok := topics[topic{p.tp.Topic, p.topicID}]
		if !ok {
			i = len(req.Topics)
			topics[topic{p.tp.Topic, p.topicID}] = i
			t := kmsg.NewFetchRequestTopic()
			t.Topic, t.TopicID = p.tp.Topic, p.topicID
			req.Topics = append(req.Topics, t)
		}
		rp := kmsg.NewFetchRequestTopicPartition()
		rp.Partition = p.tp.Partition
		rp.FetchOffset = p.next
		rp.PartitionMaxBytes = int32(r.cfg.PartitionFetchBytes)
		req.Topics[i].Partitions = append(req.Topics[i].Partitions, rp)
		asked[p.tp] = asking{p, p.next}
	}
	return req, asked, 0
}

// answer takes in a broker's answer and returns the bytes of record batches in it.
func (r *Reader) answer(f *fetcher, resp *kmsg.FetchResponse, asked map[TP]asking) (size int) {
	if r.metrics != nil {
		r.metrics.Fetches.Inc()
	}
	names := make(map[[16]byte]string, 4)
	for _, a := range asked {
		names[a.part.topicID] = a.part.tp.Topic
	}
	for i := range resp.Topics {
		t := &resp.Topics[i]
		name := t.Topic
		if name == "" { // since version 13 of the request topics go by id
			name = names[t.TopicID]
		}
		for j := range t.Partitions {
			rp := &t.Partitions[j]
			a, ok := asked[TP{name, rp.Partition}]
			if !ok {
				continue
			}
			size += len(rp.RecordBatches)
			r.answerPart(f, rp, a)
		}
	}
	if r.metrics != nil {
		r.metrics.FetchBytes.Add(float64(size))
	}
	return size
}

func (r *Reader) answerPart(f *fetcher, rp *kmsg.FetchResponseTopicPartition, a asking) {
	if err, stale := fetchError(rp.ErrorCode); err != nil {
		r.mu.Lock()
		r.fail(a.part, err, stale)
		r.mu.Unlock()
		return
	}
	records, next, size, err := r.decode(&f.slab, rp, a)
	end := rp.LastStableOffset
	if end < 0 {
		end = rp.HighWatermark
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if a.from != a.part.next {
		return // paused, and sent back to what was dropped, while the request was under way
	}
	if next > a.from || err == nil {
		r.deliver(a.part, Fetch{TP: a.part.tp, Records: records, Next: next, End: end, LogStart: rp.LogStartOffset}, size)
	}
	if err != nil {
		r.fail(a.part, err, false)
	}
}

// decode returns the records of an answer, the position after them, and their bytes. With an error it returns those before it.
func (r *Reader) decode(s *slab, rp *kmsg.FetchResponseTopicPartition, a asking) (records []Record, next int64, size int, err error) {
	defer s.reset()
	opts := kgo.ProcessFetchPartitionOpts{
		Offset: a.from, IsolationLevel: kgo.ReadCommitted(), Topic: a.part.tp.Topic, Partition: rp.Partition, Pools: []kgo.Pool{s},
	}
	fp, next := kgo.ProcessFetchPartition(opts, rp, r.dec, nil)
	switch {
	case fp.Err != nil:
		err = decodeError(fp.Err)
	case next == a.from && len(rp.RecordBatches) > 0:
		// The first batch of an answer is always whole, so it did not decode.
		err = fmt.Errorf("%w: the batch at offset %d is cut short", ErrCorrupt, a.from)
	}
	if len(fp.Records) == 0 {
		return nil, next, 0, err
	}
	records = make([]Record, len(fp.Records))
	for i, k := range fp.Records {
		records[i] = Record{Offset: k.Offset, Timestamp: k.Timestamp.UnixMilli(), Key: k.Key, Value: k.Value}
		size += int(unsafe.Sizeof(Record{})) + len(k.Key) + len(k.Value)
		if len(k.Headers) == 0 {
			continue
		}
		headers := make([]Header, len(k.Headers))
		for j, h := range k.Headers {
			headers[j] = Header(h)
			size += int(unsafe.Sizeof(Header{})) + len(h.Key) + len(h.Value)
		}
		records[i].Headers = headers
	}
	return records, next, size, err
}

// slab lends the decoder its records, which are copied right afterwards, and so spares an allocation of 200 bytes a record.
type slab struct{ buf []kgo.Record }

// GetRecords implements kgo.PoolRecords.
func (s *slab) GetRecords(n int) []kgo.Record {
	if cap(s.buf)-len(s.buf) < n {
		s.buf = make([]kgo.Record, 0, max(n, min(2*cap(s.buf), 1<<14))) // the old one stays with the records in it
	}
	from := len(s.buf)
	s.buf = s.buf[:from+n]
	return s.buf[from : from+n : from+n]
}

// PutRecords implements kgo.PoolRecords: all are taken back by reset.
func (s *slab) PutRecords([]kgo.Record) {}

func (s *slab) reset() {
	clear(s.buf) // or it would hold the batches in memory
	s.buf = s.buf[:0]
}

// failAll backs off all partitions of a request that failed, and has their leaders looked up again.
func (r *Reader) failAll(asked map[TP]asking, err error) {
	if r.ctx.Err() != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range asked {
		r.fail(a.part, err, true)
	}
}

// resolveLoop finds the leaders of the partitions that have none.
func (r *Reader) resolveLoop() {
	for r.ctx.Err() == nil {
		parts, idle := r.leaderless()
		if len(parts) == 0 {
			if !r.sleep(r.resolve, idle) {
				return
			}
			continue
		}
		meta, err := r.lookUp(parts)
		if r.ctx.Err() != nil {
			return
		}
		r.mu.Lock()
		for _, p := range parts {
			if err != nil {
				p.failures = max(p.failures, quietFailures) // no broker answered for lookupTimeout: that is news
				r.fail(p, fmt.Errorf("%w: %w", ErrUnavailable, err), true)
			} else {
				r.assignLeader(p, meta[p.tp.Topic])
			}
		}
		r.mu.Unlock()
	}
}

// leaderless returns the partitions whose leader is to be looked up now, or how long to wait for the next (0: until woken).
func (r *Reader) leaderless() (parts []*part, idle time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	for _, p := range r.parts {
		if p.leader >= 0 {
			continue
		}
		if d := p.retryAt.Sub(now); d <= 0 {
			parts = append(parts, p)
		} else if idle == 0 || d < idle {
			idle = d
		}
	}
	return parts, idle
}

// lookUp asks the cluster about the topics of parts.
func (r *Reader) lookUp(parts []*part) (map[string]*kmsg.MetadataResponseTopic, error) {
	seen := map[string]bool{}
	var topics []string
	for _, p := range parts {
		if !seen[p.tp.Topic] {
			seen[p.tp.Topic] = true
			topics = append(topics, p.tp.Topic)
		}
	}
	ctx, cancel := context.WithTimeout(r.ctx, lookupTimeout)
	defer cancel()
	return describe(ctx, r.cl, topics...)
}

// describe asks the cluster, and not the client's cache, which may be 5 s old, about topics.
func describe(ctx context.Context, cl *kgo.Client, topics ...string) (map[string]*kmsg.MetadataResponseTopic, error) {
	req := kmsg.NewPtrMetadataRequest()
	for _, topic := range topics {
		t := kmsg.NewMetadataRequestTopic()
		t.Topic = &topic
		req.Topics = append(req.Topics, t)
	}
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		return nil, err
	}
	found := make(map[string]*kmsg.MetadataResponseTopic, len(resp.Topics))
	for i := range resp.Topics {
		if t := &resp.Topics[i]; t.Topic != nil {
			found[*t.Topic] = t
		}
	}
	return found, nil
}

// assignLeader gives p to the fetcher of its leader. t is the topic as the cluster described it; nil where it did not. r.mu is held.
func (r *Reader) assignLeader(p *part, t *kmsg.MetadataResponseTopic) {
	if p.removed || p.leader >= 0 {
		return
	}
	leader, err := leaderOf(p, t)
	if err != nil {
		r.fail(p, err, errors.Is(err, ErrUnavailable))
		return
	}
	p.leader, p.topicID = leader, t.TopicID
	f := r.fetchers[leader]
	if f == nil {
		f = &fetcher{broker: r.cl.Broker(int(leader)), id: leader, wakeUp: make(chan struct{}, 1)}
		r.fetchers[leader] = f
		r.wg.Go(func() { r.fetchLoop(f) })
	}
	signal(f.wakeUp)
}

func leaderOf(p *part, t *kmsg.MetadataResponseTopic) (int32, error) {
	if t == nil {
		return -1, ErrUnknownTopic
	}
	if err, _ := fetchError(t.ErrorCode); err != nil {
		return -1, err
	}
	if p.topicID != ([16]byte{}) && p.topicID != t.TopicID {
		return -1, ErrTopicRecreated
	}
	for _, tp := range t.Partitions {
		if tp.Partition != p.tp.Partition {
			continue
		}
		if tp.Leader < 0 {
			return -1, fmt.Errorf("%w: the partition has no leader", ErrUnavailable)
		}
		return tp.Leader, nil
	}
	return -1, fmt.Errorf("%w: the topic has %d partitions", ErrUnknownTopic, len(t.Partitions))
}
