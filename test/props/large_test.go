package props

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/twmb/avro"

	"github.com/freshet-dev/freshet/test/oracle"
)

const hotDefinition = `
group: hot
version: 1
entity: {name: e, key: [user]}
source: {topic: t, schema: e.avsc, time: at, id: id, history: %s}
freshness: 1s
windows: [10s, 10m]
features:
  - {name: events, agg: count}
  - {name: total, agg: sum, of: amount}
  - {name: spread, agg: stddev, of: amount}
  - {name: least, agg: min, of: amount}
  - {name: most, agg: max, of: n}
  - {name: kinds, agg: count_distinct, of: category}
  - {name: products, agg: count_distinct, of: n, where: k < 3}
  - {name: last, agg: last, of: category}
  - {name: first, agg: first, of: price}
  - {name: ever, agg: sum, of: amount, window: lifetime}
`

// hotWorld is one entity, and one beside it, with an event each step ms.
func hotWorld(t testing.TB, rng *rand.Rand, history string, n int, step func(i int) int64) *world {
	t.Helper()
	w := &world{definition: fmt.Appendf(nil, hotDefinition, history), schema: []byte(eventSchema)}
	w.load(t)
	g := &generator{rng: rng, avro: avro.MustParse(eventSchema), clock: 1_700_000_000_000}
	for i := range n {
		g.n++
		g.clock += step(i)
		user, at := "hot", g.clock
		if i%50 == 7 {
			user = "cold"
		}
		if i%10 == 3 {
			at -= rng.Int64N(12_000)
		}
		fields := eventFields(g, user, at)
		fields["id"], fields["vector"] = fmt.Sprint(i), nil
		value, err := g.avro.AppendEncode([]byte{0, 0, 0, 0, 1}, fields)
		if err != nil {
			t.Fatal(err)
		}
		w.records = append(w.records, oracle.Record{Offset: int64(i), Timestamp: g.clock, Key: []byte(user), Value: value, Partitions: 1})
	}
	return w
}

// TestEntityGrowsAndShrinks takes an entity over the sizes at which its state changes its form, up and down, decoded anew in each batch or not.
func TestEntityGrowsAndShrinks(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	w := hotWorld(t, rng, "rows", 900, func(i int) int64 {
		if i%300 > 250 {
			return 15_000 // the crowd leaves
		}
		return rng.Int64N(300)
	})
	want := ideal(t, w.admit(t))
	var first []string
	for i, x := range []way{
		{fetch: dealt(rng, 5000), cache: 16 << 20, every: time.Hour},
		{fetch: dealt(rng, 20), cache: 0, every: time.Hour},
		{fetch: dealt(rng, 100), cache: 0, every: 20 * time.Millisecond, breaks: 5, crashes: true},
	} {
		x.rng = rng
		tr := w.run(t, x, func(from int64, rows []oracle.Row) {
			part := want[firstFrom(want, from):]
			if diff := difference(rows, part[:min(len(rows), len(part))]); diff != "" {
				t.Fatalf("%v: rows from offset %d on: %s", x, from, diff)
			}
		})
		if diff := difference(tr.readLog(w.group), backfill(want, len(w.records))); diff != "" {
			t.Fatalf("%v: log: %s", x, diff)
		}
		dump := w.group.Dump(t, tr.dir)
		if i == 0 {
			first = dump
		}
		same(t, x, dump, first)
	}
}

// TestLargeEntity has 50,000 events of one entity in its window, or as many as LARGE says.
func TestLargeEntity(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 2))
	n := 50_000
	if text := os.Getenv("LARGE"); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	w := hotWorld(t, rng, "none", n, func(int) int64 { return 2 + rng.Int64N(2) })
	h := w.admit(t)
	x := way{rng: rng, fetch: dealt(rng, 5000), cache: 64 << 20, every: time.Hour, breaks: 1}
	checked := 0
	w.run(t, x, func(_ int64, rows []oracle.Row) {
		for i := range 3 {
			r := rows[(i+1)*len(rows)/3-1]
			if want := h.Values(r.Entity, r.AsOf, r.Offset); !slices.Equal(r.Values, want) {
				t.Fatalf("%+v; the oracle says %v", r, want)
			}
			checked++
		}
	})
	if checked != 6 {
		t.Errorf("%d rows checked", checked)
	}
}
