package sink

import (
	"bytes"
	"encoding/hex"
	"math"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/freshet-dev/freshet/schemas"
)

// goldenRow holds a value of each kind; its bytes are stored in segments, so they may not change.
var goldenRow = Row{
	Entity: []byte("u-1"), Version: Version{Generation: 0x67000000, Offset: 300, AsOf: 1_760_486_400_123}, ValidUntil: 1_760_486_401_123,
	ComputedAt: 1_760_486_400_125_000, AvailableAt: 1_760_486_400_126_500, Cause: Late, Last: true,
	Values: []schemas.Value{
		{}, schemas.BoolValue(true), schemas.IntValue(-2), schemas.DoubleValue(12.5), schemas.DoubleValue(0),
		schemas.DecimalValue(-1, math.MaxUint64), schemas.DecimalValue(1, 2), schemas.StringValue([]byte("abc")),
		{Kind: schemas.Bytes, Bytes: []byte("0123456789abcdef")}, {Kind: schemas.UUID, Bytes: []byte("0123456789abcdef")},
		schemas.TimeValue(1_760_486_400_000), {Kind: schemas.Floats, Bytes: []byte{0, 0, 0x80, 0x3f}},
	},
}

const goldenHex = "2a" + "03752d31" + "808080b806" + "d804" + "f681d5d2bc66" + "d00f" + "a01f" + "b817" + "0c" +
	"00" + "11" + "1203" + "232940" + "03" + "1401" + "f402000000000000000100000000000000" + "35616263" +
	"f61030313233343536373839616263646566" + "0730313233343536373839616263646566" + "18f6" + "490000803f"

func TestRowGolden(t *testing.T) {
	if got := hex.EncodeToString(AppendRow(nil, &goldenRow)); got != goldenHex {
		t.Errorf("\n got %s\nwant %s", got, goldenHex)
	}
	b, err := hex.DecodeString(goldenHex + "ff")
	if err != nil {
		t.Fatal(err)
	}
	var row Row
	rest, err := DecodeRow(b, &row, len(goldenRow.Values))
	if err != nil || !bytes.Equal(rest, []byte{0xff}) {
		t.Fatalf("rest %x, error %v", rest, err)
	}
	if !reflect.DeepEqual(row, goldenRow) {
		t.Errorf("\n got %+v\nwant %+v", row, goldenRow)
	}
}

func TestRowRoundTripOfExtremes(t *testing.T) {
	for _, i := range []int64{0, 1, -1, math.MaxInt64, math.MinInt64, 1 << 55, -1 << 56} {
		row := Row{Entity: []byte{}, Version: Version{Generation: math.MaxUint32, Offset: i, AsOf: i}, ValidUntil: -i, ComputedAt: i, AvailableAt: -i,
			Cause: Backfill, Values: []schemas.Value{schemas.IntValue(i), schemas.TimeValue(-i), {Kind: schemas.Double, Bits: uint64(i)},
				schemas.DecimalValue(i, uint64(-i)), {Kind: schemas.String, Bytes: bytes.Repeat([]byte{7}, 3000)}}}
		var got Row
		rest, err := DecodeRow(AppendRow(nil, &row), &got, 5)
		if err != nil || len(rest) != 0 {
			t.Fatalf("%d: rest %x, error %v", i, rest, err)
		}
		if !reflect.DeepEqual(got, row) {
			t.Errorf("%d:\n got %+v\nwant %+v", i, got, row)
		}
	}
}

func TestDecodeRowAllocatesNothing(t *testing.T) {
	b := AppendRow(nil, &goldenRow)
	row := Row{Values: make([]schemas.Value, len(goldenRow.Values))}
	if n := testing.AllocsPerRun(100, func() {
		if _, err := DecodeRow(b, &row, len(goldenRow.Values)); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations a row", n)
	}
}

func TestDecodeRowRefusesEveryPrefix(t *testing.T) {
	b := AppendRow(nil, &goldenRow)
	for n := range b {
		var row Row
		if _, err := DecodeRow(b[:n:n], &row, len(goldenRow.Values)); err == nil {
			t.Errorf("the first %d of %d bytes are taken for a row", n, len(b))
		}
	}
	var row Row
	if _, err := DecodeRow(b, &row, len(goldenRow.Values)-1); err == nil {
		t.Error("a row of another number of features is taken")
	}
}

// FuzzDecodeRow: whatever is accepted is a row that encodes, to no more bytes, and decodes to the same.
func FuzzDecodeRow(f *testing.F) {
	golden, err := hex.DecodeString(goldenHex)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(golden, 12)
	f.Add([]byte{1, 0, 0, 0, 0, 0, 0, 0}, 0)
	f.Fuzz(func(t *testing.T, b []byte, features int) {
		if features < 0 || features > 100 {
			return
		}
		var row, again Row
		rest, err := DecodeRow(b, &row, features)
		if err != nil {
			return
		}
		encoded := AppendRow(nil, &row)
		if len(encoded) > len(b)-len(rest) {
			t.Fatalf("%x is longer than %x", encoded, b[:len(b)-len(rest)])
		}
		if _, err := DecodeRow(encoded, &again, features); err != nil {
			t.Fatalf("%x: %v", encoded, err)
		}
		if !bytes.Equal(AppendRow(nil, &again), encoded) {
			t.Fatalf("%x decodes to another row", encoded)
		}
	})
}

func BenchmarkDecodeRow(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 2))
	row := goldenRow
	row.Values = nil
	for i := range 20 {
		if i < 8 {
			row.Values = append(row.Values, schemas.IntValue(r.Int64N(1000)))
		} else {
			row.Values = append(row.Values, schemas.DoubleValue(r.Float64()))
		}
	}
	encoded := AppendRow(nil, &row)
	var got Row
	for b.Loop() {
		if _, err := DecodeRow(encoded, &got, 20); err != nil {
			b.Fatal(err)
		}
	}
}
