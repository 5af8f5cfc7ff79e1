package event

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/big"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hamba/avro/v2"
)

// Encoder writes events of our own (the demo's, and those a user gives as CSV or JSON) in the Confluent wire format. It is read-only and may
// be shared by goroutines.
type Encoder struct {
	schema *Schema
	api    avro.API
	header [headerBytes]byte
}

// NewEncoder returns an encoder of records of schema, a record that [Parse] parsed, registered as id.
func NewEncoder(schema *Schema, id int32) *Encoder {
	e := &Encoder{schema: schema, api: avroConfig.Freeze()}
	binary.BigEndian.PutUint32(e.header[1:], uint32(id))
	return e
}

// avroConfig writes arrays and maps as one block without its size in bytes. An API made of it may be used with one schema only: where a
// named type occurs again, it keeps what it knows of it under the name alone, and would mix up types of other schemas.
var avroConfig = avro.Config{DisableBlockSizeHeader: true, BlockLength: 1 << 30}

// Encode appends one record to dst. fields holds a value for each field by name; nested records are maps too. A field that is left out
// takes its default, or null where null is allowed. Values may be Go's or what encoding/json makes, and text is read as what the schema asks
// for: numbers, true and false, decimals ("12.30"), dates (2006-01-02), instants (RFC 3339, or 2006-01-02 15:04:05 in UTC; a plain
// number is in the schema's unit), UUIDs, fixed as hexadecimal. Empty text is null where null is allowed and text is not. The entries of a map
// are written in no fixed order. Errors name the field and the mend; dst is then returned as it came.
func (e *Encoder) Encode(dst []byte, fields map[string]any) ([]byte, error) {
	c := converter{path: append(make([]string, 0, 16), e.schema.Name())}
	v, err := c.value(e.schema.root, fields)
	if err != nil {
		return dst, err
	}
	body, err := marshal(e.api, e.schema.root, v)
	if err != nil {
		return dst, err
	}
	return append(append(dst, e.header[:]...), body...), nil
}

func marshal(api avro.API, n *node, native any) ([]byte, error) {
	if n.avro == nil {
		return nil, fmt.Errorf("encode %s: the schema is a foreign one; use Parse", n.text())
	}
	b, err := api.Marshal(n.avro, native)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", n.text(), err)
	}
	return b, nil
}

// converter turns values into those that hamba/avro encodes as n's type without a choice of its own: every field of a record is given, a
// union is a map from the branch's name to its value, logical types are the numbers and bytes that lie below (hamba rounds dates before 1970
// up, moves local times by this machine's zone, and wraps negative decimals around).
type converter struct {
	path     []string // to the value, for errors
	defaults bool     // values are defaults of a schema: bytes and fixed are text whose characters are bytes, a union is its first type
	depth    int
	values   int // how many of them were defaults
}

// maxDefaults bounds the values that defaults stand for in one event: records with defaults inside records with defaults multiply.
const maxDefaults = 1 << 16

// nativeDefault is the default of f.
func nativeDefault(f *field) (any, error) {
	c := converter{path: []string{f.name}, defaults: true}
	return c.value(f.typ, f.def)
}

func (c *converter) errorf(format string, args ...any) error {
	return fmt.Errorf("%s"+format, append([]any{strings.Join(c.path, "")}, args...)...)
}

// at is value with further steps on the path.
func (c *converter) at(n *node, v any, steps ...string) (any, error) {
	from := len(c.path)
	c.path = append(c.path, steps...)
	v, err := c.value(n, v)
	c.path = c.path[:from]
	return v, err
}

func (c *converter) value(n *node, v any) (any, error) {
	if c.depth++; c.depth > maxSchemaDepth {
		return nil, c.errorf(": values are nested more than %d deep", maxSchemaDepth)
	}
	if c.defaults {
		if c.values++; c.values > maxDefaults {
			return nil, c.errorf(": the default stands for more than %d values", maxDefaults)
		}
	}
	defer func() { c.depth-- }()
	switch n.kind {
	case kRecord:
		return c.record(n, v)
	case kUnion:
		return c.union(n, v)
	case kArray:
		return c.array(n, v)
	case kMap:
		return c.mapping(n, v)
	}
	native, err := c.scalar(n, v)
	if err != nil {
		return nil, c.errorf(": %s is not %s: %w", show(v), article(n.text()), err)
	}
	return native, nil
}

