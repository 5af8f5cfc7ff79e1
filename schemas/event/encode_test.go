package event

import (
	"bytes"
	"encoding/json"
	"math/big"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	twmb "github.com/twmb/avro"

	"github.com/freshet-dev/freshet/schemas"
)

// TestEncode reads back what is encoded from Go's values, JSON's and a CSV file's.
func TestEncode(t *testing.T) {
	fixDec3 := `{"type": "fixed", "name": "F", "size": 3, "logicalType": "decimal", "precision": 7, "scale": 2}`
	instant := time.Date(2026, 1, 31, 12, 0, 0, 123456789, time.FixedZone("", 3600))
	for _, c := range []struct {
		name, typ string
		v         any
		want      string // or "!" and what the error says
	}{
		{"bool text", `"boolean"`, "true", "bool true"},
		{"bool bad", `"boolean"`, "maybe", `!v: "maybe" is not a boolean: write true or false`},
		{"int text", `"int"`, "-7", "int -7"},
		{"int number", `"int"`, json.Number("1e3"), "int 1000"},
		{"int float", `"long"`, 5.0, "int 5"},
		{"int fraction", `"long"`, 5.5, "!v: 5.5 is not a long: it is no whole number"},
		{"int fraction text", `"long"`, "5.5", "!give a whole number"},
		{"int too large", `"int"`, int64(1) << 31, "!v: 2147483648 is not an int: it does not fit an int; declare long"},
		{"long too large", `"long"`, "9223372036854775808", "!give a whole number of at most 64 bits"},
		{"long least", `"long"`, json.Number("-9223372036854775808"), "int -9223372036854775808"},
		{"double text", `"double"`, "1.5", "double 1.5 3ff8000000000000"},
		{"double bad", `"double"`, "1,5", `!v: "1,5" is not a double: give a number`},
		{"float too large", `"float"`, 1e300, "!declare double"},
		{"string number", `"string"`, json.Number("12"), `string "12"`},
		{"string bad", `"string"`, true, "!v: true is not a string: give text"},
		{"RFC 3339", millis, "2026-01-31T12:00:00.5+01:00", "time 1769857200500"},
		{"date and time", millis, "2026-01-31 12:00:00", "time 1769860800000"},
		{"day", micros, "2026-01-31", "time 1769817600000"},
		{"number of micros", micros, "1769860800000000", "time 1769860800000"},
		{"time.Time", nanos, instant, "time 1769857200123"},
		{"time.Time before 1970", micros, time.Unix(0, -1), "time -1"},
		{"nanos far away", nanos, "2300-01-01", "!nanoseconds reach from 1678 to 2261"},
		{"time bad", millis, "yesterday", "!write it as 2026-01-31T12:00:00Z"},
		{"time in a plain long", `"long"`, instant, "!declare timestamp-millis"},
		{"date", date, "1970-01-02", "int 1"},
		{"date before 1970", date, time.Unix(-1, 0), "int -1"},
		{"decimal", dec2, "12.3", "decimal 0:1230"},
		{"decimal negative", dec2, "-.01", "decimal -1:18446744073709551615"},
		{"decimal number", dec2, json.Number("1.5e1"), "decimal 0:1500"},
		{"decimal float", dec2, 0.1, "decimal 0:10"},
		{"decimal int", dec2, 128, "decimal 0:12800"},
		{"decimal of -128", dec38, "-128", "decimal -1:18446744073709551488"},
		{"decimal with zeros", dec2, "1.500", "decimal 0:150"},
		{"decimal too fine", dec2, "0.001", `!v: "0.001" is not a decimal: it has more than 2 digits after the point; round it, or raise the schema's scale`},
		{"decimal bad", dec2, "1.2.3", "!give a number such as 12.30"},
		{"decimal with a zero before", dec2, "010.5", "decimal 0:1050"},
		{"decimal fraction", dec2, "1/2", "!give a number such as 12.30"},
		{"decimal hexadecimal", dec2, "0x10", "!give a number such as 12.30"},
		{"decimal exponent", dec2, "1e999999999", "!give a number such as 12.30"},
		{"decimal too long", dec2, strings.Repeat("9", 37), "!decimals have at most 38 digits"},
		{"decimal fixed", fixDec, "-1", "decimal -1:18446744073709551516"},
		{"decimal fixed, too large", fixDec, "92233720368547758.08", "!it does not fit the fixed of 8 bytes"},
		{"decimal fixed, least", fixDec3, "-83886.08", "decimal -1:18446744073701163008"},
		{"decimal fixed, too small", fixDec3, "-83886.09", "!it does not fit the fixed of 3 bytes"},
		{"decimal too long for its fixed", strings.Replace(fixDec3, "7", "30", 1), "1.5", "decimal 0:150"},
		{"time-micros", `{"type": "long", "logicalType": "time-micros"}`, 1500, "int 1500"},
		{"local timestamp", `{"type": "long", "logicalType": "local-timestamp-micros"}`, "2026-01-31", "time 1769817600000"},
		{"enum in a union", `["null", ` + enumAB + `]`, "B", `string "B"`},
		{"nanos in a union", `["null", ` + nanos + `]`, instant, "time 1769857200123"},
		{"decimal in a union", `[` + dec2 + `, "null"]`, "-1", "decimal -1:18446744073709551516"},
		{"uuid", uuid, "123e4567-e89b-12d3-a456-426614174000", "kind 7 123e4567e89b12d3a456426614174000"},
		{"uuid bad", uuid, "123", "!write it as 123e4567-"},
		{"fixed bad", fix2, "a1", `!v: "a1" is not a fixed t.F: it has 1 bytes; the fixed has 2`},
		{"fixed not hexadecimal", fix2, "zz", "!write its 2 bytes in hexadecimal"},
		{"enum bad", enumAB, "a", `!v: "a" is not an enum t.E: there is no such symbol; did you mean A?`},
		{"floats text", floats, "[1, 2.5]", "kind 9 0000803f00002040"},
		{"floats of float64", floats, []float64{1}, "kind 9 0000803f"},
		{"floats bad", floats, []any{1, "x"}, `!v[1]: "x" is not a float`},
		{"floats worse", floats, "1 2", "!write it as [0.1, 0.2]"},
		{"null", `["null", "long"]`, nil, "null"},
		{"empty cell", `["null", "long"]`, "", "null"},
		{"empty text", `["null", "string"]`, "", `string ""`},
		{"null bad", `"long"`, nil, "!v: null is not a long: give a whole number"},
		{"no null", `["long", "string"]`, nil, "!null is not among the union's types"},
		{"left out", `["null", "string"]`, leftOut{}, "null"},
		{"left out, needed", `"string"`, leftOut{}, "!v is missing; give it a value, or a default in the schema"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := mustParse(t, record("v "+c.typ))
			fields := map[string]any{"v": c.v}
			if _, ok := c.v.(leftOut); ok {
				fields = nil
			}
			b, err := NewEncoder(s, 258).Encode([]byte("dst"), fields)
			if want, ok := strings.CutPrefix(c.want, "!"); ok {
				if err == nil || !strings.Contains(err.Error(), want) || string(b) != "dst" {
					t.Errorf("got %q, %v, want %q", b, err, want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.HasPrefix(b, []byte("dst\x00\x00\x00\x01\x02")) {
				t.Fatalf("the header is missing: %x", b)
			}
			out := make([]schemas.Value, 1)
			if err := mustProject(t, s, s, "v").Decode(b[8:], out, &Scratch{}); err != nil || valueText(out[0]) != c.want {
				t.Errorf("got %s, %v, want %s", valueText(out[0]), err, c.want)
			}
		})
	}
}

type leftOut struct{}

func TestEncodeUnknownField(t *testing.T) {
	s := mustRead(t, "../catalog/purchase.avsc")
	_, err := NewEncoder(s, 1).Encode(nil, map[string]any{"event_id": "e", "user_id": "u", "product_id": "p", "amount": 1, "event_time": 1, "catgory": "x"})
	if err == nil || err.Error() != `freshet.Purchase has no field "catgory"; did you mean category?` {
		t.Errorf("got %v", err)
	}
}

// TestEncodeNulls: a value of type null takes no bytes, wherever it is; a branch that does not fit leaves nothing behind.
func TestEncodeNulls(t *testing.T) {
	s := mustParse(t, record(`a "null"`, `b {"type": "array", "items": "null"}`, `c {"type": "map", "values": "null"}`,
		`d [{"type": "record", "name": "D", "fields": [{"name": "x", "type": {"type": "array", "items": "int"}, "default": [1]}, {"name": "y", "type": "int"}]}, {"type": "map", "values": "int"}]`))
	got := encodeBody(t, s, map[string]any{"b": []any{nil, nil}, "c": map[string]any{"k": nil}, "d": map[string]any{"z": "3"}})
	if want := []byte{4, 0, 2, 2, 'k', 0, 2, 2, 2, 'z', 6, 0}; !bytes.Equal(got, want) {
		t.Errorf("got % x, want % x", got, want)
	}
}

// TestEncodeAgrees encodes random records of random schemas from Go's values, and compares what another library reads with what went in.
func TestEncodeAgrees(t *testing.T) {
	for seed := range uint64(2000) {
		w := &world{Rand: rand.New(rand.NewPCG(seed, 8))}
		typ := w.record(3)
		text, _ := json.Marshal(typ.json(map[string]bool{}))
		ours, err := Parse(text)
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		theirs, err := twmb.Parse(string(text))
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		for range 3 {
			var want, got any
			if _, err := theirs.Decode(w.encode(nil, typ, 6), &want); err != nil {
				t.Fatalf("%v\n%s", err, text)
			}
			fields := encodable(want, typ).(map[string]any)
			body, err := NewEncoder(ours, 1).Encode(nil, fields)
			if err != nil {
				t.Fatalf("seed %d: %v\n%v\n%s", seed, err, fields, text)
			}
			rest, err := theirs.Decode(body[headerBytes:], &got)
			if err != nil || len(rest) > 0 || !reflect.DeepEqual(encodable(got, typ), fields) {
				t.Fatalf("seed %d: they read %v, %x left, %v\nwant %v\n%s", seed, encodable(got, typ), rest, err, fields, text)
			}
		}
	}
}

// encodable is v, which the other library read as s, as an Encoder takes it.
func encodable(v any, s *shape) any {
	if s.typ == "union" { // of null and one type, or of null and plain ones
		s = s.branches[slices.IndexFunc(s.branches, func(b *shape) bool { return b.typ != "null" })]
	}
	switch v := v.(type) {
	case time.Duration:
		return int64(v) / map[string]int64{"time-millis": 1e6, "time-micros": 1e3}[s.logical]
	case *big.Rat:
		return v.FloatString(s.scale)
	case [16]byte:
		return v[:]
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = encodable(e, s.elem)
		}
		return out
	case map[string]any:
		out := map[string]any{}
		for k, e := range v {
			inner := s.elem
			for _, f := range s.fields {
				if f.name == k {
					inner = f.typ
				}
			}
			out[k] = encodable(e, inner)
		}
		return out
	}
	return v
}
