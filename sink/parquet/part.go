package parquet

import (
	"bufio"
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"strconv"

	"github.com/parquet-go/parquet-go"

	"github.com/freshet-dev/freshet/schemas"
	"github.com/freshet-dev/freshet/sink"
)

// PartFormat is the version of the parts' format: of the columns, their types and their meaning. Readers refuse any they do not know.
const PartFormat = 1

const (
	rowGroupRows  = 128 << 10
	batchRows     = 128      // decoded at once
	pageBytes     = 64 << 10 // of one column, not encoded; also what a column buffers
	dictionaryCap = 1 << 20  // bytes: a column with more distinct values goes on without
	bloomBits     = 10       // per row: 1 % of false positives

	sampleRows = 4096 // by which WritePart decides whether a column is worth a dictionary
)

// Footer keys of a part.
const (
	keyFormat         = "freshet.format"
	keyGroup          = "freshet.group"
	keyGroupVersion   = "freshet.group_version"
	keyDefinitionHash = "freshet.definition_hash"
	keyPartition      = "freshet.partition"
	keyOffsetStart    = "freshet.offset_start"
	keyOffsetEnd      = "freshet.offset_end"
	keyTimeMin        = "freshet.time_min"
	keyTimeMax        = "freshet.time_max"
	keySpec           = "freshet.spec"
)

// Part is what a manifest says of one Parquet file of the log.
type Part struct {
	Name        string `json:"name"` // in the bucket, see PartName
	Date        string `json:"date"` // UTC day of available_at, YYYY-MM-DD
	Rows        int64  `json:"rows"`
	Bytes       int64  `json:"bytes"`
	SHA256      string `json:"sha256"`       // of the file, hex
	OffsetStart int64  `json:"offset_start"` // source offsets [start, end); may be empty
	OffsetEnd   int64  `json:"offset_end"`
	TimeMin     int64  `json:"time_min"` // smallest and largest available_at, µs
	TimeMax     int64  `json:"time_max"`
	Format      int    `json:"format"`
}

// PartInfo is what a part's rows do not say.
type PartInfo struct {
	Partition   int32
	Seq         int64 // of the manifest that will commit it
	K           int   // of the part within that manifest, 0–999
	OffsetStart int64 // source offsets the part stands for
	OffsetEnd   int64
}

// PartName returns the name of a committed part in the bucket.
func PartName(group string, version int, date string, partition int32, seq int64, k int) string {
	return fmt.Sprintf("log/%s/v%d/date=%s/%05d-%010d-%03d.parquet", group, version, date, partition, seq, k)
}

// StagedName returns the name a part has in the bucket until its manifest is published. It does not end in ".parquet", for engines glob
// hidden files and directories too.
func StagedName(name string) string { return name + ".staged" }

// ErrNoRows is returned where a segment has no log rows to make a part of.
var ErrNoRows = errors.New("no log rows")

// WritePart encodes the log rows of seg, all of one UTC day of available_at, as the Parquet file at path, sorted by key columns and
// available_at. The file is synced, its name is not. Memory stays below 64 MB for a million rows.
func WritePart(fs sink.FS, path string, seg *Segment, spec sink.Spec, info PartInfo) (Part, error) {
	parts, err := writeParts(fs, func(int) string { return path }, seg, spec, info, 1)
	if err != nil {
		return Part{}, err
	}
	return parts[0], nil
}

// WriteParts is WritePart for rows of any days: one part a day, ascending, the i-th at path(i). All are named by info.K: their days tell them
// apart. The first part stands for all the source offsets, the others for none.
func WriteParts(fs sink.FS, path func(i int) string, seg *Segment, spec sink.Spec, info PartInfo) ([]Part, error) {
	return writeParts(fs, path, seg, spec, info, math.MaxInt)
}

