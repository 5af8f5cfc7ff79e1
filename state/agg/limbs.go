// Package agg holds the exact accumulators that features are made of. They are pure: what one holds is a function of the multiset of values
// in it, never of the order in which they came, were merged or were taken out again, and so are its encoded bytes.
package agg

import (
	"encoding/binary"
	"errors"
	"math/bits"
)

// errCorrupt says that bytes are not an accumulator's. The record that holds them is checksummed: it wraps this error with its place.
var errCorrupt = errors.New("accumulator is corrupt")

// limbs is a wide integer in two's complement: Σ w[i]·2^(64·(base+i)), the last limb being the sign. Only the range of limbs that was ever
// touched is held: two to four for most data, however wide a double's exponent could reach. This is Kulisch's long accumulator, stored
// sparsely. The last limb is kept free of digits at every add (see reach), so 2^63 adds cannot overflow it.
type limbs struct {
	w    []uint64
	base int
}

// reset makes a zero, keeping the memory.
func (a *limbs) reset() { a.w = a.w[:0] }

// at returns limb i, touched or not.
func (a *limbs) at(i int) uint64 {
	switch i -= a.base; {
	case i < 0 || len(a.w) == 0:
		return 0
	case i < len(a.w):
		return a.w[i]
	}
	return uint64(int64(a.w[len(a.w)-1]) >> 63)
}

// reach makes room for digits in the limbs lo ≤ i < hi, and for the sign above them.
func (a *limbs) reach(lo, hi int) {
	if len(a.w) == 0 {
		a.base = lo
		a.extend(hi + 1 - lo)
		return
	}
	if lo < a.base {
		more := a.base - lo
		old := len(a.w)
		a.extend(old + more)
		copy(a.w[more:], a.w[:old])
		clear(a.w[:more])
		a.base = lo
	}
	if n := hi + 1 - a.base; n > len(a.w) {
		a.extend(n)
	}
}

// extend makes w n limbs long without changing the number.
func (a *limbs) extend(n int) {
	old := len(a.w)
	var sign uint64
	if old > 0 {
		sign = uint64(int64(a.w[old-1]) >> 63)
	}
	if n <= cap(a.w) {
		a.w = a.w[:n]
	} else {
		w := make([]uint64, n)
		copy(w, a.w)
		a.w = w
	}
	for i := old; i < n; i++ {
		a.w[i] = sign
	}
}

// add2 adds the 128-bit hi:lo, as a two's complement number whose sign extension is ext (0 or all ones), at limb at.
func (a *limbs) add2(at int, lo, hi, ext uint64) {
	i := at - a.base
	if i < 0 || i+3 > len(a.w) {
		a.reach(at, at+2)
		i = at - a.base
	}
	w := a.w[i:]
	var c uint64
	w[0], c = bits.Add64(w[0], lo, 0)
	w[1], c = bits.Add64(w[1], hi, c)
	carry(w[2:], ext, c)
}

// add3 is add2 for 192 bits.
func (a *limbs) add3(at int, lo, mid, hi, ext uint64) {
	i := at - a.base
	if i < 0 || i+4 > len(a.w) {
		a.reach(at, at+3)
		i = at - a.base
	}
	w := a.w[i:]
	var c uint64
	w[0], c = bits.Add64(w[0], lo, 0)
	w[1], c = bits.Add64(w[1], mid, c)
	w[2], c = bits.Add64(w[2], hi, c)
	carry(w[3:], ext, c)
}

// carry adds ext (0 or −1, in every limb) and c to w. Once −1 meets a carry, or 0 meets none, the rest stays as it is.
func carry(w []uint64, ext, c uint64) {
	for i := range w {
		if ext+c == 0 {
			return
		}
		w[i], c = bits.Add64(w[i], ext, c)
	}
}

