// Package event decodes foreign Avro events into the columns that features need, and encodes events of our own.
//
// A [Schema] is parsed from text. [Project] compiles the resolution of a writer's schema to the reader's into a flat program that reads
// only the wanted columns; [Decoder] picks the program by the schema id of the Confluent wire format. FORMAT.md says what the bytes are
// and which limits hold. Nothing here trusts a byte or a schema that came from outside: lengths, depths, items and program sizes are bounded.
package event

import (
	"strings"

	"github.com/hamba/avro/v2"
)

// Limits of a schema's text. A schema beyond one is refused.
const (
	maxSchemaBytes  = 1 << 20
	maxSchemaDepth  = 64 // nested types
	maxFixedBytes   = 1 << 20
	maxDecimalScale = 38
	maxColumns      = 4096
)

type kind uint8

const (
	kNull kind = iota
	kBoolean
	kInt
	kLong
	kFloat
	kDouble
	kBytes
	kString
	kRecord
	kEnum
	kArray
	kMap
	kUnion
	kFixed
)

var kindNames = [...]string{"null", "boolean", "int", "long", "float", "double", "bytes", "string", "record", "enum", "array", "map", "union", "fixed"}

func (k kind) String() string { return kindNames[k] }

var primitives = map[string]kind{
	"null": kNull, "boolean": kBoolean, "int": kInt, "long": kLong, "float": kFloat, "double": kDouble, "bytes": kBytes, "string": kString,
}

type logical uint8

const (
	lNone logical = iota
	lDate
	lTimeMillis
	lTimeMicros
	lStampMillis
	lStampMicros
	lStampNanos
	lLocalMillis
	lLocalMicros
	lLocalNanos
	lDecimal
	lUUID
)

var logicalNames = [...]string{"", "date", "time-millis", "time-micros", "timestamp-millis", "timestamp-micros", "timestamp-nanos",
	"local-timestamp-millis", "local-timestamp-micros", "local-timestamp-nanos", "decimal", "uuid"}

func (l logical) String() string { return logicalNames[l] }

// stamp reports whether l is an instant (or a local one, which is read as UTC).
func (l logical) stamp() bool { return l >= lStampMillis && l <= lLocalNanos }

// perMilli is the number of l's units in a millisecond.
func (l logical) perMilli() int64 {
	switch l {
	case lStampMicros, lLocalMicros:
		return 1e3
	case lStampNanos, lLocalNanos:
		return 1e6
	}
	return 1
}

// node is one type of a schema. It is read-only once parsed. Nodes of recursive records form cycles.
type node struct {
	kind     kind
	logical  logical
	scale    int         // decimal
	size     int         // fixed
	name     string      // full name: record, enum, fixed
	aliases  []string    // full names
	refs     int         // record: how often the schema names it, the definition included. A recursive one has at least 2
	symbols  []string    // enum
	fallback int         // enum: index of the default symbol, or −1
	fields   []field     // record
	elem     *node       // array, map
	branches []*node     // union
	avro     avro.Schema // hamba's, to encode with; nil of a foreign schema
	avroName string      // by which hamba knows it as a branch of a union
}

type field struct {
	name    string
	aliases []string
	doc     string
	typ     *node
	has     bool // a default is given
	def     any  // the default, as encoding/json reads it with UseNumber
}

// text names n as a reader of the schema would.
func (n *node) text() string {
	switch {
	case n.logical != lNone:
		return n.logical.String()
	case n.name != "":
		return n.kind.String() + " " + n.name
	}
	return n.kind.String()
}

func (n *node) field(name string) *field {
	for i := range n.fields {
		if n.fields[i].name == name {
			return &n.fields[i]
		}
	}
	return nil
}

// Schema is a parsed Avro schema, a writer's or a reader's. It is read-only and may be shared by goroutines.
type Schema struct {
	root *node
	text []byte
}

// Parse parses the JSON text of one of our own schemas (at most 1 MiB, types nested at most 64 deep). It is strict: what the Avro
// specification allows a parser to overlook (a bad name, a default of the wrong type, a logical type on the wrong base) is an error, and so
// is what hamba/avro, which encodes with it, refuses. Errors name the place in the schema, as dotted names from the outermost record, and
// the mend.
func Parse(text []byte) (*Schema, error) { return parse(text, true, nil) }

// ParseWriter parses the schema of a foreign producer. It accepts whatever does not keep its bytes from being read: odd names, bad
// defaults, logical types that do not fit (the value is then read as its base type).
func ParseWriter(text []byte) (*Schema, error) { return parse(text, false, nil) }

// Name is the full name of the schema's outermost type, such as freshet.Purchase; of a type without a name, the type.
func (s *Schema) Name() string {
	if s.root.name != "" {
		return s.root.name
	}
	return s.root.kind.String()
}

// Text is the JSON text the schema was parsed from. It must not be changed.
func (s *Schema) Text() []byte { return s.text }

// unqualified is the last part of a full name.
func unqualified(name string) string { return name[strings.LastIndexByte(name, '.')+1:] }

// nearest returns the name among names that is nearest to name by edit distance, if one is near enough to be what was meant.
func nearest(name string, names []string) string {
	best, bestDistance := "", len(name)/3+2
	for _, n := range names {
		if d := distance(strings.ToLower(name), strings.ToLower(n)); d < bestDistance {
			best, bestDistance = n, d
		}
	}
	return best
}

// didYouMean is the hint after a name that is not known: the nearest one, else all of them if they are few.
func didYouMean(name string, names []string) string {
	if n := nearest(name, names); n != "" {
		return "; did you mean " + n + "?"
	}
	if len(names) > 0 && len(names) <= 12 {
		return "; there is " + strings.Join(names, ", ")
	}
	return ""
}

// distance is the Levenshtein distance of two names, of which only the first 64 bytes count.
func distance(a, b string) int {
	a, b = a[:min(len(a), 64)], b[:min(len(b), 64)]
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = min(diagonal, row[j], row[j+1]) + 1
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}
