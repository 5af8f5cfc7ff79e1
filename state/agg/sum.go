package agg

import (
	"math"
	"math/big"
	"math/bits"
)

// The grid of a Sum begins 17 limbs below the point: the smallest double is 2^−1074. That of Squares, of 2^−2148, begins 34 below. Integers
// begin at the point itself, so that one accumulator serves doubles, integers and the unscaled integers of decimals.
const (
	sumPoint     = 17
	sumTop       = sumPoint + 17 + 2 // 2^1024, and 64 bits of carries
	squaresPoint = 2 * sumPoint
	squaresTop   = 2 * sumTop
)

// Sum is the exact sum of doubles or of 128-bit integers. Add and Sub are exact inverses. Its zero value is an empty sum. It is not for
// concurrent use.
type Sum struct{ l limbs }

// AddDouble adds x, which must be finite.
func (s *Sum) AddDouble(x float64) { s.double(math.Float64bits(x)) }

// SubDouble takes out an x that was added.
func (s *Sum) SubDouble(x float64) { s.double(math.Float64bits(x) ^ 1<<63) }

// AddDouble adds x to s and x² to q.
func AddDouble(s *Sum, q *Squares, x float64) {
	b := math.Float64bits(x)
	if m, exp := split(b); m != 0 {
		s.digits(m, exp, uint64(int64(b)>>63))
		q.digits(m, exp, 0)
	}
}

// SubDouble takes x out of s and x² out of q.
func SubDouble(s *Sum, q *Squares, x float64) {
	b := math.Float64bits(x)
	if m, exp := split(b); m != 0 {
		s.digits(m, exp, ^uint64(int64(b)>>63))
		q.digits(m, exp, ^uint64(0))
	}
}

func (s *Sum) double(b uint64) {
	if m, exp := split(b); m != 0 {
		s.digits(m, exp, uint64(int64(b)>>63))
	}
}

// digits adds m·2^(exp−1074), m not zero, or subtracts it where ext is all ones.
func (s *Sum) digits(m uint64, exp uint, ext uint64) {
	shift := exp + sumPoint*64 - 1074
	k := shift & 63
	lo, c := bits.Add64(m<<k^ext, ext&1, 0)
	s.l.add2(int(shift>>6), lo, m>>(64-k)^ext+c, ext)
}

// split returns |x| as m·2^(exp−1074).
func split(b uint64) (m uint64, exp uint) {
	m, exp = b&(1<<52-1), uint(b>>52&0x7ff)
	if exp != 0 {
		m |= 1 << 52
		exp--
	}
	return m, exp
}

// AddInt adds the 128-bit integer hi:lo.
func (s *Sum) AddInt(hi int64, lo uint64) { s.l.add2(sumPoint, lo, uint64(hi), uint64(hi>>63)) }

// SubInt takes out an integer that was added.
func (s *Sum) SubInt(hi int64, lo uint64) {
	nlo, c := bits.Add64(^lo, 1, 0)
	nhi := ^uint64(hi) + c
	ext := uint64(int64(nhi) >> 63)
	if hi == math.MinInt64 && lo == 0 {
		ext = 0 // −(−2^127) needs one bit more than 128
	}
	s.l.add2(sumPoint, nlo, nhi, ext)
}

// Merge adds all that o holds; Unmerge takes it out again.
func (s *Sum) Merge(o *Sum)   { s.l.merge(&o.l, false) }
func (s *Sum) Unmerge(o *Sum) { s.l.merge(&o.l, true) }

// Reset empties s and keeps its memory.
func (s *Sum) Reset() { s.l.reset() }

// MemBytes is the memory s holds beside itself.
func (s *Sum) MemBytes() int { return cap(s.l.w) * 8 }

// Append appends the canonical bytes of s: a function of the sum alone.
func (s *Sum) Append(dst []byte) []byte { return s.l.append(dst) }

// Decode reads a sum from the front of src and returns the rest.
func (s *Sum) Decode(src []byte) (rest []byte, err error) { return s.l.decode(src, sumTop) }

