package redis

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/freshet-dev/freshet/schemas"
	"github.com/freshet-dev/freshet/sink"
)

func feature(name string, kind schemas.Kind) sink.Field {
	return sink.Field{Name: name, Type: schemas.Type{Kind: kind}}
}

// purchases has one feature of each kind.
var purchases = sink.Spec{
	Group: "user_purchases", Version: 1, Entity: "user", Keys: []sink.Field{feature("user_id", schemas.String)},
	Features: []sink.Field{
		feature("count_7d", schemas.Int),
		feature("avg_7d", schemas.Double),
		{Name: "spend_7d", Type: schemas.Type{Kind: schemas.Decimal, Scale: 2}},
		feature("gift", schemas.Bool),
		feature("category", schemas.String),
		feature("sku", schemas.Bytes),
		feature("session", schemas.UUID),
		feature("last_at", schemas.Time),
		{Name: "embedding", Type: schemas.Type{Kind: schemas.Floats, Dim: 3}},
	},
	TTL: 91 * 24 * time.Hour,
}

func floats(f ...float32) schemas.Value {
	var b []byte
	for _, x := range f {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
	}
	return schemas.Value{Kind: schemas.Floats, Bytes: b}
}

// purchase returns a row in which every value tells n.
func purchase(entity string, n int64) sink.Row {
	uuid := binary.BigEndian.AppendUint64(make([]byte, 8), uint64(n))
	return sink.Row{
		Entity:     []byte(entity),
		Version:    sink.Version{Generation: 7, Offset: n, AsOf: 1767225600000 + n},
		ValidUntil: 1767225600000 + n + 1000,
		Values: []schemas.Value{
			schemas.IntValue(n), schemas.DoubleValue(float64(n) / 4), schemas.DecimalValue(0, uint64(n)), schemas.BoolValue(n%2 == 1),
			schemas.StringValue(fmt.Appendf(nil, "c|%d\r\n", n)), {Kind: schemas.Bytes, Bytes: []byte{0, byte(n)}}, {Kind: schemas.UUID, Bytes: uuid},
			schemas.TimeValue(n), floats(float32(n), -0.5, 1e-30),
		},
	}
}

// stored returns what purchase's row looks like in Redis.
func stored(n int64, partition int) map[string]string {
	r := purchase("", n)
	m := map[string]string{"_v": r.Version.String(), "_t": fmt.Sprint(r.Version.AsOf), "_u": fmt.Sprint(r.ValidUntil), "_p": fmt.Sprint(partition)}
	for i, f := range purchases.Features {
		m[f.Name] = string(sink.AppendText(nil, r.Values[i], f.Type))
	}
	return m
}

