package window

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"github.com/freshet-dev/freshet/schemas"
)

// reader reads bytes that may be anything. After the first failure it stays failed. It moves by an index: moving a slice would cost a write
// barrier at each field.
type reader struct {
	b      []byte
	at     int
	failed bool
}

func (r *reader) fail() { r.at, r.failed = len(r.b), true }

// left is the number of bytes not read yet.
func (r *reader) left() int { return len(r.b) - r.at }

func (r *reader) byte() byte {
	if r.at >= len(r.b) {
		r.fail()
		return 0
	}
	c := r.b[r.at]
	r.at++
	return c
}

func (r *reader) uvarint() uint64 {
	if r.at < len(r.b) && r.b[r.at] < 0x80 {
		r.at++
		return uint64(r.b[r.at-1])
	}
	return r.longUvarint()
}

func (r *reader) longUvarint() (v uint64) {
	for shift := 0; r.at < len(r.b); shift += 7 {
		c := uint64(r.b[r.at])
		r.at++
		if c < 0x80 {
			if shift == 63 && c > 1 {
				break
			}
			return v | c<<shift
		}
		if shift == 63 {
			break
		}
		v |= c & 0x7f << shift
	}
	r.fail()
	return 0
}

func (r *reader) varint() int64 {
	u := r.uvarint()
	return int64(u>>1) ^ -int64(u&1)
}

func (r *reader) bytes(n uint64) []byte {
	if n > uint64(r.left()) {
		r.fail()
		return nil
	}
	b := r.b[r.at : r.at+int(n) : r.at+int(n)]
	r.at += int(n)
	return b
}

func (r *reader) word() uint64 {
	if r.left() < 8 {
		r.fail()
		return 0
	}
	r.at += 8
	return binary.LittleEndian.Uint64(r.b[r.at-8:])
}

// Decode decodes a record made by Append, which it does not keep. chunks calls fn for each stored chunk of the entity in order of number; it is
// called only where the record says that there are any. An error says what is corrupt: the entity can only be made again from its events.
func (l *Layout) Decode(record []byte, chunks func(fn func(no uint32, data []byte) error) error) (*Entity, error) {
	e := l.NewEntity()
	body, err := unsealed(record)
	if err != nil {
		return nil, fmt.Errorf("entity record: %w", err)
	}
	r := &reader{b: body}
	if v := r.byte(); v != formatVersion {
		return nil, fmt.Errorf("entity record: format version %d is not known: it was written by a newer freshet", v)
	}
	flags := r.byte()
	e.LastAsOf = int64(r.uvarint()) - 1
	e.LastOffset = int64(r.uvarint()) - 1
	e.Armed = int64(r.uvarint())
	e.ArmedKind = r.byte()
	if after := r.uvarint(); after != 0 {
		e.Due = e.LastAsOf + int64(after)
	}
	d := &decoder{l: l, e: e}
	if flags&flagExtra != 0 {
		d.extra(r)
	}
	if flags&flagLarge != 0 {
		d.events, d.count, d.skip = r.uvarint(), r.uvarint(), r.uvarint()
		if d.events == 0 || d.count == 0 || d.events > maxEvents || d.skip >= chunkMax || e.ext == nil {
			r.fail()
		}
	} else if !r.failed {
		e.ev = d.block(r)
	}
	if r.failed || r.left() > 0 || flags >= flagChunks<<1 {
		return nil, fmt.Errorf("entity record: %w", errShort)
	}
	if flags&flagChunks != 0 {
		if err := chunks(d.chunk); err != nil {
			return nil, fmt.Errorf("entity: %w", err)
		}
	}
	if err := d.finish(flags&flagLarge != 0); err != nil {
		return nil, fmt.Errorf("entity: %w", err)
	}
	return e, nil
}

// decoder collects an entity from its record and its chunks.
type decoder struct {
	l                   *Layout
	e                   *Entity
	events, count, skip uint64 // of a large entity, as its record says
	big                 large
	sets                []setPart
	texts               []uint64 // the current block's, by number
}

