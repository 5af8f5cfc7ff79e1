package oracle

import (
	"math"
	"math/big"
)

// exact is an exact number: mantissa × 2^exponent ÷ 10^scale. Its zero value is 0.
type exact struct {
	mantissa big.Int
	exponent int
	scale    int
}

// add adds m × 2^e.
func (x *exact) add(m *big.Int, e int) {
	if e < x.exponent || x.mantissa.Sign() == 0 {
		x.mantissa.Lsh(&x.mantissa, uint(max(0, x.exponent-e)))
		x.exponent = e
	}
	var shifted big.Int
	x.mantissa.Add(&x.mantissa, shifted.Lsh(m, uint(e-x.exponent)))
}

// number is a cell as mantissa × 2^exponent (÷ 10^scale).
func (c cell) number() (m *big.Int, e int) {
	switch c.kind {
	case kindDouble:
		frac, exp := math.Frexp(c.f)
		return big.NewInt(int64(math.Ldexp(frac, 53))), exp - 53
	case kindDecimal:
		return c.big, 0
	}
	return big.NewInt(c.n), 0
}

// sums returns the exact sum of numbers and of their squares.
func sums(cells []cell) (sum, squares exact) {
	for _, c := range cells {
		m, e := c.number()
		sum.add(m, e)
		squares.add(new(big.Int).Mul(m, m), 2*e)
		sum.scale, squares.scale = c.scale, 2*c.scale
	}
	return sum, squares
}

// ratio is x as a fraction.
func (x *exact) ratio() *big.Rat {
	num, den := new(big.Int).Set(&x.mantissa), powerOfTen(x.scale)
	if x.exponent >= 0 {
		num.Lsh(num, uint(x.exponent))
	} else {
		den.Lsh(den, uint(-x.exponent))
	}
	return new(big.Rat).SetFrac(num, den)
}

// double is the double nearest to x, ties to even; false beyond a double's range.
func (x *exact) double() (float64, bool) {
	if x.scale == 0 { // quicker than a fraction, and exact as well
		f := new(big.Float).SetInt(&x.mantissa)
		d, _ := f.SetMantExp(f, x.exponent).Float64()
		return d, !math.IsInf(d, 0)
	}
	d, _ := x.ratio().Float64()
	return d, !math.IsInf(d, 0)
}

// variance is (nΣx² − (Σx)²) ÷ n(n − 1), or ÷ n² for a population, rounded once; false beyond a double's range.
func variance(cells []cell, population bool) (float64, bool) {
	sum, squares := sums(cells)
	n := int64(len(cells))
	divisor := new(big.Rat).SetInt64(n)
	if population {
		divisor.Mul(divisor, new(big.Rat).SetInt64(n))
	} else {
		divisor.Mul(divisor, new(big.Rat).SetInt64(n-1))
	}
	s := sum.ratio()
	v := squares.ratio()
	v.Mul(v, new(big.Rat).SetInt64(n))
	v.Sub(v, s.Mul(s, s))
	v.Quo(v, divisor)
	d, _ := v.Float64()
	return d, !math.IsInf(d, 0)
}
