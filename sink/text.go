package sink

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"strconv"
	"unicode/utf8"

	"github.com/freshet-dev/freshet/schemas"
)

// AppendText appends the canonical text of a feature's value, as the online store holds it, to dst:
//
//   - Double: as JSON canonicalisation writes it (RFC 8785, section 3.2.2.3: the shortest digits that read back to the same double, in
//     ECMAScript's notation); it must be finite
//   - Int, Time (ms since the epoch): decimal
//   - Decimal: all digits of its scale (12.30)
//   - Bool: true, false
//   - String: its bytes
//   - Bytes: lower-case hex
//   - UUID: canonical (8-4-4-4-12)
//   - Floats: the little-endian float32s themselves
//
// Null has no text: nothing is appended, and the store leaves the field out. t gives the scale of a Decimal; otherwise v's own kind
// decides. A value that may not exist (NaN, ±Inf, an unknown kind) panics: it would be served for good.
func AppendText(dst []byte, v schemas.Value, t schemas.Type) []byte {
	switch v.Kind {
	case schemas.Null:
		return dst
	case schemas.Bool:
		return strconv.AppendBool(dst, v.Bits != 0)
	case schemas.Int, schemas.Time:
		return strconv.AppendInt(dst, v.Int64(), 10)
	case schemas.Double:
		return AppendDouble(dst, v.Float64())
	case schemas.Decimal:
		return appendDecimal(dst, v.Hi, v.Bits, t.Scale)
	case schemas.String, schemas.Floats:
		return append(dst, v.Bytes...)
	case schemas.Bytes:
		return hex.AppendEncode(dst, v.Bytes)
	case schemas.UUID:
		return schemas.AppendUUID(dst, v.Bytes)
	}
	panic(fmt.Sprintf("sink: a value of kind %d has no text", v.Kind))
}

// AppendDouble appends a finite double in ECMAScript's Number::toString notation (ECMA-262, 6.1.6.1.20): plain between 1e-6 and 1e21, else
// with an exponent of no leading zeros. −0.0 is written 0.
func AppendDouble(dst []byte, f float64) []byte {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		panic("sink: a double that is not finite has no text")
	}
	if f == 0 {
		return append(dst, '0')
	}
	if a := math.Abs(f); a >= 1e-6 && a < 1e21 {
		return strconv.AppendFloat(dst, f, 'f', -1, 64)
	}
	dst = strconv.AppendFloat(dst, f, 'e', -1, 64)
	// strconv writes at least two digits of the exponent (1e-07), ECMAScript no leading zero (1e-7).
	if n := len(dst); dst[n-4] == 'e' && dst[n-2] == '0' {
		dst[n-2] = dst[n-1]
		dst = dst[:n-1]
	}
	return dst
}

// appendDecimal appends the unscaled 128-bit integer hi:lo with a point before its last scale digits.
func appendDecimal(dst []byte, hi int64, lo uint64, scale int) []byte {
	h := uint64(hi)
	if hi < 0 {
		dst = append(dst, '-')
		var borrow uint64
		lo, borrow = bits.Sub64(0, lo, 0)
		h, _ = bits.Sub64(0, h, borrow)
	}
	// 2^127 has 39 digits; the scale is at most 38, so a digit before the point always fits.
	var buf [40]byte
	i := len(buf)
	for n := 0; h != 0 || lo != 0 || n <= scale; n++ {
		q, r := h/10, h%10
		var d uint64
		lo, d = bits.Div64(r, lo, 10)
		h = q
		i--
		buf[i] = byte('0' + d)
	}
	digits := buf[i:]
	dst = append(dst, digits[:len(digits)-scale]...)
	if scale > 0 {
		dst = append(dst, '.')
		dst = append(dst, digits[len(digits)-scale:]...)
	}
	return dst
}

// ParseText is the inverse of AppendText for a value of type t: it accepts every text that AppendText writes and, for doubles, any JSON
// number within a double's range. The value's Bytes may alias text.
func ParseText(text []byte, t schemas.Type) (schemas.Value, error) {
	v, err := parseText(text, t)
	if err != nil {
		return schemas.Value{}, fmt.Errorf("%.40q: %w", text, err)
	}
	return v, nil
}

