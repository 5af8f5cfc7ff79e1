package redis

import (
	"bytes"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/freshet-dev/freshet/schemas"
	"github.com/freshet-dev/freshet/sink"
)

func TestReader(t *testing.T) {
	onBoth(t, func(t *testing.T, s *server) {
		c := open(t, s)
		w := c.Writer(purchases, 3)
		some := purchase("some", 7)
		some.Values[1], some.Values[8], some.ValidUntil = schemas.Value{}, schemas.Value{}, sink.Never
		write(t, w, []Outcome{Written, Written}, purchase("42", 1001), some)

		r := c.Reader(purchases, 10*time.Second)
		v, err := r.GetFeatures(t.Context(), "42")
		if err != nil {
			t.Fatal(err)
		}
		want := purchase("42", 1001)
		if !v.Known || string(v.Entity) != "42" || v.Version != want.Version || v.AsOf != want.Version.AsOf || v.ValidUntil != want.ValidUntil || v.Partition != 3 {
			t.Errorf("the vector is %+v", v)
		}
		for i, name := range v.Names() {
			got, err := v.Value(i)
			if name != purchases.Features[i].Name || err != nil || !sameValue(got, want.Values[i]) {
				t.Errorf("feature %d, %s: %+v, %v; want %+v", i, name, got, err, want.Values[i])
			}
		}
		checkAccessors(t, &v)

		vs, err := r.GetFeatureVectors(t.Context(), [][]byte{[]byte("some"), []byte("nobody"), []byte("42")}, []string{"category", "avg_7d"})
		if err != nil || len(vs) != 3 || !vs[0].Known || vs[1].Known || !vs[2].Known || !reflect.DeepEqual(vs[2].Names(), []string{"category", "avg_7d"}) {
			t.Fatalf("%+v, %v", vs, err)
		}
		if text, ok := vs[0].Text("category"); !ok || text != "c|7\r\n" {
			t.Errorf("category is %q, %v", text, ok)
		}
		if f, ok := vs[0].Float64("avg_7d"); ok {
			t.Errorf("a null is %v", f)
		}
		if f, ok := vs[1].Float64("avg_7d"); ok || vs[1].Expired(time.Now()) {
			t.Errorf("an unknown entity has %v", f)
		}
		if vs[0].ValidUntil != sink.Never || vs[0].Expired(time.Now().AddDate(1000, 0, 0)) {
			t.Errorf("valid until %d, not for ever", vs[0].ValidUntil)
		}
		if v, err := r.GetFeatureVectors(t.Context(), nil, nil); err != nil || len(v) != 0 {
			t.Error(v, err)
		}
		if _, err := r.GetFeatureVectors(t.Context(), [][]byte{nil}, []string{"avg_8d"}); err == nil || !strings.Contains(err.Error(), "avg_8d") {
			t.Errorf("a feature that does not exist gives %v", err)
		}
	})
}

func sameValue(a, b schemas.Value) bool {
	return a.Kind == b.Kind && a.Hi == b.Hi && a.Bits == b.Bits && bytes.Equal(a.Bytes, b.Bytes)
}

