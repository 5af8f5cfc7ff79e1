package parquet

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"time"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/encoding"

	"github.com/freshet-dev/freshet/schemas"
	"github.com/freshet-dev/freshet/sink"
)

// Reader reads one part, column by column. It belongs to one goroutine.
type Reader struct {
	path    string
	file    sink.File
	parquet *parquet.File
	spec    sink.Spec
}

// OpenPart opens the part at path, which must be want: its length and SHA-256 are checked before a byte of it is decoded. It returns
// ErrDamaged for other bytes, and another error for a format that this binary does not know.
func OpenPart(fs sink.FS, path string, want Part) (*Reader, error) {
	if want.Format != PartFormat {
		return nil, fmt.Errorf("open part %s: it has format %d, this binary knows %d: use the release that wrote it, or a later one", path, want.Format,
			PartFormat)
	}
	file, err := fs.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open part: %w", err)
	}
	r := &Reader{path: path, file: file}
	if err := r.open(want); err != nil {
		return nil, errors.Join(fmt.Errorf("open part %s: %w", path, err), file.Close())
	}
	return r, nil
}

func (r *Reader) open(want Part) (err error) {
	defer caught(&err)
	sum := sha256.New()
	n, err := io.Copy(sum, io.NewSectionReader(r.file, 0, math.MaxInt64))
	if err != nil {
		return err
	}
	if got := hex.EncodeToString(sum.Sum(nil)); n != want.Bytes || got != want.SHA256 {
		return fmt.Errorf("%w: it has %d bytes and SHA-256 %s, the manifest says %d and %s", ErrDamaged, n, got, want.Bytes, want.SHA256)
	}
	r.parquet, err = parquet.OpenFile(r.file, n, parquet.SkipPageIndex(true), parquet.SkipBloomFilters(true))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if format, _ := r.parquet.Lookup(keyFormat); format != strconv.Itoa(PartFormat) {
		return fmt.Errorf("its footer says format %q, this binary knows %d: use the release that wrote it, or a later one", format, PartFormat)
	}
	spec, _ := r.parquet.Lookup(keySpec)
	if r.spec, err = decodeSpec(spec); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrDamaged, keySpec, err)
	}
	if rows := r.parquet.NumRows(); rows != want.Rows {
		return fmt.Errorf("%w: it has %d rows, the manifest says %d", ErrDamaged, rows, want.Rows)
	}
	return nil
}

// caught turns a panic of the Parquet library, which bytes it does not expect can cause, into an error.
func caught(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("%w: %v", ErrDamaged, p)
	}
}

func decodeSpec(text string) (spec sink.Spec, err error) {
	var s specJSON
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return spec, err
	}
	spec = sink.Spec{Group: s.Group, Version: s.Version, Entity: s.Entity, TTL: time.Duration(s.TTL) * time.Millisecond}
	if spec.Hash, err = strconv.ParseUint(s.Hash, 16, 64); err != nil {
		return spec, err
	}
	fields := func(in []fieldJSON) (out []sink.Field) {
		for _, f := range in {
			out = append(out, sink.Field{Name: f.Name, Type: schemas.Type{Kind: f.Kind, Scale: f.Scale, Dim: f.Dim}})
		}
		return out
	}
	spec.Keys, spec.Features = fields(s.Keys), fields(s.Features)
	return spec, nil
}

// Spec returns the group version as the footer describes it.
func (r *Reader) Spec() sink.Spec { return r.spec }

// Lookup returns a footer value, such as "freshet.offset_start".
func (r *Reader) Lookup(key string) (string, bool) { return r.parquet.Lookup(key) }

// RowGroups returns the number of row groups.
func (r *Reader) RowGroups() int { return len(r.parquet.RowGroups()) }

// GroupRows returns the number of rows of a row group.
func (r *Reader) GroupRows(group int) int { return int(r.parquet.RowGroups()[group].NumRows()) }

// Close closes the file.
func (r *Reader) Close() error { return r.file.Close() }

// Column is one column of one row group. Of the slices, those that the type needs are filled.
type Column struct {
	Type    schemas.Type
	Micros  bool      // Ints are µs since the epoch: the log's own times, and features of kind Time
	Valid   []bool    // by row: it is not null
	Ints    []int64   // Bool, Int, Time: by row, 0 where null
	Doubles []float64 // Double: by row, 0 where null
	Bytes   []byte    // the other kinds: row i is Bytes[Offsets[i]:Offsets[i+1]]; decimals as 16 bytes, big-endian
	Offsets []uint32  // rows + 1
}