func parseText(text []byte, t schemas.Type) (schemas.Value, error) {
	switch t.Kind {
	case schemas.Bool:
		switch string(text) {
		case "true":
			return schemas.BoolValue(true), nil
		case "false":
			return schemas.BoolValue(false), nil
		}
		return schemas.Value{}, errors.New("neither true nor false")
	case schemas.Int, schemas.Time:
		n, err := parseInt(text)
		return schemas.Value{Kind: t.Kind, Bits: uint64(n)}, err
	case schemas.Double:
		f, err := parseDouble(text)
		return schemas.DoubleValue(f), err
	case schemas.Decimal:
		return parseDecimal(text, t.Scale)
	case schemas.String:
		if !utf8.Valid(text) {
			return schemas.Value{}, errors.New("not UTF-8")
		}
		return schemas.StringValue(text), nil
	case schemas.Bytes:
		b, err := parseHex(text)
		return schemas.Value{Kind: schemas.Bytes, Bytes: b}, err
	case schemas.UUID:
		v, err := schemas.ParseEntity(text, []schemas.Type{{Kind: schemas.UUID}})
		if err != nil || !bytes.Equal(schemas.AppendUUID(nil, v[0].Bytes), text) {
			return schemas.Value{}, errors.New("not a UUID in lower case")
		}
		return v[0], nil
	case schemas.Floats:
		return parseFloats(text, t.Dim)
	}
	return schemas.Value{}, fmt.Errorf("values of kind %d have no text", t.Kind)
}

// parseInt accepts what AppendInt writes and nothing else: no plus sign, no leading zeros, no −0.
func parseInt(text []byte) (int64, error) {
	n, err := strconv.ParseInt(string(text), 10, 64)
	if err != nil {
		return 0, errors.New("not a 64-bit integer")
	}
	var buf [20]byte
	if !bytes.Equal(strconv.AppendInt(buf[:0], n, 10), text) {
		return 0, errors.New("not an integer as it is written here")
	}
	return n, nil
}

// parseDouble accepts JSON's grammar of numbers: strconv alone would also take Inf, NaN, hexadecimal, underscores and ".5".
func parseDouble(text []byte) (float64, error) {
	rest := bytes.TrimPrefix(text, []byte("-"))
	whole := countDigits(rest)
	if whole == 0 || whole > 1 && rest[0] == '0' {
		return 0, errors.New("not a JSON number")
	}
	rest = rest[whole:]
	if len(rest) > 0 && rest[0] == '.' {
		n := countDigits(rest[1:])
		if n == 0 {
			return 0, errors.New("not a JSON number")
		}
		rest = rest[1+n:]
	}
	if len(rest) > 0 && (rest[0] == 'e' || rest[0] == 'E') {
		rest = rest[1:]
		if len(rest) > 0 && (rest[0] == '+' || rest[0] == '-') {
			rest = rest[1:]
		}
		n := countDigits(rest)
		if n == 0 {
			return 0, errors.New("not a JSON number")
		}
		rest = rest[n:]
	}
	if len(rest) > 0 {
		return 0, errors.New("not a JSON number")
	}
	f, err := strconv.ParseFloat(string(text), 64)
	if err != nil {
		return 0, errors.New("beyond the range of a double")
	}
	return f, nil
}

func countDigits(b []byte) int {
	for i, c := range b {
		if c < '0' || c > '9' {
			return i
		}
	}
	return len(b)
}

func parseDecimal(text []byte, scale int) (schemas.Value, error) {
	bad := fmt.Errorf("not a decimal with %d digits after the point", scale)
	digits, negative := bytes.CutPrefix(text, []byte("-"))
	whole := countDigits(digits)
	if whole == 0 || whole > 1 && digits[0] == '0' {
		return schemas.Value{}, bad
	}
	fraction := digits[whole:]
	if scale > 0 {
		if len(fraction) != scale+1 || fraction[0] != '.' || countDigits(fraction[1:]) != scale {
			return schemas.Value{}, bad
		}
		fraction = fraction[1:]
	} else if len(fraction) != 0 {
		return schemas.Value{}, bad
	}
	var hi, lo uint64
	for _, part := range [2][]byte{digits[:whole], fraction} {
		for _, c := range part {
			over, h := bits.Mul64(hi, 10)
			carry, l := bits.Mul64(lo, 10)
			var c1, c2 uint64
			lo, c1 = bits.Add64(l, uint64(c-'0'), 0)
			hi, c2 = bits.Add64(h, carry, c1)
			if over|c2 != 0 || hi > 1<<63 {
				return schemas.Value{}, errors.New("a decimal of more than 128 bits")
			}
		}
	}
	if hi == 1<<63 && (lo != 0 || !negative) {
		return schemas.Value{}, errors.New("a decimal of more than 128 bits")
	}
	if negative {
		if hi == 0 && lo == 0 {
			return schemas.Value{}, bad
		}
		var borrow uint64
		lo, borrow = bits.Sub64(0, lo, 0)
		hi, _ = bits.Sub64(0, hi, borrow)
	}
	return schemas.DecimalValue(int64(hi), lo), nil
}

