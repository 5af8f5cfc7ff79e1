package event

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"unicode/utf8"

	"github.com/freshet-dev/freshet/schemas"
)

// Limits of one record. A record beyond one is undecodable.
const (
	maxItems = 1 << 20 // elements of all its arrays and maps together
	maxDepth = 64      // nested arrays, maps and records that the schema names more than once
)

// The two ways in which a record can be refused by its bytes.
var (
	// ErrUndecodable: the bytes do not fit the schema: truncated, a length beyond the end, bytes left over, an unknown branch or symbol,
	// text that is not UTF-8, a limit exceeded, no Confluent header, or a writer's schema that cannot be read as the reader's.
	ErrUndecodable = errors.New("undecodable")
	// ErrInvalid: the bytes fit, but a wanted column has no admissible value: NaN, ±Inf, a decimal of more than 38 digits, text that is
	// not a UUID, a null or a branch that the reader's schema has no room for.
	ErrInvalid = errors.New("invalid")
)

type opcode uint8

// The operations. Reading ones put a value into column col; skipping ones check the same structure.
const (
	opReturn opcode = iota
	opNull          // nothing is written
	opBool
	opInt
	opLong
	opTime    // n units a millisecond
	opIntTime // the same, written as an int
	opFloat
	opDouble
	opIntFloat
	opLongFloat
	opIntDouble
	opLongDouble
	opString
	opBytes
	opFixed // n bytes
	opUUID
	opUUIDText
	opEnum         // n symbols, values in enums[a]
	opDecimal      // a: digits to add after the point
	opDecimalFixed // the same, of n bytes
	opFloats       // an array of float
	opFloatsEach   // an array of what subprogram a reads as a float
	opSet          // consts[a]
	opFault        // the writer's branch of kind n has no place in the reader
	opUnion        // n branches, beginning at jumps[a:]
	opJump         // to a
	opCall         // subprogram a
	opSkipBool
	opSkipInt
	opSkipLong
	opSkipFixed // n bytes
	opSkipBytes // n strings or bytes
	opSkipEnum  // n symbols
	opSkipArray // elements are skipped by subprogram a, or have n bytes each if n ≥ 0
	opSkipMap
)

// op is one operation of a projection.
type op struct {
	code opcode
	col  int32
	a    int32
	n    int64
}

// Scratch is what decoding needs beside the record: it belongs to one goroutine at a time. The zero value is ready.
//
// Most values alias the record. Those that cannot (UUIDs given as text, embeddings in several blocks, converted or with a −0.0) lie in the
// scratch and stay valid until Reset; without it decoding goes on in fresh memory, so that nothing valid is ever overwritten.
type Scratch struct {
	p      *Projection
	b      []byte // the record's body, cut short while a sized block is read
	out    []schemas.Value
	items  int
	depth  int
	faults []fault
	whole  error // what is wrong with the last record as a whole

	arena  []byte // its length is used up
	gather []byte
}

type fault struct {
	column int32
	place  string
	class  error
	detail string
}

// arenaBytes is the size of a block of scratch memory.
const arenaBytes = 64 << 10

// Reset makes the scratch's memory free again: no value decoded with it is valid afterwards, unless it aliases its record.
func (s *Scratch) Reset() { s.arena = s.arena[:0] }

// Fault is what is wrong with column i of the record decoded last, or nil: it wraps ErrUndecodable or ErrInvalid. Where groups share one
// decode of the union of their columns, each asks for its own, and the outcome is what it would have got alone.
func (s *Scratch) Fault(i int) error {
	if s.whole != nil {
		return s.whole
	}
	for _, f := range s.faults {
		if int(f.column) == i {
			return f.err()
		}
	}
	return nil
}

func (f fault) err() error { return fmt.Errorf("%w: field %s: %s", f.class, f.place, f.detail) }

// Decode reads a record's body into out: out[i] is the column paths[i] of Project, and out must be as long as paths. Values alias body or
// scratch. Errors wrap ErrUndecodable or ErrInvalid; for a record wrong as a whole, out is not valid, otherwise only the columns with a
// Fault are not (they are null).
func (p *Projection) Decode(body []byte, out []schemas.Value, scratch *Scratch) error {
	s := scratch
	out = out[:len(p.columns)]
	clear(out)
	s.p, s.b, s.out, s.items, s.depth, s.faults, s.whole = p, body, out, 0, 0, s.faults[:0], nil
	end := s.run(0, 0)
	if end >= 0 && end != len(body) {
		s.whole = fmt.Errorf("%w: %d bytes are left after the record", ErrUndecodable, len(body)-end)
	}
	s.b, s.out = nil, nil
	if s.whole != nil {
		return s.whole
	}
	if len(s.faults) > 0 {
		for _, f := range s.faults {
			out[f.column] = schemas.Value{}
		}
		return s.faults[0].err()
	}
	return nil
}

