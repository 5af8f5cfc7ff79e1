package event

import (
	"fmt"
	"strings"

	"github.com/freshet-dev/freshet/schemas"
)

// Column is a place in a schema that can be read as one value.
type Column struct {
	Path     string // names of fields joined by '.'
	Type     schemas.Type
	Nullable bool   // it, or a record around it, may be null
	Avro     string // the type in the schema's words: long, timestamp-micros, fixed, enum, array, …
	Doc      string // the field's
}

// Column returns the column at path: names of fields joined by '.', through nested records. A union of null and one type is that type,
// nullable. The error says why the place cannot be a column, or gives the nearest name.
func (s *Schema) Column(path string) (Column, error) {
	if s.root.kind != kRecord {
		return Column{}, fmt.Errorf("the schema is a %s; events are records", s.root.kind)
	}
	n, nullable := s.root, false
	parts := strings.Split(path, ".")
	if len(parts) > maxSchemaDepth {
		return Column{}, fmt.Errorf("%q is nested more than %d deep", path, maxSchemaDepth)
	}
	var f *field
	for i, name := range parts {
		if n.kind != kRecord {
			return Column{}, fmt.Errorf("%s is a %s, so it has no field %q", strings.Join(parts[:i], "."), n.text(), name)
		}
		if f = n.field(name); f == nil {
			return Column{}, fmt.Errorf("%s has no field %q%s", n.name, strings.Join(parts[:i+1], "."), didYouMean(name, fieldNames(n)))
		}
		inner, null, why := stripNull(f.typ)
		if why != "" {
			return Column{}, fmt.Errorf("%s cannot be a column: %s", strings.Join(parts[:i+1], "."), why)
		}
		n, nullable = inner, nullable || null
	}
	typ, why := columnType(n)
	if why != "" {
		return Column{}, fmt.Errorf("%s cannot be a column: %s", path, why)
	}
	return Column{Path: path, Type: typ, Nullable: nullable, Avro: avroName(n), Doc: f.doc}, nil
}

// Columns returns all columns, depth first in the order of the schema, at most 4096. A record inside itself is left out.
func (s *Schema) Columns() []Column {
	var columns []Column
	visits := 0
	var walk func(n *node, prefix string, nullable bool, above []*node)
	walk = func(n *node, prefix string, nullable bool, above []*node) {
		for _, a := range above {
			if a == n {
				return
			}
		}
		if visits++; visits > maxColumns { // records without columns, within each other, could be very many
			return
		}
		above = append(above, n)
		for _, f := range n.fields {
			inner, null, why := stripNull(f.typ)
			if why != "" || len(columns) >= maxColumns {
				continue
			}
			if inner.kind == kRecord {
				walk(inner, prefix+f.name+".", nullable || null, above)
			} else if typ, why := columnType(inner); why == "" {
				columns = append(columns, Column{Path: prefix + f.name, Type: typ, Nullable: nullable || null, Avro: avroName(inner), Doc: f.doc})
			}
		}
	}
	if s.root.kind == kRecord {
		walk(s.root, "", false, nil)
	}
	return columns
}

func fieldNames(n *node) []string {
	names := make([]string, len(n.fields))
	for i, f := range n.fields {
		names[i] = f.name
	}
	return names
}

func avroName(n *node) string {
	if n.logical != lNone {
		return n.logical.String()
	}
	return n.kind.String()
}

// stripNull returns the one type of a union besides null. why is empty unless there are several.
func stripNull(n *node) (inner *node, nullable bool, why string) {
	if n.kind != kUnion {
		return n, false, ""
	}
	for _, b := range n.branches {
		switch {
		case b.kind == kNull:
			nullable = true
		case inner != nil:
			return nil, false, "it is a union of several types; a column is one type, or a union of null and one type"
		default:
			inner = b
		}
	}
	if inner == nil {
		inner = n.branches[0]
	}
	return inner, nullable, ""
}

// columnType is the type of the values of n, or why there are none.
func columnType(n *node) (t schemas.Type, why string) {
	switch n.kind {
	case kNull:
		return t, "it is always null"
	case kBoolean:
		t.Kind = schemas.Bool
	case kInt, kLong:
		t.Kind = schemas.Int
		if n.logical.stamp() {
			t.Kind = schemas.Time
		}
	case kFloat, kDouble:
		t.Kind = schemas.Double
	case kString, kEnum:
		t.Kind = schemas.String
		if n.logical == lUUID {
			t.Kind = schemas.UUID
		}
	case kBytes, kFixed:
		t.Kind = schemas.Bytes
		switch n.logical {
		case lUUID:
			t.Kind = schemas.UUID
		case lDecimal:
			if n.scale > maxDecimalScale {
				return t, fmt.Sprintf("its scale is %d; decimals have at most %d digits after the point", n.scale, maxDecimalScale)
			}
			t = schemas.Type{Kind: schemas.Decimal, Scale: n.scale}
		}
	case kArray:
		if n.elem.kind != kFloat {
			return t, fmt.Sprintf(`it is an array of %s; only arrays of float (embeddings) are columns: declare "items": "float"`, n.elem.text())
		}
		t.Kind = schemas.Floats
	case kMap:
		return t, "it is a map; give what you need of it a field of its own"
	case kRecord:
		return t, "it is a record; name one of its fields, as in address.city"
	}
	return t, ""
}