func (c *converter) record(n *node, v any) (any, error) {
	m, ok := v.(map[string]any)
	if !ok {
		return nil, c.errorf(": %s is not an object with the fields of %s", show(v), n.name)
	}
	out, known := make(map[string]any, len(n.fields)), 0
	for i := range n.fields {
		f := &n.fields[i]
		fv, ok := m[f.name]
		outer := c.defaults
		switch {
		case ok:
			known++
		case f.has:
			fv, c.defaults = f.def, true
		case !nullable(f.typ):
			return nil, c.errorf(".%s is missing; give it a value, or a default in the schema", f.name)
		}
		var err error
		out[f.name], err = c.at(f.typ, fv, ".", f.name)
		if c.defaults = outer; err != nil {
			return nil, err
		}
	}
	if known < len(m) {
		names := fieldNames(n)
		for _, k := range slices.Sorted(maps.Keys(m)) {
			if !slices.Contains(names, k) {
				return nil, c.errorf(" has no field %q%s", k, didYouMean(k, names))
			}
		}
	}
	return out, nil
}

func nullable(n *node) bool { return n.kind == kNull || slices.ContainsFunc(n.branches, isNull) }

func isNull(n *node) bool { return n.kind == kNull }

func (c *converter) union(n *node, v any) (any, error) {
	branches, only := n.branches, ""
	if c.defaults {
		branches, only = branches[:1], "; a default is of the union's first type"
	}
	if s, ok := v.(string); v == nil || ok && s == "" && !c.defaults && !slices.ContainsFunc(branches, isText) {
		if slices.ContainsFunc(branches, isNull) {
			return map[string]any(nil), nil
		}
		return nil, c.errorf(": null is not among the union's types; give a value%s", only)
	}
	var first error
	for _, b := range branches {
		if isNull(b) {
			continue
		}
		native, err := c.value(b, v)
		if err == nil {
			return map[string]any{b.avroName: native}, nil
		}
		if first == nil {
			first = err
		}
	}
	if first == nil {
		first = c.errorf(": %s is not null%s", show(v), only)
	}
	return nil, first
}

func isText(n *node) bool { return n.kind == kString && n.logical == lNone || n.kind == kBytes }