// Float64 returns the sum ÷ 10^scale rounded once, half to even; false if it is beyond a double's range.
func (s *Sum) Float64(scale int) (float64, bool) {
	var buf [8]uint64
	m, base, negative := s.l.magnitude(buf[:])
	if len(m) == 0 {
		return 0, true
	}
	f, ok := quotient(m, (base-sumPoint)*64, 1, scale)
	if negative {
		f = -f
	}
	return f + 0, ok
}

// Int64 returns a sum of integers; false if it is beyond int64.
func (s *Sum) Int64() (int64, bool) {
	hi, lo, ok := s.int128()
	return int64(lo), ok && hi == int64(lo)>>63
}

// Int128 returns a sum of integers; false if it has more than 38 decimal digits.
func (s *Sum) Int128() (hi int64, lo uint64, ok bool) {
	hi, lo, ok = s.int128()
	ahi, alo := uint64(hi), lo
	if hi < 0 {
		var c uint64
		alo, c = bits.Add64(^lo, 1, 0)
		ahi = ^ahi + c
	}
	const ten38hi, ten38lo = 0x4b3b4ca85a86c47a, 0x098a224000000000
	return hi, lo, ok && (ahi < ten38hi || ahi == ten38hi && alo < ten38lo)
}

func (s *Sum) int128() (hi int64, lo uint64, ok bool) {
	lo, hi = s.l.at(sumPoint), int64(s.l.at(sumPoint+1))
	for i := sumPoint + 2; i < s.l.base+len(s.l.w); i++ {
		if int64(s.l.at(i)) != hi>>63 {
			return 0, 0, false
		}
	}
	return hi, lo, true
}

// Squares is the exact sum of the squares of doubles or of 128-bit integers. Its zero value is empty. It is not for concurrent use.
type Squares struct{ l limbs }

// AddDouble adds x², x finite; SubDouble takes it out again.
func (s *Squares) AddDouble(x float64) { s.double(x, 0) }
func (s *Squares) SubDouble(x float64) { s.double(x, ^uint64(0)) }

func (s *Squares) double(x float64, ext uint64) {
	if m, exp := split(math.Float64bits(x)); m != 0 {
		s.digits(m, exp, ext)
	}
}

// digits adds (m·2^(exp−1074))², m not zero, or subtracts it where ext is all ones.
func (s *Squares) digits(m uint64, exp uint, ext uint64) {
	hi, lo := bits.Mul64(m, m)
	shift := 2*exp + squaresPoint*64 - 2148
	k := shift & 63
	a, carry := bits.Add64(lo<<k^ext, ext&1, 0)
	b, carry := bits.Add64((hi<<k|lo>>(64-k))^ext, 0, carry)
	s.l.add3(int(shift>>6), a, b, hi>>(64-k)^ext+carry, ext)
}

// AddInt adds the square of the 128-bit integer hi:lo; SubInt takes it out again.
func (s *Squares) AddInt(hi int64, lo uint64) { s.int(hi, lo, 0) }
func (s *Squares) SubInt(hi int64, lo uint64) { s.int(hi, lo, ^uint64(0)) }

func (s *Squares) int(hi int64, lo uint64, ext uint64) {
	if hi < 0 {
		var c uint64
		lo, c = bits.Add64(^lo, 1, 0)
		hi = int64(^uint64(hi) + c)
	}
	p1, p0 := bits.Mul64(lo, lo)
	s.unsigned(squaresPoint, p0, p1, ext)
	if hi == 0 {
		return
	}
	h := uint64(hi)
	p1, p0 = bits.Mul64(h, lo) // counts twice: 2·hi·lo·2^64
	s.unsigned(squaresPoint+1, p0, p1, ext)
	s.unsigned(squaresPoint+1, p0, p1, ext)
	p1, p0 = bits.Mul64(h, h)
	s.unsigned(squaresPoint+2, p0, p1, ext)
}

// unsigned adds the unsigned hi:lo at a limb, or subtracts it where ext is all ones.
func (s *Squares) unsigned(at int, lo, hi, ext uint64) {
	if lo|hi == 0 {
		return
	}
	lo, c := bits.Add64(lo^ext, ext&1, 0)
	hi, c = bits.Add64(hi^ext, 0, c)
	s.l.add3(at, lo, hi, ext+c, ext)
}

