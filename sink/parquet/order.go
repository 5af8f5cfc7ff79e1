package parquet

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/freshet-dev/freshet/schemas"
	"github.com/freshet-dev/freshet/sink"
)

const dayMicros = 24 * 3600 * 1_000_000

// entry is a log row on its way into a part: 24 bytes, all that sorting needs in memory.
type entry struct {
	prefix    uint64 // of the key, so that most comparisons need no more
	available int64
	row       uint32 // offset in the segment
	key       uint32 // offset in order.keys of the key: uvarint length, bytes
}

// order holds the log rows of a segment, sorted by the UTC day of available_at, the key columns, and available_at.
type order struct {
	entries []entry
	keys    []byte
	skip    int  // bytes that all keys begin with
	exact   bool // keys with equal prefixes are equal
}

// sortRows puts the log rows of a segment in order.
func sortRows(data []byte, x *rowIndex, spec *sink.Spec) (*order, error) {
	n := 0
	for _, available := range x.available {
		if available > 0 {
			n++
		}
	}
	o := &order{keys: data, entries: make([]entry, 0, n)}
	text := textSorts(spec.Keys)
	for i, available := range x.available {
		if available <= 0 {
			continue
		}
		// A row is its flags, then its entity behind a uvarint length, which is the form of a key too.
		e := entry{available: available, row: x.start[i], key: x.start[i] + 1}
		text = text && bytes.IndexByte(o.key(&e), '\\') < 0
		o.entries = append(o.entries, e)
	}
	if !text {
		if err := o.makeKeys(spec.Keys); err != nil {
			return nil, err
		}
	}
	o.setPrefixes()
	o.sort()
	return o, nil
}

// textSorts reports whether the entity's text, as long as nothing in it is escaped, sorts as the key columns do.
func textSorts(keys []sink.Field) bool { return len(keys) == 1 && keys[0].Type.Kind != schemas.Int }

func (o *order) key(e *entry) []byte {
	n, size := binary.Uvarint(o.keys[e.key:])
	at := int(e.key) + size
	return o.keys[at : at+int(n)]
}

// makeKeys gives the entries keys whose bytes sort as the key columns do, instead of the entities' texts.
func (o *order) makeKeys(fields []sink.Field) error {
	keys := make([]byte, 0, len(o.entries)*(2+9*len(fields)))
	types := typesOf(fields)
	var values []schemas.Value
	var key []byte
	for i := range o.entries {
		e := &o.entries[i]
		var err error
		if values, err = keyValues(values, o.key(e), types); err != nil {
			return err
		}
		key = appendSortKey(key[:0], values)
		e.key = uint32(len(keys))
		keys = append(binary.AppendUvarint(keys, uint64(len(key))), key...)
	}
	o.keys = keys
	return nil
}

func typesOf(fields []sink.Field) []schemas.Type {
	types := make([]schemas.Type, len(fields))
	for i, f := range fields {
		types[i] = f.Type
	}
	return types
}

// keyValues is schemas.ParseEntity without its allocations for what most keys are: one string or integer. The values may alias entity.
func keyValues(dst []schemas.Value, entity []byte, types []schemas.Type) ([]schemas.Value, error) {
	if len(types) == 1 && types[0].Kind == schemas.String && bytes.IndexByte(entity, '\\') < 0 && bytes.IndexByte(entity, '|') < 0 {
		return append(dst[:0], schemas.StringValue(entity)), nil
	}
	if len(types) == 1 && types[0].Kind == schemas.Int {
		i, err := strconv.ParseInt(string(entity), 10, 64)
		if err != nil {
			return nil, fmt.Errorf("entity %q is not an integer", entity)
		}
		return append(dst[:0], schemas.IntValue(i)), nil
	}
	return schemas.ParseEntity(entity, types)
}

// appendSortKey appends bytes that compare as values do, one after the other: integers big-endian from the smallest, everything else
// unsigned bytewise with 0 escaped as 0 255 and ended by 0 0.
func appendSortKey(dst []byte, values []schemas.Value) []byte {
	for _, v := range values {
		if v.Kind == schemas.Int {
			dst = binary.BigEndian.AppendUint64(dst, v.Bits^1<<63)
			continue
		}
		for _, c := range v.Bytes {
			dst = append(dst, c)
			if c == 0 {
				dst = append(dst, 255)
			}
		}
		dst = append(dst, 0, 0)
	}
	return dst
}

// setPrefixes finds what all keys begin with, and puts the next 8 bytes of each into its entry.
func (o *order) setPrefixes() {
	if len(o.entries) == 0 {
		return
	}
	first := o.key(&o.entries[0])
	o.skip = len(first)
	shortest, longest := len(first), 0
	for i := range o.entries {
		key := o.key(&o.entries[i])
		shortest, longest = min(shortest, len(key)), max(longest, len(key))
		o.skip = min(o.skip, len(key))
		for o.skip > 0 && !bytes.Equal(key[:o.skip], first[:o.skip]) {
			o.skip--
		}
	}
	zero := false // a key ends in what a shorter one is padded with
	for i := range o.entries {
		e := &o.entries[i]
		var b [8]byte
		rest := o.key(e)[o.skip:]
		copy(b[:], rest)
		e.prefix = binary.BigEndian.Uint64(b[:])
		zero = zero || bytes.IndexByte(rest, 0) >= 0
	}
	o.exact = longest <= o.skip+8 && (shortest == longest || !zero)
}

func (o *order) sort() {
	oneDay := !slices.ContainsFunc(o.entries, func(e entry) bool { return e.available/dayMicros != o.entries[0].available/dayMicros })
	slices.SortFunc(o.entries, func(a, b entry) int {
		if !oneDay {
			if c := cmp.Compare(a.available/dayMicros, b.available/dayMicros); c != 0 {
				return c
			}
		}
		if a.prefix != b.prefix {
			return cmp.Compare(a.prefix, b.prefix)
		}
		if !o.exact {
			if c := bytes.Compare(o.key(&a)[o.skip:], o.key(&b)[o.skip:]); c != 0 {
				return c
			}
		}
		return cmp.Or(cmp.Compare(a.available, b.available), cmp.Compare(a.row, b.row))
	})
}

// days cuts the entries into those of each UTC day.
func (o *order) days() [][]entry {
	var days [][]entry
	for start, i := 0, 1; i <= len(o.entries); i++ {
		if i == len(o.entries) || o.entries[i].available/dayMicros != o.entries[start].available/dayMicros {
			days = append(days, o.entries[start:i])
			start = i
		}
	}
	return days
}

func dateOf(micros int64) string { return time.UnixMicro(micros).UTC().Format(time.DateOnly) }