// setPart is what the record says of a set.
type setPart struct {
	count int    // values in all
	tail  []byte // those in no chunk
}

func (d *decoder) extra(r *reader) {
	x := d.e.extra()
	no := r.uvarint()
	n := r.uvarint()
	if no > math.MaxUint32 || n > uint64(d.l.over+63)/64 {
		r.fail()
		return
	}
	x.chunks = uint32(no)
	for range n {
		x.over = append(x.over, r.word())
	}
	size := r.uvarint()
	if size == 0 || r.failed {
		return
	}
	life := r.bytes(size - 1)
	sc := d.l.scratch.Get().(*scratch)
	defer d.l.scratch.Put(sc)
	if r.failed || d.l.life.lanes == nil || sc.life.decode(d.l, life) != nil {
		r.fail()
		return
	}
	x.life = slices.Clone(life)
	x.sets = make([]lifeSet, len(d.l.life.sets))
	for i := range x.sets {
		n := r.uvarint()
		if n == 0 {
			x.sets[i].dropped = true
			d.sets = append(d.sets, setPart{})
			continue
		}
		tail := &reader{b: r.b, at: r.at}
		for range (n - 1) % setChunk {
			tail.bytes(tail.uvarint())
		}
		if tail.failed || n > maxEvents {
			r.fail()
			return
		}
		d.sets = append(d.sets, setPart{int(n - 1), r.bytes(uint64(tail.at - r.at))})
	}
}

// chunk decodes one stored chunk.
func (d *decoder) chunk(no uint32, data []byte) error {
	body, err := unsealed(data)
	if err != nil {
		return fmt.Errorf("chunk %d: %w", no, err)
	}
	r := &reader{b: body}
	if v := r.byte(); v != formatVersion {
		return fmt.Errorf("chunk %d: format version %d is not known: it was written by a newer freshet", no, v)
	}
	if d.e.ext == nil || no >= d.e.ext.chunks {
		return fmt.Errorf("chunk %d is none of the record's", no)
	}
	switch r.byte() {
	case kindEvents:
		ev := d.block(r)
		if len(ev) == 0 || len(ev) > chunkMax*d.l.stride || d.count == 0 {
			r.fail()
		}
		d.big.chunks = append(d.big.chunks, &chunk{no: no, ev: ev})
	case kindSet:
		d.setChunk(r, no)
	default:
		r.fail()
	}
	if r.failed || r.left() > 0 {
		return fmt.Errorf("chunk %d: %w", no, errShort)
	}
	return nil
}

func (d *decoder) setChunk(r *reader, no uint32) {
	i, seq := r.uvarint(), r.uvarint()
	if r.failed || i >= uint64(len(d.sets)) {
		r.fail()
		return
	}
	s := &d.e.ext.sets[i]
	if s.dropped || seq != uint64(len(s.nos)) || d.sets[i].count < (len(s.nos)+1)*setChunk {
		r.fail()
		return
	}
	rest, err := s.set.Load(r.b[r.at:], setChunk)
	if err != nil {
		r.fail()
		return
	}
	r.at = len(r.b) - len(rest)
	s.nos = append(s.nos, no)
	s.ends = append(s.ends, len(s.set.Bytes()))
	s.clean = len(s.nos)
}