// merge adds b, or subtracts it.
func (a *limbs) merge(b *limbs, sub bool) {
	if len(b.w) == 0 {
		return
	}
	a.reach(b.base, b.base+len(b.w))
	sign := uint64(int64(b.w[len(b.w)-1]) >> 63)
	var flip, c uint64
	if sub {
		flip, c = ^uint64(0), 1
	}
	w := a.w[b.base-a.base:]
	for i := range w {
		d := sign
		if i < len(b.w) {
			d = b.w[i]
		}
		w[i], c = bits.Add64(w[i], d^flip, c)
	}
	// A merged operand may have digits as high as its own limits allow: keep the last limb free again.
	if top := int64(a.w[len(a.w)-1]); top != 0 && top != -1 {
		a.extend(len(a.w) + 1)
	}
}

// magnitude returns |a| without leading or trailing zero limbs (empty for zero), the place of its first limb, and a's sign. The result
// aliases a, or lies in buf where that is long enough and a is negative.
func (a *limbs) magnitude(buf []uint64) (m []uint64, base int, negative bool) {
	m, base = a.w, a.base
	for len(m) > 0 && m[0] == 0 {
		m = m[1:]
		base++
	}
	if len(m) == 0 {
		return nil, 0, false
	}
	if negative = int64(m[len(m)-1]) < 0; negative {
		if len(buf) < len(m) {
			buf = make([]uint64, len(m))
		}
		buf = buf[:len(m)]
		c := uint64(1)
		for i, d := range m {
			buf[i], c = bits.Add64(^d, 0, c)
		}
		m = buf
	}
	for m[len(m)-1] == 0 {
		m = m[:len(m)-1]
	}
	return m, base, negative
}

// append appends the canonical bytes: uvarint count of bytes (0 for zero), uvarint place of the first byte, and the shortest
// two's complement bytes, least significant first, without trailing zero bytes at the low end.
func (a *limbs) append(dst []byte) []byte {
	lo, n := 0, len(a.w)
	for lo < n && a.w[lo] == 0 {
		lo++
	}
	if lo == n {
		return append(dst, 0)
	}
	for n-1 > lo && a.w[n-1] == uint64(int64(a.w[n-2])>>63) {
		n-- // only the sign of the limb below
	}
	top := int64(a.w[n-1])
	topBytes := (bits.Len64(uint64(top^top>>63)) + 8) / 8 // with room for the sign bit
	skip := bits.TrailingZeros64(a.w[lo]) / 8
	count := (n-1-lo)*8 + topBytes - skip
	dst = binary.AppendUvarint(dst, uint64(count))
	dst = binary.AppendUvarint(dst, uint64((a.base+lo)*8+skip))
	first := len(dst)
	for i := lo; i < n; i++ {
		dst = binary.LittleEndian.AppendUint64(dst, a.w[i])
	}
	if skip > 0 {
		copy(dst[first:], dst[first+skip:])
	}
	return dst[:first+count]
}

// decode sets a to the number whose bytes src begins with and returns the rest. top is the number of limbs an accumulator of its kind can have.
func (a *limbs) decode(src []byte, top int) ([]byte, error) {
	a.reset()
	count, n := binary.Uvarint(src)
	if n <= 0 || count > uint64(top*8) {
		return nil, errCorrupt
	}
	src = src[n:]
	if count == 0 {
		return src, nil
	}
	place, n := binary.Uvarint(src)
	if n <= 0 || place+count > uint64(top*8) || uint64(len(src)-n) < count {
		return nil, errCorrupt
	}
	src = src[n:]
	data, rest := src[:count], src[count:]
	if data[0] == 0 || (count > 1 && data[count-1] == byte(int8(data[count-2])>>7)) {
		return nil, errCorrupt // not the canonical bytes
	}
	a.load(data, int(place))
	return rest, nil
}

// load sets an empty a to the two's complement bytes at byte place.
func (a *limbs) load(data []byte, place int) {
	a.reach(place/8, (place+len(data)+7)/8)
	sign := uint64(int64(int8(data[len(data)-1])) >> 63)
	for i := range a.w {
		var d uint64
		for j := range 8 {
			b := byte(sign)
			switch at := (a.base+i)*8 + j - place; {
			case at < 0:
				b = 0
			case at < len(data):
				b = data[at]
			}
			d |= uint64(b) << (8 * j)
		}
		a.w[i] = d
	}
}