func writeParts(fs sink.FS, path func(i int) string, seg *Segment, spec sink.Spec, info PartInfo, most int) (parts []Part, err error) {
	err = withFile(seg.fs, seg.path, seg.size, func(data []byte) error {
		x, err := indexRows(data, int(seg.next))
		if err != nil {
			return err
		}
		o, err := sortRows(data, x, &spec)
		if err != nil {
			return err
		}
		days := o.days()
		if len(days) == 0 {
			return ErrNoRows
		}
		if len(days) > most {
			return fmt.Errorf("rows of %d UTC days, from %s to %s, for %d parts", len(days), dateOf(days[0][0].available),
				dateOf(days[len(days)-1][0].available), most)
		}
		for i, entries := range days {
			w := partWriter{data: data, entries: entries, spec: &spec, info: info, types: typesOf(spec.Keys),
				hash: parquet.ByteArrayValue([]byte(hash16(spec.Hash)))}
			part, err := w.writeFile(fs, path(i))
			if err != nil {
				return fmt.Errorf("%s: %w", path(i), err)
			}
			parts = append(parts, part)
			info.OffsetStart = info.OffsetEnd
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("write part of segment %s: %w", seg.path, err)
	}
	return parts, nil
}

// partWriter writes one part.
type partWriter struct {
	data    []byte
	entries []entry
	spec    *sink.Spec
	info    PartInfo
	types   []schemas.Type // of the key columns
	hash    parquet.Value  // definition_hash

	out     *parquet.GenericWriter[any]
	columns []column
	row     sink.Row        // decoded last; aliases data
	keys    []schemas.Value // of its entity
	touched byte            // keeps touch from being optimised away
}

// column is one column of the batch in work.
type column struct {
	writer *parquet.ColumnWriter
	values []parquet.Value
	fixed  []byte // the bytes of its decimals
}

func (w *partWriter) writeFile(fs sink.FS, path string) (Part, error) {
	if err := fs.MkdirAll(filepath.Dir(path)); err != nil {
		return Part{}, err
	}
	file, err := fs.Create(path)
	if err != nil {
		return Part{}, err
	}
	part := w.describe()
	sum := sha256.New()
	count := &counter{}
	buffered := bufio.NewWriterSize(io.MultiWriter(file, sum, count), 64<<10)
	err = w.encode(buffered, &part)
	if err == nil {
		err = buffered.Flush()
	}
	if err == nil {
		err = file.Sync()
	}
	if cerr := file.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return Part{}, err
	}
	part.Bytes = count.n
	part.SHA256 = hex.EncodeToString(sum.Sum(nil))
	return part, nil
}

type counter struct{ n int64 }

func (c *counter) Write(b []byte) (int, error) {
	c.n += int64(len(b))
	return len(b), nil
}

// describe returns what is known of the part before it is written.
func (w *partWriter) describe() Part {
	first := w.entries[0].available
	p := Part{
		Date: dateOf(first), Rows: int64(len(w.entries)), OffsetStart: w.info.OffsetStart, OffsetEnd: w.info.OffsetEnd,
		TimeMin: first, TimeMax: first, Format: PartFormat,
	}
	for i := range w.entries {
		p.TimeMin = min(p.TimeMin, w.entries[i].available)
		p.TimeMax = max(p.TimeMax, w.entries[i].available)
	}
	p.Name = PartName(w.spec.Group, w.spec.Version, p.Date, w.info.Partition, w.info.Seq, w.info.K)
	return p
}

// encode writes the file. Rows are decoded a batch at a time and handed on column by column, so that memory is the columns' pages, their
// dictionaries and one compressed row group.
func (w *partWriter) encode(out io.Writer, part *Part) error {
	plain, err := w.plainColumns()
	if err != nil {
		return err
	}
	schema, err := schemaOf(w.spec, plain)
	if err != nil {
		return err
	}
	w.out = parquet.NewGenericWriter[any](out, w.config(schema, part))
	for _, c := range w.out.ColumnWriters() {
		w.columns = append(w.columns, column{writer: c, values: make([]parquet.Value, 0, batchRows)})
	}
	for start := 0; start < len(w.entries); start += rowGroupRows {
		group := w.entries[start:min(start+rowGroupRows, len(w.entries))]
		for len(group) > 0 {
			batch := group[:min(batchRows, len(group))]
			if err := w.writeBatch(batch); err != nil {
				return err
			}
			group = group[len(batch):]
		}
		if err := w.out.Flush(); err != nil {
			return err
		}
	}
	return w.out.Close()
}

func (w *partWriter) config(schema *parquet.Schema, part *Part) *parquet.WriterConfig {
	config := parquet.DefaultWriterConfig()
	config.Apply(schema,
		parquet.CreatedBy("freshet", "1", strconv.Itoa(PartFormat)),
		parquet.Compression(compression),
		parquet.PageBufferSize(pageBytes),
		parquet.WriteBufferSize(0), // the caller buffers
		parquet.DictionaryMaxBytes(dictionaryCap),
		parquet.KeyValueMetadata(keyFormat, strconv.Itoa(PartFormat)),
		parquet.KeyValueMetadata(keyGroup, w.spec.Group),
		parquet.KeyValueMetadata(keyGroupVersion, strconv.Itoa(w.spec.Version)),
		parquet.KeyValueMetadata(keyDefinitionHash, hash16(w.spec.Hash)),
		parquet.KeyValueMetadata(keyPartition, strconv.Itoa(int(w.info.Partition))),
		parquet.KeyValueMetadata(keyOffsetStart, strconv.FormatInt(part.OffsetStart, 10)),
		parquet.KeyValueMetadata(keyOffsetEnd, strconv.FormatInt(part.OffsetEnd, 10)),
		parquet.KeyValueMetadata(keyTimeMin, strconv.FormatInt(part.TimeMin, 10)),
		parquet.KeyValueMetadata(keyTimeMax, strconv.FormatInt(part.TimeMax, 10)),
		parquet.KeyValueMetadata(keySpec, encodeSpec(w.spec)),
	)
	var sorting []parquet.SortingColumn
	var filters []parquet.BloomFilterColumn
	for _, k := range w.spec.Keys {
		sorting = append(sorting, parquet.Ascending(k.Name))
		filters = append(filters, parquet.SplitBlockFilter(bloomBits, k.Name))
	}
	sorting = append(sorting, parquet.Ascending(ColumnAvailableAt))
	config.Apply(parquet.BloomFilters(filters...), parquet.SortingWriterConfig(parquet.SortingColumns(sorting...)))
	return config
}

// writeBatch turns a batch of rows into columns and writes them.
func (w *partWriter) writeBatch(batch []entry) error {
	// The rows lie all over the segment. Touching them first, none waiting for the other, takes a third of the time of missing the cache
	// once a row.
	for i := range batch {
		w.touched += w.data[batch[i].row]
	}
	for i := range w.columns {
		w.columns[i].values, w.columns[i].fixed = w.columns[i].values[:0], w.columns[i].fixed[:0]
	}
	for i := range batch {
		if err := w.decode(batch[i]); err != nil {
			return err
		}
		n := len(w.keys)
		for k := range w.keys {
			w.columns[k].add(keyValue(&w.keys[k]))
		}
		w.addLogColumns(w.columns[n : n+len(logColumns)])
		n += len(logColumns)
		for f := range w.row.Values {
			if err := w.columns[n+f].addFeature(&w.row.Values[f], &w.spec.Features[f].Type); err != nil {
				return fmt.Errorf("feature %s of entity %q: %w", w.spec.Features[f].Name, w.row.Entity, err)
			}
		}
	}
	for i := range w.columns {
		if _, err := w.columns[i].writer.WriteRowValues(w.columns[i].values); err != nil {
			return err
		}
	}
	return nil
}

// decode reads a row and its keys, and holds it to the law that for an entity available_at rises strictly with the version: every as-of
// join over the log rests on it.
func (w *partWriter) decode(e entry) error {
	entity, version, available := w.row.Entity, w.row.Version, w.row.AvailableAt
	if _, err := sink.DecodeRow(w.data[e.row:], &w.row, len(w.spec.Features)); err != nil {
		return fmt.Errorf("%w at byte %d: %w", ErrDamaged, e.row, err)
	}
	w.row.AvailableAt = e.available
	if entity != nil && bytes.Equal(entity, w.row.Entity) {
		if available >= e.available || newer(version, w.row.Version) {
			return fmt.Errorf("entity %q has version %+v available at %d µs, and version %+v at %d µs", entity, version, available,
				w.row.Version, e.available)
		}
		return nil
	}
	var err error
	w.keys, err = keyValues(w.keys, w.row.Entity, w.types)
	return err
}

// newer reports whether a is a later version than b.
func newer(a, b sink.Version) bool {
	return cmp.Or(cmp.Compare(a.Generation, b.Generation), cmp.Compare(a.Offset, b.Offset), cmp.Compare(a.AsOf, b.AsOf)) > 0
}

// addLogColumns adds the log's own columns of the row, in the order of logColumns.
func (w *partWriter) addLogColumns(c []column) {
	row := &w.row
	c[0].add(parquet.Int64Value(row.Version.AsOf * 1000))
	c[1].add(parquet.Int64Value(row.ComputedAt))
	c[2].add(parquet.Int64Value(row.AvailableAt))
	if row.ValidUntil == sink.Never {
		c[3].add(parquet.Value{})
	} else {
		c[3].add(parquet.Int64Value(row.ValidUntil*1000).Level(0, 1, 0))
	}
	c[4].add(parquet.Int64Value(int64(row.Version.Generation)))
	c[5].add(parquet.Int64Value(row.Version.Offset))
	c[6].add(w.hash)
	c[7].add(causeValue[row.Cause])
}

var causeValue = func() (values [sink.Backfill + 1]parquet.Value) {
	for c := sink.Event; c <= sink.Backfill; c++ {
		values[c] = parquet.ByteArrayValue([]byte(c.String()))
	}
	return values
}()

// plainColumns samples the rows and names the features of which most values are distinct: a dictionary would only be in the way.
func (w *partWriter) plainColumns() (map[string]bool, error) {
	type seen struct {
		hi    int64
		bits  uint64
		bytes string
	}
	distinct := make([]map[seen]struct{}, len(w.spec.Features))
	values := make([]int, len(w.spec.Features))
	for i := range distinct {
		distinct[i] = map[seen]struct{}{}
	}
	var row sink.Row
	step := max(1, len(w.entries)/sampleRows)
	for i := 0; i < len(w.entries); i += step {
		if _, err := sink.DecodeRow(w.data[w.entries[i].row:], &row, len(w.spec.Features)); err != nil {
			return nil, fmt.Errorf("%w at byte %d: %w", ErrDamaged, w.entries[i].row, err)
		}
		for f := range row.Values {
			if v := &row.Values[f]; v.Kind != schemas.Null && v.Kind != schemas.Floats {
				distinct[f][seen{v.Hi, v.Bits, string(v.Bytes)}] = struct{}{}
				values[f]++
			}
		}
	}
	plain := map[string]bool{}
	for f := range distinct {
		if len(distinct[f]) > values[f]/2 {
			plain[w.spec.Features[f].Name] = true
		}
	}
	return plain, nil
}