// fail notes that the record is wrong as a whole and returns −1.
func (s *Scratch) fail(pc, at int, detail string) int {
	place := s.p.places[pc]
	if place == "" {
		place = "record"
	}
	s.whole = fmt.Errorf("%w: field %s at byte %d: %s", ErrUndecodable, place, at, detail)
	return -1
}

// fault notes that a column has no admissible value. The first fault of a column counts.
func (s *Scratch) fault(pc int, class error, detail string) {
	column := s.p.ops[pc].col
	for _, f := range s.faults {
		if f.column == column {
			return
		}
	}
	s.faults = append(s.faults, fault{column, s.p.places[pc], class, detail})
}

// The details of failures.
const (
	truncated  = "the record ends inside it"
	badLength  = "its length is negative or beyond the record's end"
	badInt     = "the number does not fit an int"
	badVarint  = "truncated or malformed number"
	badBoolean = "neither true nor false"
	badBranch  = "the union has no such branch"
	badSymbol  = "the enum has no such symbol"
	tooMany    = "more than 1048576 elements in one record"
	tooDeep    = "nested more than 64 deep"
	badUTF8    = "not UTF-8"
	notFinite  = "not a finite number"
)

// varint reads a zig-zag number; next is −1 if there is none.
func varint(b []byte, p int) (v int64, next int) {
	u, n := binary.Uvarint(b[p:])
	if n <= 0 {
		return 0, -1
	}
	return int64(u>>1) ^ -int64(u&1), p + n
}

// short reads a number from 0 to 63, which takes one byte: nearly all lengths and branches. It returns −1 for any other, and is small
// enough to be inlined.
func short(b []byte, p int) int {
	if p < len(b) && b[p]&0x81 == 0 {
		return int(b[p] >> 1)
	}
	return -1
}

// length reads the length of a string: the n bytes at next are its own. next is −1 if the length is none, or beyond the end.
func length(b []byte, p int) (n, next int) {
	v, q := varint(b, p)
	if q < 0 || v < 0 || v > int64(len(b)-q) {
		return 0, -1
	}
	return int(v), q
}

// run executes the program from pc on the body from p, and returns where the value ends, or −1 after fail. What nearly every record has
// is done in place, because a call for every operation costs half of the speed.
func (s *Scratch) run(pc, p int) int {
	ops, jumps, b, out := s.p.ops, s.p.jumps, s.b, s.out
	for {
		o := &ops[pc]
		pc++
		switch o.code {
		case opReturn:
			return p
		case opString, opBytes, opUUIDText, opDecimal:
			n, q := short(b, p), p+1
			if n < 0 || n > len(b)-q {
				if n, q = length(b, p); q < 0 {
					return s.fail(pc-1, p, badLength)
				}
			}
			p = q + n
			if o.code != opString {
				s.value(pc-1, b[q:p:p])
				continue
			}
			v := &out[o.col] // clear until now, so that what is zero need not be written
			v.Kind, v.Bytes = schemas.String, b[q:p:p]
			if !utf8.Valid(b[q:p]) {
				s.fault(pc-1, ErrUndecodable, badUTF8)
			}
		case opSkipBytes:
			for range o.n {
				n, q := short(b, p), p+1
				if n < 0 || n > len(b)-q {
					if n, q = length(b, p); q < 0 {
						return s.fail(pc-1, p, badLength)
					}
				}
				p = q + n
			}
		case opSkipFixed:
			if int64(len(b)-p) < o.n {
				return s.fail(pc-1, p, truncated)
			}
			p += int(o.n)
		case opDouble:
			if len(b)-p < 8 {
				return s.fail(pc-1, p, truncated)
			}
			f := math.Float64frombits(binary.LittleEndian.Uint64(b[p:]))
			out[o.col] = schemas.DoubleValue(f)
			if f-f != 0 {
				s.fault(pc-1, ErrInvalid, notFinite)
			}
			p += 8
		case opUnion:
			v, q := short(b, p), p+1
			if v < 0 || int64(v) >= o.n {
				if v, q = s.ordinal(pc-1, p, badBranch); q < 0 {
					return -1
				}
			}
			pc, p = int(jumps[int(o.a)+v]), q
		case opJump:
			pc = int(o.a)
		case opInt, opIntTime, opIntFloat, opIntDouble, opSkipInt, opLong, opTime, opLongFloat, opLongDouble, opSkipLong:
			if p = s.number(pc-1, p); p < 0 {
				return -1
			}
		default:
			if p = s.step(pc-1, p); p < 0 {
				return -1
			}
		}
	}
}

