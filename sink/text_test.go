package sink

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"math"
	"math/big"
	"math/rand/v2"
	"sort"
	"strings"
	"testing"

	"github.com/freshet-dev/freshet/schemas"
)

// rfc8785 holds the finite rows of RFC 8785, appendix B, and edges of ECMAScript's notation.
var rfc8785 = []struct {
	bits uint64
	text string
}{
	{0x0000000000000000, "0"},
	{0x8000000000000000, "0"},
	{0x0000000000000001, "5e-324"},
	{0x8000000000000001, "-5e-324"},
	{0x7fefffffffffffff, "1.7976931348623157e+308"},
	{0xffefffffffffffff, "-1.7976931348623157e+308"},
	{0x4340000000000000, "9007199254740992"},
	{0xc340000000000000, "-9007199254740992"},
	{0x4430000000000000, "295147905179352830000"},
	{0x44b52d02c7e14af5, "9.999999999999997e+22"},
	{0x44b52d02c7e14af6, "1e+23"},
	{0x44b52d02c7e14af7, "1.0000000000000001e+23"},
	{0x444b1ae4d6e2ef4e, "999999999999999700000"},
	{0x444b1ae4d6e2ef4f, "999999999999999900000"},
	{0x444b1ae4d6e2ef50, "1e+21"},
	{0x3eb0c6f7a0b5ed8c, "9.999999999999997e-7"},
	{0x3eb0c6f7a0b5ed8d, "0.000001"},
	{0x41b3de4355555553, "333333333.3333332"},
	{0x41b3de4355555554, "333333333.33333325"},
	{0x41b3de4355555555, "333333333.3333333"},
	{0x41b3de4355555556, "333333333.3333334"},
	{0x41b3de4355555557, "333333333.33333343"},
	{0xbecbf647612f3696, "-0.0000033333333333333333"},
	{0x43143ff3c1cb0959, "1424953923781206.2"},
	{math.Float64bits(12.3), "12.3"},
	{math.Float64bits(1e-10), "1e-10"},
	{math.Float64bits(1e100), "1e+100"},
	{math.Float64bits(123456789), "123456789"},
}

func TestDoublesAreRFC8785(t *testing.T) {
	for _, c := range rfc8785 {
		f := math.Float64frombits(c.bits)
		if got := string(AppendDouble([]byte("x"), f)); got != "x"+c.text {
			t.Errorf("AppendDouble(%#x) = %q, want %q", c.bits, got, "x"+c.text)
		}
		v, err := ParseText([]byte(c.text), schemas.Type{Kind: schemas.Double})
		if err != nil || v.Float64() != f {
			t.Errorf("ParseText(%q) = %v, %v, want %v", c.text, v.Float64(), err, f)
		}
	}
}

// encoding/json documents ES6's format for numbers, written independently of ours.
func checkDouble(t *testing.T, f float64) {
	t.Helper()
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return
	}
	v := schemas.DoubleValue(f)
	text := AppendText(nil, v, schemas.Type{Kind: schemas.Double})
	if want, err := json.Marshal(v.Float64()); err != nil || !bytes.Equal(text, want) {
		t.Fatalf("text of %#x is %s, encoding/json writes %s (%v)", v.Bits, text, want, err)
	}
	if back, err := ParseText(text, schemas.Type{Kind: schemas.Double}); err != nil || back.Bits != v.Bits {
		t.Fatalf("%s reads back as %#x, %v; want %#x", text, back.Bits, err, v.Bits)
	}
}

func TestDoublesAgainstStandardLibrary(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 200_000 {
		checkDouble(t, math.Float64frombits(r.Uint64()))
		checkDouble(t, math.Round(r.NormFloat64()*1e6)/100)
	}
	for e := -330; e <= 308; e++ {
		p := math.Pow(10, float64(e))
		checkDouble(t, p)
		checkDouble(t, math.Nextafter(p, 0))
		checkDouble(t, -math.Nextafter(p, math.MaxFloat64))
	}
}

func FuzzDouble(f *testing.F) {
	for _, c := range rfc8785 {
		f.Add(c.bits)
	}
	f.Fuzz(func(t *testing.T, bits uint64) { checkDouble(t, math.Float64frombits(bits)) })
}

