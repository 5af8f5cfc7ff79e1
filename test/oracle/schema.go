package oracle

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"math/big"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/twmb/avro"
)

// column is a place in the reader's schema.
type column struct {
	path    string
	kind    string
	scale   int    // of a decimal
	dim     int    // of floats; 0: any
	logical string // Avro's
}

// schema is a reader's schema.
type schema struct {
	root   *avro.SchemaNode
	reader *avro.Schema // its columns alone, see project
}

// raw keeps types as numbers that freshet takes as numbers.
func raw(logical string) avro.CustomType {
	return avro.CustomType{LogicalType: logical, Decode: func(v any, _ *avro.SchemaNode) (any, error) { return v, nil }}
}

func parse(avsc []byte) (*avro.Schema, error) {
	return avro.Parse(string(avsc), raw("date"), raw("time-millis"), raw("time-micros"), raw("duration"))
}

func newSchema(avsc []byte) (*schema, error) {
	s, err := parse(avsc)
	if err != nil {
		return nil, err
	}
	return &schema{root: s.Root()}, nil
}

// field returns the field of a record node, through a union with null.
func field(n *avro.SchemaNode, name string) *avro.SchemaNode {
	n = inner(n)
	for i := range n.Fields {
		if n.Fields[i].Name == name {
			return &n.Fields[i].Type
		}
	}
	return nil
}

func inner(n *avro.SchemaNode) *avro.SchemaNode {
	for i := range n.Branches {
		if n.Branches[i].Type != "null" {
			return n.Branches[i].ExpandReferences()
		}
	}
	return n.ExpandReferences()
}

func (s *schema) column(path string) (column, error) {
	n := s.root
	for _, name := range strings.Split(path, ".") {
		if n = field(n, name); n == nil {
			return column{}, fmt.Errorf("the schema has no field %s", path)
		}
	}
	n = inner(n)
	c := column{path: path, scale: n.Scale, logical: n.LogicalType}
	switch {
	case strings.Contains(n.LogicalType, "timestamp-"):
		c.kind = kindTime
	case n.LogicalType == "decimal":
		c.kind = kindDecimal
	case n.LogicalType == "uuid":
		c.kind = kindUUID
	default:
		c.kind = map[string]string{
			"boolean": kindBool, "int": kindInt, "long": kindInt, "float": kindDouble, "double": kindDouble,
			"string": kindString, "enum": kindString, "bytes": kindBytes, "fixed": kindBytes, "array": kindFloats,
		}[n.Type]
	}
	if c.kind == "" {
		return c, fmt.Errorf("field %s is a %s, which is no column", path, n.Type)
	}
	return c, nil
}

// project makes the reader of the fields that hold columns: what is wrong with any other field of a writer is no concern of the group.
func (s *schema) project(columns []column) error {
	root := *s.root
	root.Fields = nil
	for _, f := range s.root.Fields {
		if slices.ContainsFunc(columns, func(c column) bool { first, _, _ := strings.Cut(c.path, "."); return first == f.Name }) {
			f.Type = *f.Type.ExpandReferences()
			root.Fields = append(root.Fields, f)
		}
	}
	narrow, err := root.Schema()
	if err != nil {
		return err
	}
	s.reader, err = parse([]byte(narrow.String()))
	return err
}

// decoder reads records of any writer.
type decoder struct {
	schema   *schema
	columns  []column
	writer   func(id int32) []byte
	resolved map[int32]*resolved
}

// resolved is a writer's schema, alone and read as the reader's.
type resolved struct{ alone, asReader *avro.Schema }

// decode returns the columns of a record in the Confluent wire format, and "", undecodable or invalid.
func (d *decoder) decode(value []byte) ([]cell, string) {
	if len(value) < 5 || value[0] != 0 {
		return nil, Undecodable
	}
	r := d.resolve(int32(binary.BigEndian.Uint32(value[1:])))
	if r == nil {
		return nil, Undecodable
	}
	body := value[5:]
	var record any
	if rest, err := r.alone.Decode(body, &record); err != nil || len(rest) > 0 {
		return nil, Undecodable
	}
	record = nil
	if _, err := r.asReader.Decode(body, &record); err != nil {
		return nil, Invalid // the bytes are right; the reader has no place for a value
	}
	cells, verdict := make([]cell, len(d.columns)), ""
	for i := range d.columns {
		c, wrong := read(record, &d.columns[i])
		if cells[i] = c; wrong == Undecodable || verdict == "" {
			verdict = wrong
		}
	}
	return cells, verdict
}

func (d *decoder) resolve(id int32) *resolved {
	if r, ok := d.resolved[id]; ok {
		return r
	}
	d.resolved[id] = nil
	text := d.writer(id)
	if text == nil {
		return nil
	}
	alone, err := parse(text)
	if err != nil {
		return nil
	}
	asReader, err := avro.Resolve(alone, d.schema.reader)
	if err != nil {
		return nil
	}
	d.resolved[id] = &resolved{alone, asReader}
	return d.resolved[id]
}

// read finds a column's value in a decoded record.
func read(record any, c *column) (cell, string) {
	v := record
	for _, name := range strings.Split(c.path, ".") {
		fields, _ := v.(map[string]any)
		v = fields[name]
	}
	switch v := v.(type) {
	case nil:
		return cell{}, ""
	case bool:
		return boolCell(v), ""
	case int32:
		return intCell(int64(v)), ""
	case int64:
		return intCell(v), ""
	case float32:
		return finite(float64(v))
	case float64:
		return finite(v)
	case time.Time:
		return timeCell(v.UnixMilli()), ""
	case *big.Rat:
		return readDecimal(v, c.scale)
	case []byte:
		return cell{kind: kindBytes, s: string(v)}, ""
	case [16]byte:
		return cell{kind: kindUUID, s: uuidText(v)}, ""
	case string:
		if !utf8.ValidString(v) {
			return cell{}, Undecodable
		}
		if c.kind == kindUUID {
			return readUUID(v)
		}
		return cell{kind: kindString, s: v}, ""
	case []any:
		return readFloats(v)
	}
	return cell{}, Invalid
}

func finite(f float64) (cell, string) {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return cell{}, Invalid
	}
	return doubleCell(f), ""
}

// readDecimal gives the unscaled integer, of at most 38 digits.
func readDecimal(r *big.Rat, scale int) (cell, string) {
	scaled := new(big.Rat).Mul(r, new(big.Rat).SetInt(powerOfTen(scale)))
	if !scaled.IsInt() || scaled.Num().CmpAbs(powerOfTen(38)) >= 0 {
		return cell{}, Invalid
	}
	return cell{kind: kindDecimal, big: new(big.Int).Set(scaled.Num()), scale: scale}, ""
}

func readUUID(text string) (cell, string) {
	bytes, err := hex.DecodeString(strings.ReplaceAll(text, "-", ""))
	if err != nil || len(bytes) != 16 {
		return cell{}, Invalid
	}
	u := [16]byte(bytes)
	if !strings.EqualFold(uuidText(u), text) { // dashes elsewhere
		return cell{}, Invalid
	}
	return cell{kind: kindUUID, s: uuidText(u)}, ""
}

func uuidText(u [16]byte) string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
}

func readFloats(items []any) (cell, string) {
	var raw []byte
	for _, item := range items {
		f, ok := item.(float32)
		if !ok || math.IsNaN(float64(f)) || math.IsInf(float64(f), 0) {
			return cell{}, Invalid
		}
		if f == 0 {
			f = 0 // −0.0 is read as 0.0
		}
		raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(f))
	}
	return cell{kind: kindFloats, s: string(raw)}, ""
}
