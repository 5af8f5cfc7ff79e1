package parquet

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"testing"

	"github.com/freshet-dev/freshet/schemas"
	"github.com/freshet-dev/freshet/sink"
)

const day = int64(1_760_486_400_000) // 2025-10-15T00:00:00Z in ms

// everySpec has a feature of each kind.
func everySpec() sink.Spec {
	return sink.Spec{Group: "shoppers", Version: 2, Hash: 0xfeed, Entity: "user",
		Keys: []sink.Field{{Name: "user_id", Type: schemas.Type{Kind: schemas.String}}},
		Features: []sink.Field{
			{Name: "vip", Type: schemas.Type{Kind: schemas.Bool}},
			{Name: "purchases", Type: schemas.Type{Kind: schemas.Int}},
			{Name: "avg_value", Type: schemas.Type{Kind: schemas.Double}},
			{Name: "spend", Type: schemas.Type{Kind: schemas.Decimal, Scale: 2}},
			{Name: "category", Type: schemas.Type{Kind: schemas.String}},
			{Name: "digest", Type: schemas.Type{Kind: schemas.Bytes}},
			{Name: "session", Type: schemas.Type{Kind: schemas.UUID}},
			{Name: "last_at", Type: schemas.Type{Kind: schemas.Time}},
			{Name: "embedding", Type: schemas.Type{Kind: schemas.Floats, Dim: 4}},
		}}
}

func headerOf(spec sink.Spec) Header {
	return Header{SpecHash: spec.Hash, Features: len(spec.Features), Group: spec.Group, Version: spec.Version, Topic: "purchases",
		Partition: 3, Epoch: 7, Generation: 9, Number: 1}
}

// everyRows returns n rows of a third as many entities; available_at rises by 1 ms a row, from the first instant of a day on.
func everyRows(r *rand.Rand, spec sink.Spec, n int) []sink.Row {
	rows := make([]sink.Row, n)
	for i := range rows {
		rows[i] = sink.Row{Entity: fmt.Appendf(nil, "user-%d", r.IntN(n/3+1)), Version: sink.Version{Generation: 9, Offset: int64(i), AsOf: day + int64(i)},
			ValidUntil: day + int64(r.IntN(1e9)), ComputedAt: (day+int64(i))*1000 + int64(r.IntN(1000)), AvailableAt: (day + int64(i)) * 1000,
			Cause: sink.Cause(1 + r.IntN(4))}
		if r.IntN(4) == 0 {
			rows[i].ValidUntil = sink.Never
		}
		for _, f := range spec.Features {
			rows[i].Values = append(rows[i].Values, anyValue(r, f.Type))
		}
	}
	return rows
}

func anyValue(r *rand.Rand, t schemas.Type) schemas.Value {
	if r.IntN(5) == 0 {
		return schemas.Value{}
	}
	switch t.Kind {
	case schemas.Bool:
		return schemas.BoolValue(r.IntN(2) == 1)
	case schemas.Int:
		return schemas.IntValue(r.Int64() >> r.IntN(64))
	case schemas.Double:
		return schemas.DoubleValue(math.Round(r.NormFloat64()*1000) / float64(1+r.IntN(3)))
	case schemas.Decimal:
		if r.IntN(4) == 0 {
			return schemas.DecimalValue(r.Int64N(1e18)-5e17, r.Uint64())
		}
		v := r.Int64() >> r.IntN(64)
		return schemas.DecimalValue(v>>63, uint64(v))
	case schemas.UUID:
		b := binary.BigEndian.AppendUint64(nil, r.Uint64())
		return schemas.Value{Kind: schemas.UUID, Bytes: binary.BigEndian.AppendUint64(b, r.Uint64())}
	case schemas.Time:
		return schemas.TimeValue(day - r.Int64N(1e10))
	case schemas.Floats:
		var b []byte
		for range t.Dim {
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(float32(r.NormFloat64())))
		}
		return schemas.Value{Kind: schemas.Floats, Bytes: b}
	case schemas.Bytes:
		return schemas.Value{Kind: schemas.Bytes, Bytes: []byte{byte(r.Uint32()), 0, 0xff}}
	default:
		return schemas.StringValue([]byte([]string{"", "books", "kitchen & bath", "größe", "a very long category name"}[r.IntN(5)]))
	}
}

