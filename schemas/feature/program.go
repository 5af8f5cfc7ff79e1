package feature

import (
	"math"

	"github.com/freshet-dev/freshet/schemas"
)

// Program is a compiled CEL expression over a row of values. It allocates nothing and may be used by any number of goroutines.
//
// The language is the part of CEL that needs no memory: literals, columns, == != < <= > >=, && || !, ?:, + - * / %, `in` over a list of
// literals, size, startsWith, endsWith, contains, matches (a literal RE2 pattern), timestamp("…"), int, double, and has. It has these
// rules of its own:
//   - int (Avro int, long) and double compare across types, by their exact values; decimals are read as the nearest double;
//   - a null operand is an error, except to == null, != null and has(); errors are absorbed by && and || as CEL does;
//   - a double that is NaN or infinite in the end is an error, and −0.0 is 0.0.
type Program struct {
	source    string
	canonical string
	root      node
}

// Source returns the expression's text.
func (p *Program) Source() string { return p.source }

// Canonical returns the expression with all brackets written and all spaces alike: programs of one plan with equal canonical text are equal.
func (p *Program) Canonical() string { return p.canonical }

// Type returns the type of the expression's value: Bool, Int, Double, String or Time.
func (p *Program) Type() schemas.Type { return schemas.Type{Kind: p.root.class.kind()} }

// Bool evaluates a `where`: true only if the expression is true. An error or a null is false, and err is set so that it can be counted.
func (p *Program) Bool(row []schemas.Value) (ok, err bool) {
	t := p.root.bool(row)
	return t == yes, t == bad
}

// Value evaluates a `derive`: null, with err set, where the expression errs or an operand is null. The result's Bytes may alias the row's.
func (p *Program) Value(row []schemas.Value) (v schemas.Value, err bool) {
	switch p.root.class {
	case classBool:
		if t := p.root.bool(row); t != bad {
			return schemas.BoolValue(t == yes), false
		}
	case classInt:
		if i, ok := p.root.int(row); ok {
			return schemas.IntValue(i), false
		}
	case classTime:
		if i, ok := p.root.int(row); ok {
			return schemas.TimeValue(i), false
		}
	case classDouble:
		if f, ok := p.root.double(row); ok && !math.IsNaN(f) && !math.IsInf(f, 0) {
			return schemas.DoubleValue(f), false
		}
	case classText:
		if b, ok := p.root.bytes(row); ok {
			return schemas.StringValue(b), false
		}
	}
	return schemas.Value{}, true
}

// truth is the value of a bool expression. The numbers matter: and, or work on them.
type truth uint8

const (
	no  truth = 0
	yes truth = 1
	bad truth = 2 // an error or a null
)

func truthOf(b bool) truth {
	if b {
		return yes
	}
	return no
}

// The functions a node may evaluate to; ok is false for an error or a null.
type (
	boolFunc   func(row []schemas.Value) truth
	intFunc    func(row []schemas.Value) (v int64, ok bool)
	doubleFunc func(row []schemas.Value) (v float64, ok bool)
	bytesFunc  func(row []schemas.Value) (v []byte, ok bool)
)

// class is what an expression evaluates to; it says which function of a node is set.
type class uint8

const (
	classNone   class = iota // a problem was told already: whatever is made of it is right
	classNull                // the literal null
	classBool                // bool
	classInt                 // int
	classDouble              // double: Double and Decimal columns
	classTime                // int: ms since the epoch
	classText                // bytes: UTF-8
	classBytes               // bytes
	classUUID                // bytes: 16 of them
	classFloats              // bytes: little-endian float32s
)

func (c class) String() string {
	return [...]string{"nothing", "null", "bool", "int", "double", "timestamp", "string", "bytes", "uuid", "array of float"}[c]
}

func (c class) number() bool { return c == classInt || c == classDouble }

func (c class) kind() schemas.Kind {
	return [...]schemas.Kind{0, 0, schemas.Bool, schemas.Int, schemas.Double, schemas.Time, schemas.String, schemas.Bytes, schemas.UUID, schemas.Floats}[c]
}

// node is one compiled expression: its class, and the function of that class.
type node struct {
	class  class
	text   string // canonical
	bool   boolFunc
	int    intFunc
	double doubleFunc
	bytes  bytesFunc

	isColumn bool // a bare column (or feature), number column of the row
	column   int
	literal  bool // the same for every row: evaluate it with a nil row
}

// columnNode returns the node that reads column i, of type t, of the row.
func columnNode(name string, i int, t schemas.Type) (node, bool) {
	n := node{text: name, isColumn: true, column: i}
	switch t.Kind {
	case schemas.Bool:
		n.class = classBool
		n.bool = func(row []schemas.Value) truth {
			if row[i].IsNull() {
				return bad
			}
			return truth(row[i].Bits)
		}
	case schemas.Int, schemas.Time:
		if n.class = classInt; t.Kind == schemas.Time {
			n.class = classTime
		}
		n.int = func(row []schemas.Value) (int64, bool) { return int64(row[i].Bits), !row[i].IsNull() }
	case schemas.Double:
		n.class = classDouble
		n.double = func(row []schemas.Value) (float64, bool) {
			return math.Float64frombits(row[i].Bits), !row[i].IsNull()
		}
	case schemas.Decimal:
		n.class = classDouble
		scale := t.Scale
		n.double = func(row []schemas.Value) (float64, bool) {
			return decimalDouble(row[i].Hi, row[i].Bits, scale), !row[i].IsNull()
		}
	case schemas.String, schemas.Bytes, schemas.UUID, schemas.Floats:
		n.class = map[schemas.Kind]class{schemas.String: classText, schemas.Bytes: classBytes, schemas.UUID: classUUID, schemas.Floats: classFloats}[t.Kind]
		n.bytes = func(row []schemas.Value) ([]byte, bool) { return row[i].Bytes, !row[i].IsNull() }
	default:
		return node{}, false
	}
	return n, true
}
