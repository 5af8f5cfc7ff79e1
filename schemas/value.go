package schemas

import "math"

// Kind is the kind of a [Value].
type Kind uint8

// The kinds. The numbers are stored in row segments and in state: never renumber them.
const (
	Null    Kind = 0
	Bool    Kind = 1  // Bits is 0 or 1
	Int     Kind = 2  // Bits is an int64
	Double  Kind = 3  // Bits is an IEEE 754 double; never NaN, ±Inf or −0.0
	Decimal Kind = 4  // Hi:Bits is the unscaled 128-bit two's complement integer; the scale is the Type's
	String  Kind = 5  // Bytes is UTF-8 text (Avro string, enum)
	Bytes   Kind = 6  // Bytes (Avro bytes, fixed)
	UUID    Kind = 7  // Bytes are the 16 bytes
	Time    Kind = 8  // Bits is an int64: ms since the epoch
	Floats  Kind = 9  // Bytes are little-endian float32s, Type.Dim of them; none is NaN, ±Inf or −0.0
	List    Kind = 10 // room for first_n, last_n, top_k
	Map     Kind = 11 // room for `by`
)

// Type is the type of a column or of a feature.
type Type struct {
	Kind  Kind
	Scale int   // Decimal: digits after the point, 0–38
	Dim   int   // Floats: number of elements, 0 while not declared
	Elem  *Type // List, Map: the type of the elements
}

// Value is one cell: a column of an event, or a feature of a row. Its zero value is null. The scale of a decimal and the dimension of an
// embedding are its Type's, so a Value is read together with its Type. Bytes belongs to whoever made the value; each function that
// returns values says how long it stays valid.
type Value struct {
	Kind  Kind
	Hi    int64
	Bits  uint64
	Bytes []byte
}

// IsNull reports whether v is null.
func (v Value) IsNull() bool { return v.Kind == Null }

// Int64 returns the value of an Int, Bool or Time.
func (v Value) Int64() int64 { return int64(v.Bits) }

// Float64 returns the value of a Double.
func (v Value) Float64() float64 { return math.Float64frombits(v.Bits) }

// IntValue returns an Int.
func IntValue(i int64) Value { return Value{Kind: Int, Bits: uint64(i)} }

// TimeValue returns a Time of ms since the epoch.
func TimeValue(ms int64) Value { return Value{Kind: Time, Bits: uint64(ms)} }

// DoubleValue returns a Double; −0.0 becomes 0.0. f must be finite.
func DoubleValue(f float64) Value {
	if f == 0 {
		f = 0
	}
	return Value{Kind: Double, Bits: math.Float64bits(f + 0)}
}

// BoolValue returns a Bool.
func BoolValue(b bool) Value {
	if b {
		return Value{Kind: Bool, Bits: 1}
	}
	return Value{Kind: Bool}
}

// StringValue returns a String over b, which it does not copy.
func StringValue(b []byte) Value { return Value{Kind: String, Bytes: b} }

// DecimalValue returns a Decimal of the unscaled integer hi:lo.
func DecimalValue(hi int64, lo uint64) Value { return Value{Kind: Decimal, Hi: hi, Bits: lo} }
