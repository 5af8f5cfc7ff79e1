package parquet

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"reflect"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress/zstd"

	"github.com/freshet-dev/freshet/schemas"
	"github.com/freshet-dev/freshet/sink"
)

// The log's own columns, between the entity's and the features'.
const (
	ColumnEventTimestamp = "event_timestamp"
	ColumnComputedAt     = "computed_at"
	ColumnAvailableAt    = "available_at"
	ColumnValidUntil     = "valid_until"
	ColumnGeneration     = "generation"
	ColumnSourceOffset   = "source_offset"
	ColumnDefinitionHash = "definition_hash"
	ColumnCause          = "cause"
)

var logColumns = [...]string{ColumnEventTimestamp, ColumnComputedAt, ColumnAvailableAt, ColumnValidUntil, ColumnGeneration, ColumnSourceOffset,
	ColumnDefinitionHash, ColumnCause}

var compression = &zstd.Codec{Level: zstd.SpeedFastest}

// ordered is a group whose fields keep the order of names; parquet.Group sorts them.
type ordered struct {
	parquet.Group
	names []string
}

func (o ordered) Fields() []parquet.Field {
	byName := map[string]parquet.Field{}
	for _, f := range o.Group.Fields() {
		byName[f.Name()] = f
	}
	fields := make([]parquet.Field, len(o.names))
	for i, name := range o.names {
		fields[i] = byName[name]
	}
	return fields
}

// GoType is asked for only by reflection, which is not used here.
func (o ordered) GoType() reflect.Type { return o.Group.GoType() }

// schemaOf returns the schema of the group's parts. plain names the features that are not worth a dictionary.
func schemaOf(spec *sink.Spec, plain map[string]bool) (*parquet.Schema, error) {
	root := ordered{Group: parquet.Group{}}
	add := func(name string, node parquet.Node) error {
		if _, taken := root.Group[name]; taken {
			return fmt.Errorf("two columns named %q", name)
		}
		root.Group[name] = node
		root.names = append(root.names, name)
		return nil
	}
	for _, k := range spec.Keys {
		node, err := leafOf(k.Type)
		if err != nil {
			return nil, fmt.Errorf("key field %s: %w", k.Name, err)
		}
		if err := add(k.Name, encodedKey(k.Type, node)); err != nil {
			return nil, err
		}
	}
	for _, name := range logColumns {
		if err := add(name, logNode(name)); err != nil {
			return nil, err
		}
	}
	for _, f := range spec.Features {
		node, err := featureNode(f, plain[f.Name])
		if err != nil {
			return nil, fmt.Errorf("feature %s: %w", f.Name, err)
		}
		if err := add(f.Name, node); err != nil {
			return nil, err
		}
	}
	return parquet.NewSchema("freshet", root), nil
}

// encodedKey gives a key column its encoding. Rows are sorted by key, so deltas are short. A dictionary is out: once it is full, the
// library leaves the values after it out of the bloom filter, and readers would skip rows that are there.
func encodedKey(t schemas.Type, node parquet.Node) parquet.Node {
	switch t.Kind {
	case schemas.Int:
		return parquet.Encoded(node, &parquet.DeltaBinaryPacked)
	case schemas.UUID:
		return parquet.Encoded(node, &parquet.Plain)
	default:
		return parquet.Encoded(node, &parquet.DeltaByteArray)
	}
}

func logNode(name string) parquet.Node {
	switch name {
	case ColumnDefinitionHash, ColumnCause:
		return parquet.Encoded(parquet.String(), &parquet.RLEDictionary)
	case ColumnGeneration, ColumnSourceOffset:
		return parquet.Encoded(parquet.Leaf(parquet.Int64Type), &parquet.DeltaBinaryPacked)
	case ColumnValidUntil:
		return parquet.Optional(parquet.Encoded(parquet.Timestamp(parquet.Microsecond), &parquet.DeltaBinaryPacked))
	default:
		return parquet.Encoded(parquet.Timestamp(parquet.Microsecond), &parquet.DeltaBinaryPacked)
	}
}

// featureNode returns the node of a feature, which may always be null.
func featureNode(f sink.Field, plain bool) (parquet.Node, error) {
	switch f.Type.Kind {
	case schemas.Floats:
		if f.Type.Dim <= 0 {
			return nil, fmt.Errorf("an embedding without a dimension")
		}
		return parquet.Optional(parquet.List(parquet.Encoded(parquet.Leaf(parquet.FloatType), &parquet.Plain))), nil
	case schemas.Time:
		return parquet.Optional(parquet.Encoded(parquet.Timestamp(parquet.Microsecond), &parquet.DeltaBinaryPacked)), nil
	case schemas.Bool:
		return parquet.Optional(parquet.Encoded(parquet.Leaf(parquet.BooleanType), &parquet.Plain)), nil
	}
	node, err := leafOf(f.Type)
	if err != nil {
		return nil, err
	}
	if plain {
		return parquet.Optional(parquet.Encoded(node, &parquet.Plain)), nil
	}
	return parquet.Optional(parquet.Encoded(node, &parquet.RLEDictionary)), nil
}