// Value returns the value of row i. Its Bytes alias the column.
func (c *Column) Value(i int) schemas.Value {
	if !c.Valid[i] {
		return schemas.Value{}
	}
	switch c.Type.Kind {
	case schemas.Time:
		return schemas.TimeValue(c.Ints[i] / 1000)
	case schemas.Bool, schemas.Int:
		return schemas.Value{Kind: c.Type.Kind, Bits: uint64(c.Ints[i])}
	case schemas.Double:
		return schemas.Value{Kind: schemas.Double, Bits: math.Float64bits(c.Doubles[i])}
	}
	b := c.Bytes[c.Offsets[i]:c.Offsets[i+1]:c.Offsets[i+1]]
	if c.Type.Kind == schemas.Decimal {
		return schemas.DecimalValue(int64(binary.BigEndian.Uint64(b)), binary.BigEndian.Uint64(b[8:]))
	}
	return schemas.Value{Kind: c.Type.Kind, Bytes: b}
}

// typeOf returns the type of a column by name.
func (r *Reader) typeOf(name string) (t schemas.Type, micros, ok bool) {
	switch name {
	case ColumnEventTimestamp, ColumnComputedAt, ColumnAvailableAt, ColumnValidUntil:
		return schemas.Type{Kind: schemas.Int}, true, true
	case ColumnGeneration, ColumnSourceOffset:
		return schemas.Type{Kind: schemas.Int}, false, true
	case ColumnDefinitionHash, ColumnCause:
		return schemas.Type{Kind: schemas.String}, false, true
	}
	for _, fields := range [][]sink.Field{r.spec.Keys, r.spec.Features} {
		for _, f := range fields {
			if f.Name == name {
				return f.Type, f.Type.Kind == schemas.Time, true
			}
		}
	}
	return t, false, false
}

// ReadColumn reads the column name of a row group into dst, whose slices are reused.
func (r *Reader) ReadColumn(group int, name string, dst *Column) (err error) {
	defer caught(&err)
	t, micros, ok := r.typeOf(name)
	if !ok {
		return fmt.Errorf("read part %s: no column %q", r.path, name)
	}
	leafPath := []string{name}
	if t.Kind == schemas.Floats {
		leafPath = []string{name, "list", "element"}
	}
	leaf, ok := r.parquet.Schema().Lookup(leafPath...)
	if !ok {
		return fmt.Errorf("read part %s: %w: no column %q", r.path, ErrDamaged, name)
	}
	*dst = Column{Type: t, Micros: micros, Valid: dst.Valid[:0], Ints: dst.Ints[:0], Doubles: dst.Doubles[:0], Bytes: dst.Bytes[:0],
		Offsets: append(dst.Offsets[:0], 0)}
	g := r.parquet.RowGroups()[group]
	pages := g.ColumnChunks()[leaf.ColumnIndex].Pages()
	defer pages.Close()
	for {
		page, err := pages.ReadPage()
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("read part %s, column %s: %w: %w", r.path, name, ErrDamaged, err)
		}
		err = dst.addPage(page, byte(leaf.MaxDefinitionLevel))
		parquet.Release(page)
		if err != nil {
			return fmt.Errorf("read part %s, column %s: %w", r.path, name, err)
		}
	}
	if len(dst.Valid) != int(g.NumRows()) {
		return fmt.Errorf("read part %s, column %s: %w: %d values for %d rows", r.path, name, ErrDamaged, len(dst.Valid), g.NumRows())
	}
	return nil
}

// addPage appends a page. Its data are the values that are not null, or their numbers in the dictionary.
func (c *Column) addPage(page parquet.Page, maxDefinition byte) error {
	data := page.Data()
	var indexes []int32
	if dictionary := page.Dictionary(); dictionary != nil {
		indexes = data.Int32()
		data = dictionary.Page().Data()
	}
	definitions, rows := page.DefinitionLevels(), int(page.NumRows())
	next := 0 // of the values
	at := func() int {
		next++
		if indexes != nil {
			return int(indexes[next-1])
		}
		return next - 1
	}
	if c.Type.Kind == schemas.Floats {
		return c.addLists(data.Float(), definitions, rows, maxDefinition)
	}
	put := c.putter(data)
	for i := range rows {
		valid := maxDefinition == 0 || definitions[i] == maxDefinition
		c.Valid = append(c.Valid, valid)
		if valid {
			put(at())
		} else {
			c.putNull()
		}
	}
	return nil
}

