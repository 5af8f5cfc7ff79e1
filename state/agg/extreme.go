package agg

import (
	"encoding/binary"
	"math"
)

// Key orders the values of a column: of doubles, integers, times and decimals alike, a < b as values if and only if a.Less(b).
type Key struct {
	Hi int64
	Lo uint64
}

// Less reports whether k is before o.
func (k Key) Less(o Key) bool { return k.Hi < o.Hi || k.Hi == o.Hi && k.Lo < o.Lo }

// DoubleKey returns the key of a finite double, neither NaN nor −0.0.
func DoubleKey(b uint64) Key {
	i := int64(b)
	return Key{Hi: i ^ int64(uint64(i>>63)>>1)} // negative doubles: larger bits are smaller values
}

// Double returns the bits of the double that k is the key of.
func (k Key) Double() uint64 { return uint64(k.Hi ^ int64(uint64(k.Hi>>63)>>1)) }

// Extreme is the smallest or the largest of the values ever added. Its zero value is empty.
type Extreme struct {
	Key Key
	Set bool // whether there was a value
}

// Add keeps k if it is smaller (larger, with max) than what there is.
func (e *Extreme) Add(k Key, max bool) {
	if !e.Set || (max && e.Key.Less(k)) || (!max && k.Less(e.Key)) {
		e.Key, e.Set = k, true
	}
}

// Append appends 0 for none, else 1, the key's high half (8 bytes, little-endian) and the low half as a uvarint.
func (e *Extreme) Append(dst []byte) []byte {
	if !e.Set {
		return append(dst, 0)
	}
	dst = binary.LittleEndian.AppendUint64(append(dst, 1), uint64(e.Key.Hi))
	return binary.AppendUvarint(dst, e.Key.Lo)
}

// Decode reads an extreme from the front of src and returns the rest.
func (e *Extreme) Decode(src []byte) (rest []byte, err error) {
	*e = Extreme{}
	if len(src) > 0 && src[0] == 0 {
		return src[1:], nil
	}
	if len(src) < 10 || src[0] != 1 {
		return nil, errCorrupt
	}
	lo, n := binary.Uvarint(src[9:])
	if n <= 0 {
		return nil, errCorrupt
	}
	*e = Extreme{Key{int64(binary.LittleEndian.Uint64(src[1:])), lo}, true}
	return src[9+n:], nil
}

// Pick is the first or the last of the values ever added, in the order of (time, identity), with their value as bytes. Its zero value is empty.
type Pick struct {
	Time  int64 // ms
	ID    uint64
	Value []byte // belongs to whoever added or decoded it
	Set   bool
}

// Add keeps the value if it is before (after, with last) what there is.
func (p *Pick) Add(time int64, id uint64, value []byte, last bool) {
	before := time < p.Time || time == p.Time && id < p.ID
	if !p.Set || before != last && (time != p.Time || id != p.ID) {
		*p = Pick{time, id, value, true}
	}
}

// Append appends 0 for none, else 1 + the value's length, the value, the time as a uvarint and the identity in 8 bytes.
func (p *Pick) Append(dst []byte) []byte {
	if !p.Set {
		return append(dst, 0)
	}
	dst = binary.AppendUvarint(dst, uint64(len(p.Value))+1)
	dst = append(dst, p.Value...)
	dst = binary.AppendUvarint(dst, uint64(p.Time))
	return binary.LittleEndian.AppendUint64(dst, p.ID)
}

// Decode reads a pick from the front of src, whose bytes the value aliases, and returns the rest.
func (p *Pick) Decode(src []byte) (rest []byte, err error) {
	*p = Pick{}
	size, n := binary.Uvarint(src)
	if n <= 0 {
		return nil, errCorrupt
	}
	src = src[n:]
	if size == 0 {
		return src, nil
	}
	if size-1 > uint64(len(src)) {
		return nil, errCorrupt
	}
	value, src := src[:size-1:size-1], src[size-1:]
	time, n := binary.Uvarint(src)
	if n <= 0 || time > math.MaxInt64 || len(src) < n+8 {
		return nil, errCorrupt
	}
	*p = Pick{int64(time), binary.LittleEndian.Uint64(src[n:]), value, true}
	return src[n+8:], nil
}