func hash(t testing.TB, c *Client, key string) map[string]string {
	t.Helper()
	m, err := c.rdb.HGetAll(context.Background(), key).Result()
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func write(t testing.TB, w *Writer, want []Outcome, rows ...sink.Row) {
	t.Helper()
	out := make([]Outcome, len(rows))
	if err := w.Write(testContext(t), rows, out); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(out, want) {
		t.Fatalf("outcomes are %v, want %v", out, want)
	}
}

func equal(t testing.TB, got, want map[string]string) {
	t.Helper()
	if !maps.Equal(got, want) {
		t.Fatalf("stored is %q,\nwant %q", got, want)
	}
}

const key42 = "features:user_purchases:v1:42"

func TestGuard(t *testing.T) {
	onBoth(t, func(t *testing.T, s *server) {
		c := open(t, s)
		w := c.Writer(purchases, 3)
		write(t, w, []Outcome{Written}, purchase("42", 10))
		equal(t, hash(t, c, key42), stored(10, 3))

		write(t, w, []Outcome{Stale}, purchase("42", 9))
		equal(t, hash(t, c, key42), stored(10, 3))

		// A failover lost a field: writing the same version again repairs it.
		if err := c.rdb.HDel(t.Context(), key42, "gift").Err(); err != nil {
			t.Fatal(err)
		}
		write(t, w, []Outcome{Equal}, purchase("42", 10))
		equal(t, hash(t, c, key42), stored(10, 3))

		write(t, w, []Outcome{Written, Written, Stale, Equal}, purchase("42", 11), purchase("42", 256), purchase("42", 12), purchase("42", 256))
		equal(t, hash(t, c, key42), stored(256, 3))

		write(t, c.Writer(purchases, 4), []Outcome{Split, Written}, purchase("42", 300), purchase("43", 300))
		equal(t, hash(t, c, key42), stored(256, 3))

		// Another version of the group has keys of its own.
		v2 := purchases
		v2.Version = 2
		write(t, c.Writer(v2, 4), []Outcome{Written}, purchase("42", 1))
		equal(t, hash(t, c, key42), stored(256, 3))
	})
}

// A row of a new generation before any record has offset −1. It is newer than every row of the generation before, and older than offset 0.
func TestGuardAcrossGenerations(t *testing.T) {
	onBoth(t, func(t *testing.T, s *server) {
		w := open(t, s).Writer(purchases, 0)
		row := func(generation uint32, offset, asOf int64) sink.Row {
			r := purchase("42", 1)
			r.Version = sink.Version{Generation: generation, Offset: offset, AsOf: asOf}
			return r
		}
		write(t, w, []Outcome{Written, Written, Stale, Written, Stale, Written},
			row(9, math.MaxInt64, 5), row(10, -1, 500), row(9, 7, 600), row(10, 0, 400), row(10, -1, 900), row(10, 0, 401))
	})
}

func TestNullsAreRemoved(t *testing.T) {
	onBoth(t, func(t *testing.T, s *server) {
		c := open(t, s)
		w := c.Writer(purchases, 3)
		n := int64(0)
		for _, nulls := range [][]int{{}, {0}, {8}, {0, 1, 2}, {1, 4, 7}, {0, 1, 2, 3, 4, 5, 6, 7, 8}, {}, {3}} {
			n++
			r, want := purchase("42", n), stored(n, 3)
			for _, i := range nulls {
				r.Values[i] = schemas.Value{}
				delete(want, purchases.Features[i].Name)
			}
			// In one script with entities that have other nulls, or none.
			other := purchase("other", n)
			other.Values[5] = schemas.Value{}
			write(t, w, []Outcome{Written, Written, Written}, other, r, purchase("43", n))
			equal(t, hash(t, c, key42), want)
			equal(t, hash(t, c, "features:user_purchases:v1:43"), stored(n, 3))
		}
		never := purchase("42", 100)
		never.ValidUntil = sink.Never
		want := stored(100, 3)
		want["_u"] = ""
		write(t, w, []Outcome{Written}, never)
		equal(t, hash(t, c, key42), want)
	})
}

func TestTTL(t *testing.T) {
	onBoth(t, func(t *testing.T, s *server) {
		c := open(t, s)
		ttl := func() time.Duration {
			d, err := c.rdb.PTTL(t.Context(), key42).Result()
			if err != nil {
				t.Fatal(err)
			}
			return d
		}
		write(t, c.Writer(purchases, 3), []Outcome{Written}, purchase("42", 1))
		if d := ttl(); d > purchases.TTL || d < purchases.TTL-time.Minute {
			t.Errorf("TTL is %s, want %s", d, purchases.TTL)
		}
		// A refused write does not prolong it.
		if err := c.rdb.PExpire(t.Context(), key42, time.Hour).Err(); err != nil {
			t.Fatal(err)
		}
		write(t, c.Writer(purchases, 3), []Outcome{Stale}, purchase("42", 0))
		if d := ttl(); d > time.Hour {
			t.Errorf("TTL is %s after a refused write, want at most 1h", d)
		}
		write(t, c.Writer(purchases, 3), []Outcome{Equal}, purchase("42", 1))
		if d := ttl(); d < purchases.TTL-time.Minute {
			t.Errorf("TTL is %s after the same version was written again, want %s", d, purchases.TTL)
		}
		lifetime := purchases
		lifetime.TTL = 0
		write(t, c.Writer(lifetime, 3), []Outcome{Written}, purchase("42", 2))
		if d := ttl(); d != -1 {
			t.Errorf("TTL is %s, want none", d)
		}
		brief := purchases
		brief.TTL = 30 * time.Millisecond
		write(t, c.Writer(brief, 3), []Outcome{Written}, purchase("42", 3))
		if s.mini != nil {
			s.mini.FastForward(brief.TTL) // its TTLs stand still
		}
		for deadline := time.Now().Add(5 * time.Second); len(hash(t, c, key42)) > 0; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("the entity does not expire")
			}
		}
		write(t, c.Writer(purchases, 3), []Outcome{Written}, purchase("42", 1))
	})
}

