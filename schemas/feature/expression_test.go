package feature

import (
	"math"
	"math/big"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/freshet-dev/freshet/schemas"
)

// testRow is a row of testColumns without nulls.
func testRow() []schemas.Value {
	return []schemas.Value{
		schemas.IntValue(3), schemas.IntValue(1<<53 + 1), schemas.DoubleValue(2.5), schemas.DoubleValue(1 << 53),
		schemas.DecimalValue(1, 0x123456789abcdef0), schemas.StringValue([]byte("béta")), schemas.StringValue([]byte("x")), schemas.BoolValue(true),
		schemas.TimeValue(-1), {Kind: schemas.Bytes, Bytes: []byte{1, 2}},
		{Kind: schemas.UUID, Bytes: []byte{0x12, 0x3e, 0x45, 0x67, 0xe8, 0x9b, 0x12, 0xd3, 0xa4, 0x56, 0x42, 0x66, 0x14, 0x17, 0x40, 0}},
		{Kind: schemas.Floats, Bytes: make([]byte, 12)},
	}
}

// TestExpressions is what random expressions cannot say: where we differ from cel-go, or it has no such type.
func TestExpressions(t *testing.T) {
	for _, c := range []struct{ source, want string }{
		{`big > e`, "true"}, // exact, where cel-go compares both as doubles
		{`big == e`, "false"},
		{`e < big`, "true"},
		{`big in [9007199254740992.0]`, "false"},
		{`e in [9007199254740993]`, "false"},
		{`e in [9007199254740992]`, "true"},
		{`id == "123e4567-e89b-12d3-a456-426614174000"`, "true"},
		{`"123E4567-E89B-12D3-A456-426614174000" != id`, "false"},
		{`id in ["123e4567-e89b-12d3-a456-426614174000"]`, "true"},
		{`size(vector)`, "3"},
		{`vector != null && has(id)`, "true"},
		{`raw == b"\001\002"`, "true"},
		{`raw < b"\001\003"`, "true"},
		{`int(at)`, "-1"},
		{`at < timestamp("1970-01-01T01:00:00+01:00")`, "true"},
		{`at == timestamp("1969-12-31T23:59:59.999Z")`, "true"},
		{`0.0 * -1.0`, "0x0p+00"},
		{`1.0 / 0.0`, "error"},
		{`1 / 0`, "error"},
		{`1.0 / 0.0 > 5.0`, "true"},
		{`true || 1 / 0 == 1`, "true"},
		{`1 / 0 == 1 && false`, "false"},
		{`matches(s, "^b.ta$")`, "true"},
		{`"béta".startsWith("bé") ? i : -i`, "3"},
	} {
		p := mustCompile(t, c.source)
		if got := valueText(p.Value(testRow())); got != c.want {
			t.Errorf("%s is %s, want %s", c.source, got, c.want)
		}
		if again := mustCompile(t, p.Canonical()); again.Canonical() != p.Canonical() || valueText(again.Value(testRow())) != c.want {
			t.Errorf("%s: its canonical text %s is %s", c.source, p.Canonical(), valueText(again.Value(testRow())))
		}
	}
}

// TestNull shows that a null operand is an error, and which tests of null are not.
func TestNull(t *testing.T) {
	row := make([]schemas.Value, len(testColumns))
	for source, want := range map[string]string{
		`s == null`: "true", `s != null`: "false", `null == s`: "true", `has(r.t)`: "false", `vector == null`: "true",
		`s == "a"`: "error", `s != "a"`: "error", `d > 1.0`: "error", `d > e`: "error", `price == 1.0`: "error", `i < 2`: "error", `i < 2.0`: "error",
		`s in ["a"]`: "error", `i in [1]`: "error", `d in [1.0]`: "error", `s.startsWith("")`: "error", `s.matches("")`: "error", `size(s)`: "error",
		`b`: "error", `!b`: "error", `b || true`: "true", `b && false`: "false", `b || b`: "error", `b ? 1 : 2`: "error", `true ? d : e`: "error",
		`d + 1.0`: "error", `1 - i`: "error", `-d`: "error", `-i`: "error", `int(d)`: "error", `double(i)`: "error", `at == at`: "error", `r.t`: "error",
	} {
		if got := valueText(mustCompile(t, source).Value(row)); got != want {
			t.Errorf("%s over nulls is %s, want %s", source, got, want)
		}
	}
}

