package oracle

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/avro"
)

const testSchema = `{"type": "record", "name": "E", "fields": [
	{"name": "id", "type": "string"},
	{"name": "user", "type": "string"},
	{"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
	{"name": "amount", "type": ["null", "double"], "default": null},
	{"name": "n", "type": ["null", "long"], "default": null},
	{"name": "price", "type": ["null", {"type": "bytes", "logicalType": "decimal", "precision": 38, "scale": 2}], "default": null},
	{"name": "category", "type": ["null", "string"], "default": null},
	{"name": "where", "type": ["null", {"type": "record", "name": "Where", "fields": [{"name": "city", "type": "string"}]}], "default": null}
]}`

// definition makes a definition of features, one a line.
func definition(features ...string) string {
	return "group: g\nversion: 1\nentity: {name: user, key: [user]}\nsource: {topic: t, schema: e.avsc, time: at, id: id}\n" +
		"freshness: 10s\nwindows: [1d]\nfeatures:\n  - {" + strings.Join(features, "}\n  - {") + "}\n"
}

func load(t testing.TB, text string) *Group {
	t.Helper()
	g, err := Load([]byte(text), []byte(testSchema))
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// e is an event; fields it does not name are null.
type e map[string]any

var encoder = avro.MustParse(testSchema)

// records encodes events, each published at its own time; ids are e0, e1, … unless given.
func records(t testing.TB, events ...e) []Record {
	t.Helper()
	var list []Record
	for i, ev := range events {
		full := e{"id": fmt.Sprintf("e%d", i), "user": "ann", "amount": nil, "n": nil, "price": nil, "category": nil, "where": nil}
		for k, v := range ev {
			full[k] = v
		}
		stamp := full["at"].(int)
		full["at"] = int64(stamp)
		value, err := encoder.AppendEncode([]byte{0, 0, 0, 0, 1}, map[string]any(full))
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, Record{Offset: int64(i), Timestamp: int64(stamp), Key: []byte(full["user"].(string)), Value: value, Partitions: 1})
	}
	return list
}

func writer(id int32) []byte {
	if id == 1 {
		return []byte(testSchema)
	}
	return nil
}

