package event

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/freshet-dev/freshet/schemas"
)

// Encoder writes events of our own (the demo's, and those a user gives as CSV or JSON) in the Confluent wire format. It is read-only and may
// be shared by goroutines.
type Encoder struct {
	schema *Schema
	header [headerBytes]byte
}

// NewEncoder returns an encoder of records of schema, a record, registered as id.
func NewEncoder(schema *Schema, id int32) *Encoder {
	e := &Encoder{schema: schema}
	binary.BigEndian.PutUint32(e.header[1:], uint32(id))
	return e
}

// Encode appends one record to dst. fields holds a value for each field by name; nested records are maps too. A field that is left out
// takes its default, or null where null is allowed. Values may be Go's or what encoding/json makes, and text is read as what the schema asks
// for: numbers, true and false, decimals ("12.30"), dates (2006-01-02), instants (RFC 3339, or 2006-01-02 15:04:05 in UTC; a plain
// number is in the schema's unit), UUIDs, fixed as hexadecimal. Empty text is null where null is allowed and text is not. Errors name the
// field and the mend; dst is then returned as it came.
func (e *Encoder) Encode(dst []byte, fields map[string]any) ([]byte, error) {
	w := writer{b: append(dst, e.header[:]...)}
	if err := w.value(e.schema.root, fields, e.schema.Name()); err != nil {
		return dst, err
	}
	return w.b, nil
}

// writer appends values. It is used up by an error.
type writer struct {
	b        []byte
	defaults bool // values are defaults of a schema: bytes and fixed are text whose characters are bytes, a union is its first type that fits
	depth    int
	values   int // how many of them were defaults
}

// maxDefaults bounds the values that defaults stand for in one event: records with defaults inside records with defaults multiply.
const maxDefaults = 1 << 16

// appendDefault appends the default of f.
func appendDefault(dst []byte, f *field) ([]byte, error) {
	w := writer{b: dst}
	if err := w.defaultOf(f, f.name); err != nil {
		return nil, err
	}
	return w.b, nil
}

func (w *writer) defaultOf(f *field, place string) error {
	outer := w.defaults
	w.defaults = true
	err := w.value(f.typ, f.def, place)
	w.defaults = outer
	return err
}

func (w *writer) long(v int64) { w.b = binary.AppendVarint(w.b, v) }

func (w *writer) value(n *node, v any, place string) error {
	if w.depth++; w.depth > maxSchemaDepth {
		return fmt.Errorf("%s: values are nested more than %d deep", place, maxSchemaDepth)
	}
	if w.defaults {
		if w.values++; w.values > maxDefaults {
			return fmt.Errorf("%s: the default stands for more than %d values", place, maxDefaults)
		}
	}
	defer func() { w.depth-- }()
	switch n.kind {
	case kRecord:
		return w.record(n, v, place)
	case kUnion:
		return w.union(n, v, place)
	case kArray:
		return w.array(n, v, place)
	case kMap:
		return w.mapping(n, v, place)
	}
	if err := w.scalar(n, v); err != nil {
		return fmt.Errorf("%s: %s is not %s: %w", place, show(v), article(n.text()), err)
	}
	return nil
}

func (w *writer) record(n *node, v any, place string) error {
	m, ok := v.(map[string]any)
	if !ok {
		return fmt.Errorf("%s: %s is not an object with the fields of %s", place, show(v), n.name)
	}
	known := 0
	for i := range n.fields {
		f := &n.fields[i]
		fv, ok := m[f.name]
		var err error
		switch here := place + "." + f.name; {
		case ok:
			known++
			err = w.value(f.typ, fv, here)
		case f.has:
			err = w.defaultOf(f, here)
		case nullBranch(f.typ) >= 0:
			w.null(f.typ)
		default:
			err = fmt.Errorf("%s is missing; give it a value, or a default in the schema", here)
		}
		if err != nil {
			return err
		}
	}
	if known < len(m) {
		names := fieldNames(n)
		for _, k := range sortedKeys(m) {
			if !slices.Contains(names, k) {
				return fmt.Errorf("%s has no field %q%s", place, k, didYouMean(k, names))
			}
		}
	}
	return nil
}

func nullBranch(n *node) int {
	if n.kind == kNull {
		return 0
	}
	return slices.IndexFunc(n.branches, func(b *node) bool { return b.kind == kNull })
}

func (w *writer) null(n *node) {
	if n.kind == kUnion {
		w.long(int64(nullBranch(n)))
	}
}

