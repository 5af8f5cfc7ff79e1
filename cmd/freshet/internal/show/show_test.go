package show

import (
	"encoding/binary"
	"math"
	"testing"
	"time"

	"github.com/freshet-dev/freshet/schemas"
)

func embedding(fs ...float32) schemas.Value {
	v := schemas.Value{Kind: schemas.Floats}
	for _, f := range fs {
		v.Bytes = binary.LittleEndian.AppendUint32(v.Bytes, math.Float32bits(f))
	}
	return v
}

func TestValues(t *testing.T) {
	text := func(s string) schemas.Value { return schemas.StringValue([]byte(s)) }
	for _, c := range []struct {
		v           schemas.Value
		t           schemas.Type
		table, json string
	}{
		{schemas.Value{}, schemas.Type{Kind: schemas.Int}, "null", "null"},
		{schemas.IntValue(-7), schemas.Type{Kind: schemas.Int}, "-7", "-7"},
		{schemas.DoubleValue(1e21), schemas.Type{Kind: schemas.Double}, "1e+21", "1e+21"},
		{schemas.BoolValue(true), schemas.Type{Kind: schemas.Bool}, "true", "true"},
		{schemas.DecimalValue(0, 1230), schemas.Type{Kind: schemas.Decimal, Scale: 2}, "12.30", "12.30"},
		{text("a\"b"), schemas.Type{Kind: schemas.String}, `a"b`, `"a\"b"`},
		{text("a\x1b[2Jb"), schemas.Type{Kind: schemas.String}, `"a\x1b[2Jb"`, `"a\u001b[2Jb"`},
		{schemas.Value{Kind: schemas.Bytes, Bytes: []byte{0xab, 1}}, schemas.Type{Kind: schemas.Bytes}, "ab01", `"ab01"`},
		{schemas.TimeValue(1), schemas.Type{Kind: schemas.Time}, "1970-01-01T00:00:00.001Z", `"1970-01-01T00:00:00.001Z"`},
		{embedding(1, -2.5), schemas.Type{Kind: schemas.Floats, Dim: 2}, "[1, -2.5]", "[1,-2.5]"},
		{embedding(1, 2, 3, 4, 0.1), schemas.Type{Kind: schemas.Floats, Dim: 5}, "[1, 2, 3, 4, … 5 in all]", "[1,2,3,4,0.1]"},
	} {
		if got := Text(c.v, c.t); got != c.table {
			t.Errorf("table %q, wanted %q", got, c.table)
		}
		if got := string(JSON(c.v, c.t)); got != c.json {
			t.Errorf("json %s, wanted %s", got, c.json)
		}
	}
}

func TestWords(t *testing.T) {
	for got, want := range map[string]string{
		Count(0): "0", Count(999): "999", Count(-1234): "-1,234", Count(118_617_330): "118,617,330",
		Plural(1, "row", "rows"): "1 row", Plural(2000, "row", "rows"): "2,000 rows",
		Duration(999 * time.Millisecond): "999 ms", Duration(1990 * time.Millisecond): "1.9 s", Duration(-59 * time.Second): "-59 s",
		Duration(90 * time.Second): "1 m 30 s", Duration(25 * time.Hour): "1 d 1 h", Duration(3*time.Hour + 59*time.Minute): "3 h 59 m",
		Untyped("12.5"): "12.5", Untyped("\x00\x01"): "base64:AAE=",
	} {
		if got != want {
			t.Errorf("%q, wanted %q", got, want)
		}
	}
}
