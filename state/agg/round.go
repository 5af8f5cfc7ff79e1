package agg

import (
	"math"
	"math/big"
	"math/bits"
)

// pow10 are the powers of ten below 2^64.
var pow10 = func() (p [20]uint64) {
	p[0] = 1
	for i := 1; i < len(p); i++ {
		p[i] = p[i-1] * 10
	}
	return p
}()

// quotient returns m·2^exp ÷ (d·10^scale) rounded once, half to even; m has no zero limb at its top. False if it is beyond a double's range.
func quotient(m []uint64, exp int, d uint64, scale int) (float64, bool) {
	if scale > 0 {
		if scale >= len(pow10) {
			return bigQuotient(m, exp, new(big.Int).SetUint64(d), scale)
		}
		hi, lo := bits.Mul64(d, pow10[scale])
		if hi != 0 {
			return bigQuotient(m, exp, new(big.Int).SetUint64(d), scale)
		}
		d = lo
	}
	hi, lo, exp, sticky := leading(m, exp)
	if d != 1 {
		qh, r := hi/d, hi%d
		ql, r := bits.Div64(r, lo, d)
		hi, lo, sticky = qh, ql, sticky || r != 0
	}
	if hi == 0 { // d ≥ hi ≥ 2^63, so the quotient is at least 2^63 still
		hi, lo, exp = lo, 0, exp-64
	}
	z := bits.LeadingZeros64(hi)
	top := hi<<z | lo>>(64-z)
	return pack(top, exp+64-z, sticky || lo<<z != 0)
}

// leading returns the 128 leading bits of m·2^exp, the first of them set, the exponent of the last, and whether any lower bit is set.
func leading(m []uint64, exp int) (hi, lo uint64, e int, sticky bool) {
	n := len(m)
	z := bits.LeadingZeros64(m[n-1])
	e = exp + 64*(n-2) - z
	hi = m[n-1] << z
	if n >= 2 {
		hi |= m[n-2] >> (64 - z)
		lo = m[n-2] << z
	}
	if n >= 3 {
		lo |= m[n-3] >> (64 - z)
		sticky = m[n-3]<<z != 0
		for _, d := range m[:n-3] {
			sticky = sticky || d != 0
		}
	}
	return hi, lo, e, sticky
}

// pack rounds top·2^exp, the first bit of top being set, half to even; sticky says that a little more was cut off below.
func pack(top uint64, exp int, sticky bool) (float64, bool) {
	e := exp + 63 // of the leading bit
	shift := 11
	if e < -1022 {
		shift += -1022 - e
	}
	if shift > 64 {
		return 0, true // below half of the smallest double
	}
	q, rest := top>>shift, top<<(64-shift)
	const half = 1 << 63
	if rest > half || rest == half && (sticky || q&1 == 1) {
		q++
	}
	if e > 1023 {
		return 0, false
	}
	if e >= -1022 {
		q += uint64(e+1022) << 52 // the leading bit itself counts for one more
	}
	if q >= 0x7ff<<52 {
		return 0, false
	}
	return math.Float64frombits(q), true
}

// bigQuotient is quotient for divisors beyond 64 bits: decimals of many digits, more than 2^32 events.
func bigQuotient(m []uint64, exp int, d *big.Int, scale int) (float64, bool) {
	num := new(big.Int)
	for i := len(m) - 1; i >= 0; i-- {
		num.Lsh(num, 64).Or(num, new(big.Int).SetUint64(m[i]))
	}
	den := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(scale)), nil)
	den.Mul(den, d)
	if exp >= 0 {
		num.Lsh(num, uint(exp))
	} else {
		den.Lsh(den, uint(-exp))
	}
	f, _ := new(big.Rat).SetFrac(num, den).Float64()
	return f, !math.IsInf(f, 0)
}
