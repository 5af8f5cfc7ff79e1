package processor

import (
	"encoding/binary"
	"errors"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/freshet-dev/freshet/processor/kafka"
	"github.com/freshet-dev/freshet/schemas"
	"github.com/freshet-dev/freshet/schemas/event"
	"github.com/freshet-dev/freshet/schemas/feature"
)

// Reason says what became of a record. Its text is the `reason` label of freshet_records_total and of dead letters.
type Reason uint8

// The reasons, in the order in which admission looks: the first that holds is the record's.
const (
	Accepted     Reason = iota // counted in the features
	AcceptedLate               // counted; its time lies behind the stream clock
	TooLarge                   // body over the limit (1 MiB), or entity over 1 KiB
	Undecodable                // the bytes do not fit the schema
	Invalid                    // null key, id or time, time outside 1970–2199, NaN or ±Inf, an embedding of another length
	KeyMismatch                // the record key is not the entity's, or lies on another partition than it gives
	Future                     // event time more than max_future ahead of the record's timestamp
	Filtered                   // the group's `where` is not true
	LateExpired                // as old as the horizon, or older
	Duplicate                  // the same identity for the same entity and event time was accepted before
	reasons
)

var reasonNames = [reasons]string{"accepted", "late", "too_large", "undecodable", "invalid", "key_mismatch", "future", "filtered", "late_expired", "duplicate"}

// String returns the reason as users see it.
func (r Reason) String() string { return reasonNames[r] }

// DeadLetter reports whether records refused for this reason go to the dead-letter topic.
func (r Reason) DeadLetter() bool {
	return r != Accepted && r != AcceptedLate && r != Filtered && r != Duplicate
}

var (
	minEventTime = int64(0)
	maxEventTime = time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli() - 1
)

// admission decides which records count, all but lateness (which needs the stream clock) and duplicates (which need the entity).
type admission struct {
	plan       *feature.Plan
	partition  int32
	partitions int32
	maxBody    int
	key        []byte // scratch
	errs       uint64 // expressions that erred or had a null operand, and so were false
}

// candidate is a record that admission let through so far.
type candidate struct {
	reason  Reason
	time    int64 // ms
	id      uint64
	mask    uint64
	entity  []byte
	columns []schemas.Value // plan.Stored
}

// admit is pure: the same record, row and decoding error give the same answer. It fills c and appends the entity's text to slab, which it returns.
func (a *admission) admit(rec *kafka.Record, row []schemas.Value, decoded error, c *candidate, slab []byte) []byte {
	c.reason = Accepted
	switch {
	case len(rec.Value) > a.maxBody:
		c.reason = TooLarge
		return slab
	case errors.Is(decoded, event.ErrInvalid):
		c.reason = Invalid
		return slab
	case decoded != nil:
		c.reason = Undecodable
		return slab
	}
	start := len(slab)
	slab, c.reason = a.entity(row, slab)
	c.entity = slab[start:len(slab):len(slab)]
	if c.reason != Accepted {
		return slab
	}
	var ok bool
	src := &a.plan.Source
	if c.time, ok = eventTime(row[src.TimeColumn], src.TimeUnit); !ok || !a.dimensions(row) {
		c.reason = Invalid
		return slab
	}
	if c.id, ok = a.identity(row, rec.Offset); !ok {
		c.reason = Invalid
		return slab
	}
	switch {
	case !a.keyFits(rec.Key, row[src.PartitionedBy]):
		c.reason = KeyMismatch
	case c.time > rec.Timestamp+src.MaxFuture:
		c.reason = Future
	case !a.passes(row):
		c.reason = Filtered
	default:
		c.mask = a.mask(row)
	}
	return slab
}

func (a *admission) entity(row []schemas.Value, slab []byte) ([]byte, Reason) {
	start := len(slab)
	for i, k := range a.plan.Keys {
		if row[k.Column].IsNull() {
			return slab[:start], Invalid
		}
		if i > 0 {
			slab = append(slab, '|')
		}
		slab = schemas.AppendEntity(slab, row[k.Column])
	}
	if len(slab)-start > schemas.MaxEntityBytes {
		return slab[:start], TooLarge
	}
	return slab, Accepted
}

// eventTime floors to ms; false for null and for times outside 1970–2199.
func eventTime(v schemas.Value, unit string) (int64, bool) {
	if v.IsNull() {
		return 0, false
	}
	t := v.Int64()
	switch unit {
	case "us":
		t = floorDiv(t, 1000)
	case "s":
		if t > maxEventTime/1000 || t < 0 {
			return 0, false
		}
		t *= 1000
	}
	return t, t >= minEventTime && t <= maxEventTime
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

// dimensions reports whether every embedding that the state keeps has its declared length.
func (a *admission) dimensions(row []schemas.Value) bool {
	for _, i := range a.plan.Stored {
		if row[i].Kind == schemas.Floats && len(row[i].Bytes) != 4*a.plan.Columns[i].Type.Dim {
			return false
		}
	}
	return true
}

func (a *admission) identity(row []schemas.Value, offset int64) (uint64, bool) {
	i := a.plan.Source.IDColumn
	if i < 0 {
		return uint64(offset), true
	}
	if row[i].IsNull() {
		return 0, false
	}
	if row[i].Kind == schemas.String || row[i].Kind == schemas.Bytes {
		return xxhash.Sum64(row[i].Bytes), true
	}
	a.key = schemas.AppendKey(a.key[:0], row[i])
	return xxhash.Sum64(a.key), true
}

// keyFits holds the record to the one partition of its entity.
func (a *admission) keyFits(key []byte, by schemas.Value) bool {
	src := &a.plan.Source
	switch src.KeyFormat {
	case "any":
	case "long":
		if len(key) != 8 || by.Kind != schemas.Int || binary.BigEndian.Uint64(key) != by.Bits {
			return false
		}
	case "avro":
		if !avroKeyIs(key, by) {
			return false
		}
	default:
		a.key = schemas.AppendKey(a.key[:0], by)
		if string(a.key) != string(key) {
			return false
		}
	}
	switch src.Partitioner {
	case "murmur2":
		return len(key) > 0 && kafka.Murmur2Partition(key, a.partitions) == a.partition
	case "crc32":
		return len(key) > 0 && kafka.CRC32Partition(key, a.partitions) == a.partition
	}
	return true
}

// avroKeyIs reports whether key is v, a string or long, in the registry's wire format.
func avroKeyIs(key []byte, v schemas.Value) bool {
	if len(key) < 6 || key[0] != 0 {
		return false
	}
	n, used := binary.Varint(key[5:])
	if used <= 0 {
		return false
	}
	rest := key[5+used:]
	if v.Kind == schemas.Int {
		return len(rest) == 0 && n == v.Int64()
	}
	return n == int64(len(rest)) && string(rest) == string(schemas.AppendKey(nil, v))
}

func (a *admission) passes(row []schemas.Value) bool {
	if a.plan.Where == nil {
		return true
	}
	return a.isTrue(a.plan.Where, row)
}

func (a *admission) isTrue(p *feature.Program, row []schemas.Value) bool {
	ok, err := p.Bool(row)
	if err {
		a.errs++
	}
	return ok
}

// mask has bit 0 set, and bit i+1 where Filters[i] is true.
func (a *admission) mask(row []schemas.Value) uint64 {
	m := uint64(1)
	for i, f := range a.plan.Filters {
		if a.isTrue(f, row) {
			m |= 2 << i
		}
	}
	return m
}