// Merge adds all that o holds; Unmerge takes it out again.
func (s *Squares) Merge(o *Squares)   { s.l.merge(&o.l, false) }
func (s *Squares) Unmerge(o *Squares) { s.l.merge(&o.l, true) }

// Reset empties s and keeps its memory.
func (s *Squares) Reset() { s.l.reset() }

// MemBytes is the memory s holds beside itself.
func (s *Squares) MemBytes() int { return cap(s.l.w) * 8 }

// Append appends the canonical bytes of s: a function of the sum alone.
func (s *Squares) Append(dst []byte) []byte { return s.l.append(dst) }

// Decode reads a sum of squares from the front of src and returns the rest.
func (s *Squares) Decode(src []byte) (rest []byte, err error) {
	rest, err = s.l.decode(src, squaresTop)
	if err == nil && len(s.l.w) > 0 && int64(s.l.w[len(s.l.w)-1]) < 0 {
		return nil, errCorrupt
	}
	return rest, err
}

// Variance returns (n·Σx² − (Σx)²) ÷ (n·(n−1)·10^(2·scale)), or ÷ (n²·10^(2·scale)) with population, rounded once from the exact quotient,
// half to even; false if it is beyond a double's range. s and q are of the same n values; n ≥ 2, or ≥ 1 with population.
func Variance(s *Sum, q *Squares, n int64, scale int, population bool) (float64, bool) {
	var buf [24]uint64
	t, base := deviation(s, q, uint64(n), buf[:])
	if len(t) == 0 {
		return 0, true
	}
	less := n - 1
	if population {
		less = n
	}
	hi, d := bits.Mul64(uint64(n), uint64(less))
	if hi != 0 {
		wide := new(big.Int).Mul(big.NewInt(n), big.NewInt(less))
		return bigQuotient(t, (base-squaresPoint)*64, wide, 2*scale)
	}
	return quotient(t, (base-squaresPoint)*64, d, 2*scale)
}

// deviation returns n·Σx² − (Σx)², never negative (Cauchy–Schwarz), without leading or trailing zero limbs, and the place of its first.
func deviation(s *Sum, q *Squares, n uint64, buf []uint64) (t []uint64, base int) {
	sq, qbase, _ := q.l.magnitude(nil)
	if len(sq) == 0 {
		return nil, 0
	}
	var mbuf [8]uint64
	m, mbase, _ := s.l.magnitude(mbuf[:])
	base, top := qbase, qbase+len(sq)+1
	if len(m) > 0 {
		base, top = min(base, 2*mbase), max(top, 2*(mbase+len(m)))
	}
	if top-base > len(buf) {
		buf = make([]uint64, top-base)
	}
	t = buf[:top-base]
	addProduct(t[qbase-base:], sq, n)
	for i, d := range m {
		subProduct(t[2*mbase-base+i:], m, d)
	}
	for len(t) > 0 && t[len(t)-1] == 0 {
		t = t[:len(t)-1]
	}
	for len(t) > 0 && t[0] == 0 {
		t = t[1:]
		base++
	}
	return t, base
}

// addProduct adds m·d to t, which is long enough for it.
func addProduct(t, m []uint64, d uint64) {
	var carry uint64
	for i, x := range m {
		hi, lo := bits.Mul64(x, d)
		lo, c := bits.Add64(lo, carry, 0)
		hi += c
		t[i], c = bits.Add64(t[i], lo, 0)
		carry = hi + c
	}
	for i := len(m); carry != 0; i++ {
		t[i], carry = bits.Add64(t[i], carry, 0)
	}
}

// subProduct subtracts m·d from t. Borrows past the end of t are those of a number that is negative for now.
func subProduct(t, m []uint64, d uint64) {
	var borrow uint64
	for i, x := range m {
		hi, lo := bits.Mul64(x, d)
		lo, c := bits.Add64(lo, borrow, 0)
		hi += c
		t[i], c = bits.Sub64(t[i], lo, 0)
		borrow = hi + c
	}
	for i := len(m); borrow != 0 && i < len(t); i++ {
		t[i], borrow = bits.Sub64(t[i], borrow, 0)
	}
}