func leafOf(t schemas.Type) (parquet.Node, error) {
	switch t.Kind {
	case schemas.Int:
		return parquet.Leaf(parquet.Int64Type), nil
	case schemas.Double:
		return parquet.Leaf(parquet.DoubleType), nil
	case schemas.Decimal:
		return parquet.Decimal(t.Scale, 38, parquet.FixedLenByteArrayType(16)), nil
	case schemas.String:
		return parquet.String(), nil
	case schemas.Bytes:
		return parquet.Leaf(parquet.ByteArrayType), nil
	case schemas.UUID:
		return parquet.UUID(), nil
	}
	return nil, fmt.Errorf("the log has no column for kind %d", t.Kind)
}

// add adds a value: one of a required column, or one with its level, or the zero Value, null.
func (c *column) add(v parquet.Value) { c.values = append(c.values, v) }

// addFeature adds a feature of one row. Only levels are read from what Level says, not the column's number.
func (c *column) addFeature(v *schemas.Value, t *schemas.Type) error {
	if v.Kind == schemas.Null {
		c.add(parquet.Value{})
		return nil
	}
	if v.Kind != t.Kind {
		return fmt.Errorf("a value of kind %d in a column of kind %d", v.Kind, t.Kind)
	}
	switch t.Kind {
	case schemas.Double:
		c.add(parquet.DoubleValue(v.Float64()).Level(0, 1, 0))
	case schemas.Int:
		c.add(parquet.Int64Value(v.Int64()).Level(0, 1, 0))
	case schemas.Time:
		c.add(parquet.Int64Value(v.Int64()*1000).Level(0, 1, 0))
	case schemas.Bool:
		c.add(parquet.BooleanValue(v.Bits != 0).Level(0, 1, 0))
	case schemas.Decimal:
		at := len(c.fixed)
		c.fixed = binary.BigEndian.AppendUint64(c.fixed, uint64(v.Hi))
		c.fixed = binary.BigEndian.AppendUint64(c.fixed, v.Bits)
		c.add(parquet.FixedLenByteArrayValue(c.fixed[at:]).Level(0, 1, 0))
	case schemas.String, schemas.Bytes:
		c.add(parquet.ByteArrayValue(v.Bytes).Level(0, 1, 0))
	case schemas.UUID:
		c.add(parquet.FixedLenByteArrayValue(v.Bytes).Level(0, 1, 0))
	default:
		return c.addFloats(v.Bytes, t.Dim)
	}
	return nil
}

func (c *column) addFloats(b []byte, dim int) error {
	if len(b) != 4*dim {
		return fmt.Errorf("an embedding of %d bytes in a column of dimension %d", len(b), dim)
	}
	for i := 0; i < len(b); i += 4 {
		f := math.Float32frombits(binary.LittleEndian.Uint32(b[i:]))
		c.add(parquet.FloatValue(f).Level(min(i, 1), 2, 0))
	}
	return nil
}

func keyValue(v *schemas.Value) parquet.Value {
	switch v.Kind {
	case schemas.Int:
		return parquet.Int64Value(v.Int64())
	case schemas.UUID:
		return parquet.FixedLenByteArrayValue(v.Bytes)
	default:
		return parquet.ByteArrayValue(v.Bytes)
	}
}

// specJSON is a Spec as the footer holds it, so that a part can be read without its definition.
type specJSON struct {
	Group    string      `json:"group"`
	Version  int         `json:"version"`
	Hash     string      `json:"definition_hash"`
	Entity   string      `json:"entity"`
	Keys     []fieldJSON `json:"keys"`
	Features []fieldJSON `json:"features"`
	TTL      int64       `json:"ttl_ms"`
}

type fieldJSON struct {
	Name  string       `json:"name"`
	Kind  schemas.Kind `json:"kind"`
	Scale int          `json:"scale,omitempty"`
	Dim   int          `json:"dim,omitempty"`
}

func encodeSpec(spec *sink.Spec) string {
	fields := func(fs []sink.Field) []fieldJSON {
		out := make([]fieldJSON, len(fs))
		for i, f := range fs {
			out[i] = fieldJSON{f.Name, f.Type.Kind, f.Type.Scale, f.Type.Dim}
		}
		return out
	}
	b, err := json.Marshal(specJSON{spec.Group, spec.Version, hash16(spec.Hash), spec.Entity, fields(spec.Keys), fields(spec.Features),
		spec.TTL.Milliseconds()})
	if err != nil {
		panic(err) // strings and integers
	}
	return string(b)
}

func hash16(h uint64) string { return fmt.Sprintf("%016x", h) }
