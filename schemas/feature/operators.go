package feature

import (
	"bytes"
	"cmp"
	"math"
	"slices"

	"github.com/freshet-dev/freshet/schemas"
)

// A comparison is the set of outcomes of comparing two values for which it is true: bit 0 for less, 1 for equal, 2 for greater, 3 for
// unordered (NaN, which is neither less nor equal nor greater).
type comparison uint8

const (
	isEqual        comparison = 2
	isUnequal      comparison = 1 | 4 | 8
	isLess         comparison = 1
	isLessEqual    comparison = 1 | 2
	isGreater      comparison = 4
	isGreaterEqual comparison = 4 | 2
)

func (m comparison) ordering() bool { return m != isEqual && m != isUnequal }

// of returns the truth for an outcome: −1, 0, 1 or unordered.
func (m comparison) of(outcome int) truth { return truth(m >> (outcome + 1) & 1) }

// mirrored is the comparison with its sides swapped.
func (m comparison) mirrored() comparison { return m&^5 | m&1<<2 | m&4>>2 }

// compare returns x m y for nodes whose classes compare. Where one side is a literal and the other a column, as in nearly every
// `where`, one function does all.
func compare(m comparison, x, y node) boolFunc {
	if x.class == classInt && y.class == classDouble || x.class == y.class && x.literal && !y.literal {
		m, x, y = m.mirrored(), y, x
	}
	switch {
	case x.class == classDouble && y.class == classInt:
		return func(row []schemas.Value) truth {
			f, ok := x.double(row)
			i, ok2 := y.int(row)
			if !ok || !ok2 {
				return bad
			}
			return m.mirrored().of(compareIntDouble(i, f))
		}
	case x.class == classDouble:
		return compareDouble(m, x, y)
	case x.class == classBool:
		return func(row []schemas.Value) truth {
			a, b := x.bool(row), y.bool(row)
			if a == bad || b == bad {
				return bad
			}
			return m.of(int(a) - int(b))
		}
	case x.bytes != nil:
		return compareBytes(m, x, y)
	}
	if y.literal && x.isColumn {
		column, limit := x.column, literalInt(y)
		return func(row []schemas.Value) truth {
			if row[column].IsNull() {
				return bad
			}
			return m.of(cmp.Compare(int64(row[column].Bits), limit))
		}
	}
	return func(row []schemas.Value) truth {
		a, ok := x.int(row)
		b, ok2 := y.int(row)
		if !ok || !ok2 {
			return bad
		}
		return m.of(cmp.Compare(a, b))
	}
}

func compareDouble(m comparison, x, y node) boolFunc {
	if y.literal {
		read, limit := x.double, literalDouble(y)
		return func(row []schemas.Value) truth {
			f, ok := read(row)
			if !ok {
				return bad
			}
			return m.of(compareDoubles(f, limit))
		}
	}
	return func(row []schemas.Value) truth {
		a, ok := x.double(row)
		b, ok2 := y.double(row)
		if !ok || !ok2 {
			return bad
		}
		return m.of(compareDoubles(a, b))
	}
}

func compareBytes(m comparison, x, y node) boolFunc {
	if y.literal && x.isColumn && !m.ordering() {
		column, text := x.column, literalBytes(y)
		equal, unequal := m.of(0), m.of(1)
		return func(row []schemas.Value) truth {
			if row[column].IsNull() {
				return bad
			}
			if string(row[column].Bytes) == string(text) {
				return equal
			}
			return unequal
		}
	}
	return func(row []schemas.Value) truth {
		a, ok := x.bytes(row)
		b, ok2 := y.bytes(row)
		if !ok || !ok2 {
			return bad
		}
		return m.of(bytes.Compare(a, b))
	}
}

// A literal evaluates without error; a literal expression that errs (1 / 0) is not marked as one.
func literalInt(n node) int64      { v, _ := n.int(nil); return v }
func literalDouble(n node) float64 { v, _ := n.double(nil); return v }
func literalBytes(n node) []byte   { v, _ := n.bytes(nil); return v }

func not(x boolFunc) boolFunc {
	return func(row []schemas.Value) truth {
		if t := x(row); t != bad {
			return 1 - t
		}
		return bad
	}
}

// and is false if either side is, an error if either side is, else true: CEL's, so that the order of the sides does not matter.
func and(x, y boolFunc) boolFunc {
	return func(row []schemas.Value) truth {
		a := x(row)
		if a == no {
			return no
		}
		b := y(row)
		if b == no {
			return no
		}
		return max(a, b)
	}
}

