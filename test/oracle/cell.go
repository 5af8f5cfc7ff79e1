package oracle

import (
	"encoding/binary"
	"encoding/hex"
	"math"
	"math/big"
	"strconv"
	"strings"
)

// The kinds of cells.
const (
	kindBool    = "bool"
	kindInt     = "int"
	kindDouble  = "double"
	kindDecimal = "decimal"
	kindString  = "string"
	kindBytes   = "bytes"
	kindUUID    = "uuid"
	kindTime    = "time"
	kindFloats  = "floats"
)

// cell is one value of an event or of a feature. Its zero value is null.
type cell struct {
	kind  string
	n     int64    // bool (0, 1), int, time (ms)
	f     float64  // double; never NaN, ±Inf or −0.0
	big   *big.Int // decimal: the unscaled integer
	scale int
	s     string // string; bytes; uuid in canonical text; floats as little-endian float32s
}

func (c cell) null() bool { return c.kind == "" }

func intCell(n int64) cell  { return cell{kind: kindInt, n: n} }
func timeCell(n int64) cell { return cell{kind: kindTime, n: n} }

func boolCell(b bool) cell {
	if b {
		return cell{kind: kindBool, n: 1}
	}
	return cell{kind: kindBool}
}

func doubleCell(f float64) cell {
	if f == 0 {
		f = 0 // −0.0
	}
	return cell{kind: kindDouble, f: f}
}

// compare orders two numbers or times of one kind.
func (c cell) compare(o cell) int {
	switch c.kind {
	case kindDouble:
		switch {
		case c.f < o.f:
			return -1
		case c.f > o.f:
			return 1
		}
		return 0
	case kindDecimal:
		return c.big.Cmp(o.big)
	}
	switch {
	case c.n < o.n:
		return -1
	case c.n > o.n:
		return 1
	}
	return 0
}

func (c cell) floats() []float64 {
	var list []float64
	for raw := []byte(c.s); len(raw) >= 4; raw = raw[4:] {
		list = append(list, float64(math.Float32frombits(binary.LittleEndian.Uint32(raw))))
	}
	return list
}

// text is the cell as Redis holds it.
func (c cell) text() string {
	switch c.kind {
	case kindBool:
		return strconv.FormatBool(c.n != 0)
	case kindInt, kindTime:
		return strconv.FormatInt(c.n, 10)
	case kindDouble:
		return jsonNumber(c.f)
	case kindDecimal:
		return decimalText(c.big, c.scale)
	case kindBytes:
		return hex.EncodeToString([]byte(c.s))
	}
	return c.s
}

// jsonNumber writes a double as RFC 8785 does: the shortest digits that read back as the same double, laid out by the rules of ECMAScript's
// Number::toString.
func jsonNumber(f float64) string {
	if f == 0 {
		return "0"
	}
	sign := ""
	if f < 0 {
		sign, f = "-", -f
	}
	mantissa, exponent, _ := strings.Cut(strconv.FormatFloat(f, 'e', -1, 64), "e")
	digits := strings.Replace(mantissa, ".", "", 1)
	e, _ := strconv.Atoi(exponent)
	point := e + 1 // the value is 0.digits × 10^point
	k := len(digits)
	switch {
	case k <= point && point <= 21:
		return sign + digits + strings.Repeat("0", point-k)
	case 0 < point && point <= 21:
		return sign + digits[:point] + "." + digits[point:]
	case -6 < point && point <= 0:
		return sign + "0." + strings.Repeat("0", -point) + digits
	}
	power := strconv.Itoa(e)
	if e > 0 {
		power = "+" + power
	}
	if k > 1 {
		digits = digits[:1] + "." + digits[1:]
	}
	return sign + digits + "e" + power
}

func decimalText(unscaled *big.Int, scale int) string {
	digits := new(big.Int).Abs(unscaled).String()
	if missing := scale + 1 - len(digits); missing > 0 {
		digits = strings.Repeat("0", missing) + digits
	}
	if scale > 0 {
		digits = digits[:len(digits)-scale] + "." + digits[len(digits)-scale:]
	}
	if unscaled.Sign() < 0 {
		return "-" + digits
	}
	return digits
}

func powerOfTen(n int) *big.Int { return new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(n)), nil) }
