package sink

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/freshet-dev/freshet/schemas"
)

// A row's binary form, of row segments (see parquet/FORMAT.md):
//
//	flags         1 byte: bits 0–2 the cause, bit 3 Last, bit 4 ValidUntil is Never, bit 5 AvailableAt is not 0; the others are 0
//	entity        uvarint length ≤ 1024, bytes
//	generation    uvarint
//	offset        varint
//	as-of         varint, ms
//	valid until   varint: ms after as-of; left out if Never
//	computed at   varint: µs after as-of
//	available at  varint: µs after computed at; left out if 0
//	features      uvarint, then one value each
//
// A value is one byte, its kind in the low nibble and n in the high one, and what n says:
//
//	Null     n = 0
//	Bool     n is the value, 0 or 1
//	Int      the n ≤ 8 low bytes of the zigzag integer, little-endian
//	Time     the same of as-of minus the time
//	Double   the n ≤ 8 high bytes of the bits, little-endian: short where the mantissa is
//	Decimal  n ≤ 8 as Int where it fits 64 bits, else n = 15 and all 16 bytes, little-endian
//	UUID     n = 0, 16 bytes
//	others   n ≤ 14 bytes, or n = 15, uvarint length, bytes
//
// Differences wrap around, so any int64 survives. varint and uvarint are encoding/binary's.
const (
	flagCause     = 0x07
	flagLast      = 0x08
	flagNever     = 0x10
	flagAvailable = 0x20
	flagsKnown    = flagCause | flagLast | flagNever | flagAvailable

	wide = 15 // n: more than the nibble can say
)

// AppendRow appends the binary form of row to dst. The entity must have at most schemas.MaxEntityBytes, and the cause be a known one.
func AppendRow(dst []byte, row *Row) []byte {
	flags := byte(row.Cause) & flagCause
	if row.Last {
		flags |= flagLast
	}
	if row.ValidUntil == Never {
		flags |= flagNever
	}
	if row.AvailableAt != 0 {
		flags |= flagAvailable
	}
	dst = append(dst, flags)
	dst = binary.AppendUvarint(dst, uint64(len(row.Entity)))
	dst = append(dst, row.Entity...)
	dst = binary.AppendUvarint(dst, uint64(row.Version.Generation))
	dst = binary.AppendVarint(dst, row.Version.Offset)
	dst = binary.AppendVarint(dst, row.Version.AsOf)
	if row.ValidUntil != Never {
		dst = binary.AppendVarint(dst, row.ValidUntil-row.Version.AsOf)
	}
	dst = binary.AppendVarint(dst, row.ComputedAt-row.Version.AsOf*1000)
	if row.AvailableAt != 0 {
		dst = binary.AppendVarint(dst, row.AvailableAt-row.ComputedAt)
	}
	dst = binary.AppendUvarint(dst, uint64(len(row.Values)))
	for i := range row.Values {
		dst = appendValue(dst, &row.Values[i], row.Version.AsOf)
	}
	return dst
}

func appendValue(dst []byte, v *schemas.Value, asOf int64) []byte {
	switch v.Kind {
	case schemas.Null:
		return append(dst, byte(schemas.Null))
	case schemas.Bool:
		return append(dst, byte(schemas.Bool)|byte(v.Bits)<<4)
	case schemas.Int:
		return appendLow(dst, schemas.Int, zigzag(v.Int64()))
	case schemas.Time:
		return appendLow(dst, schemas.Time, zigzag(asOf-v.Int64()))
	case schemas.Double:
		n := 0
		for bits := v.Bits; bits != 0; bits <<= 8 {
			n++
		}
		dst = append(dst, byte(schemas.Double)|byte(n)<<4)
		return appendBytes(dst, v.Bits>>(64-8*uint(n)), n)
	case schemas.Decimal:
		if v.Hi == int64(v.Bits)>>63 {
			return appendLow(dst, schemas.Decimal, zigzag(int64(v.Bits)))
		}
		dst = append(dst, byte(schemas.Decimal)|wide<<4)
		dst = binary.LittleEndian.AppendUint64(dst, v.Bits)
		return binary.LittleEndian.AppendUint64(dst, uint64(v.Hi))
	case schemas.UUID:
		return append(append(dst, byte(schemas.UUID)), v.Bytes...)
	default:
		if n := len(v.Bytes); n < wide {
			dst = append(dst, byte(v.Kind)|byte(n)<<4)
		} else {
			dst = append(dst, byte(v.Kind)|wide<<4)
			dst = binary.AppendUvarint(dst, uint64(n))
		}
		return append(dst, v.Bytes...)
	}
}

func zigzag(i int64) uint64   { return uint64(i)<<1 ^ uint64(i>>63) }
func unzigzag(u uint64) int64 { return int64(u>>1) ^ -int64(u&1) }

func appendLow(dst []byte, kind schemas.Kind, u uint64) []byte {
	n := 0
	for rest := u; rest != 0; rest >>= 8 {
		n++
	}
	return appendBytes(append(dst, byte(kind)|byte(n)<<4), u, n)
}