func or(x, y boolFunc) boolFunc {
	return func(row []schemas.Value) truth {
		a := x(row)
		if a == yes {
			return yes
		}
		b := y(row)
		if b == yes {
			return yes
		}
		return max(a, b)
	}
}

// choose is condition ? x : y, for nodes of one class.
func choose(condition boolFunc, x, y node) node {
	n := node{class: x.class}
	switch {
	case x.bool != nil:
		n.bool = func(row []schemas.Value) truth {
			switch condition(row) {
			case yes:
				return x.bool(row)
			case no:
				return y.bool(row)
			}
			return bad
		}
	case x.int != nil:
		n.int = func(row []schemas.Value) (int64, bool) {
			switch condition(row) {
			case yes:
				return x.int(row)
			case no:
				return y.int(row)
			}
			return 0, false
		}
	case x.double != nil:
		n.double = func(row []schemas.Value) (float64, bool) {
			switch condition(row) {
			case yes:
				return x.double(row)
			case no:
				return y.double(row)
			}
			return 0, false
		}
	default:
		n.bytes = func(row []schemas.Value) ([]byte, bool) {
			switch condition(row) {
			case yes:
				return x.bytes(row)
			case no:
				return y.bytes(row)
			}
			return nil, false
		}
	}
	return n
}

// arithmeticInts are the operators on ints; ok is false where the result does not fit, and for a division by zero.
var arithmeticInts = map[string]func(x, y int64) (v int64, ok bool){
	"+": func(x, y int64) (int64, bool) { v := x + y; return v, (v > x) == (y > 0) },
	"-": func(x, y int64) (int64, bool) { v := x - y; return v, (v < x) == (y > 0) },
	"*": func(x, y int64) (int64, bool) {
		if x == 0 || y == 0 {
			return 0, true
		}
		v := x * y
		return v, v/y == x && (x != -1 || y != math.MinInt64) && (y != -1 || x != math.MinInt64)
	},
	"/": func(x, y int64) (int64, bool) {
		if y == 0 || y == -1 && x == math.MinInt64 {
			return 0, false
		}
		return x / y, true
	},
	"%": func(x, y int64) (int64, bool) {
		if y == 0 || y == -1 && x == math.MinInt64 {
			return 0, false
		}
		return x % y, true
	},
}

// arithmeticDoubles are the operators on doubles. Each result is rounded by its own conversion, so that no compiler may fuse a product
// and a sum (arm64 would).
var arithmeticDoubles = map[string]func(x, y float64) float64{
	"+": func(x, y float64) float64 { return float64(x + y) },
	"-": func(x, y float64) float64 { return float64(x - y) },
	"*": func(x, y float64) float64 { return float64(x * y) },
	"/": func(x, y float64) float64 { return float64(x / y) },
}

func applyInts(op func(x, y int64) (int64, bool), x, y intFunc) intFunc {
	return func(row []schemas.Value) (int64, bool) {
		a, ok := x(row)
		if !ok {
			return 0, false
		}
		b, ok := y(row)
		if !ok {
			return 0, false
		}
		return op(a, b)
	}
}

func applyDoubles(op func(x, y float64) float64, x, y doubleFunc) doubleFunc {
	return func(row []schemas.Value) (float64, bool) {
		a, ok := x(row)
		if !ok {
			return 0, false
		}
		b, ok := y(row)
		return op(a, b), ok
	}
}

// memberInts, memberDoubles and memberBytes are x in […] over sorted literals of x's class.
func memberInts(x intFunc, list []int64) boolFunc {
	return func(row []schemas.Value) truth {
		v, ok := x(row)
		if !ok {
			return bad
		}
		_, found := slices.BinarySearch(list, v)
		return truthOf(found)
	}
}

func memberDoubles(x doubleFunc, list []float64) boolFunc {
	return func(row []schemas.Value) truth {
		v, ok := x(row)
		if !ok {
			return bad
		}
		_, found := slices.BinarySearch(list, v)
		return truthOf(found && v == v)
	}
}

func memberBytes(x bytesFunc, list [][]byte) boolFunc {
	set := make(map[string]bool, len(list))
	for _, b := range list {
		set[string(b)] = true
	}
	return func(row []schemas.Value) truth {
		v, ok := x(row)
		if !ok {
			return bad
		}
		return truthOf(set[string(v)])
	}
}