func decimalOf(t *testing.T, unscaled string) schemas.Value {
	t.Helper()
	n, ok := new(big.Int).SetString(unscaled, 10)
	if !ok {
		t.Fatalf("%q is not an integer", unscaled)
	}
	return decimalValue(n)
}

func decimalValue(n *big.Int) schemas.Value {
	m := new(big.Int).And(n, new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 128), big.NewInt(1)))
	lo := new(big.Int).And(m, new(big.Int).SetUint64(math.MaxUint64)).Uint64()
	return schemas.DecimalValue(int64(new(big.Int).Rsh(m, 64).Uint64()), lo)
}

func TestGoldenTexts(t *testing.T) {
	kind := func(k schemas.Kind) schemas.Type { return schemas.Type{Kind: k} }
	decimal := func(scale int) schemas.Type { return schemas.Type{Kind: schemas.Decimal, Scale: scale} }
	embedding := binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, math.Float32bits(1)), math.Float32bits(-0.5))
	for _, c := range []struct {
		value schemas.Value
		typ   schemas.Type
		text  string
	}{
		{schemas.BoolValue(true), kind(schemas.Bool), "true"},
		{schemas.BoolValue(false), kind(schemas.Bool), "false"},
		{schemas.IntValue(0), kind(schemas.Int), "0"},
		{schemas.IntValue(math.MinInt64), kind(schemas.Int), "-9223372036854775808"},
		{schemas.IntValue(math.MaxInt64), kind(schemas.Int), "9223372036854775807"},
		{schemas.TimeValue(1767225600123), kind(schemas.Time), "1767225600123"},
		{decimalOf(t, "1230"), decimal(2), "12.30"},
		{decimalOf(t, "0"), decimal(2), "0.00"},
		{decimalOf(t, "-7"), decimal(3), "-0.007"},
		{decimalOf(t, "42"), decimal(0), "42"},
		{decimalOf(t, "18446744073709551616"), decimal(0), "18446744073709551616"},
		{decimalOf(t, "170141183460469231731687303715884105727"), decimal(0), "170141183460469231731687303715884105727"},
		{decimalOf(t, "-170141183460469231731687303715884105728"), decimal(38), "-1.70141183460469231731687303715884105728"},
		{decimalOf(t, "5"), decimal(38), "0.00000000000000000000000000000000000005"},
		{schemas.StringValue([]byte("")), kind(schemas.String), ""},
		{schemas.StringValue([]byte("blå|\\ \x00")), kind(schemas.String), "blå|\\ \x00"},
		{schemas.Value{Kind: schemas.Bytes, Bytes: []byte{0, 0xab, 0xff}}, kind(schemas.Bytes), "00abff"},
		{schemas.Value{Kind: schemas.UUID, Bytes: []byte("\x01\x23\x45\x67\x89\xab\xcd\xef\x01\x23\x45\x67\x89\xab\xcd\xef")}, kind(schemas.UUID), "01234567-89ab-cdef-0123-456789abcdef"},
		{schemas.Value{Kind: schemas.Floats, Bytes: embedding}, schemas.Type{Kind: schemas.Floats, Dim: 2}, "\x00\x00\x80\x3f\x00\x00\x00\xbf"},
	} {
		if got := string(AppendText([]byte("> "), c.value, c.typ)); got != "> "+c.text {
			t.Errorf("AppendText(%+v) = %q, want %q", c.value, got, c.text)
		}
		back, err := ParseText([]byte(c.text), c.typ)
		if err != nil || back.Kind != c.value.Kind || back.Hi != c.value.Hi || back.Bits != c.value.Bits || !bytes.Equal(back.Bytes, c.value.Bytes) {
			t.Errorf("ParseText(%q) = %+v, %v, want %+v", c.text, back, err, c.value)
		}
	}
	if got := AppendText([]byte("x"), schemas.Value{}, kind(schemas.Int)); string(got) != "x" {
		t.Errorf("null has the text %q", got)
	}
}

