package window

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math"

	"github.com/freshet-dev/freshet/schemas"
)

// The bytes of records and chunks are described in FORMAT.md.
const (
	formatVersion = 1

	flagLarge  = 1 << 0 // the events lie in chunks
	flagExtra  = 1 << 1
	flagChunks = 1 << 2 // there are chunks, of events or of sets

	kindEvents = 'E'
	kindSet    = 'S'

	maxEvents = 1 << 40
)

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	errShort   = errors.New("it ends early, or a field is out of range")
	errSum     = errors.New("its checksum does not match")
)

// Append appends the record: of a small entity everything but full chunks of lifetime sets, of a large one the header.
func (e *Entity) Append(l *Layout, dst []byte) []byte {
	start := len(dst)
	x := e.ext
	flags := byte(0)
	if e.big != nil {
		flags |= flagLarge | flagChunks
	}
	if x != nil && x.stored() {
		flags |= flagExtra
		if x.setChunks() > 0 {
			flags |= flagChunks
		}
	}
	dst = append(dst, formatVersion, flags)
	dst = binary.AppendUvarint(dst, uint64(e.LastAsOf+1))
	dst = binary.AppendUvarint(dst, uint64(e.LastOffset+1))
	dst = binary.AppendUvarint(dst, uint64(e.Armed))
	dst = append(dst, e.ArmedKind)
	if e.Due == Never {
		dst = append(dst, 0)
	} else {
		dst = binary.AppendUvarint(dst, uint64(e.Due-e.LastAsOf))
	}
	sc := l.scratch.Get().(*scratch)
	if flags&flagExtra != 0 {
		dst = x.append(dst)
	}
	if b := e.big; b != nil {
		dst = binary.AppendUvarint(dst, uint64(b.n))
		dst = binary.AppendUvarint(dst, uint64(len(b.chunks)))
		dst = binary.AppendUvarint(dst, uint64(b.chunks[0].skip/l.stride))
	} else {
		dst = e.appendEvents(l, e.ev, dst, sc)
	}
	l.scratch.Put(sc)
	return sealed(dst, start)
}

// sealed appends the CRC-32C of dst[start:].
func sealed(dst []byte, start int) []byte {
	return binary.LittleEndian.AppendUint32(dst, crc32.Checksum(dst[start:], castagnoli))
}

// unsealed checks the checksum and returns what it covers.
func unsealed(data []byte) ([]byte, error) {
	n := len(data) - 4
	if n < 0 {
		return nil, errShort
	}
	if crc32.Checksum(data[:n], castagnoli) != binary.LittleEndian.Uint32(data[n:]) {
		return nil, errSum
	}
	return data[:n], nil
}

// stored reports whether there is anything to store: an entity that never needed an extra has the same bytes as one that needs none any more.
func (x *extra) stored() bool { return x.life != nil || x.chunks > 0 || len(x.over) > 0 }

func (x *extra) setChunks() (n int) {
	for i := range x.sets {
		n += len(x.sets[i].nos)
	}
	return n
}

func (x *extra) append(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(x.chunks))
	dst = binary.AppendUvarint(dst, uint64(len(x.over)))
	for _, w := range x.over {
		dst = binary.LittleEndian.AppendUint64(dst, w)
	}
	if x.life == nil {
		return append(dst, 0)
	}
	dst = binary.AppendUvarint(dst, uint64(len(x.life))+1)
	dst = append(dst, x.life...)
	for i := range x.sets {
		s := &x.sets[i]
		if s.dropped {
			dst = append(dst, 0)
			continue
		}
		dst = binary.AppendUvarint(dst, uint64(s.set.Len())+1)
		dst = append(dst, s.set.Bytes()[s.end():]...)
	}
	return dst
}

// end is where the chunks of a set end in its bytes.
func (s *lifeSet) end() int {
	if len(s.ends) == 0 {
		return 0
	}
	return s.ends[len(s.ends)-1]
}

// DirtyChunks hands out the chunks that changed since the last call: data nil means delete. The data is valid during the call of fn.
func (e *Entity) DirtyChunks(fn func(no uint32, data []byte)) {
	x := e.ext
	if x == nil {
		return
	}
	for _, no := range x.gone {
		fn(no, nil)
	}
	x.gone = nil
	sc := e.l.scratch.Get().(*scratch)
	for i := range x.sets {
		s := &x.sets[i]
		for ; s.clean < len(s.nos); s.clean++ {
			from := 0
			if s.clean > 0 {
				from = s.ends[s.clean-1]
			}
			buf := append(sc.buf[:0], formatVersion, kindSet)
			buf = binary.AppendUvarint(buf, uint64(i))
			buf = binary.AppendUvarint(buf, uint64(s.clean))
			buf = append(buf, s.set.Bytes()[from:s.ends[s.clean]]...)
			sc.buf = sealed(buf, 0)
			fn(s.nos[s.clean], sc.buf)
		}
	}
	if b := e.big; b != nil {
		for _, c := range b.dirty {
			c.dirty = false
			if c.dead {
				continue
			}
			sc.buf = sealed(e.appendEvents(e.l, c.ev, append(sc.buf[:0], formatVersion, kindEvents), sc), 0)
			fn(c.no, sc.buf)
		}
		b.dirty = b.dirty[:0]
	}
	e.l.scratch.Put(sc)
}

