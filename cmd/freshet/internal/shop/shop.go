// Package shop makes up the purchases and sessions of a shop, for the demo: shoppers who come at their hours, with their favourites, who
// cancel, send back, and whose events arrive late, twice, out of order and now and then broken, as events do.
package shop

import (
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"time"
)

// The topics.
const (
	Purchases = "purchases"
	Sessions  = "sessions"
)

// Config is what the stream of events follows from: equal Configs make equal streams.
type Config struct {
	Seed     uint64
	Shoppers int           // 1 to 10 M
	Start    time.Time     // of history
	History  time.Duration // after it comes the live part
	Visits   float64       // of a shopper a day in history, on average
	LiveRate float64       // records a second in the live part, on average; all hours alike

	// Staged are purchases of the favourite beside all others, this long after Start, so that somebody who watches can see them leave their windows.
	Staged []time.Duration
}

// Default returns a shop of 2,000 shoppers whose 120 days of history, about 90,000 records, end at now.
func Default(now time.Time) Config {
	const history = 120 * 24 * time.Hour
	return Config{Seed: 1, Shoppers: 2000, Start: now.Add(-history), History: history, Visits: 0.25, LiveRate: 20}
}

// Validate reports all problems of c at once.
func (c Config) Validate() error {
	var errs []error
	if c.Shoppers < 1 || c.Shoppers > 10_000_000 {
		errs = append(errs, fmt.Errorf("shoppers: %d is not between 1 and 10,000,000", c.Shoppers))
	}
	if c.History < 0 {
		errs = append(errs, fmt.Errorf("history: %s is negative", c.History))
	}
	if !(c.Visits > 0 && c.Visits <= 1000) {
		errs = append(errs, fmt.Errorf("visits: %v a day is not between 0 and 1,000", c.Visits))
	}
	if !(c.LiveRate > 0 && c.LiveRate <= 1e6) {
		errs = append(errs, fmt.Errorf("rate: %v records a second is not between 0 and 1,000,000", c.LiveRate))
	}
	return errors.Join(errs...)
}

// Event is one record to publish.
type Event struct {
	Topic       string
	Key         []byte         // the shopper's id
	Fields      map[string]any // by the names of the topic's schema in schemas/catalog; valid until the next call of Next
	Raw         []byte         // instead of Fields: a record that cannot be decoded
	EventTime   int64          // ms since the epoch
	PublishTime int64          // ms since the epoch, never going back from one event to the next
}

// How things go wrong, as shares of all events, and how long they take.
const (
	duplicates  = 0.01
	late        = 0.02 // by minutes to hours
	veryLate    = 0.002
	broken      = 0.0005
	fromFuture  = 0.0002
	cancelled   = 0.04 // of purchases
	refunded    = 0.03 // of purchases that are not cancelled, 1 to 10 days afterwards, as an event of its own
	converts    = 0.35 // of visits end in purchases
	delayMS     = 400  // of publishing, on average
	minuteMS    = 60_000
	dayMS       = 86_400_000
	tillMS      = 800 // from the till to the end of a visit, on average
	dimensions  = 8
	perVisit    = 1.5 // records a visit makes, on average, measured (a test): sets the live rate
	inCategory  = 40  // products
	maxPages    = 60
	maxDuration = 3 * 3600
)

// Shop is an endless stream of events. It belongs to one goroutine.
type Shop struct {
	cfg      Config
	prefix   string // of event ids: a shop of another start must not repeat them
	rng      *rand.Rand
	shoppers []shopper
	reach    []float64 // running sum of the shoppers' activity
	products [][]product

	visit   int64 // ms: when the next visit is at its till
	live    int64 // ms: when history ends
	pending queue
	n       uint64 // events made
	fields  [2]map[string]any
}

type shopper struct {
	id         string
	favourites [3]int8 // categories
	thrift     float64 // factor on prices and quantities
}

type product struct {
	id        string
	price     float64
	embedding []float32
}

var categories = []string{"books", "garden", "toys", "kitchen", "music", "sports", "fashion", "beauty", "electronics", "grocery", "pets", "office"}

// typicalPrice is the median price in each category.
var typicalPrice = []float64{14, 32, 22, 38, 12, 45, 40, 18, 160, 9, 20, 11}