func parseHex(text []byte) ([]byte, error) {
	b := make([]byte, hex.DecodedLen(len(text)))
	if _, err := hex.Decode(b, text); err != nil || !bytes.Equal(bytes.ToLower(text), text) {
		return nil, errors.New("not lower-case hexadecimal")
	}
	return b, nil
}

func parseFloats(text []byte, dim int) (schemas.Value, error) {
	if len(text)%4 != 0 || dim > 0 && len(text) != 4*dim {
		return schemas.Value{}, fmt.Errorf("%d bytes are not %d float32s", len(text), dim)
	}
	for b := text; len(b) > 0; b = b[4:] {
		if f := math.Float32frombits(binary.LittleEndian.Uint32(b)); f-f != 0 {
			return schemas.Value{}, errors.New("an element is not finite")
		}
	}
	return schemas.Value{Kind: schemas.Floats, Bytes: text}, nil
}

// VersionTextLen is the length of the text of a [Version] in bytes.
const VersionTextLen = 8 + 1 + 16 + 1 + 12

// noOffset is the text of offset −1: it comes before every hex digit, bytewise.
const noOffset = "----------------"

// AppendText appends the version's text, generation (8 hex) - offset (16 hex) - as-of (12 hex), to dst. Texts compare bytewise as
// versions do. Offset −1 is written as sixteen '-'. An offset below −1 or an as-of outside 48 bits is a bug and panics: such a text would
// be ordered wrongly for good.
func (v Version) AppendText(dst []byte) []byte {
	if v.Offset < -1 || v.AsOf < 0 || v.AsOf >= 1<<48 {
		panic(fmt.Sprintf("sink: generation %d, offset %d, as-of %d is not a version", v.Generation, v.Offset, v.AsOf))
	}
	dst = appendHex(dst, uint64(v.Generation), 8)
	dst = append(dst, '-')
	if v.Offset < 0 {
		dst = append(dst, noOffset...)
	} else {
		dst = appendHex(dst, uint64(v.Offset), 16)
	}
	dst = append(dst, '-')
	return appendHex(dst, uint64(v.AsOf), 12)
}

// String returns the version's text.
func (v Version) String() string { return string(v.AppendText(make([]byte, 0, VersionTextLen))) }

// Compare returns −1, 0 or 1 as v is older than, equal to or newer than o.
func (v Version) Compare(o Version) int {
	return cmp.Or(cmp.Compare(v.Generation, o.Generation), cmp.Compare(v.Offset, o.Offset), cmp.Compare(v.AsOf, o.AsOf))
}

// ParseVersion is the inverse of Version.AppendText, and accepts nothing else.
func ParseVersion(text []byte) (Version, error) {
	if len(text) == VersionTextLen && text[8] == '-' && text[25] == '-' {
		generation, ok1 := parseFixedHex(text[:8])
		offset, ok2 := parseFixedHex(text[9:25])
		if string(text[9:25]) == noOffset {
			offset, ok2 = math.MaxUint64, true // −1
		} else if offset > math.MaxInt64 {
			ok2 = false
		}
		asOf, ok3 := parseFixedHex(text[26:])
		if ok1 && ok2 && ok3 {
			return Version{Generation: uint32(generation), Offset: int64(offset), AsOf: int64(asOf)}, nil
		}
	}
	return Version{}, fmt.Errorf("%.60q is not a value version (8, 16 and 12 lower-case hex digits joined by '-')", text)
}

func appendHex(dst []byte, n uint64, digits int) []byte {
	for shift := 4 * (digits - 1); shift >= 0; shift -= 4 {
		dst = append(dst, "0123456789abcdef"[n>>shift&15])
	}
	return dst
}

func parseFixedHex(text []byte) (n uint64, ok bool) {
	for _, c := range text {
		switch {
		case c >= '0' && c <= '9':
			n = n<<4 | uint64(c-'0')
		case c >= 'a' && c <= 'f':
			n = n<<4 | uint64(c-'a'+10)
		default:
			return 0, false
		}
	}
	return n, true
}