func cloneRow(row *sink.Row) sink.Row {
	c := *row
	c.Entity = append([]byte{}, row.Entity...)
	c.Values = append([]schemas.Value{}, row.Values...)
	for i := range c.Values {
		if c.Values[i].Bytes != nil {
			c.Values[i].Bytes = append([]byte{}, c.Values[i].Bytes...)
		}
	}
	return c
}

// text tells rows apart.
func text(row *sink.Row) string {
	return fmt.Sprintf("%x at %d", sink.AppendRow(nil, row), row.AvailableAt)
}

func createSegment(tb testing.TB, fs sink.FS, path string, spec sink.Spec, rows []sink.Row) *Segment {
	tb.Helper()
	seg, err := CreateSegment(fs, path, headerOf(spec))
	if err != nil {
		tb.Fatal(err)
	}
	for len(rows) > 0 {
		n := min(500, len(rows))
		if err := seg.Rows(rows[:n]); err != nil {
			tb.Fatal(err)
		}
		rows = rows[n:]
	}
	return seg
}

// wideSpec has 29 columns: the measure of the writer.
func wideSpec() sink.Spec {
	spec := sink.Spec{Group: "user_purchases", Version: 1, Hash: 1, Entity: "user",
		Keys: []sink.Field{{Name: "user_id", Type: schemas.Type{Kind: schemas.String}}}}
	for i := range 20 {
		kind := schemas.Double
		if i < 8 {
			kind = schemas.Int
		}
		spec.Features = append(spec.Features, sink.Field{Name: fmt.Sprintf("f%02d", i), Type: schemas.Type{Kind: kind}})
	}
	return spec
}

// wideRows returns lifelike rows: small counts, sums of cents over four windows, averages.
func wideRows(n, users int) []sink.Row {
	r := rand.New(rand.NewPCG(1, 2))
	rows := make([]sink.Row, n)
	values := make([]schemas.Value, n*20)
	for i := range rows {
		u := int(float64(users) * r.Float64() * r.Float64())
		asOf := day + int64(i)*int64(80_000_000)/int64(n)
		row := sink.Row{Entity: fmt.Appendf(nil, "user_%07d", u), Version: sink.Version{Generation: 1, Offset: int64(i), AsOf: asOf},
			ValidUntil: asOf + r.Int64N(86_400_000), ComputedAt: asOf*1000 + r.Int64N(5000), Cause: sink.Event, Values: values[i*20 : i*20+20]}
		row.AvailableAt = asOf*1000 + 5000 + int64(i)
		for f := range 8 {
			row.Values[f] = schemas.IntValue(int64(r.ExpFloat64() * float64(f+1)))
		}
		for f := 8; f < 20; f++ {
			cents := math.Round(r.ExpFloat64() * float64(f) * 1000)
			switch {
			case f < 12:
				row.Values[f] = schemas.DoubleValue(cents / 100)
			case f < 16:
				row.Values[f] = schemas.DoubleValue(cents / 100 / float64(1+r.IntN(7)))
			case r.IntN(3) > 0:
				row.Values[f] = schemas.DoubleValue(float64(r.IntN(90)))
			}
		}
		rows[i] = row
	}
	return rows
}

// decimalText writes a decimal as people do.
func decimalText(v schemas.Value, scale int) string {
	i := new(big.Int).Lsh(big.NewInt(v.Hi), 64)
	i.Add(i, new(big.Int).SetUint64(v.Bits))
	digits := fmt.Sprintf("%0*d", scale+1, new(big.Int).Abs(i))
	text := digits[:len(digits)-scale] + "." + digits[len(digits)-scale:]
	if i.Sign() < 0 {
		return "-" + text
	}
	return text
}

// sealFrames gives what looks like a segment's frames the checksums they need.
func sealFrames(data []byte) {
	for at := 0; len(data)-at >= frameHeadBytes; {
		n := int(binary.LittleEndian.Uint32(data[at:]))
		if n < 0 || n > len(data)-at-frameHeadBytes {
			return
		}
		end := at + frameHeadBytes + n
		binary.LittleEndian.PutUint32(data[at+4:], frameSum(data[at:end]))
		at = end
	}
}