// step executes the operation at pc, one of those that run leaves to it.
func (s *Scratch) step(pc, p int) int {
	o := &s.p.ops[pc]
	switch o.code {
	case opFloat:
		if len(s.b)-p < 4 {
			return s.fail(pc, p, truncated)
		}
		f := math.Float32frombits(binary.LittleEndian.Uint32(s.b[p:]))
		s.out[o.col] = schemas.DoubleValue(float64(f))
		if f-f != 0 {
			s.fault(pc, ErrInvalid, notFinite)
		}
		return p + 4
	case opFixed, opUUID, opDecimalFixed:
		if int64(len(s.b)-p) < o.n {
			return s.fail(pc, p, truncated)
		}
		q := p + int(o.n)
		s.value(pc, s.b[p:q:q])
		return q
	case opEnum, opSkipEnum:
		v, q := s.ordinal(pc, p, badSymbol)
		if q >= 0 && o.code == opEnum {
			if s.out[o.col] = s.p.enums[o.a][v]; s.out[o.col].IsNull() {
				s.fault(pc, ErrInvalid, "the reader's enum has neither the writer's symbol nor a default")
			}
		}
		return q
	case opBool, opSkipBool:
		if p >= len(s.b) || s.b[p] > 1 {
			return s.fail(pc, p, badBoolean)
		}
		if o.code == opBool {
			s.out[o.col] = schemas.Value{Kind: schemas.Bool, Bits: uint64(s.b[p])}
		}
		return p + 1
	case opSet:
		s.out[o.col] = s.p.consts[o.a]
		return p
	case opFault:
		s.fault(pc, ErrInvalid, "the reader's schema has no room for the writer's "+kind(o.n).String())
		return p
	case opFloats, opFloatsEach:
		return s.floats(pc, p)
	case opCall:
		if s.depth++; s.depth > maxDepth {
			return s.fail(pc, p, tooDeep)
		}
		p = s.run(int(s.p.subs[o.a]), p)
		s.depth--
		return p
	default: // opSkipArray, opSkipMap
		return s.skipBlocks(pc, p)
	}
}

// ordinal reads the number of a branch or a symbol, below the operation's n.
func (s *Scratch) ordinal(pc, p int, detail string) (v, next int) {
	u, q := varint(s.b, p)
	if q < 0 || uint64(u) >= uint64(s.p.ops[pc].n) {
		return 0, s.fail(pc, p, detail)
	}
	return int(u), q
}

// number executes the operations on int and long.
func (s *Scratch) number(pc, p int) int {
	o := &s.p.ops[pc]
	v, q := varint(s.b, p)
	if q < 0 {
		return s.fail(pc, p, badVarint)
	}
	switch o.code {
	case opInt, opIntTime, opIntFloat, opIntDouble, opSkipInt:
		if v != int64(int32(v)) {
			return s.fail(pc, p, badInt)
		}
	}
	switch o.code {
	case opInt, opLong:
		s.out[o.col] = schemas.IntValue(v)
	case opIntTime, opTime:
		if o.n != 1 {
			v = floor(v, o.n)
		}
		t := &s.out[o.col]
		t.Kind, t.Bits = schemas.Time, uint64(v)
	case opIntFloat, opLongFloat:
		s.out[o.col] = schemas.DoubleValue(float64(float32(v)))
	case opIntDouble, opLongDouble:
		s.out[o.col] = schemas.DoubleValue(float64(v))
	}
	return q
}

// value stores the bytes v of a value, which alias the record.
func (s *Scratch) value(pc int, v []byte) {
	o := &s.p.ops[pc]
	switch o.code {
	case opUUID:
		s.out[o.col] = schemas.Value{Kind: schemas.UUID, Bytes: v}
	case opUUIDText:
		u := s.take(16)
		if !parseUUID(u, v) {
			s.fault(pc, ErrInvalid, "not the canonical text of a UUID")
			return
		}
		s.out[o.col] = schemas.Value{Kind: schemas.UUID, Bytes: u}
	case opDecimal, opDecimalFixed:
		d, ok := readDecimal(v, int(o.a))
		if !ok {
			s.fault(pc, ErrInvalid, "not a decimal of at most 38 digits")
			return
		}
		s.out[o.col] = d
	default:
		s.out[o.col] = schemas.Value{Kind: schemas.Bytes, Bytes: v}
	}
}

// floor is ⌊v ÷ n⌋ for n > 0.
func floor(v, n int64) int64 {
	q := v / n
	if v%n < 0 {
		q--
	}
	return q
}

// take returns n bytes of scratch memory.
func (s *Scratch) take(n int) []byte {
	if cap(s.arena)-len(s.arena) < n {
		s.arena = make([]byte, 0, max(arenaBytes, n))
	}
	from := len(s.arena)
	s.arena = s.arena[:from+n]
	return s.arena[from : from+n : from+n]
}
