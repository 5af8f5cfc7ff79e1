package props

import (
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"testing"

	"github.com/twmb/avro"

	"github.com/freshet-dev/freshet/schemas/catalog"
	"github.com/freshet-dev/freshet/test/oracle"
	"github.com/freshet-dev/freshet/test/shard"
)

// world is a definition and the records of one partition.
type world struct {
	definition, schema []byte
	group              *shard.Group
	judge              *oracle.Group
	records            []oracle.Record
}

// kind is where a world's definition and events come from.
type kind struct {
	name   string
	scale  int64 // ms: the shortest window; the largest steps of time are some of it
	schema string
	fields func(g *generator, user string, at int64) map[string]any
}

var kinds = []kind{
	{"milliseconds", 300, eventSchema, eventFields},
	{"seconds", 1000, eventSchema, eventFields},
	{"hours", 3_600_000, eventSchema, eventFields},
	{"days", 86_400_000, eventSchema, eventFields},
	{"user_purchases", 86_400_000, "purchase.avsc", purchaseFields},
	{"user_sessions", 86_400_000, "session.avsc", sessionFields},
}

// generator makes events one after the other.
type generator struct {
	rng    *rand.Rand
	k      kind
	avro   *avro.Schema
	users  int
	clock  int64 // ms
	n      int
	bodies [][2][]byte // key and body of events before
}

func newWorld(t testing.TB, rng *rand.Rand, k kind, n int, o traits) *world {
	t.Helper()
	w := &world{schema: []byte(k.schema)}
	if k.schema == eventSchema {
		w.definition = []byte(randomDefinition(rng, k.scale, o))
	} else {
		var err error
		if w.schema, err = catalog.File(k.schema); err != nil {
			t.Fatal(err)
		}
		if w.definition, err = catalog.File(k.name + ".yaml"); err != nil {
			t.Fatal(err)
		}
	}
	w.load(t)
	g := &generator{rng: rng, k: k, avro: avro.MustParse(string(w.schema)), users: 1 + rng.IntN(6), clock: 1_700_000_000_000 + rng.Int64N(86_400_000)}
	for i := range n {
		r := g.next(t, w.judge)
		r.Offset = int64(i)
		w.records = append(w.records, r)
	}
	return w
}

func (w *world) load(t testing.TB) {
	t.Helper()
	w.group = shard.Parse(t, w.definition, w.schema)
	var err error
	if w.judge, err = oracle.Load(w.definition, w.schema); err != nil {
		t.Fatal(err)
	}
}