func admit(t testing.TB, g *Group, list []Record) *History {
	t.Helper()
	h, err := g.Admit(list, writer)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// show writes values with spaces between them; null is ~.
func show(values []Value) string {
	var parts []string
	for _, v := range values {
		if v.Null {
			v.Text = "~"
		}
		parts = append(parts, v.Text)
	}
	return strings.Join(parts, " ")
}

func TestValues(t *testing.T) {
	all := []string{
		"name: count, agg: count", "name: sum, agg: sum, of: amount", "name: avg, agg: avg, of: amount", "name: min, agg: min, of: amount",
		"name: max, agg: max, of: amount", "name: var, agg: variance, of: amount", "name: varp, agg: variance_pop, of: amount",
		"name: sd, agg: stddev, of: amount", "name: sdp, agg: stddev_pop, of: amount", "name: distinct, agg: count_distinct, of: amount",
		"name: first, agg: first, of: category", "name: last, agg: last, of: category", "name: ft, agg: first_time", "name: lt, agg: last_time",
	}
	events := []e{{"at": 1000, "amount": 2.0, "category": "b"}, {"at": 3000, "amount": 4.0}, {"at": 2000, "amount": 4.0, "category": "a"}, {"at": 4000}}
	for _, c := range []struct {
		name     string
		features []string
		events   []e
		asOf     int64
		want     string
	}{
		{"all aggregations", all, events, 5000, "4 10 3.3333333333333335 2 4 1.3333333333333333 0.8888888888888888 1.1547005383792515 0.9428090415820634 2 b a 1000 4000"},
		{"exactly a day old is out", all, events, day + 1000, "3 8 4 4 4 0 0 0 0 1 a a 2000 4000"},
		{"a millisecond younger is in", all[:2], events, day + 999, "4 10"},
		{"later than the instant is out", all[:2], events, 2999, "2 6"},
		{"one event", all, events, day + 3999, "1 0 ~ ~ ~ ~ ~ ~ ~ 0 ~ ~ 4000 4000"},
		{"empty", all, events, day + 4000, "0 0 ~ ~ ~ ~ ~ ~ ~ 0 ~ ~ ~ ~"},
		{"cancellation", all[1:2], []e{{"at": 1, "amount": 1e16}, {"at": 2, "amount": 1.0}, {"at": 3, "amount": -1e16}}, 10, "1"},
		{"rounded once", all[1:2], []e{{"at": 1, "amount": 0.1}, {"at": 2, "amount": 0.2}, {"at": 3, "amount": 0.3}}, 10, "0.6"},
		{"beyond a double", all[1:3], []e{{"at": 1, "amount": 1.7e308}, {"at": 2, "amount": 1.7e308}}, 10, "~ ~"},
		{"integers", []string{"name: s, agg: sum, of: n", "name: a, agg: avg, of: n", "name: v, agg: variance, of: n"}, []e{{"at": 1, "n": int64(1 << 62)}, {"at": 2, "n": int64(1<<62 - 1)}}, 10, "9223372036854775807 4611686018427388000 0.5"},
		{"beyond a long", []string{"name: s, agg: sum, of: n", "name: a, agg: avg, of: n"}, []e{{"at": 1, "n": int64(1 << 62)}, {"at": 2, "n": int64(1 << 62)}}, 10, "~ 4611686018427388000"},
		{"decimals", []string{"name: s, agg: sum, of: price", "name: a, agg: avg, of: price", "name: m, agg: min, of: price", "name: v, agg: variance, of: price"}, []e{{"at": 1, "price": big.NewRat(1, 10)}, {"at": 2, "price": big.NewRat(-2, 10)}}, 10, "-0.10 -0.05 -0.20 0.045"},
		{"no decimals", []string{"name: s, agg: sum, of: price", "name: m, agg: min, of: price"}, []e{{"at": 1}}, 10, "0.00 ~"},
		{"counts of a column", []string{"name: c, agg: count, of: category"}, events, 10_000, "2"},
		{"ages", []string{"name: f, agg: time_since_first, unit: hour", "name: l, agg: time_since_last, unit: minute"}, events, 4000 + 3_600_000, "1 60"},
		{"an age before its step", []string{"name: l, agg: time_since_last, unit: minute"}, events, 63_999, "0"},
		{"lifetime", []string{"name: c, agg: count, window: lifetime", "name: s, agg: sum, of: amount, windows: [lifetime, 2s]"}, events, 5000, "4 10 0"},
		{"a filter", []string{"name: c, agg: count, where: amount > 2.0", "name: d, agg: count, where: category == null", "name: e, agg: count, where: has(category) && category != 'a'"}, events, 5000, "2 2 1"},
		{"null in a comparison is false", []string{"name: c, agg: count, where: category != 'a'", "name: d, agg: count, where: category == 'a' || amount == 2"}, events, 5000, "1 2"},
		{"a nested field", []string{"name: c, agg: count, where: where.city == 'Rome'", "name: l, agg: last, of: where.city"}, []e{{"at": 1, "where": map[string]any{"city": "Rome"}}, {"at": 2}}, 10, "1 Rome"},
		{"decimals in expressions", []string{"name: c, agg: count, where: 'price >= 0.1 && price in [0.1, 2]'"}, []e{{"at": 1, "price": big.NewRat(1, 10)}, {"at": 2, "price": big.NewRat(2, 1)}, {"at": 3, "price": big.NewRat(3, 1)}}, 10, "2"},
		{"derive", []string{all[0], all[2], "name: d, derive: 'avg_1d > 3.0 ? avg_1d / double(count_1d) : 0.0'", "name: i, derive: 10 / (count_1d - 4)", "name: z, derive: avg_1d / 0.0", "name: s, derive: d - d"}, events, 5000, "4 3.3333333333333335 0.8333333333333334 ~ ~ 0"},
		{"derive with a null", []string{all[2], "name: d, derive: avg_1d + 1.0", "name: k, derive: 'avg_1d == null ? -1.0 : avg_1d'"}, []e{{"at": 1}}, 10, "~ ~ -1"},
		{"too many distinct values", []string{"name: d, agg: count_distinct, of: amount, max_distinct: 1", "name: e, agg: count_distinct, of: amount, max_distinct: 2"}, events, day + 3999, "~ 0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := admit(t, load(t, definition(c.features...)), records(t, c.events...))
			if got := show(h.Values("ann", c.asOf, Never)); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestTiesGoByIdentity(t *testing.T) {
	g := load(t, definition("name: f, agg: first, of: category", "name: l, agg: last, of: category"))
	one := admit(t, g, records(t, e{"at": 1, "id": "x", "category": "x"}, e{"at": 1, "id": "y", "category": "y"}))
	two := admit(t, g, records(t, e{"at": 1, "id": "y", "category": "y"}, e{"at": 1, "id": "x", "category": "x"}))
	a, b := show(one.Values("ann", 1, Never)), show(two.Values("ann", 1, Never))
	if a != b || a != "x y" && a != "y x" {
		t.Errorf("%q and %q, by the order of arrival", a, b)
	}
}

func TestAdmission(t *testing.T) {
	g := load(t, strings.Replace(definition("name: c, agg: count"), "windows:", "where: category != 'no'\nwindows:", 1))
	list := records(t,
		e{"at": 10 * day, "category": "yes"},
		e{"at": 10 * day, "category": "yes", "id": "e0"},
		e{"at": 10*day - 1, "category": "yes"},
		e{"at": 9 * day, "category": "yes"},
		e{"at": 9*day + 1, "category": "yes"},
		e{"at": 20 * day, "category": "no"},
		e{"at": 20 * day},
		e{"at": -1, "category": "yes"},
		e{"at": 11 * day, "category": "yes"},
		e{"at": 11 * day, "category": "yes"},
		e{"at": 11 * day, "category": "yes"},
		e{"at": 11 * day, "category": "yes"},
		e{"at": 11 * day, "category": "yes", "amount": math.Inf(1)}, // not a column of this group
		e{"at": 11 * day, "category": "yes", "user": strings.Repeat("u", 1025)},
		e{"at": 12 * day, "category": "\xff"},
	)
	list[8].Timestamp -= 5*60_000 + 1
	list[9].Key = []byte("bob")
	list[10].Value = list[10].Value[:9]
	list[11].Value = append(list[11].Value, make([]byte, 1<<20)...)
	want := []string{Accepted, Duplicate, Late, LateExpired, Late, Filtered, Filtered, Invalid, Future, KeyMismatch, Undecodable, TooLarge, Accepted, TooLarge, Undecodable}
	h := admit(t, g, list)
	for i, v := range h.Verdicts {
		if v.Reason != want[i] {
			t.Errorf("record %d: %s, want %s", i, v.Reason, want[i])
		}
		if clock := map[bool]int64{true: 10 * day, false: 11 * day}[i < 12]; v.Clock != clock {
			t.Errorf("record %d: clock %d, want %d", i, v.Clock, clock)
		}
	}
	sums := load(t, definition("name: s, agg: sum, of: amount"))
	for i, bad := range []any{math.NaN(), math.Inf(-1)} {
		if v := admit(t, sums, records(t, e{"at": 1, "amount": bad})).Verdicts[0]; v.Reason != Invalid {
			t.Errorf("case %d: %v is %s", i, bad, v.Reason)
		}
	}
}

// The values are those of Kafka's own tests (UtilsTest.testMurmur2) and of zlib's crc32.
func TestPartitioners(t *testing.T) {
	for key, want := range map[string]int32{"21": -973932308, "foobar": -790332482, "a-little-bit-long-string": -985981536, "a-little-bit-longer-string": -1486304829, "abc": 479470107} {
		if got := int32(murmur2([]byte(key))); got != want {
			t.Errorf("murmur2(%q) = %d, want %d", key, got, want)
		}
	}
	g := load(t, strings.Replace(definition("name: c, agg: count"), "id: id", "id: id, partitioner: crc32", 1))
	list := records(t, e{"at": 1, "user": "123456789"}, e{"at": 1, "user": "123456789"})
	for i := range list { // 0xcbf43926 = 3421780262
		list[i].Partitions, list[i].Partition = 100, int32(62+i)
	}
	if h := admit(t, g, list); h.Verdicts[0].Reason != Accepted || h.Verdicts[1].Reason != KeyMismatch {
		t.Errorf("%+v", h.Verdicts)
	}
}

func TestEvolvedWriter(t *testing.T) {
	g := load(t, definition("name: s, agg: sum, of: amount", "name: l, agg: last, of: category"))
	old := `{"type": "record", "name": "E", "fields": [{"name": "gone", "type": "int"}, {"name": "amount", "type": "int"},
		{"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}}, {"name": "user", "type": "string"}, {"name": "id", "type": "string"}]}`
	value, err := avro.MustParse(old).AppendEncode([]byte{0, 0, 0, 0, 7}, map[string]any{"gone": 1, "amount": 3, "at": 5, "user": "ann", "id": "x"})
	if err != nil {
		t.Fatal(err)
	}
	h, err := g.Admit([]Record{{Timestamp: 5, Key: []byte("ann"), Value: value, Partitions: 1}}, func(id int32) []byte { return []byte(old) })
	if err != nil {
		t.Fatal(err)
	}
	if got := show(h.Values("ann", 5, Never)); got != "3 ~" {
		t.Errorf("got %s, %+v", got, h.Verdicts)
	}
}

func TestText(t *testing.T) {
	for f, want := range map[float64]string{ // RFC 8785, appendix B
		0: "0", 5e-324: "5e-324", -5e-324: "-5e-324", math.MaxFloat64: "1.7976931348623157e+308", 9007199254740992: "9007199254740992",
		295147905179352830000: "295147905179352830000", 9.999999999999997e22: "9.999999999999997e+22", 1e23: "1e+23", 999999999999999700000: "999999999999999700000",
		1e21: "1e+21", 9.999999999999997e-7: "9.999999999999997e-7", 0.000001: "0.000001", 333333333.3333332: "333333333.3333332", 12.5: "12.5", -0.002: "-0.002",
	} {
		if got := jsonNumber(f); got != want {
			t.Errorf("%g is written %s, want %s", f, got, want)
		}
	}
	if got := decimalText(big.NewInt(-5), 3); got != "-0.005" {
		t.Errorf("a decimal is written %s", got)
	}
	u, wrong := readUUID("123E4567-e89b-12d3-a456-426614174000")
	if wrong != "" || u.text() != "123e4567-e89b-12d3-a456-426614174000" {
		t.Errorf("a uuid is written %q, %s", u.text(), wrong)
	}
	if _, wrong := readUUID("123e4567e-89b-12d3-a456-426614174000"); wrong != Invalid {
		t.Error("a uuid with a dash in a wrong place was read")
	}
	floats, _ := readFloats([]any{float32(1), float32(math.Copysign(0, -1))})
	if want := binary.LittleEndian.AppendUint64(nil, 0x3f800000); floats.text() != string(want) {
		t.Errorf("floats are written %x", floats.text())
	}
}

func TestRows(t *testing.T) {
	g := load(t, strings.Replace(definition("name: c, agg: count", "name: age, agg: time_since_last, unit: hour, window: 2h"), "[1d]", "[1h, 2h]", 1))
	const hour = 3_600_000
	list := records(t,
		e{"at": hour + 5, "user": "ann"},
		e{"at": hour + 5, "user": "bob"},
		e{"at": hour + 5, "user": "bob", "id": "e1"}, // a duplicate
		e{"at": 3*hour + 10_000, "user": "cid"},
		e{"at": 3*hour + 9_000, "user": "ann"},
	)
	h := admit(t, g, list)
	h.Advance(5, 5*hour+10_000)
	want := strings.Fields(`
		ann@0:3600005:event:7200005=1,1,0 bob@1:3600005:event:7200005=1,1,0
		ann@2:7210000:decay:10800005=0,1,1 bob@2:7210000:decay:10800005=0,1,1
		ann@2:10810000:decay:never=0,0,~ bob@2:10810000:decay:never=0,0,~
		cid@3:10810000:event:14410000=1,1,0 ann@4:10810000:late:14409000=1,1,0
		ann@4:14410000:decay:18009000=0,1,1 cid@4:14410000:decay:18010000=0,1,1
		ann@4:18010000:decay:never=0,0,~ cid@4:18010000:decay:never=0,0,~`)
	var got []string
	if err := h.Rows(func(r *Row) error {
		until := fmt.Sprint(r.ValidUntil)
		if r.ValidUntil == Never {
			until = "never"
		}
		if r.Last != (r.ValidUntil == Never) {
			t.Errorf("%+v: Last", r)
		}
		got = append(got, fmt.Sprintf("%s@%d:%d:%s:%s=%s", r.Entity, r.Offset, r.AsOf, r.Cause, until, strings.ReplaceAll(show(r.Values), " ", ",")))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for _, entity := range h.Entities() {
		var own []string
		err := h.RowsOf(entity, func(r *Row) error { own = append(own, fmt.Sprintf("%s@%d:%d", r.Entity, r.Offset, r.AsOf)); return nil })
		if err != nil || len(own) != strings.Count(strings.Join(want, " "), entity+"@") {
			t.Errorf("%s has the rows %v, %v", entity, own, err)
		}
	}
}

// A sample of the entities with the clocks of all records has the rows that it has among all.
func TestSample(t *testing.T) {
	g := load(t, definition("name: c, agg: count", "name: s, agg: sum, of: amount, window: 2h"))
	var events []e
	for i := range 300 {
		events = append(events, e{"at": i*1_000_000 - i%7*900_000 + 7_000_000, "user": string(rune('a' + i*i%11)), "amount": float64(i)})
	}
	list := records(t, events...)
	all := admit(t, g, list)
	var sample []Record
	for i, r := range list {
		if string(r.Key) == "e" {
			if i > 0 {
				r.Clock = all.Verdicts[i-1].Clock
			}
			sample = append(sample, r)
		}
	}
	rowsOf := func(h *History) (rows []string) {
		if err := h.RowsOf("e", func(r *Row) error {
			if r.Cause == CauseDecay {
				r.Offset = 0
			}
			rows = append(rows, fmt.Sprint(*r))
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		return rows
	}
	some := admit(t, g, sample)
	some.Advance(len(sample), all.Verdicts[len(list)-1].Clock)
	if got, want := rowsOf(some), rowsOf(all); !slices.Equal(got, want) || len(want) < 30 {
		t.Errorf("%d rows\n%s\nof all records %d\n%s", len(got), strings.Join(got, "\n"), len(want), strings.Join(want, "\n"))
	}
}