func TestExpressionLimits(t *testing.T) {
	for _, c := range []struct{ source, want string }{
		{strings.Repeat("(", 2000) + "b" + strings.Repeat(")", 2000), "is not CEL"},
		{strings.Repeat("!", 3800) + "(" + strings.Repeat("(", 200), "is not CEL"},
		{"b" + strings.Repeat(" ", MaxExpressionChars), "longer than 4096"},
		{strings.Repeat("b && ", 1500) + "b", "longer than 4096"},
	} {
		p, problems := compileExpression(c.source, testLookup)
		if p != nil || len(problems) == 0 || !strings.Contains(problems[0].message, c.want) {
			t.Errorf("%.20s…: %v", c.source, problems)
		}
	}
}

// TestDecimalDouble compares with math/big, whose Float64 is the nearest double.
func TestDecimalDouble(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for n := range 20_000 {
		hi, lo, scale := int64(r.Uint64()), r.Uint64(), r.IntN(39)
		switch n % 4 { // all sizes, and sign extensions
		case 0:
			hi = int64(lo) >> 63
		case 1:
			hi, lo = 0, lo>>r.IntN(64)
		case 2:
			hi >>= r.IntN(63)
		}
		if n < 4 {
			hi, lo = []int64{math.MinInt64, math.MaxInt64, -1, 0}[n], []uint64{0, math.MaxUint64, math.MaxUint64, 1<<53 + 1}[n]
		}
		unscaled := new(big.Int).Add(new(big.Int).Lsh(big.NewInt(hi), 64), new(big.Int).SetUint64(lo))
		want, _ := new(big.Rat).SetFrac(unscaled, new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(scale)), nil)).Float64()
		if got := decimalDouble(hi, lo, scale); got != want {
			t.Fatalf("%s e-%d is %v, want %v", unscaled, scale, got, want)
		}
	}
}

var hotExpressions = []string{
	`s != "cancelled"`,
	`d >= 100.0`,
	`i > 2`,
	`price > 1.0`,
	`s in ["a", "b", "béta"]`,
	`i in [1, 2, 3]`,
	`s.startsWith("b") && s.contains("é") || s.endsWith("a")`,
	`s.matches("^b.t(a|b)$")`,
	`size(s) + size(raw) > 3`,
	`at > timestamp("2026-01-01T00:00:00Z")`,
	`id == "123e4567-e89b-12d3-a456-426614174000"`,
	`big < e && !b`,
	`d > 0.0 ? d / e + double(i) * d : 0.0`,
	`b ? s : r.t`,
	`int(d * 100.0) % 7`,
	`1 / (i - 3)`,
}

func TestExpressionsDoNotAllocate(t *testing.T) {
	row := testRow()
	for _, source := range hotExpressions {
		p := mustCompile(t, source)
		if n := testing.AllocsPerRun(100, func() { p.Value(row) }); n != 0 {
			t.Errorf("%s allocates %v times", source, n)
		}
		if p.Type().Kind == schemas.Bool {
			if n := testing.AllocsPerRun(100, func() { p.Bool(row) }); n != 0 {
				t.Errorf("%s allocates %v times", source, n)
			}
		}
	}
}

func BenchmarkExpression(b *testing.B) {
	row := testRow()
	for _, source := range hotExpressions {
		b.Run(strings.ReplaceAll(source, " ", ""), func(b *testing.B) {
			p := mustCompile(b, source)
			b.ReportAllocs()
			for b.Loop() {
				p.Value(row)
			}
		})
	}
}