// appendEvents appends a block of events.
func (e *Entity) appendEvents(l *Layout, ev []uint64, dst []byte, sc *scratch) []byte {
	n := len(ev) / l.stride
	plain := l.allFlagged(ev)
	head := uint64(n) << 1
	if plain {
		head |= 1
	}
	dst = binary.AppendUvarint(dst, head)
	sc.texts = sc.texts[:0]
	var time, id uint64
	for at := 0; at < len(ev); at += l.stride {
		w := ev[at : at+l.stride]
		t := w[0] >> timeShift
		dst = binary.AppendUvarint(dst, t-time)
		time = t
		if l.hashedID {
			dst = binary.LittleEndian.AppendUint64(dst, w[1])
		} else {
			dst = binary.AppendVarint(dst, int64(w[1]-id))
			id = w[1]
		}
		if !plain {
			dst = l.appendFlags(w, dst)
		}
		for i := range l.columns {
			if c := &l.columns[i]; c.flag.in(w) {
				dst = e.appendColumn(c, w, dst, sc)
			}
		}
	}
	return dst
}

// allFlagged reports whether in all events no column is null and all filters are true: then flags need no bytes.
func (l *Layout) allFlagged(ev []uint64) bool {
	for at := 0; at < len(ev); at += l.stride {
		if l.flags <= timeShift {
			if all := uint64(1)<<l.flags - 1; ev[at]&all != all {
				return false
			}
			continue
		}
		for i := range l.flags {
			if !l.flagOf(i).in(ev[at:]) {
				return false
			}
		}
	}
	return true
}

func (l *Layout) appendFlags(w []uint64, dst []byte) []byte {
	for i := 0; i < l.flags; i += 8 {
		if l.flags <= timeShift {
			dst = append(dst, byte(w[0]&(1<<timeShift-1)>>i))
		} else {
			dst = append(dst, byte(w[2+i/64]>>(i%64)))
		}
	}
	return dst
}

func (e *Entity) appendColumn(c *column, w []uint64, dst []byte, sc *scratch) []byte {
	v := w[c.word]
	switch {
	case c.text:
		return e.appendText(v, dst, sc)
	case c.kind == schemas.Double:
		return appendDouble(v, dst)
	case c.kind == schemas.Decimal:
		return appendDecimal(int64(w[c.word+1]), v, dst)
	}
	return binary.AppendVarint(dst, int64(v))
}

// appendText appends the number of a text in the block, and the text itself where it appears first. The marks in the dictionary are only
// hints, checked against the list: they need no clearing (Briggs and Torczon's sparse set).
func (e *Entity) appendText(ref uint64, dst []byte, sc *scratch) []byte {
	if m := e.dict.mark(ref); int(m) < len(sc.texts) && uint64(sc.texts[m]) == ref {
		return binary.AppendUvarint(dst, uint64(m))
	}
	m := len(sc.texts)
	e.dict.setMark(ref, uint32(m))
	sc.texts = append(sc.texts, uint32(ref))
	text := e.dict.text(ref)
	dst = binary.AppendUvarint(dst, uint64(m))
	dst = binary.AppendUvarint(dst, uint64(len(text)))
	return append(dst, text...)
}

// appendDouble appends a double: 1 and its 8 bytes, or, where it is exactly k ÷ 100 as amounts of money are, 2·zigzag(k).
func appendDouble(b uint64, dst []byte) []byte {
	x := math.Float64frombits(b)
	if cents := x * 100; math.Abs(cents) < 1<<53 {
		k := int64(math.RoundToEven(cents))
		if math.Float64bits(float64(k)/100) == b {
			return binary.AppendUvarint(dst, (uint64(k)<<1^uint64(k>>63))<<1)
		}
	}
	return binary.LittleEndian.AppendUint64(append(dst, 1), b)
}

// appendDecimal appends 1 and 16 bytes, or 2·zigzag of an integer that fits in 62 bits.
func appendDecimal(lo int64, hi uint64, dst []byte) []byte {
	if int64(hi) == lo>>63 && lo>>61 == lo>>63 {
		return binary.AppendUvarint(dst, (uint64(lo)<<1^uint64(lo>>63))<<1)
	}
	return binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(append(dst, 1), uint64(lo)), hi)
}