func TestDecimalsAgainstBig(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 20_000 {
		n := new(big.Int).SetUint64(r.Uint64())
		n.Lsh(n, 64).Or(n, new(big.Int).SetUint64(r.Uint64())).Rsh(n, uint(1+r.IntN(127)))
		if r.IntN(2) == 0 {
			n.Neg(n)
		}
		scale := r.IntN(39)
		v := decimalValue(n)
		text := string(AppendText(nil, v, schemas.Type{Kind: schemas.Decimal, Scale: scale}))
		want, ok := new(big.Rat).SetString(text)
		if !ok || want.Mul(want, new(big.Rat).SetInt(new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(scale)), nil))).Cmp(new(big.Rat).SetInt(n)) != 0 {
			t.Fatalf("%s with scale %d is written %s", n, scale, text)
		}
		back, err := ParseText([]byte(text), schemas.Type{Kind: schemas.Decimal, Scale: scale})
		if err != nil || back.Hi != v.Hi || back.Bits != v.Bits {
			t.Fatalf("%s reads back as %+v, %v; want %+v", text, back, err, v)
		}
	}
}

func TestParseTextRefuses(t *testing.T) {
	for _, c := range []struct {
		typ   schemas.Type
		texts []string
	}{
		{schemas.Type{Kind: schemas.Bool}, []string{"", "1", "TRUE", "true "}},
		{schemas.Type{Kind: schemas.Int}, []string{"", "+1", "01", "-0", "1.0", "1e3", "9223372036854775808", " 1", "0x1", "1_0"}},
		{schemas.Type{Kind: schemas.Time}, []string{"", "2026-01-01"}},
		{schemas.Type{Kind: schemas.Double}, []string{"", "-", "NaN", "Inf", "-Infinity", "1e999", "0x1p3", "1_0", ".5", "5.", "1e", "01", "+1", "1e+", "1 "}},
		{schemas.Type{Kind: schemas.Decimal, Scale: 2}, []string{"", "1", "1.2", "1.234", "01.20", "-0.00", ".20", "1,20", "+1.20", "1.2x", "1.700000000000000000000000000000000000000"}},
		{schemas.Type{Kind: schemas.Decimal}, []string{"170141183460469231731687303715884105728", "-170141183460469231731687303715884105729", "340282366920938463463374607431768211456", "99999999999999999999999999999999999999999999", "1."}},
		{schemas.Type{Kind: schemas.String}, []string{"\xff"}},
		{schemas.Type{Kind: schemas.Bytes}, []string{"a", "AB", "zz"}},
		{schemas.Type{Kind: schemas.UUID}, []string{"", "01234567-89AB-cdef-0123-456789abcdef", "0123456789abcdef0123456789abcdef", "01234567-89ab-cdef-0123-456789abcde|"}},
		{schemas.Type{Kind: schemas.Floats, Dim: 1}, []string{"", "abc", "\x00\x00\x80\x7f", "\x00\x00\xc0\x7f", "12345678"}},
		{schemas.Type{Kind: schemas.List}, []string{"[]"}},
	} {
		for _, text := range c.texts {
			if v, err := ParseText([]byte(text), c.typ); err == nil {
				t.Errorf("ParseText(%q, kind %d) = %+v, want an error", text, c.typ.Kind, v)
			} else if text != "" && len(text) < 40 && !strings.HasPrefix(err.Error(), "\"") {
				t.Errorf("the error %q does not begin with the text", err)
			}
		}
	}
}

// Whatever reads is written back as it was: one text per value, doubles excepted (1.0 reads as 1).
func FuzzParseText(f *testing.F) {
	f.Add([]byte("12.30"), uint8(schemas.Decimal), uint8(2))
	f.Add([]byte("-170141183460469231731687303715884105728"), uint8(schemas.Decimal), uint8(0))
	f.Add([]byte("1e-7"), uint8(schemas.Double), uint8(0))
	f.Add([]byte("01234567-89ab-cdef-0123-456789abcdef"), uint8(schemas.UUID), uint8(0))
	f.Add([]byte("\x00\x00\x80\x3f"), uint8(schemas.Floats), uint8(1))
	f.Add([]byte("00ff"), uint8(schemas.Bytes), uint8(0))
	f.Fuzz(func(t *testing.T, text []byte, kind, n uint8) {
		typ := schemas.Type{Kind: schemas.Kind(kind), Scale: int(n % 39), Dim: int(n)}
		v, err := ParseText(text, typ)
		if err != nil {
			return
		}
		if v.Kind != typ.Kind {
			t.Fatalf("%q reads as kind %d, want %d", text, v.Kind, typ.Kind)
		}
		again := AppendText(nil, v, typ)
		if typ.Kind == schemas.Double {
			checkDouble(t, v.Float64())
		} else if !bytes.Equal(again, text) {
			t.Fatalf("%q reads as %+v, which is written %q", text, v, again)
		}
	})
}

