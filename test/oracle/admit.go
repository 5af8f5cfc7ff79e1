package oracle

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"slices"
	"strconv"
	"strings"

	"github.com/cespare/xxhash/v2"
)

// The verdicts, in the order in which admission looks: the first that holds is the record's.
const (
	Accepted     = "accepted"
	Late         = "late" // accepted, behind the stream clock
	TooLarge     = "too_large"
	Undecodable  = "undecodable"
	Invalid      = "invalid"
	KeyMismatch  = "key_mismatch"
	Future       = "future"
	Filtered     = "filtered"
	LateExpired  = "late_expired"
	Duplicate    = "duplicate"
	maxEntity    = 1024              // bytes
	endOfTime    = 7_258_118_400_000 // 2200-01-01, ms
	noClock      = -1
	neverChanges = 1<<63 - 1
)

// Record is one record of a topic.
type Record struct {
	Offset                int64
	Timestamp             int64 // ms: the record's, not the event's
	Key, Value            []byte
	Partition, Partitions int32

	// Clock is the stream clock before the record, where it is known from records that are not given to the oracle: a sample of the entities
	// of a long topic is judged right without the others. (The offsets of decay rows are then those of the sample.) 0 otherwise.
	Clock int64
}

// Verdict is what became of a record.
type Verdict struct {
	Reason string
	Entity string // where it could be read
	Time   int64  // of the event, ms; where it could be read
	Clock  int64  // the stream clock after the record, ms; −1 while nothing was accepted
}

// Accepted reports whether the event counts.
func (v Verdict) Accepted() bool { return v.Reason == Accepted || v.Reason == Late }

// event is an accepted event.
type event struct {
	record int // index into History.Records
	time   int64
	id     uint64
	passes []bool // per filter
	cells  []cell // per column
}

// identity is what makes two events of an entity the same.
type identity struct {
	entity string
	time   int64
	id     uint64
}

// Admit decides on the records of one partition, which are in offset order, and keeps the accepted events. writer gives the text of the
// schema with an id, or nil where there is none, which makes the record undecodable.
func (g *Group) Admit(records []Record, writer func(id int32) []byte) (*History, error) {
	h := &History{Group: g, Records: records, byEntity: map[string][]*event{}}
	d := decoder{schema: g.schema, columns: g.columns, writer: writer, resolved: map[int32]*resolved{}}
	seen := map[identity]bool{}
	clock := int64(noClock)
	for i := range records {
		if i > 0 && records[i].Offset <= records[i-1].Offset {
			return nil, errors.New("the records are not in offset order")
		}
		v, e := g.judge(&records[i], &d)
		if records[i].Clock > 0 {
			clock = max(clock, records[i].Clock)
		}
		if v.Reason == Accepted {
			who := identity{v.Entity, e.time, e.id}
			switch {
			case e.time <= clock-g.Horizon:
				v.Reason = LateExpired
			case seen[who]:
				v.Reason = Duplicate
			case e.time < clock:
				v.Reason = Late
			}
			if v.Accepted() {
				seen[who] = true
				clock = max(clock, e.time)
				e.record = i
				h.byEntity[v.Entity] = append(h.byEntity[v.Entity], e)
			}
		}
		v.Clock = clock
		h.Verdicts = append(h.Verdicts, v)
	}
	h.reach()
	return h, nil
}

// judge decides all that depends on the record alone.
func (g *Group) judge(r *Record, d *decoder) (v Verdict, e *event) {
	if len(r.Value) > g.MaxBody {
		v.Reason = TooLarge
		return v, nil
	}
	cells, wrong := d.decode(r.Value)
	if wrong == Undecodable {
		v.Reason = Undecodable
		return v, nil
	}
	if cells != nil {
		v.Entity = g.entity(cells)
	}
	e = &event{cells: cells}
	var timed, identified bool
	if wrong == "" {
		v.Time, timed = g.eventTime(cells[g.time])
		e.time = v.Time
		e.id, identified = g.identity(cells, r.Offset)
	}
	switch {
	case len(v.Entity) > maxEntity:
		v.Reason = TooLarge
	case wrong == Invalid || !timed || !identified || g.keyIsNull(cells) || g.wrongLength(cells):
		v.Reason = Invalid
	case !g.keyFits(r, cells[g.by]):
		v.Reason = KeyMismatch
	case e.time > r.Timestamp+g.MaxFuture:
		v.Reason = Future
	case g.where != nil && !g.where.isTrue(g.named(cells)):
		v.Reason = Filtered
	default:
		v.Reason = Accepted
		for _, f := range g.filters {
			e.passes = append(e.passes, f.isTrue(g.named(cells)))
		}
	}
	return v, e
}

