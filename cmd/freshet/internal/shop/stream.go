package shop

import (
	"container/heap"
	"math"
	"sort"
	"strconv"
)

// scheduled is an event that waits to be published. Both kinds share it: most fields are a purchase's, or a session's.
type scheduled struct {
	publish, at int64 // ms
	n           uint64
	id          uint64 // of the event: duplicates share it
	shopper     *shopper
	session     bool
	raw         []byte

	product  *product
	category string // "": none
	amount   float64
	quantity int32
	status   string

	duration  float64 // s
	pages     int32
	device    string
	embedding []float32
}

// queue is a heap by publishing time, then by age.
type queue []*scheduled

func (q queue) Len() int { return len(q) }
func (q queue) Less(i, j int) bool {
	if q[i].publish != q[j].publish {
		return q[i].publish < q[j].publish
	}
	return q[i].n < q[j].n
}
func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(x any)   { *q = append(*q, x.(*scheduled)) }
func (q *queue) Pop() any {
	old := *q
	x := old[len(old)-1]
	old[len(old)-1] = nil
	*q = old[:len(old)-1]
	return x
}

// Next returns the next event to be published.
func (s *Shop) Next() Event {
	// A visit publishes nothing before it begins, so what waits for an earlier instant is final.
	for len(s.pending) == 0 || s.pending[0].publish >= s.visit {
		s.makeVisit()
		s.nextVisit()
	}
	return s.event(heap.Pop(&s.pending).(*scheduled))
}

// makeVisit schedules all events of the visit that is at its till at s.visit: perhaps purchases, and the session soon after, at its end.
// (Were s.visit its beginning, the live part would take minutes to come up to its rate.)
func (s *Shop) makeVisit() {
	rng := s.rng
	i := sort.SearchFloat64s(s.reach, rng.Float64()*s.reach[len(s.reach)-1])
	sh := &s.shoppers[min(i, len(s.shoppers)-1)]
	pages := min(1+int32(rng.ExpFloat64()*6), maxPages)
	duration := min(math.Round(float64(pages)*20*math.Exp(0.6*rng.NormFloat64())*10)/10, maxDuration)
	favourite := sh.favourites[min(int(rng.ExpFloat64()), 2)]
	if rng.IntN(10) == 0 {
		favourite = int8(rng.IntN(len(categories)))
	}
	end := s.visit + int64(rng.ExpFloat64()*tillMS)
	s.schedule(&scheduled{session: true, at: end, shopper: sh, pages: pages, duration: duration, device: s.device(),
		embedding: s.products[favourite][rng.IntN(inCategory)].embedding})
	if rng.Float64() >= converts {
		return
	}
	at := s.visit + int64(rng.Float64()*float64(end-s.visit))
	for range 1 + min(int(rng.ExpFloat64()*0.8), 5) {
		s.buy(sh, int(favourite), at)
	}
}

func (s *Shop) device() string {
	switch x := s.rng.Float64(); {
	case x < 0.55:
		return "mobile"
	case x < 0.92:
		return "desktop"
	case x < 0.99:
		return "tablet"
	}
	return "unknown"
}

func (s *Shop) buy(sh *shopper, category int, at int64) {
	rng := s.rng
	p := &s.products[category][min(int(rng.ExpFloat64()*8), inCategory-1)] // the first of a shelf sell best
	e := &scheduled{at: at, shopper: sh, product: p, category: categories[category], status: "completed"}
	e.quantity = 1 + min(int32(rng.ExpFloat64()*0.7*sh.thrift), 9)
	e.amount = math.Round(p.price*float64(e.quantity)*100) / 100
	if rng.Float64() < 0.02 {
		e.category = ""
	}
	if rng.Float64() < cancelled {
		e.status = "cancelled"
	}
	s.schedule(e)
	if e.status == "completed" && rng.Float64() < refunded {
		back := *e
		back.at += int64((1 + 9*rng.Float64()) * dayMS)
		back.status = "refunded"
		s.schedule(&back)
	}
}

// schedule gives an event its identity and decides when it is published, how often, and whether whole.
func (s *Shop) schedule(e *scheduled) {
	rng := s.rng
	s.n++
	e.id = s.n
	e.publish = e.at + int64(rng.ExpFloat64()*delayMS)
	switch x := rng.Float64(); {
	case x < broken:
		e.raw = s.garbage()
	case x < broken+fromFuture:
		e.at += int64((1 + 47*rng.Float64()) * 60 * minuteMS) // the clock of its device is wrong by hours
	case x < broken+fromFuture+veryLate:
		e.publish += int64((1 + 4*rng.Float64()) * dayMS)
	case x < broken+fromFuture+veryLate+late:
		e.publish += int64((2 + 180*rng.ExpFloat64()) * minuteMS)
	}
	s.push(e)
	if e.raw == nil && rng.Float64() < duplicates {
		again := *e
		again.publish += int64(rng.ExpFloat64() * minuteMS)
		s.push(&again)
	}
}

func (s *Shop) push(e *scheduled) {
	s.n++
	e.n = s.n
	heap.Push(&s.pending, e)
}

// garbage is what a producer that was never told of Avro sends, or one that was cut off.
func (s *Shop) garbage() []byte {
	if s.rng.IntN(2) == 0 {
		return []byte(`{"user":"` + strconv.Itoa(s.rng.IntN(1000)) + `","oops":true}`)
	}
	return []byte{0, 0, 0}
}

func (s *Shop) event(e *scheduled) Event {
	ev := Event{Topic: Purchases, Key: []byte(e.shopper.id), Raw: e.raw, EventTime: e.at, PublishTime: e.publish}
	if e.session {
		ev.Topic = Sessions
	}
	if e.raw != nil {
		return ev
	}
	id := s.prefix + "-" + strconv.FormatUint(e.id, 36)
	if e.session {
		f := s.fields[1]
		f["event_id"], f["user_id"], f["event_time"] = id, e.shopper.id, e.at
		f["session_start"] = e.at - int64(e.duration*1000)
		f["duration_seconds"], f["pages"], f["device"], f["embedding"] = e.duration, e.pages, e.device, e.embedding
		ev.Fields = f
		return ev
	}
	f := s.fields[0]
	f["event_id"], f["user_id"], f["event_time"] = id, e.shopper.id, e.at
	f["product_id"], f["amount"], f["quantity"], f["currency"], f["status"] = e.product.id, e.amount, e.quantity, "EUR", e.status
	f["category"], f["embedding"] = nil, e.product.embedding
	if e.category != "" {
		f["category"] = e.category
	}
	ev.Fields = f
	return ev
}