func TestVersionText(t *testing.T) {
	for _, c := range []struct {
		version Version
		text    string
	}{
		{Version{}, "00000000-0000000000000000-000000000000"},
		{Version{Generation: 0x6925a1b0, Offset: 42, AsOf: 1767225600000}, "6925a1b0-000000000000002a-019b76daa800"},
		{Version{Generation: 7, Offset: -1, AsOf: 1}, "00000007------------------000000000001"},
		{Version{math.MaxUint32, math.MaxInt64, 1<<48 - 1}, "ffffffff-7fffffffffffffff-ffffffffffff"},
	} {
		if got := c.version.String(); got != c.text || len(got) != VersionTextLen {
			t.Errorf("the text of %+v is %q, want %q", c.version, got, c.text)
		}
		if back, err := ParseVersion([]byte(c.text)); err != nil || back != c.version {
			t.Errorf("ParseVersion(%q) = %+v, %v", c.text, back, err)
		}
	}
	for _, bad := range []string{"", "0", "00000000-0000000000000000-00000000000", "00000000_0000000000000000-000000000000", "0000000A-0000000000000000-000000000000",
		"00000000-8000000000000000-000000000000", "00000000-ffffffffffffffff-000000000000", "00000000--000000000000001-000000000000"} {
		if v, err := ParseVersion([]byte(bad)); err == nil {
			t.Errorf("ParseVersion(%q) = %+v, want an error", bad, v)
		}
	}
	for _, bad := range []Version{{Offset: -2}, {AsOf: -1}, {AsOf: 1 << 48}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("offset %d, as-of %d has a text", bad.Offset, bad.AsOf)
				}
			}()
			_ = bad.AppendText(nil)
		}()
	}
}

// The texts of versions compare bytewise as the versions do: the guard in Redis relies on it.
func TestVersionOrder(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	edge := func(max uint64) uint64 { return []uint64{0, 1, r.Uint64() % max, 9, 10, 0xff, max - 1}[r.IntN(7)] }
	var all []Version
	for range 2_000 {
		all = append(all, Version{uint32(edge(1 << 32)), int64(edge(1<<63)) - int64(r.IntN(2)), int64(edge(1 << 48))})
	}
	for i := range all {
		all[i].Offset = max(all[i].Offset, -1)
	}
	sort.Slice(all, func(i, j int) bool { return all[i].Compare(all[j]) < 0 })
	for i := 1; i < len(all); i++ {
		a, b := all[i-1], all[i]
		if got, want := strings.Compare(a.String(), b.String()), a.Compare(b); got != want || b.Compare(a) != -want {
			t.Fatalf("%s and %s compare as %d, the versions as %d", a, b, got, want)
		}
	}
}

func FuzzParseVersion(f *testing.F) {
	f.Add([]byte("6925a1b0-000000000000002a-019b76daa800"))
	f.Add([]byte("00000007------------------000000000001"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if v, err := ParseVersion(text); err == nil && v.String() != string(text) {
			t.Fatalf("%q reads as %+v, which is written %q", text, v, v)
		}
	})
}

func BenchmarkAppendText(b *testing.B) {
	values := []struct {
		name  string
		value schemas.Value
		typ   schemas.Type
	}{
		{"double", schemas.DoubleValue(1234.56), schemas.Type{Kind: schemas.Double}},
		{"int", schemas.IntValue(123456), schemas.Type{Kind: schemas.Int}},
		{"decimal", schemas.DecimalValue(0, 123456), schemas.Type{Kind: schemas.Decimal, Scale: 2}},
	}
	for _, c := range values {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			buf := make([]byte, 0, 64)
			for b.Loop() {
				buf = AppendText(buf[:0], c.value, c.typ)
			}
		})
	}
}