// checkAccessors checks the vector of purchase 1001.
func checkAccessors(t *testing.T, v *Vector) {
	t.Helper()
	text := func(name string) any { x, ok := v.Text(name); return [2]any{x, ok} }
	float := func(name string) any { x, ok := v.Float64(name); return [2]any{x, ok} }
	integer := func(name string) any { x, ok := v.Int64(name); return [2]any{x, ok} }
	for _, c := range []struct{ got, want any }{
		{text("spend_7d"), [2]any{"10.01", true}},
		{text("session"), [2]any{"00000000-0000-0000-0000-0000000003e9", true}},
		{float("avg_7d"), [2]any{250.25, true}},
		{float("spend_7d"), [2]any{10.01, true}},
		{float("count_7d"), [2]any{1001.0, true}},
		{float("category"), [2]any{0.0, false}},
		{integer("count_7d"), [2]any{int64(1001), true}},
		{integer("avg_7d"), [2]any{int64(0), false}},
	} {
		if c.got != c.want {
			t.Errorf("got %v, want %v", c.got, c.want)
		}
	}
	if b, ok := v.Bool("gift"); !b || !ok {
		t.Errorf("gift is %v, %v", b, ok)
	}
	if _, ok := v.Bool("category"); ok {
		t.Error("a text is a truth value")
	}
	if at, ok := v.Time("last_at"); !ok || !at.Equal(time.UnixMilli(1001)) {
		t.Errorf("last_at is %v, %v", at, ok)
	}
	if f, ok := v.Floats("embedding"); !ok || !reflect.DeepEqual(f, []float32{1001, -0.5, 1e-30}) {
		t.Errorf("embedding is %v, %v", f, ok)
	}
	until := time.UnixMilli(v.ValidUntil)
	if v.Age(until) != time.Second || v.Expired(until.Add(10*time.Second)) || !v.Expired(until.Add(10*time.Second+time.Millisecond)) {
		t.Errorf("age at its end is %s; it must expire 10 s later", v.Age(until))
	}
	defer func() {
		if recover() == nil {
			t.Error("a feature that was not asked for is null")
		}
	}()
	v.Text("misspelt")
}

func TestReaderWithoutDefinitions(t *testing.T) {
	onBoth(t, func(t *testing.T, s *server) {
		c := open(t, s)
		w := c.Writer(purchases, 5)
		r := purchase("42", 3)
		r.Values[0] = schemas.Value{}
		write(t, w, []Outcome{Written}, r)

		v, err := c.ReaderOf("user_purchases", 1).GetFeatures(t.Context(), 42)
		if err != nil || !v.Known || v.Version != r.Version || v.Partition != 5 {
			t.Fatalf("%+v, %v", v, err)
		}
		if want := []string{"avg_7d", "category", "embedding", "gift", "last_at", "session", "sku", "spend_7d"}; !reflect.DeepEqual(v.Names(), want) {
			t.Errorf("the entity has %q, want %q", v.Names(), want)
		}
		if f, ok := v.Float64("avg_7d"); !ok || f != 0.75 {
			t.Errorf("avg_7d is %v, %v", f, ok)
		}
		if _, ok := v.Int64("count_7d"); ok {
			t.Error("a null has a value")
		}
		if x, err := v.Value(7); err != nil || x.Kind != schemas.Bytes || string(x.Bytes) != "0.03" {
			t.Errorf("spend_7d is %+v, %v", x, err)
		}
		if v, err := c.ReaderOf("user_purchases", 1).GetFeatures(t.Context(), "nobody"); err != nil || v.Known || len(v.Names()) != 0 {
			t.Errorf("%+v, %v", v, err)
		}
		named := c.ReaderOf("user_purchases", 1, "gift", "count_7d")
		if v, err = named.GetFeatures(t.Context(), "42"); err != nil || !reflect.DeepEqual(v.Names(), []string{"gift", "count_7d"}) {
			t.Fatalf("%+v, %v", v, err)
		}
		if b, ok := v.Bool("gift"); !ok || !b {
			t.Errorf("gift is %v, %v", b, ok)
		}
		p := Progress{Position: 4, Generation: 7, Store: "s"}
		if err := w.WriteProgress(t.Context(), p); err != nil {
			t.Fatal(err)
		}
		if got, ok, err := named.Progress(t.Context(), v.Partition); got != p || !ok || err != nil {
			t.Errorf("progress is %+v, %v, %v", got, ok, err)
		}
	})
}