// named finds columns by their paths.
func (g *Group) named(cells []cell) func(name string) (cell, bool) {
	return func(name string) (cell, bool) {
		for i := range g.columns {
			if g.columns[i].path == name {
				return cells[i], true
			}
		}
		return cell{}, false
	}
}

func (g *Group) entity(cells []cell) string {
	var parts []string
	for _, k := range g.keys {
		parts = append(parts, strings.NewReplacer(`\`, `\\`, `|`, `\|`).Replace(cells[k].text()))
	}
	return strings.Join(parts, "|")
}

func (g *Group) keyIsNull(cells []cell) bool {
	return slices.ContainsFunc(g.keys, func(k int) bool { return cells[k].null() })
}

// wrongLength reports whether an embedding has another length than declared.
func (g *Group) wrongLength(cells []cell) bool {
	for i, c := range g.columns {
		if c.dim > 0 && !cells[i].null() && len(cells[i].s) != 4*c.dim {
			return true
		}
	}
	return false
}

// eventTime is in ms, floored; false outside 1970–2199.
func (g *Group) eventTime(c cell) (int64, bool) {
	t := c.n
	switch g.timeUnit {
	case "s":
		if t > endOfTime/1000 {
			return 0, false
		}
		t *= 1000
	case "us":
		if t >= 0 { // a negative one is refused anyway
			t /= 1000
		}
	}
	return t, !c.null() && t >= 0 && t < endOfTime
}

// identity is the xxHash64 of the id's bytes, or the offset.
func (g *Group) identity(cells []cell, offset int64) (uint64, bool) {
	if g.id < 0 {
		return uint64(offset), true
	}
	c := cells[g.id]
	if c.kind == kindBytes {
		return xxhash.Sum64String(c.s), true
	}
	return xxhash.Sum64String(c.text()), !c.null()
}

// keyFits holds a record to the key and the partition of its entity.
func (g *Group) keyFits(r *Record, by cell) bool {
	text := by.text()
	switch g.keyFormat {
	case "text":
		if string(r.Key) != text {
			return false
		}
	case "long":
		if len(r.Key) != 8 || by.kind != kindInt || strconv.FormatInt(int64(binary.BigEndian.Uint64(r.Key)), 10) != text {
			return false
		}
	case "avro":
		if len(r.Key) < 5 || r.Key[0] != 0 || string(r.Key[5:]) != string(avroKey(by)) {
			return false
		}
	}
	if g.partitioner == "any" {
		return true
	}
	if len(r.Key) == 0 { // producers place these anywhere
		return false
	}
	hash := crc32.ChecksumIEEE(r.Key)
	if g.partitioner == "murmur2" {
		hash = murmur2(r.Key) & 0x7fffffff
	}
	return int32(hash%uint32(r.Partitions)) == r.Partition
}

// avroKey is the Avro body of a key that is a long or a string.
func avroKey(c cell) []byte {
	if c.kind == kindInt {
		return binary.AppendVarint(nil, c.n)
	}
	text := c.text()
	return append(binary.AppendVarint(nil, int64(len(text))), text...)
}

// murmur2 is MurmurHash2 with the seed of Kafka's Java client.
func murmur2(key []byte) uint32 {
	const m = 0x5bd1e995
	h := uint32(0x9747b28c) ^ uint32(len(key))
	whole := len(key) / 4 * 4
	for i := 0; i < whole; i += 4 {
		k := binary.LittleEndian.Uint32(key[i:]) * m
		k = (k ^ k>>24) * m
		h = h*m ^ k
	}
	if rest := key[whole:]; len(rest) > 0 {
		var last [4]byte
		copy(last[:], rest)
		h = (h ^ binary.LittleEndian.Uint32(last[:])) * m
	}
	h = (h ^ h>>13) * m
	return h ^ h>>15
}
