package shop

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"os"
	"testing"
	"time"

	"github.com/freshet-dev/freshet/cmd/freshet/internal/embedded"
	"github.com/freshet-dev/freshet/processor/kafka"
	"github.com/freshet-dev/freshet/schemas/event"
)

var start = time.Date(2026, 7, 1, 0, 0, 0, 0, time.UTC)

func config() Config {
	c := Default(start.Add(120 * 24 * time.Hour))
	c.Seed = 7
	return c
}

func shop(t testing.TB, c Config) *Shop {
	t.Helper()
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func encoders(t testing.TB) map[string]*event.Encoder {
	t.Helper()
	m := map[string]*event.Encoder{}
	for topic, file := range map[string]string{Purchases: "purchase", Sessions: "session"} {
		text, err := os.ReadFile("../../../../schemas/catalog/" + file + ".avsc")
		if err != nil {
			t.Fatal(err)
		}
		schema, err := event.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		m[topic] = event.NewEncoder(schema, 1)
	}
	return m
}

func TestSameSeedSameEvents(t *testing.T) {
	a, b, other := shop(t, config()), shop(t, config()), config()
	other.Seed++
	c, same := shop(t, other), 0
	for i := range 20_000 {
		x, y := fmt.Sprint(a.Next()), fmt.Sprint(b.Next())
		if x != y {
			t.Fatalf("event %d: %s\nand %s", i, x, y)
		}
		if x == fmt.Sprint(c.Next()) {
			same++
		}
	}
	if same > 0 {
		t.Errorf("another seed made %d equal events", same)
	}
}

// The stream is as its description says, and all of it but the broken records can be encoded.
func TestLifelike(t *testing.T) {
	cfg := config()
	s, enc := shop(t, cfg), encoders(t)
	live := cfg.Start.Add(cfg.History).UnixMilli()
	var n, dups, lates, brokens, futures, sessions, disorder float64
	seen, statuses, users, hours := map[string]bool{}, map[string]int{}, map[string]int{}, [24]float64{}
	last, newest := int64(math.MinInt64), int64(math.MinInt64)
	var buf []byte
	for {
		e := s.Next()
		if e.PublishTime < last {
			t.Fatalf("published at %d after %d", e.PublishTime, last)
		}
		if last = e.PublishTime; last >= live {
			break
		}
		n++
		if e.Raw != nil {
			brokens++
			continue
		}
		var err error
		if buf, err = enc[e.Topic].Encode(buf[:0], e.Fields); err != nil {
			t.Fatal(err)
		}
		id := e.Fields["event_id"].(string)
		if string(e.Key) != e.Fields["user_id"] || e.EventTime != e.Fields["event_time"] {
			t.Fatalf("%+v", e)
		}
		switch {
		case seen[id]:
			dups++
		case e.EventTime > e.PublishTime+5*minuteMS:
			futures++
		case e.PublishTime > e.EventTime+2*minuteMS:
			lates++
		case e.EventTime < newest:
			disorder++
		}
		seen[id] = true
		if e.Topic == Sessions {
			sessions++
		} else {
			statuses[e.Fields["status"].(string)]++
		}
		users[string(e.Key)]++
		hours[time.UnixMilli(e.PublishTime).UTC().Hour()]++
		newest = max(newest, min(e.EventTime, e.PublishTime))
	}
	between := func(what string, got, lo, hi float64) {
		if got < lo || got > hi {
			t.Errorf("%s: %v is not between %v and %v", what, got, lo, hi)
		}
	}
	between("records", n, 85_000, 97_000)
	between("records a visit", n/(cfg.Visits*float64(cfg.Shoppers)*120), perVisit*0.96, perVisit*1.04)
	between("sessions", sessions/n, 0.6, 0.7)
	between("duplicates", dups/n, 0.008, 0.012)
	between("late", lates/n, 0.018, 0.027)
	between("broken", brokens/n, 0.0002, 0.001)
	between("future", futures/n, 0.00005, 0.0005)
	between("disorder", disorder/n, 0.001, 0.2)
	between("cancelled", float64(statuses["cancelled"])/float64(statuses["completed"]), 0.03, 0.05)
	between("refunded", float64(statuses["refunded"])/float64(statuses["completed"]), 0.02, 0.04)
	between("shoppers who came", float64(len(users)), 1500, 2000)
	between("the favourite's visits", float64(users[s.Favourite()]), 500, 10_000)
	between("evening to night", hours[19]/hours[3], 10, 40)

	n, from := 0, last
	for last < from+60*60_000 {
		last = s.Next().PublishTime
		n++
	}
	between("live records a second", n/3600, cfg.LiveRate*0.9, cfg.LiveRate*1.1)
}

func TestValidate(t *testing.T) {
	if _, err := New(Config{Shoppers: 0, History: -1, Visits: 0, LiveRate: -1}); err == nil || len(err.(interface{ Unwrap() []error }).Unwrap()) != 4 {
		t.Errorf("%v", err)
	}
}

func TestPublishesHistoryThenLive(t *testing.T) {
	servers, err := embedded.Start(t.Context(), t.TempDir(), embedded.Options{Topics: []embedded.Topic{{Name: Purchases, Partitions: 2}, {Name: Sessions, Partitions: 2}}})
	if err != nil {
		t.Fatal(err)
	}
	defer servers.Close()
	kc := kafka.Default()
	kc.Brokers = servers.Brokers
	producer, err := kafka.NewProducer(kc, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer producer.Close()
	cfg := Default(time.Now())
	cfg.Shoppers, cfg.LiveRate = 100, 200
	p := &Publisher{Shop: shop(t, cfg), Producer: producer, Encoders: encoders(t)}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var history int64
	p.Live = func() {
		history = p.Published()
		time.AfterFunc(time.Second, cancel)
	}
	if err := p.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if history < 4000 || history > 7000 {
		t.Errorf("%d records of history", history)
	}
	if n := p.Published() - history; n < 40 || n > 400 {
		t.Errorf("%d records in a second at %v/s", n, cfg.LiveRate)
	}
	producer.Close()
	if err := p.Run(t.Context()); err == nil {
		t.Error("a producer that is closed went unnoticed")
	}
}

func BenchmarkNextEncoded(b *testing.B) {
	s, enc := shop(b, config()), encoders(b)
	var buf []byte
	for b.Loop() {
		if e := s.Next(); e.Raw == nil {
			var err error
			if buf, err = enc[e.Topic].Encode(buf[:0], e.Fields); err != nil {
				b.Fatal(err)
			}
		}
	}
}