// New returns the stream of c.
func New(c Config) (*Shop, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	h := fnv.New32a()
	fmt.Fprintf(h, "%d %d %d", c.Seed, c.Shoppers, c.Start.UnixMilli())
	s := &Shop{cfg: c, prefix: fmt.Sprintf("%08x", h.Sum32()), rng: rand.New(rand.NewPCG(c.Seed, 0x5ba9)),
		visit: c.Start.UnixMilli(), live: c.Start.Add(c.History).UnixMilli(), fields: [2]map[string]any{{}, {}}}
	s.stock()
	total := 0.0
	for i := range c.Shoppers {
		sh := shopper{id: fmt.Sprintf("u%06d", i+1), thrift: math.Exp(0.4 * s.rng.NormFloat64())}
		for j := range sh.favourites {
			sh.favourites[j] = int8(s.rng.IntN(len(categories)))
		}
		s.shoppers = append(s.shoppers, sh)
		total += math.Exp(1.2 * s.rng.NormFloat64()) // a few come often, most seldom
		s.reach = append(s.reach, total)
	}
	s.stage()
	s.nextVisit()
	return s, nil
}

// stage schedules Config.Staged. They are whole, and published at once.
func (s *Shop) stage() {
	sh := &s.shoppers[s.favourite()]
	category := int(sh.favourites[0])
	for i, d := range s.cfg.Staged {
		p := &s.products[category][i%inCategory]
		at := s.cfg.Start.Add(d).UnixMilli()
		s.n++
		s.push(&scheduled{id: s.n, at: at, publish: at, shopper: sh, product: p, category: categories[category], status: "completed", quantity: 1,
			amount: math.Round(p.price*100) / 100})
	}
}

// stock fills the shelves. Products of a category resemble each other.
func (s *Shop) stock() {
	for c := range categories {
		var centre [dimensions]float64
		for d := range centre {
			centre[d] = s.rng.NormFloat64()
		}
		shelf := make([]product, inCategory)
		for i := range shelf {
			e := make([]float32, dimensions)
			for d := range e {
				e[d] = float32(math.Round((centre[d]+0.3*s.rng.NormFloat64())*1e4) / 1e4)
			}
			shelf[i] = product{fmt.Sprintf("p%02d%02d", c, i), typicalPrice[c] * math.Exp(0.5*s.rng.NormFloat64()), e}
		}
		s.products = append(s.products, shelf)
	}
}

// Favourite returns the shopper who comes most often.
func (s *Shop) Favourite() string { return s.shoppers[s.favourite()].id }

func (s *Shop) favourite() int {
	best, most := 0, 0.0
	for i, r := range s.reach {
		if i > 0 {
			r -= s.reach[i-1]
		}
		if r > most {
			best, most = i, r
		}
	}
	return best
}

// rhythm is how busy each hour of the day is (UTC), 1 being the busiest.
var rhythm = [24]float64{.18, .10, .06, .05, .06, .10, .20, .35, .50, .60, .65, .70, .80, .75, .65, .62, .65, .75, .88, 1, 1, .90, .60, .35}

// meanRhythm is the average of rhythm, weekends at 1 included.
const (
	meanRhythm = 0.5208
	weekday    = 0.85
)

// nextVisit moves on to the next visit: a Poisson process, in history thinned to the rhythm of day and week (Lewis and Shedler, 1979).
func (s *Shop) nextVisit() {
	busiest := float64(s.cfg.Shoppers) * s.cfg.Visits / dayMS / (meanRhythm * (5*weekday + 2) / 7)
	for at := float64(s.visit); ; {
		if at >= float64(s.live) {
			s.visit = int64(at + s.rng.ExpFloat64()/(s.cfg.LiveRate/perVisit/1000))
			return
		}
		at += s.rng.ExpFloat64() / busiest
		if at >= float64(s.live) {
			at = float64(s.live)
			continue
		}
		t := time.UnixMilli(int64(at)).UTC()
		rate := rhythm[t.Hour()]
		if d := t.Weekday(); d != time.Saturday && d != time.Sunday {
			rate *= weekday
		}
		if s.rng.Float64() < rate {
			s.visit = int64(at)
			return
		}
	}
}