// finish checks that all parts are there and builds what is not stored.
func (d *decoder) finish(isLarge bool) error {
	for i, p := range d.sets {
		s := &d.e.ext.sets[i]
		if len(s.nos) != p.count/setChunk {
			return fmt.Errorf("of the %d chunks of set %d %d are missing", p.count/setChunk, i, p.count/setChunk-len(s.nos))
		}
		if rest, err := s.set.Load(p.tail, p.count%setChunk); err != nil || len(rest) > 0 {
			return fmt.Errorf("set %d: %w", i, errShort)
		}
	}
	if !isLarge {
		return nil
	}
	b := &d.big
	if uint64(len(b.chunks)) != d.count {
		return fmt.Errorf("%d chunks of events are stored, the record says %d", len(b.chunks), d.count)
	}
	l := d.l
	slices.SortFunc(b.chunks, func(a, c *chunk) int {
		if before(a.ev, timeOf(c.ev), c.ev[1]) {
			return -1
		}
		return 1
	})
	for i, c := range b.chunks {
		if i > 0 {
			if last := b.chunks[i-1].ev; !before(last[len(last)-l.stride:], timeOf(c.ev), c.ev[1]) {
				return fmt.Errorf("chunks %d and %d overlap", b.chunks[i-1].no, c.no)
			}
		}
		b.n += len(c.ev) / l.stride
		b.words += cap(c.ev)
	}
	b.chunks[0].skip = int(d.skip) * l.stride
	b.n -= int(d.skip)
	if b.chunks[0].skip >= len(b.chunks[0].ev) || uint64(b.n) != d.events {
		return fmt.Errorf("its chunks hold %d events, the record says %d", b.n, d.events)
	}
	d.e.big = b
	b.build(l, d.e)
	return nil
}

// block reads a block of events, ascending.
func (d *decoder) block(r *reader) []uint64 {
	l := d.l
	head := r.uvarint()
	n, plain := head>>1, head&1 != 0
	if n > uint64(r.left()) { // an event takes more than a byte
		r.fail()
	}
	if n == 0 || r.failed {
		return nil
	}
	d.texts = d.texts[:0]
	ev := make([]uint64, int(n)*l.stride)
	var time, id uint64
	for at := 0; at < len(ev); at += l.stride {
		w := ev[at : at+l.stride]
		time += r.uvarint()
		if l.hashedID {
			id = r.word()
		} else {
			id += uint64(r.varint())
		}
		w[0], w[1] = time<<timeShift, id
		if time >= maxTime || at > 0 && !before(ev[at-l.stride:], int64(time), id) {
			r.fail()
		}
		d.flags(r, w, plain)
		for i := range l.columns {
			if c := &l.columns[i]; c.flag.in(w) {
				d.column(r, c, w)
			}
		}
		if r.failed {
			return nil
		}
	}
	return ev
}

func (d *decoder) flags(r *reader, w []uint64, plain bool) {
	l := d.l
	word := 2
	if l.flags <= timeShift {
		word = 0
		if plain {
			w[0] |= 1<<l.flags - 1
			return
		}
	}
	for i := 0; i < l.flags; i += 8 {
		all := byte(1<<min(8, l.flags-i) - 1)
		b := all
		if !plain {
			b = r.byte()
		}
		if b&^all != 0 {
			r.fail()
		}
		w[word+i/64] |= uint64(b&all) << (i % 64)
	}
}

func (d *decoder) column(r *reader, c *column, w []uint64) {
	switch {
	case c.text:
		w[c.word] = d.text(r)
	case c.kind == schemas.Double:
		u := r.uvarint()
		switch {
		case u&1 == 0:
			w[c.word] = math.Float64bits(float64(int64(u>>2)^-int64(u>>1&1)) / 100)
		default:
			w[c.word] = r.word()
		}
		if x := math.Float64frombits(w[c.word]); u > 1 && u&1 != 0 || x-x != 0 || w[c.word] == 1<<63 {
			r.fail() // NaN, ±Inf and −0.0 are not admitted
		}
	case c.kind == schemas.Decimal:
		if u := r.uvarint(); u&1 == 0 {
			lo := int64(u>>2) ^ -int64(u>>1&1)
			w[c.word], w[c.word+1] = uint64(lo>>63), uint64(lo)
		} else {
			w[c.word+1], w[c.word] = r.word(), r.word()
		}
	default:
		w[c.word] = uint64(r.varint())
	}
}

// text reads a text of the block and returns its reference.
func (d *decoder) text(r *reader) uint64 {
	no := r.uvarint()
	if no < uint64(len(d.texts)) {
		return d.texts[no]
	}
	text := r.bytes(r.uvarint())
	if r.failed || no != uint64(len(d.texts)) {
		r.fail()
		return 0
	}
	if d.e.dict == nil {
		d.e.dict = &dict{}
	}
	ref := d.e.dict.intern(text)
	d.texts = append(d.texts, ref)
	return ref
}