func (w *writer) union(n *node, v any, place string) error {
	null := nullBranch(n)
	if s, ok := v.(string); v == nil || ok && s == "" && !w.defaults && !slices.ContainsFunc(n.branches, isText) {
		if null >= 0 {
			w.long(int64(null))
			return nil
		}
		return fmt.Errorf("%s: null is not among the union's types; give a value", place)
	}
	var first error
	from := len(w.b)
	for i, b := range n.branches {
		if b.kind == kNull {
			continue
		}
		w.long(int64(i))
		err := w.value(b, v, place)
		if err == nil {
			return nil
		}
		w.b = w.b[:from]
		if first == nil {
			first = err
		}
	}
	if first == nil {
		first = fmt.Errorf("%s: %s is not null", place, show(v))
	}
	return first
}

func isText(n *node) bool { return n.kind == kString && n.logical == lNone || n.kind == kBytes }

func (w *writer) array(n *node, v any, place string) error {
	var length int
	var at func(i int) any
	switch v := v.(type) {
	case []any:
		length, at = len(v), func(i int) any { return v[i] }
	case []float32:
		length, at = len(v), func(i int) any { return v[i] }
	case []float64:
		length, at = len(v), func(i int) any { return v[i] }
	case []string:
		length, at = len(v), func(i int) any { return v[i] }
	case string: // a cell of a CSV file
		var list []any
		d := json.NewDecoder(strings.NewReader(v))
		d.UseNumber()
		if w.defaults || d.Decode(&list) != nil {
			return fmt.Errorf(`%s: %s is not a list; write it as [0.1, 0.2]`, place, show(v))
		}
		length, at = len(list), func(i int) any { return list[i] }
	default:
		return fmt.Errorf("%s: %s is not a list", place, show(v))
	}
	if length > 0 {
		w.long(int64(length))
	}
	for i := range length {
		if err := w.value(n.elem, at(i), place+"["+strconv.Itoa(i)+"]"); err != nil {
			return err
		}
	}
	w.long(0)
	return nil
}

func (w *writer) mapping(n *node, v any, place string) error {
	m, ok := v.(map[string]any)
	if !ok {
		return fmt.Errorf("%s: %s is not an object", place, show(v))
	}
	if len(m) > 0 {
		w.long(int64(len(m)))
	}
	for _, k := range sortedKeys(m) {
		w.bytes([]byte(k))
		if err := w.value(n.elem, m[k], place+"."+k); err != nil {
			return err
		}
	}
	w.long(0)
	return nil
}

func (w *writer) bytes(b []byte) {
	w.long(int64(len(b)))
	w.b = append(w.b, b...)
}

func sortedKeys(m map[string]any) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// scalar appends a value that has no values inside. Its errors say only why it cannot.
func (w *writer) scalar(n *node, v any) error {
	switch n.kind {
	case kNull:
		if v != nil {
			return errors.New("only null is")
		}
	case kBoolean:
		return w.boolean(v)
	case kInt, kLong:
		i, err := w.integer(n, v)
		if err != nil {
			return err
		}
		if n.kind == kInt && i != int64(int32(i)) {
			return errors.New("it does not fit an int; declare long")
		}
		w.long(i)
	case kFloat, kDouble:
		f, err := w.float(v)
		if err != nil {
			return err
		}
		if n.kind == kDouble {
			w.b = binary.LittleEndian.AppendUint64(w.b, math.Float64bits(f))
			break
		}
		if f32 := float32(f); math.IsInf(float64(f32), 0) && !math.IsInf(f, 0) {
			return errors.New("it does not fit a float; declare double")
		}
		w.b = binary.LittleEndian.AppendUint32(w.b, math.Float32bits(float32(f)))
	case kEnum:
		s, _ := v.(string)
		i := slices.Index(n.symbols, s)
		if i < 0 {
			return fmt.Errorf("there is no such symbol%s", didYouMean(s, n.symbols))
		}
		w.long(int64(i))
	case kString:
		return w.text(n, v)
	default:
		return w.binary(n, v)
	}
	return nil
}

func (w *writer) boolean(v any) error {
	if s, ok := v.(string); ok && !w.defaults {
		b, err := strconv.ParseBool(s)
		if err != nil {
			return errors.New("write true or false")
		}
		v = b
	}
	b, ok := v.(bool)
	if !ok {
		return errors.New("write true or false")
	}
	if b {
		w.b = append(w.b, 1)
	} else {
		w.b = append(w.b, 0)
	}
	return nil
}