func (w *world) admit(t testing.TB) *oracle.History {
	t.Helper()
	h, err := w.judge.Admit(w.records, func(id int32) []byte {
		if id == 1 {
			return w.schema
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// next makes the next record: mostly a little later than the one before, some late, some at an edge of a window, some sent again, some wrong.
func (g *generator) next(t testing.TB, judge *oracle.Group) oracle.Record {
	g.n++
	rng := g.rng
	if len(g.bodies) > 0 && rng.IntN(15) == 0 {
		old := pick(rng, g.bodies)
		return oracle.Record{Timestamp: g.clock, Key: old[0], Value: old[1], Partitions: 1}
	}
	switch rng.IntN(12) {
	case 0, 1, 2: // at the same instant
	case 3, 4, 5:
		g.clock += rng.Int64N(max(2, g.k.scale/1000))
	case 6:
		g.clock += g.k.scale - g.clock%g.k.scale // on a tick
	case 7:
		g.clock += rng.Int64N(3 * g.k.scale)
	case 8:
		if rng.IntN(10) == 0 { // everything goes
			g.clock += judge.Horizon + rng.Int64N(g.k.scale)
		}
	default:
		g.clock += rng.Int64N(max(2, g.k.scale/8))
	}
	at := g.clock
	switch rng.IntN(12) {
	case 0:
		at -= rng.Int64N(judge.Horizon + g.k.scale)
	case 1:
		at -= rng.Int64N(g.k.scale)
	case 2: // exactly as old as the horizon or a window, or a millisecond younger
		at -= pick(rng, []int64{judge.Horizon, g.k.scale, 7 * g.k.scale}) - rng.Int64N(2)
	}
	user := fmt.Sprintf("u|%d", rng.IntN(g.users))
	value, err := g.avro.AppendEncode([]byte{0, 0, 0, 0, 1}, g.k.fields(g, user, max(0, at)))
	if err != nil {
		t.Fatal(err)
	}
	r := oracle.Record{Timestamp: g.clock, Key: []byte(user), Value: value, Partitions: 1}
	switch rng.IntN(60) {
	case 0:
		r.Value = r.Value[:rng.IntN(len(r.Value))]
	case 1:
		r.Value[0] = 1 // not the wire format
	case 2:
		r.Key = []byte("u|x")
	case 3:
		r.Timestamp -= 10 * 60_000
	}
	g.bodies = append(g.bodies, [2][]byte{r.Key, r.Value})
	return r
}

// some is a value, or null now and then.
func (g *generator) some(v any) any {
	if g.rng.IntN(6) == 0 {
		return nil
	}
	return v
}

// double is an amount, a number of any size, or one of those that ruin sums; now and then one that is none.
func (g *generator) double() float64 {
	switch g.rng.IntN(10) {
	case 0:
		return pick(g.rng, []float64{0, math.Copysign(0, -1), math.MaxFloat64, -math.MaxFloat64, math.SmallestNonzeroFloat64, 1e16, -1e16, 1, 0.1})
	case 1:
		f := math.Float64frombits(g.rng.Uint64())
		if (math.IsNaN(f) || math.IsInf(f, 0)) && g.rng.IntN(4) > 0 {
			return 2
		}
		return f
	}
	return float64(g.rng.IntN(20000)) / 100
}

func (g *generator) id() string {
	if g.rng.IntN(20) == 0 {
		return fmt.Sprint(g.rng.IntN(g.n)) // as before, at another time or with other content
	}
	return fmt.Sprint(g.n)
}

func (g *generator) vector(n int) []float32 {
	if g.rng.IntN(80) == 0 {
		n++ // of the wrong length
	}
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(g.rng.IntN(100)) / 8
	}
	return v
}

func eventFields(g *generator, user string, at int64) map[string]any {
	rng := g.rng
	n := rng.Int64N(1000)
	if rng.IntN(10) == 0 {
		n = int64(rng.Uint64())
	}
	cents := big.NewRat(rng.Int64N(100000)-50000, 100)
	if rng.IntN(10) == 0 {
		cents.Mul(cents, big.NewRat(1e18, 1))
	}
	return map[string]any{"id": g.id(), "user": user, "shop": int32(rng.IntN(3)), "at": at, "amount": g.some(g.double()), "n": g.some(n),
		"k": int32(rng.IntN(5)), "price": g.some(cents), "category": g.some(pick(rng, []string{"a", "b", "c", "out", ""})),
		"flag": g.some(rng.IntN(2) == 0), "raw": g.some([]byte{byte(rng.IntN(4))}), "seen": g.some(at - rng.Int64N(1000)), "vector": g.some(g.vector(3))}
}

func purchaseFields(g *generator, user string, at int64) map[string]any {
	rng := g.rng
	return map[string]any{"event_id": g.id(), "user_id": user, "product_id": fmt.Sprint("p", rng.IntN(9)), "category": g.some(pick(rng, []string{"shoes", "hats"})),
		"amount": g.double(), "quantity": int32(1 + rng.IntN(3)), "currency": "EUR", "status": pick(rng, []string{"completed", "completed", "cancelled"}),
		"event_time": at, "embedding": g.some(g.vector(8))}
}

func sessionFields(g *generator, user string, at int64) map[string]any {
	rng := g.rng
	return map[string]any{"event_id": g.id(), "user_id": user, "session_start": at - rng.Int64N(1000), "duration_seconds": g.double(), "pages": int32(rng.IntN(30)),
		"device": pick(rng, []string{"mobile", "desktop"}), "embedding": g.vector(8), "event_time": at}
}
