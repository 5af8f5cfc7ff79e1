package feature

import (
	"cmp"
	"math"
	"math/bits"
	"strconv"
	"unsafe"
)

// pow10 are the powers of ten that a double holds exactly.
var pow10 = [...]float64{1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22}

// decimalDouble returns the double nearest to the unscaled 128-bit integer hi:lo ÷ 10^scale (ties to even), without allocating.
func decimalDouble(hi int64, lo uint64, scale int) float64 {
	negative := hi < 0
	h := uint64(hi)
	if negative {
		var borrow uint64
		lo, borrow = bits.Sub64(0, lo, 0)
		h, _ = bits.Sub64(0, h, borrow)
	}
	var f float64
	if h == 0 && lo < 1<<53 && scale < len(pow10) {
		f = float64(lo) / pow10[scale] // both exact, so the quotient is rounded once
	} else {
		f = parseDecimal(h, lo, scale)
	}
	if negative {
		return -f
	}
	return f
}

// parseDecimal has strconv round the decimal text of the number, which is right for any length.
func parseDecimal(h, lo uint64, scale int) float64 {
	const group = 1e19 // the largest power of ten in 64 bits; h < 2^63 is below it
	q, low := bits.Div64(h, lo, group)
	top, mid := q/group, q%group // hi:lo = (top·10^19 + mid)·10^19 + low
	var room [72]byte
	text := strconv.AppendUint(room[:0], top, 10)
	text = appendPadded(text, mid)
	text = appendPadded(text, low)
	text = append(text, "e-"...)
	text = strconv.AppendInt(text, int64(scale), 10)
	// The text is read before this returns and nobody keeps it: a string over it saves the copy on the heap.
	f, _ := strconv.ParseFloat(unsafe.String(&text[0], len(text)), 64) // 128 bits are far within a double's range
	return f
}

func appendPadded(dst []byte, n uint64) []byte {
	var room [20]byte
	digits := strconv.AppendUint(room[:0], n, 10)
	for range 19 - len(digits) {
		dst = append(dst, '0')
	}
	return append(dst, digits...)
}

// unordered is what compareDoubles and compareIntDouble say of a NaN.
const unordered = 2

func compareDoubles(x, y float64) int {
	switch {
	case x < y:
		return -1
	case x > y:
		return 1
	case x == y:
		return 0
	}
	return unordered
}

// compareIntDouble compares the exact values, as on a number line: 2^53+1 is greater than 2.0^53.
func compareIntDouble(i int64, f float64) int {
	switch {
	case f != f:
		return unordered
	case f >= 1<<63:
		return -1
	case f < -1<<63:
		return 1
	}
	whole := math.Trunc(f)
	if c := cmp.Compare(i, int64(whole)); c != 0 {
		return c
	}
	return compareDoubles(whole, f)
}