func (w *writer) text(n *node, v any) error {
	var s string
	switch v := v.(type) {
	case string:
		s = v
	case []byte:
		s = string(v)
	case json.Number:
		if w.defaults {
			return errors.New("put it in quotes")
		}
		s = string(v) // ids are often numbers in JSON
	default:
		return errors.New("give text")
	}
	if n.logical == lUUID {
		var u [16]byte
		if !parseUUID(u[:], []byte(s)) {
			return errors.New("write it as 123e4567-e89b-12d3-a456-426614174000")
		}
	}
	w.bytes([]byte(s))
	return nil
}

// integer is the number that stands for v in n's unit.
func (w *writer) integer(n *node, v any) (int64, error) {
	switch v := v.(type) {
	case int:
		return int64(v), nil
	case int32:
		return int64(v), nil
	case int64:
		return v, nil
	case time.Time:
		return instant(n, v)
	case float64:
		if v != math.Trunc(v) || math.Abs(v) >= 1<<63 {
			return 0, errors.New("it is no whole number")
		}
		return int64(v), nil
	case json.Number:
		return wholeNumber(string(v))
	case string:
		if w.defaults {
			return 0, errors.New("write it without quotes")
		}
		if i, err := strconv.ParseInt(v, 10, 64); err == nil {
			return i, nil
		}
		if n.logical.stamp() || n.logical == lDate {
			for _, layout := range []string{time.RFC3339Nano, time.DateTime, "2006-01-02T15:04:05", time.DateOnly} {
				if t, err := time.Parse(layout, v); err == nil {
					return instant(n, t)
				}
			}
			return 0, errors.New("write it as 2026-01-31T12:00:00Z, 2026-01-31 12:00:00, 2026-01-31 or a whole number")
		}
		return wholeNumber(v)
	}
	return 0, errors.New("give a whole number")
}

// wholeNumber also reads 1e3 and 5.0, which are whole.
func wholeNumber(s string) (int64, error) {
	if i, err := strconv.ParseInt(s, 10, 64); err == nil {
		return i, nil
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || f != math.Trunc(f) || math.Abs(f) >= 1<<53 {
		return 0, errors.New("give a whole number of at most 64 bits")
	}
	return int64(f), nil
}

func instant(n *node, t time.Time) (int64, error) {
	switch {
	case n.logical == lDate:
		return floor(t.Unix(), 86400), nil
	case !n.logical.stamp():
		return 0, errors.New("a time needs a timestamp type; give a whole number or declare timestamp-millis")
	case n.logical.perMilli() == 1:
		return t.UnixMilli(), nil
	case n.logical.perMilli() == 1e3:
		return t.UnixMicro(), nil
	}
	if t.Year() < 1678 || t.Year() > 2261 {
		return 0, errors.New("nanoseconds reach from 1678 to 2261")
	}
	return t.UnixNano(), nil
}

func (w *writer) float(v any) (float64, error) {
	switch v := v.(type) {
	case float64:
		return v, nil
	case float32:
		return float64(v), nil
	case int:
		return float64(v), nil
	case int32:
		return float64(v), nil
	case int64:
		return float64(v), nil
	case json.Number:
		return parseFloat(string(v))
	case string:
		if !w.defaults {
			return parseFloat(v)
		}
	}
	return 0, errors.New("give a number")
}

func parseFloat(s string) (float64, error) {
	f, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return 0, errors.New("give a number")
	}
	return f, nil
}

// binary appends bytes and fixed.
func (w *writer) binary(n *node, v any) error {
	var b []byte
	var err error
	switch {
	case n.logical == lDecimal && !w.defaults:
		b, err = decimalBytes(n, v)
	default:
		b, err = w.rawBytes(n, v)
	}
	if err != nil {
		return err
	}
	if n.kind == kBytes {
		w.bytes(b)
		return nil
	}
	if len(b) != n.size {
		return fmt.Errorf("it has %d bytes; the fixed has %d", len(b), n.size)
	}
	w.b = append(w.b, b...)
	return nil
}