// What another program wrote under our keys is an error, not a value.
func TestReaderRefusesForeignHashes(t *testing.T) {
	onBoth(t, func(t *testing.T, s *server) {
		c := open(t, s)
		good := []string{"_v", sink.Version{}.String(), "_t", "1", "_u", "", "_p", "0"}
		for i, bad := range []string{"7", "x", "x", "999999999999"} {
			fields := append([]string{}, good...)
			fields[2*i+1] = bad
			key := fmt.Sprintf("features:user_purchases:v1:%d", i)
			if err := c.rdb.HSet(t.Context(), key, fields).Err(); err != nil {
				t.Fatal(err)
			}
			for _, r := range []*Reader{c.Reader(purchases, 0), c.ReaderOf("user_purchases", 1)} {
				if v, err := r.GetFeatures(t.Context(), fmt.Sprint(i)); err == nil {
					t.Errorf("a hash whose %s is %q reads as %+v", fields[2*i], bad, v)
				}
			}
		}
		if err := c.rdb.Set(t.Context(), "features:user_purchases:v1:s", "a string", 0).Err(); err != nil {
			t.Fatal(err)
		}
		for _, r := range []*Reader{c.Reader(purchases, 0), c.ReaderOf("user_purchases", 1)} {
			if _, err := r.GetFeatures(t.Context(), "s"); err == nil || !strings.Contains(err.Error(), "WRONGTYPE") || !strings.Contains(err.Error(), "redis.prefix") {
				t.Errorf("a key that is no hash gives %v", err)
			}
		}
	})
}

func TestEntity(t *testing.T) {
	c := open(t, &server{addr: "127.0.0.1:1"})
	uuid := [16]byte{0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 15: 0xff}
	const uuidText = "01234567-89ab-cdef-0000-0000000000ff"
	plain := c.ReaderOf("g", 1)
	typed := c.Reader(sink.Spec{Group: "g", Version: 1, Keys: []sink.Field{
		feature("name", schemas.String), feature("shop", schemas.Int), feature("device", schemas.UUID), feature("hash", schemas.Bytes)}}, 0)
	for _, e := range []struct {
		r    *Reader
		key  []any
		want string
	}{
		{plain, []any{"u1"}, "u1"},
		{plain, []any{`a|b\c`, 7, int32(-1), int64(math.MinInt64), uint32(8)}, `a\|b\\c|7|-1|-9223372036854775808|8`},
		{plain, []any{uuid, []byte{0xab, 0}}, uuidText + "|ab00"},
		{typed, []any{"a|b", 7, uuid, []byte{0xab}}, `a\|b|7|` + uuidText + "|ab"},
		{typed, []any{"", "-7", strings.ToUpper(uuidText), "AB"}, `|-7|` + uuidText + "|ab"},
		{typed, []any{"a", schemas.IntValue(5), uuid[:], ""}, `a|5|` + uuidText + "|"},
	} {
		if got, err := e.r.Entity(e.key...); err != nil || string(got) != e.want {
			t.Errorf("Entity(%v) is %q, %v; want %q", e.key, got, err, e.want)
		}
	}
	for _, key := range [][]any{nil, {"a"}, {"a", 1.5, uuid, ""}, {"a", "x", uuid, ""}, {7, 7, uuid, ""}, {"a", 7, "no", ""}, {"a", 7, uuid, "xyz"}, {"a", 7, nil, ""},
		{strings.Repeat("x", 1025), 1, uuid, ""}} {
		if got, err := typed.Entity(key...); err == nil {
			t.Errorf("Entity(%v) is %q, want an error", key, got)
		}
		if _, err := typed.GetFeatures(t.Context(), key...); err == nil || strings.Contains(err.Error(), "refused") {
			t.Errorf("GetFeatures(%v) gives %v", key, err)
		}
	}
}

func FuzzParseArray(f *testing.F) {
	f.Add([]byte("*2\r\n$1\r\na\r\n$-1\r\n"), 2)
	f.Add([]byte("*0\r\n"), 0)
	f.Fuzz(func(t *testing.T, raw []byte, n int) {
		got, err := parseArray(raw, n)
		if err == nil && (n > 0 && len(got) != n || len(got) > len(raw)) {
			t.Fatalf("%q has %d elements, want %d", raw, len(got), n)
		}
	})
}
