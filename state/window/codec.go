package window

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"slices"

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

// reader reads bytes that may be anything. After the first failure it stays failed.
type reader struct {
	b      []byte
	failed bool
}

func (r *reader) fail() { r.b, r.failed = nil, true }

func (r *reader) byte() byte {
	if len(r.b) == 0 {
		r.fail()
		return 0
	}
	c := r.b[0]
	r.b = r.b[1:]
	return c
}

func (r *reader) uvarint() uint64 {
	if len(r.b) > 0 && r.b[0] < 0x80 {
		v := r.b[0]
		r.b = r.b[1:]
		return uint64(v)
	}
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) varint() int64 {
	u := r.uvarint()
	return int64(u>>1) ^ -int64(u&1)
}

func (r *reader) bytes(n uint64) []byte {
	if n > uint64(len(r.b)) {
		r.fail()
		return nil
	}
	b := r.b[:n:n]
	r.b = r.b[n:]
	return b
}

func (r *reader) word() uint64 {
	if len(r.b) < 8 {
		r.fail()
		return 0
	}
	v := binary.LittleEndian.Uint64(r.b)
	r.b = r.b[8:]
	return v
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
	if r.failed || len(r.b) > 0 || flags >= flagChunks<<1 {
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
		tail := &reader{b: r.b}
		for range (n - 1) % setChunk {
			tail.bytes(tail.uvarint())
		}
		if tail.failed || n > maxEvents {
			r.fail()
			return
		}
		d.sets = append(d.sets, setPart{int(n - 1), r.bytes(uint64(len(r.b) - len(tail.b)))})
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
	if r.failed || len(r.b) > 0 {
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
	rest, err := s.set.Load(r.b, setChunk)
	if err != nil {
		r.fail()
		return
	}
	r.b = rest
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
	if n > uint64(len(r.b)) { // an event takes more than a byte
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