func (c *converter) array(n *node, v any) (any, error) {
	switch l := v.(type) {
	case []float32:
		if n.elem.kind == kFloat {
			return l, nil
		}
	case string: // a cell of a CSV file
		var list []any
		d := json.NewDecoder(strings.NewReader(l))
		d.UseNumber()
		if c.defaults || d.Decode(&list) != nil {
			return nil, c.errorf(`: %s is not a list; write it as [0.1, 0.2]`, show(v))
		}
		v = list
	}
	list := reflect.ValueOf(v)
	if list.Kind() != reflect.Slice {
		return nil, c.errorf(": %s is not a list", show(v))
	}
	out := make([]any, list.Len())
	for i := range out {
		var err error
		if out[i], err = c.at(n.elem, list.Index(i).Interface(), "[", strconv.Itoa(i), "]"); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (c *converter) mapping(n *node, v any) (any, error) {
	m, ok := v.(map[string]any)
	if !ok {
		return nil, c.errorf(": %s is not an object", show(v))
	}
	out := make(map[string]any, len(m))
	for k, e := range m {
		var err error
		if out[k], err = c.at(n.elem, e, ".", k); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// scalar converts a value that has no values inside. Its errors say only why it cannot.
func (c *converter) scalar(n *node, v any) (any, error) {
	switch n.kind {
	case kNull:
		if v != nil {
			return nil, errors.New("only null is")
		}
		return struct{}{}, nil // hamba cannot take nil
	case kBoolean:
		return c.boolean(v)
	case kInt, kLong:
		i, err := c.integer(n, v)
		switch {
		case err != nil:
			return nil, err
		case n.kind == kInt && i != int64(int32(i)):
			return nil, errors.New("it does not fit an int; declare long")
		case n.kind == kInt:
			return int32(i), nil
		case n.logical == lTimeMicros:
			return int(i), nil // hamba would divide an int64, as if it were a time.Duration
		}
		return i, nil
	case kFloat, kDouble:
		f, err := c.float(v)
		if err != nil || n.kind == kDouble {
			return f, err
		}
		if math.IsInf(float64(float32(f)), 0) && !math.IsInf(f, 0) {
			return nil, errors.New("it does not fit a float; declare double")
		}
		return float32(f), nil
	case kEnum:
		s, _ := v.(string)
		if !slices.Contains(n.symbols, s) {
			return nil, fmt.Errorf("there is no such symbol%s", didYouMean(s, n.symbols))
		}
		return s, nil
	case kString:
		return c.text(n, v)
	}
	return c.binary(n, v)
}

func (c *converter) boolean(v any) (any, error) {
	switch v := v.(type) {
	case bool:
		return v, nil
	case string:
		if b, err := strconv.ParseBool(v); err == nil && !c.defaults {
			return b, nil
		}
	}
	return nil, errors.New("write true or false")
}

func (c *converter) text(n *node, v any) (any, error) {
	var s string
	switch v := v.(type) {
	case string:
		s = v
	case []byte:
		s = string(v)
	case json.Number:
		if c.defaults {
			return nil, errors.New("put it in quotes")
		}
		s = string(v) // ids are often numbers in JSON
	default:
		return nil, errors.New("give text")
	}
	if n.logical == lUUID {
		_, err := uuidBytes(s)
		return s, err
	}
	return s, nil
}

// integer is the number that stands for v in n's unit.
func (c *converter) integer(n *node, v any) (int64, error) {
	switch v := v.(type) {
	case int, int32, int64:
		return reflect.ValueOf(v).Int(), nil
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
		if c.defaults {
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

func (c *converter) float(v any) (float64, error) {
	switch v := v.(type) {
	case float32, float64:
		return reflect.ValueOf(v).Float(), nil
	case int, int32, int64:
		return float64(reflect.ValueOf(v).Int()), nil
	case json.Number:
		return parseFloat(string(v))
	case string:
		if !c.defaults {
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

// binary converts bytes and fixed.
func (c *converter) binary(n *node, v any) (any, error) {
	convert := c.rawBytes
	if n.logical == lDecimal && !c.defaults {
		convert = decimalBytes
	}
	b, err := convert(n, v)
	if err != nil || n.kind == kBytes {
		return b, err
	}
	if len(b) != n.size {
		return nil, fmt.Errorf("it has %d bytes; the fixed has %d", len(b), n.size)
	}
	array := reflect.New(reflect.ArrayOf(n.size, reflect.TypeFor[byte]())).Elem()
	reflect.Copy(array, reflect.ValueOf(b))
	return array.Interface(), nil
}

func (c *converter) rawBytes(n *node, v any) ([]byte, error) {
	if b, ok := v.([]byte); ok {
		return b, nil
	}
	s, ok := v.(string)
	switch {
	case !ok:
		return nil, errors.New("give text")
	case c.defaults:
		b := make([]byte, 0, len(s))
		for _, c := range s {
			if c > 255 {
				return nil, errors.New("the characters of a default of bytes are U+0000 to U+00FF, one for each byte")
			}
			b = append(b, byte(c))
		}
		return b, nil
	case n.logical == lUUID:
		return uuidBytes(s)
	case n.kind == kFixed:
		b, err := hex.DecodeString(s)
		if err != nil {
			return nil, fmt.Errorf("write its %d bytes in hexadecimal", n.size)
		}
		return b, nil
	}
	return []byte(s), nil
}

func uuidBytes(s string) ([]byte, error) {
	u := make([]byte, 16)
	if !parseUUID(u, []byte(s)) {
		return nil, errors.New("write it as 123e4567-e89b-12d3-a456-426614174000")
	}
	return u, nil
}

// decimalBytes is the two's complement of the decimal v with n's scale: as long as it must be, or n's size.
func decimalBytes(n *node, v any) ([]byte, error) {
	if b, ok := v.([]byte); ok {
		return b, nil
	}
	unscaled, err := parseDecimal(fmt.Sprint(v), n.scale)
	if err != nil {
		return nil, err
	}
	magnitude := unscaled
	if unscaled.Sign() < 0 {
		magnitude = new(big.Int).Not(unscaled)
	}
	size, need := n.size, magnitude.BitLen()/8+1
	if n.kind == kBytes {
		size = need
	}
	if need > size {
		return nil, fmt.Errorf("it does not fit the fixed of %d bytes", size)
	}
	if unscaled.Sign() < 0 {
		unscaled.Add(unscaled, new(big.Int).Lsh(big.NewInt(1), uint(8*size)))
	}
	return unscaled.FillBytes(make([]byte, size)), nil
}

var decimalText = regexp.MustCompile(`^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d\d?)?$`)

// parseDecimal is the integer that s × 10^scale is; s has at most scale digits after the point, and 38 in all.
func parseDecimal(s string, scale int) (*big.Int, error) {
	if len(s) > 200 || !decimalText.MatchString(s) {
		return nil, errors.New("give a number such as 12.30")
	}
	v, _ := new(big.Rat).SetString(s)
	if v.Mul(v, new(big.Rat).SetInt(powerOf10(scale))); !v.IsInt() {
		return nil, fmt.Errorf("it has more than %d digits after the point; round it, or raise the schema's scale", scale)
	}
	if v.Num().CmpAbs(powerOf10(38)) >= 0 {
		return nil, errors.New("decimals have at most 38 digits")
	}
	return v.Num(), nil
}

func powerOf10(n int) *big.Int { return new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(n)), nil) }

// show is v for an error.
func show(v any) string {
	switch v := v.(type) {
	case string:
		if len(v) > 80 {
			v = v[:80] + "…"
		}
		return strconv.Quote(v)
	case []byte:
		return fmt.Sprintf("a value of %d bytes", len(v))
	case time.Time:
		return v.Format(time.RFC3339Nano)
	}
	return jsonText(v)
}

func article(s string) string {
	if strings.ContainsRune("aeiou", rune(s[0])) {
		return "an " + s
	}
	return "a " + s
}
