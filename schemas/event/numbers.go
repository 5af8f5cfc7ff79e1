package event

import (
	"math/bits"

	"github.com/freshet-dev/freshet/schemas"
)

// u128 is an unsigned 128-bit integer.
type u128 struct{ hi, lo uint64 }

// mul returns a × b; ok is false if it does not fit.
func (a u128) mul(b uint64) (product u128, ok bool) {
	h, l := bits.Mul64(a.lo, b)
	over, h2 := bits.Mul64(a.hi, b)
	sum, carry := bits.Add64(h, h2, 0)
	return u128{sum, l}, over == 0 && carry == 0
}

// tenTo38 is 10^38: a decimal of at most 38 digits is below it.
var tenTo38 = func() u128 {
	v := u128{0, 1}
	for range 38 {
		v, _ = v.mul(10)
	}
	return v
}()

// readDecimal reads a big-endian two's complement integer, with zeros more digits. ok is false for no bytes, or more than 38 digits.
func readDecimal(b []byte, zeros int) (v schemas.Value, ok bool) {
	if len(b) == 0 {
		return v, false
	}
	sign := uint64(int64(int8(b[0])) >> 63)
	for len(b) > 16 {
		if b[0] != byte(sign) || (b[1]^b[0])&0x80 != 0 {
			return v, false
		}
		b = b[1:]
	}
	u := u128{sign, sign}
	for _, c := range b {
		u = u128{u.hi<<8 | u.lo>>56, u.lo<<8 | uint64(c)}
	}
	if sign != 0 {
		u = u.negate()
	}
	for range zeros {
		if u, ok = u.mul(10); !ok {
			return v, false
		}
	}
	if u.hi > tenTo38.hi || u.hi == tenTo38.hi && u.lo >= tenTo38.lo {
		return v, false
	}
	if sign != 0 {
		u = u.negate()
	}
	return schemas.DecimalValue(int64(u.hi), u.lo), true
}

func (a u128) negate() u128 {
	lo, carry := bits.Add64(^a.lo, 1, 0)
	return u128{^a.hi + carry, lo}
}

// parseUUID reads the canonical text of a UUID (either case) into the 16 bytes of u.
func parseUUID(u, text []byte) bool {
	if len(text) != 36 {
		return false
	}
	i := 0
	for at := 0; at < 36; {
		if at == 8 || at == 13 || at == 18 || at == 23 {
			if text[at] != '-' {
				return false
			}
			at++
			continue
		}
		h, l := hexDigit(text[at]), hexDigit(text[at+1])
		if h|l > 15 {
			return false
		}
		u[i] = h<<4 | l
		i, at = i+1, at+2
	}
	return true
}

// hexDigit is the value of a hexadecimal digit, or 255.
func hexDigit(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10
	}
	return 255
}