// putter returns what appends the value with a given number among data.
func (c *Column) putter(data encoding.Values) func(int) {
	switch c.Type.Kind {
	case schemas.Bool:
		bits := data.Boolean()
		return func(i int) { c.Ints = append(c.Ints, int64(bits[i>>3]>>(i&7)&1)) }
	case schemas.Int, schemas.Time:
		ints := data.Int64()
		return func(i int) { c.Ints = append(c.Ints, ints[i]) }
	case schemas.Double:
		doubles := data.Double()
		return func(i int) { c.Doubles = append(c.Doubles, doubles[i]) }
	case schemas.Decimal, schemas.UUID:
		fixed, _ := data.FixedLenByteArray()
		return func(i int) { c.putBytes(fixed[16*i : 16*i+16]) }
	default:
		b, offsets := data.ByteArray()
		return func(i int) { c.putBytes(b[offsets[i]:offsets[i+1]]) }
	}
}

func (c *Column) putBytes(b []byte) {
	c.Bytes = append(c.Bytes, b...)
	c.Offsets = append(c.Offsets, uint32(len(c.Bytes)))
}

func (c *Column) putNull() {
	switch c.Type.Kind {
	case schemas.Bool, schemas.Int, schemas.Time:
		c.Ints = append(c.Ints, 0)
	case schemas.Double:
		c.Doubles = append(c.Doubles, 0)
	default:
		c.putBytes(nil)
	}
}

// addLists appends a page of embeddings: each row is null, or has all its elements.
func (c *Column) addLists(floats []float32, definitions []byte, rows int, maxDefinition byte) error {
	level := 0
	for range rows {
		if level >= len(definitions) {
			return fmt.Errorf("%w: a page of %d rows ends early", ErrDamaged, rows)
		}
		valid := definitions[level] == maxDefinition
		c.Valid = append(c.Valid, valid)
		if !valid {
			level++
			c.putNull()
			continue
		}
		if len(floats) < c.Type.Dim {
			return fmt.Errorf("%w: an embedding of %d elements, not %d", ErrDamaged, len(floats), c.Type.Dim)
		}
		for _, f := range floats[:c.Type.Dim] {
			c.Bytes = binary.LittleEndian.AppendUint32(c.Bytes, math.Float32bits(f))
		}
		c.putBytes(nil)
		floats, level = floats[c.Type.Dim:], level+c.Type.Dim
	}
	return nil
}

// Rows calls fn with each row, in the file's order. The row is valid until fn returns; it does not say whether it was an entity's Last. It
// stops at fn's first error.
func (r *Reader) Rows(fn func(row *sink.Row) error) error {
	names := make([]string, 0, len(r.spec.Keys)+len(logColumns)+len(r.spec.Features))
	for _, k := range r.spec.Keys {
		names = append(names, k.Name)
	}
	names = append(names, logColumns[:]...)
	for _, f := range r.spec.Features {
		names = append(names, f.Name)
	}
	columns := make([]Column, len(names))
	for g := range r.RowGroups() {
		for i, name := range names {
			if err := r.ReadColumn(g, name, &columns[i]); err != nil {
				return err
			}
		}
		if err := r.groupRows(columns, r.GroupRows(g), fn); err != nil {
			return err
		}
	}
	return nil
}

func (r *Reader) groupRows(columns []Column, rows int, fn func(row *sink.Row) error) error {
	keys, own, features := columns[:len(r.spec.Keys)], columns[len(r.spec.Keys):][:len(logColumns)], columns[len(r.spec.Keys)+len(logColumns):]
	row := sink.Row{Values: make([]schemas.Value, len(features))}
	values := make([]schemas.Value, len(keys))
	hash := hash16(r.spec.Hash)
	for i := range rows {
		for k := range keys {
			values[k] = keys[k].Value(i)
		}
		row.Entity = schemas.AppendEntity(row.Entity[:0], values...)
		row.Version = sink.Version{Generation: uint32(own[4].Ints[i]), Offset: own[5].Ints[i], AsOf: own[0].Ints[i] / 1000}
		row.ComputedAt, row.AvailableAt = own[1].Ints[i], own[2].Ints[i]
		row.ValidUntil = sink.Never
		if own[3].Valid[i] {
			row.ValidUntil = own[3].Ints[i] / 1000
		}
		if got := own[6].Value(i).Bytes; string(got) != hash {
			return fmt.Errorf("read part %s: %w: definition hash %q in the part of %s", r.path, ErrDamaged, got, hash)
		}
		if row.Cause = causeOf(own[7].Value(i).Bytes); row.Cause == 0 {
			return fmt.Errorf("read part %s: %w: cause %q", r.path, ErrDamaged, own[7].Value(i).Bytes)
		}
		for f := range features {
			row.Values[f] = features[f].Value(i)
		}
		if err := fn(&row); err != nil {
			return err
		}
	}
	return nil
}

func causeOf(text []byte) sink.Cause {
	for c := sink.Event; c <= sink.Backfill; c++ {
		if string(text) == c.String() {
			return c
		}
	}
	return 0
}