func (w *writer) rawBytes(n *node, v any) ([]byte, error) {
	if b, ok := v.([]byte); ok {
		return b, nil
	}
	s, ok := v.(string)
	switch {
	case !ok:
		return nil, errors.New("give text")
	case w.defaults:
		b := make([]byte, 0, len(s))
		for _, c := range s {
			if c > 255 {
				return nil, errors.New("the characters of a default of bytes are U+0000 to U+00FF, one for each byte")
			}
			b = append(b, byte(c))
		}
		return b, nil
	case n.logical == lUUID:
		u := make([]byte, 16)
		if !parseUUID(u, []byte(s)) {
			return nil, errors.New("write it as 123e4567-e89b-12d3-a456-426614174000")
		}
		return u, nil
	case n.kind == kFixed:
		b, err := hex.DecodeString(s)
		if err != nil {
			return nil, fmt.Errorf("write its %d bytes in hexadecimal", n.size)
		}
		return b, nil
	}
	return []byte(s), nil
}

// decimalBytes is the two's complement of the decimal v with n's scale: as long as it must be, or n's size.
func decimalBytes(n *node, v any) ([]byte, error) {
	var s string
	switch v := v.(type) {
	case []byte:
		return v, nil
	case string:
		s = v
	case json.Number:
		s = string(v)
	case int:
		s = strconv.Itoa(v)
	case int64:
		s = strconv.FormatInt(v, 10)
	case float64:
		s = strconv.FormatFloat(v, 'f', -1, 64)
	default:
		return nil, errors.New("give a number such as 12.30")
	}
	unscaled, err := parseDecimal(s, n.scale)
	if err != nil {
		return nil, err
	}
	size := n.size
	if n.kind == kBytes {
		size = 1
		for unscaled.Cmp(new(big.Int).Lsh(big.NewInt(1), uint(8*size-1))) >= 0 || unscaled.Cmp(new(big.Int).Neg(new(big.Int).Lsh(big.NewInt(1), uint(8*size-1)))) < 0 {
			size++
		}
	}
	half := new(big.Int).Lsh(big.NewInt(1), uint(max(8*size-1, 0)))
	if unscaled.Cmp(half) >= 0 || unscaled.Cmp(new(big.Int).Neg(half)) < 0 {
		return nil, fmt.Errorf("it does not fit the fixed of %d bytes", size)
	}
	if unscaled.Sign() < 0 {
		unscaled.Add(unscaled, half.Lsh(half, 1))
	}
	return unscaled.FillBytes(make([]byte, size)), nil
}

// parseDecimal is the integer that s × 10^scale is; s has at most scale digits after the point, and 38 in all.
func parseDecimal(s string, scale int) (*big.Int, error) {
	mantissa, exponent, hasExponent := strings.Cut(strings.ToLower(s), "e")
	e := 0
	if hasExponent {
		var err error
		if e, err = strconv.Atoi(exponent); err != nil || e > 100 || e < -100 {
			return nil, errors.New("give a number such as 12.30")
		}
	}
	whole, fraction, _ := strings.Cut(mantissa, ".")
	digits := whole + fraction
	if len(digits) > 200 || strings.Contains(digits, "_") {
		return nil, errors.New("give a number such as 12.30")
	}
	v, ok := new(big.Int).SetString(digits, 10)
	if !ok || strings.ContainsAny(fraction, "+-") {
		return nil, errors.New("give a number such as 12.30")
	}
	shift := scale - len(fraction) + e
	power := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(max(shift, -shift))), nil)
	if shift >= 0 {
		v.Mul(v, power)
	} else if _, rest := v.QuoRem(v, power, new(big.Int)); rest.Sign() != 0 {
		return nil, fmt.Errorf("it has more than %d digits after the point; round it, or raise the schema's scale", scale)
	}
	if new(big.Int).Abs(v).Cmp(new(big.Int).Exp(big.NewInt(10), big.NewInt(38), nil)) >= 0 {
		return nil, errors.New("decimals have at most 38 digits")
	}
	return v, nil
}

// show is v for an error.
func show(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case string:
		if len(v) > 80 {
			v = v[:80] + "…"
		}
		return strconv.Quote(v)
	case []byte:
		return fmt.Sprintf("a value of %d bytes", len(v))
	case time.Time:
		return v.Format(time.RFC3339Nano)
	case schemas.Value:
		return fmt.Sprintf("a value of kind %d", v.Kind)
	case float64, float32, int, int32, int64, bool:
		return fmt.Sprint(v)
	}
	return jsonText(v)
}

func article(s string) string {
	if strings.ContainsRune("aeiou", rune(s[0])) {
		return "an " + s
	}
	return "a " + s
}