// appendBytes appends the n low bytes of u, little-endian.
func appendBytes(dst []byte, u uint64, n int) []byte {
	dst = binary.LittleEndian.AppendUint64(dst, u)
	return dst[:len(dst)-8+n]
}

var errRow = errors.New("damaged row")

// DecodeRow reads the row at the start of b into row and returns what follows it. The entity and the values' Bytes alias b; row.Values is
// reused if it has room for features values, so that nothing is allocated. It checks the form, not the meaning: bytes may hold other
// values than AppendRow was ever given. On an error row is undefined.
func DecodeRow(b []byte, row *Row, features int) (rest []byte, err error) {
	d := rowDecoder{b: b}
	flags := d.byte()
	row.Cause = Cause(flags & flagCause)
	if flags&^flagsKnown != 0 || row.Cause < Event || row.Cause > Backfill {
		return nil, errRow
	}
	row.Last = flags&flagLast != 0
	n := d.uvarint()
	if n > schemas.MaxEntityBytes {
		return nil, errRow
	}
	row.Entity = d.take(int(n))
	generation := d.uvarint()
	if generation > math.MaxUint32 {
		return nil, errRow
	}
	row.Version = Version{Generation: uint32(generation), Offset: d.varint(), AsOf: d.varint()}
	row.ValidUntil = Never
	if flags&flagNever == 0 {
		row.ValidUntil = row.Version.AsOf + d.varint()
	}
	row.ComputedAt = row.Version.AsOf*1000 + d.varint()
	row.AvailableAt = 0
	if flags&flagAvailable != 0 {
		row.AvailableAt = row.ComputedAt + d.varint()
	}
	count := d.uvarint()
	if d.bad {
		return nil, errRow
	}
	if count != uint64(features) {
		return nil, fmt.Errorf("%w: it has %d features, not %d", errRow, count, features)
	}
	if cap(row.Values) < features {
		row.Values = make([]schemas.Value, features)
	}
	row.Values = row.Values[:features]
	for i := range row.Values {
		d.value(&row.Values[i], row.Version.AsOf)
	}
	if d.bad {
		return nil, errRow
	}
	return d.b, nil
}

// rowDecoder reads from b; once it has run over the end, or met what cannot be, it is bad and returns zeros.
type rowDecoder struct {
	b   []byte
	bad bool
}

func (d *rowDecoder) byte() byte {
	if len(d.b) == 0 {
		d.bad = true
		return 0
	}
	c := d.b[0]
	d.b = d.b[1:]
	return c
}

func (d *rowDecoder) uvarint() uint64 {
	u, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.bad = true
		return 0
	}
	d.b = d.b[n:]
	return u
}

func (d *rowDecoder) varint() int64 { return unzigzag(d.uvarint()) }

func (d *rowDecoder) take(n int) []byte {
	if n < 0 || n > len(d.b) {
		d.bad = true
		return nil
	}
	p := d.b[:n:n]
	d.b = d.b[n:]
	return p
}

// low reads n ≤ 8 little-endian bytes.
func (d *rowDecoder) low(n int) uint64 {
	if n > 8 || n > len(d.b) {
		d.bad = true
		return 0
	}
	var u uint64
	if len(d.b) >= 8 {
		u = binary.LittleEndian.Uint64(d.b) & (1<<(8*uint(n)) - 1)
	} else {
		for i, c := range d.b[:n] {
			u |= uint64(c) << (8 * uint(i))
		}
	}
	d.b = d.b[n:]
	return u
}

func (d *rowDecoder) value(v *schemas.Value, asOf int64) {
	tag := d.byte()
	kind, n := schemas.Kind(tag&0x0f), int(tag>>4)
	*v = schemas.Value{Kind: kind}
	switch kind {
	case schemas.Null:
		d.bad = d.bad || n != 0
	case schemas.Bool:
		v.Bits = uint64(n)
		d.bad = d.bad || n > 1
	case schemas.Int:
		v.Bits = uint64(unzigzag(d.low(n)))
	case schemas.Time:
		v.Bits = uint64(asOf - unzigzag(d.low(n)))
	case schemas.Double:
		v.Bits = d.low(n) << (64 - 8*uint(n))
	case schemas.Decimal:
		if n != wide {
			i := unzigzag(d.low(n))
			v.Hi, v.Bits = i>>63, uint64(i)
		} else if p := d.take(16); p != nil {
			v.Bits, v.Hi = binary.LittleEndian.Uint64(p), int64(binary.LittleEndian.Uint64(p[8:]))
		}
	case schemas.UUID:
		v.Bytes = d.take(16)
		d.bad = d.bad || n != 0
	case schemas.String, schemas.Bytes, schemas.Floats, schemas.List, schemas.Map:
		if n == wide {
			length := d.uvarint()
			if length > uint64(len(d.b)) {
				d.bad = true
				return
			}
			n = int(length)
		}
		v.Bytes = d.take(n)
	default:
		d.bad = true
	}
}
