package gen

import (
	"fmt"
	"math"
	"strconv"
	"testing"

	"github.com/twmb/avro"

	"github.com/freshet-dev/freshet/test/oracle"
)

const peersSchema = `{"type": "record", "name": "E", "fields": [{"name": "user", "type": "long"}, {"name": "ts", "type": "long"},
	{"name": "amount", "type": "double"}, {"name": "product", "type": "long"}, {"name": "quantity", "type": "int"}]}`

const peersDefinition = `
group: peers
version: 1
entity: {name: user, key: [user]}
source: {topic: events, schema: e.avsc, time: ts, unit: ms, partitioner: any, key_format: any}
windows: [1d, 7d, 30d, 90d]
features:
  - {name: n, agg: count}
  - {name: total, agg: sum, of: amount}
  - {name: mean, agg: avg, of: amount}
  - {name: least, agg: min, of: amount}
  - {name: most, agg: max, of: amount}
  - {name: spread, agg: stddev, of: amount}
  - {name: items, agg: sum, of: quantity}
  - {name: products, agg: count_distinct, of: product}
`

// The oracle, given a sample, has a row for each of its events as of the shard's clock, which here is worked out once more by plain loops.
func TestSample(t *testing.T) {
	f := File{Uniform, 60_000, 600, 2, func(user int64) int { return int(user % 2) }}
	sample := Sample(f, func(user int64) bool { return user%100 == 7 })
	g, err := oracle.Load([]byte(peersDefinition), []byte(peersSchema))
	if err != nil {
		t.Fatal(err)
	}
	encoder := avro.MustParse(peersSchema)
	var records []oracle.Record
	for _, e := range sample {
		value, err := encoder.AppendEncode([]byte{0, 0, 0, 0, 1}, map[string]any{"user": e.User, "ts": e.TS, "amount": e.Amount, "product": e.Product, "quantity": e.Quantity})
		if err != nil {
			t.Fatal(err)
		}
		records = append(records, oracle.Record{Offset: e.Offset, Timestamp: e.TS, Value: value, Clock: e.Clock})
	}
	h, err := g.Admit(records, func(int32) []byte { return []byte(peersSchema) })
	if err != nil {
		t.Fatal(err)
	}
	rows := 0
	for _, user := range h.Entities() {
		own, err := strconv.ParseInt(user, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		next := 0
		if err := h.RowsOf(user, func(r *oracle.Row) error {
			if r.Cause == oracle.CauseDecay {
				return nil
			}
			for sample[next].User != own {
				next++
			}
			next++
			rows++
			want := plain(sample[:next], own)
			for i, name := range []string{"n", "least", "items"} {
				at := map[string]int{"n": 0, "least": 12, "items": 24}[name]
				if got := r.Values[at+1].Text; got != want[i] { // of 7 days
					return fmt.Errorf("user %s, offset %d: %s_7d is %s, want %s", user, r.Offset, name, got, want[i])
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	if rows != len(sample) || rows < 500 {
		t.Errorf("%d rows of %d events", rows, len(sample))
	}
}

// plain is the count, the least amount and the sum of quantities of 7 days, as of the newest event.
func plain(events []Event, user int64) [3]string {
	newest := events[len(events)-1]
	clock := max(newest.Clock, newest.TS)
	n, least, items := 0, math.Inf(1), 0
	for _, e := range events {
		if e.User == user && e.TS > clock-7*86_400_000 {
			n, least, items = n+1, min(least, e.Amount), items+int(e.Quantity)
		}
	}
	return [3]string{strconv.Itoa(n), strconv.FormatFloat(least, 'f', -1, 64), strconv.Itoa(items)}
}

// The place of an event in its shard is what counting by hand gives.
func TestSamplePlaces(t *testing.T) {
	f := File{Zipf, 3_000, 50, 3, func(user int64) int { return int(user % 3) }}
	all := Sample(f, func(int64) bool { return true })
	for i, e := range all {
		var offset, clock int64
		for _, o := range all[:i] {
			if o.User%3 == e.User%3 {
				offset, clock = offset+1, max(clock, o.TS)
			}
		}
		if e.Shard != int(e.User%3) || e.Offset != offset || e.Clock != clock {
			t.Fatalf("event %d: %+v, want offset %d, clock %d", i, e, offset, clock)
		}
	}
	if len(all) != 3_000 {
		t.Errorf("%d events", len(all))
	}
}