func TestScriptIsReloaded(t *testing.T) {
	onBoth(t, func(t *testing.T, s *server) {
		c := open(t, s)
		w := c.Writer(purchases, 0)
		var rows []sink.Row
		for n := range int64(200) { // more than one script
			rows = append(rows, purchase(fmt.Sprint(n), 1))
		}
		for range 3 {
			if err := c.rdb.ScriptFlush(t.Context()).Err(); err != nil {
				t.Fatal(err)
			}
			for i := range rows {
				rows[i].Version.Offset++
			}
			write(t, w, make([]Outcome, 200), rows...)
			if err := c.rdb.ScriptFlush(t.Context()).Err(); err != nil {
				t.Fatal(err)
			}
			if err := w.WriteProgress(t.Context(), Progress{}); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// Entities and values are bytes; nothing in them may end an argument, a key or a script early.
func TestAnyBytes(t *testing.T) {
	onBoth(t, func(t *testing.T, s *server) {
		c := open(t, s)
		w := c.Writer(purchases, 0)
		entities := []string{"a|b", `a\|b`, "\r\n", "\x00", "{a}b", "{}", "_v", "blå", strings.Repeat("x", schemas.MaxEntityBytes), " ", "*"}
		for _, e := range entities {
			r := purchase(e, 5)
			r.Values[4] = schemas.StringValue([]byte("'\"\x00\r\n$5\r\nhello" + e))
			r.Values[8] = floats(math.Float32frombits(0x0a0d0a0d), 0, math.MaxFloat32)
			write(t, w, []Outcome{Written}, r)
			got := hash(t, c, "features:user_purchases:v1:"+e)
			if got["category"] != string(r.Values[4].Bytes) || got["embedding"] != string(r.Values[8].Bytes) || got["_v"] != r.Version.String() {
				t.Errorf("entity %q: stored is %q", e, got)
			}
		}
		text := [][]byte{[]byte("nobody")}
		for _, e := range entities {
			text = append(text, []byte(e))
		}
		versions, ok, err := w.Versions(t.Context(), text)
		if err != nil || ok[0] {
			t.Fatal(versions[0], ok[0], err)
		}
		for i := range entities {
			if !ok[i+1] || versions[i+1] != purchase("", 5).Version {
				t.Errorf("the version of %q is %v, %v", entities[i], versions[i+1], ok[i+1])
			}
		}
	})
}

// Many rows with many features go in several pipelines of several scripts; an embedding as large as a script makes a script alone.
func TestBigBatch(t *testing.T) {
	onBoth(t, func(t *testing.T, s *server) {
		wide := sink.Spec{Group: "wide", Version: 1}
		for i := range 2500 { // more than one HSET and one HDEL may take in Lua
			wide.Features = append(wide.Features, feature(fmt.Sprintf("f%d", i), schemas.Int))
		}
		c := open(t, s, func(cfg *Config) { cfg.PipelineRows = 100 })
		w := c.Writer(wide, 0)
		values, nulls := make([]schemas.Value, len(wide.Features)), make([]schemas.Value, len(wide.Features))
		for i := range values {
			values[i] = schemas.IntValue(int64(i))
		}
		nulls[2499] = schemas.IntValue(7)
		row := sink.Row{Entity: []byte("e"), Version: sink.Version{AsOf: 1}, ValidUntil: sink.Never, Values: values}
		later := row
		later.Version.AsOf, later.Values = 2, nulls
		write(t, w, []Outcome{Written}, row)
		if got := hash(t, c, "features:wide:v1:e"); len(got) != 2504 || got["f2499"] != "2499" || got["f999"] != "999" {
			t.Errorf("%d fields, f2499 is %q", len(got), got["f2499"])
		}
		write(t, w, []Outcome{Written}, later)
		if got := hash(t, c, "features:wide:v1:e"); len(got) != 5 || got["f2499"] != "7" {
			t.Errorf("%d fields, want 5: %q", len(got), got["f2499"])
		}

		var rows []sink.Row
		for n := range int64(1050) {
			r := purchase(fmt.Sprint(n/2), n) // two versions of each entity
			if n%100 == 0 {
				r.Values[4] = schemas.StringValue(bytes.Repeat([]byte{'x'}, 300<<10))
			}
			rows = append(rows, r)
		}
		small := c.Writer(purchases, 3)
		write(t, small, make([]Outcome, len(rows)), rows...)
		equal(t, hash(t, c, key42), stored(85, 3))
		write(t, small, []Outcome{})
	})
}

func TestProgress(t *testing.T) {
	onBoth(t, func(t *testing.T, s *server) {
		c := open(t, s)
		w := c.Writer(purchases, 3)
		if p, ok, err := w.ReadProgress(t.Context()); ok || err != nil {
			t.Fatal(p, ok, err)
		}
		first := Progress{Position: 12, AsOf: 1767225600000, Wall: 1767225601000, Generation: math.MaxUint32 - 1, Seq: 1 << 50, Store: "store"}
		expect := func(want Progress) {
			t.Helper()
			if p, ok, err := w.ReadProgress(t.Context()); !ok || err != nil || p != want {
				t.Fatalf("%+v, %v, %v; want %+v", p, ok, err, want)
			}
		}
		put := func(p Progress, want error) {
			t.Helper()
			if err := w.WriteProgress(t.Context(), p); !errors.Is(err, want) {
				t.Fatalf("writing %+v gives %v, want %v", p, err, want)
			}
		}
		put(first, nil)
		expect(first)
		second := first
		second.Position, second.Seq = 13, 1<<50+1
		put(second, nil)
		put(second, nil)
		put(first, ErrFenced)
		expect(second)
		anew := Progress{Generation: math.MaxUint32, Store: "another"}
		put(anew, nil)
		put(second, ErrFenced)
		expect(anew)
		anew.Wall = 50
		put(anew, nil)
		next := anew
		next.Wall, next.After = 60, 50
		put(next, nil)
		put(next, nil) // its own write, not acknowledged, is no loss
		next.After = 61
		put(next, ErrLost)
		next.After = 0
		expect(next)
		if m := hash(t, c, "features:_progress:user_purchases:v1:3"); len(m) != 6 || m["store"] != "another" || m["generation"] != "4294967295" {
			t.Errorf("the progress hash is %q", m)
		}
	})
}
