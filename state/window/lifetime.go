package window

import (
	"encoding/binary"
	"slices"

	"github.com/freshet-dev/freshet/schemas"
	"github.com/freshet-dev/freshet/schemas/feature"
	"github.com/freshet-dev/freshet/state/agg"
)

// lifeLayout is what lifetime features need. Their accumulators only ever grow, and most events touch all of them: they are kept as the bytes
// of the record, read for an evaluation and written anew by each event, so that a decoded entity takes no more memory for them than its record.
type lifeLayout struct {
	lanes    []lane
	features []featureOf
	sets     []lifeSetOf // one per lane with needDistinct, in order
	setOf    []int       // per lane: its set, −1 for none
}

type lifeSetOf struct {
	lane   int
	limit  int64     // the largest limit of its features, 0: none
	limits []limited // those of its features
}

// lifeScratch are the accumulators of one entity, decoded.
type lifeScratch struct {
	lanes []lifeLane
}

type lifeLane struct {
	n           uint64
	sum         agg.Sum
	squares     agg.Squares
	min, max    agg.Extreme
	first, last agg.Pick
}

// lifeSet is the exact set of a lane's distinct values. All but the last of its values lie in chunks of setChunk that never change.
type lifeSet struct {
	set     agg.Set
	nos     []uint32 // numbers of its chunks
	ends    []int    // where each ends in the set's bytes
	clean   int      // chunks before this one have been handed out by DirtyChunks
	dropped bool     // grew beyond the largest limit: all features are over it, and the values are not needed any more
}

// setChunk is the number of values in a chunk of a set.
const setChunk = 256

func (l *Layout) layLifetime() {
	lf := &l.life
	for i := range l.plan.Features {
		f := &l.plan.Features[i]
		if f.Agg == feature.Derived || f.Window != feature.Lifetime {
			continue
		}
		li := slices.IndexFunc(lf.lanes, func(la lane) bool { return la.col == f.Column && la.filter == f.Filter })
		if li < 0 {
			li = len(lf.lanes)
			lf.lanes = append(lf.lanes, l.newLane(f))
		}
		lf.lanes[li].needs |= needsOf(f.Agg)
		fo := featureOf{out: i, agg: f.Agg, lane: li, same: -1, unit: f.Unit, over: -1, kind: lf.lanes[li].kind}
		if f.Agg == feature.CountDistinct {
			fo.over = l.over
			l.over++
		}
		lf.features = append(lf.features, fo)
	}
	for li := range lf.lanes {
		lf.setOf = append(lf.setOf, -1)
		if lf.lanes[li].needs&needDistinct == 0 {
			continue
		}
		so := lifeSetOf{lane: li}
		unlimited := false
		for _, fo := range lf.features {
			if fo.lane == li && fo.agg == feature.CountDistinct {
				limit := l.plan.Features[fo.out].MaxDistinct
				unlimited = unlimited || limit <= 0
				so.limit = max(so.limit, limit)
				so.limits = append(so.limits, limited{limit: limit, over: fo.over})
			}
		}
		if unlimited {
			so.limit = 0
		}
		lf.setOf[li] = len(lf.sets)
		lf.sets = append(lf.sets, so)
	}
}

// isOver reports whether a feature's sticky bit is set.
func (e *Entity) isOver(bit int) bool {
	return e.ext != nil && bit/64 < len(e.ext.over) && e.ext.over[bit/64]>>(bit%64)&1 != 0
}

func (e *Entity) setOver(bit int) {
	x := e.extra()
	for bit/64 >= len(x.over) {
		x.over = append(x.over, 0)
	}
	x.over[bit/64] |= 1 << (bit % 64)
}

// foldLifetime adds ev to the lifetime accumulators.
func (e *Entity) foldLifetime(l *Layout, ev *Event) {
	sc := l.scratch.Get().(*scratch)
	x := e.extra()
	lanes := sc.life.load(l)
	sc.key = sc.key[:0] // of all lanes: first and last keep theirs until they are encoded
	if x.life != nil {
		if err := sc.life.decode(l, x.life); err != nil {
			panic(err) // checked by Decode, and written by nobody but us
		}
	} else {
		x.sets = make([]lifeSet, len(l.life.sets))
	}
	for i := range lanes {
		la := &l.life.lanes[i]
		if la.filter >= 0 && ev.Mask>>(la.filter+1)&1 == 0 || la.col >= 0 && ev.Columns[la.col].Kind == schemas.Null {
			continue
		}
		var v schemas.Value
		if la.col >= 0 {
			v = ev.Columns[la.col]
			v.Bits = plainZero(la.kind, v.Bits)
		}
		start := len(sc.key)
		sc.key = appendKey(sc.key, la.kind, v)
		key := sc.key[start:]
		lanes[i].add(la, ev, v, key)
		if s := l.life.setOf[i]; s >= 0 {
			e.addDistinct(l, s, key)
		}
	}
	sc.buf = sc.life.append(l, sc.buf[:0])
	if cap(x.life) < len(sc.buf) {
		x.life = make([]byte, 0, len(sc.buf)+8)
	}
	x.life = append(x.life[:0], sc.buf...)
	l.scratch.Put(sc)
}

func (a *lifeLane) add(la *lane, ev *Event, v schemas.Value, key []byte) {
	a.n++
	if la.needs&(needSum|needSquares) != 0 {
		hi := int64(v.Bits) >> 63
		if la.kind == schemas.Decimal {
			hi = v.Hi
		}
		switch {
		case la.kind == schemas.Double:
			a.sum.AddDouble(v.Float64())
		default:
			a.sum.AddInt(hi, v.Bits)
		}
		switch {
		case la.needs&needSquares == 0:
		case la.kind == schemas.Double:
			a.squares.AddDouble(v.Float64())
		default:
			a.squares.AddInt(hi, v.Bits)
		}
	}
	if la.needs&(needMin|needMax) != 0 {
		k := valueKey(v)
		a.min.Add(k, false)
		a.max.Add(k, true)
	}
	if la.needs&needFirst != 0 {
		a.first.Add(ev.Time, ev.ID, key, false)
	}
	if la.needs&needLast != 0 {
		a.last.Add(ev.Time, ev.ID, key, true)
	}
}

// addDistinct adds a value to set s, fills its chunks, and applies its limits.
func (e *Entity) addDistinct(l *Layout, s int, key []byte) {
	so, set := &l.life.sets[s], &e.ext.sets[s]
	if set.dropped || !set.set.Add(key) {
		return
	}
	n := set.set.Len()
	if n%setChunk == 0 {
		set.nos = append(set.nos, e.ext.chunks)
		set.ends = append(set.ends, len(set.set.Bytes()))
		e.ext.chunks++
	}
	for _, lim := range so.limits {
		if lim.limit > 0 && int64(n) > lim.limit {
			e.setOver(lim.over)
		}
	}
	if so.limit > 0 && int64(n) > so.limit {
		e.ext.gone = append(e.ext.gone, set.nos...)
		*set = lifeSet{dropped: true}
	}
}

// load returns the lanes, empty.
func (s *lifeScratch) load(l *Layout) []lifeLane {
	if s.lanes == nil {
		s.lanes = make([]lifeLane, len(l.life.lanes))
	}
	for i := range s.lanes {
		a := &s.lanes[i]
		a.n, a.min, a.max, a.first, a.last = 0, agg.Extreme{}, agg.Extreme{}, agg.Pick{}, agg.Pick{}
		a.sum.Reset()
		a.squares.Reset()
	}
	return s.lanes
}

// append appends the accumulators' bytes: for each lane the count as a uvarint, then what it needs in the order of the need bits.
func (s *lifeScratch) append(l *Layout, dst []byte) []byte {
	for i := range s.lanes {
		a, needs := &s.lanes[i], l.life.lanes[i].needs
		dst = binary.AppendUvarint(dst, a.n)
		if needs&needSum != 0 {
			dst = a.sum.Append(dst)
		}
		if needs&needSquares != 0 {
			dst = a.squares.Append(dst)
		}
		if needs&needMin != 0 {
			dst = a.min.Append(dst)
		}
		if needs&needMax != 0 {
			dst = a.max.Append(dst)
		}
		if needs&needFirst != 0 {
			dst = a.first.Append(dst)
		}
		if needs&needLast != 0 {
			dst = a.last.Append(dst)
		}
	}
	return dst
}

// decode fills s from src, all of it. Values of first and last alias src.
func (s *lifeScratch) decode(l *Layout, src []byte) (err error) {
	lanes := s.load(l)
	for i := range lanes {
		a, la := &lanes[i], &l.life.lanes[i]
		n, k := binary.Uvarint(src)
		if k <= 0 || n > 1<<62 {
			return errShort
		}
		a.n, src = n, src[k:]
		if la.needs&needSum != 0 && err == nil {
			src, err = a.sum.Decode(src)
		}
		if la.needs&needSquares != 0 && err == nil {
			src, err = a.squares.Decode(src)
		}
		if la.needs&needMin != 0 && err == nil {
			src, err = a.min.Decode(src)
		}
		if la.needs&needMax != 0 && err == nil {
			src, err = a.max.Decode(src)
		}
		if la.needs&needFirst != 0 && err == nil {
			src, err = decodePick(&a.first, la, src)
		}
		if la.needs&needLast != 0 && err == nil {
			src, err = decodePick(&a.last, la, src)
		}
		if err != nil {
			return err
		}
	}
	if len(src) > 0 {
		return errShort
	}
	return nil
}

func decodePick(p *agg.Pick, la *lane, src []byte) ([]byte, error) {
	rest, err := p.Decode(src)
	if err == nil && p.Set {
		_, err = keyText(la.kind, p.Value)
	}
	return rest, err
}

// evaluateLifetime computes the lifetime features.
func (e *Entity) evaluateLifetime(l *Layout, asOf int64, out []schemas.Value, c *Counters, sc *scratch) (next int64) {
	lanes := sc.life.load(l)
	if e.ext != nil && e.ext.life != nil {
		if err := sc.life.decode(l, e.ext.life); err != nil {
			panic(err) // checked by Decode, and written by nobody but us
		}
	}
	x := emitter{e: e, out: out, c: c, asOf: asOf, next: Never}
	lane := -1
	var r reading
	for i := range l.life.features {
		f := &l.life.features[i]
		if f.lane != lane {
			lane = f.lane
			r = e.lifeReading(l, lane, &lanes[lane])
		}
		x.emit(f, &r, l.life.lanes[lane].scale)
	}
	return x.next
}

func (e *Entity) lifeReading(l *Layout, lane int, a *lifeLane) reading {
	r := reading{n: int64(a.n), sum: &a.sum, squares: &a.squares, min: a.min.Key, max: a.max.Key}
	la := &l.life.lanes[lane]
	if s := l.life.setOf[lane]; s >= 0 && e.ext != nil && e.ext.sets != nil {
		r.distinct = int64(e.ext.sets[s].set.Len())
	}
	if a.first.Set {
		r.first.time = a.first.Time
		r.first.value, _ = keyText(la.kind, a.first.Value)
	}
	if a.last.Set {
		r.last.time = a.last.Time
		r.last.value, _ = keyText(la.kind, a.last.Value)
	}
	return r
}

func valueKey(v schemas.Value) agg.Key {
	switch v.Kind {
	case schemas.Double:
		return agg.DoubleKey(v.Bits)
	case schemas.Decimal:
		return agg.Key{Hi: v.Hi, Lo: v.Bits}
	}
	return agg.Key{Hi: int64(v.Bits)}
}

// appendKey appends the bytes of a value of a column: unique for it, and read back by keyText. Integers, booleans and times as zigzag varints,
// doubles in 8 bytes, decimals in 16, texts as they are; nothing for a lane without a column.
func appendKey(dst []byte, kind schemas.Kind, v schemas.Value) []byte {
	switch kind {
	case schemas.Null:
		return dst
	case schemas.Bool, schemas.Int, schemas.Time:
		return binary.AppendVarint(dst, int64(v.Bits))
	case schemas.Double:
		return binary.LittleEndian.AppendUint64(dst, v.Bits)
	case schemas.Decimal:
		return binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(dst, v.Bits), uint64(v.Hi))
	}
	return append(dst, v.Bytes...)
}

// keyText is the inverse of appendKey; a text aliases b.
func keyText(kind schemas.Kind, b []byte) (schemas.Value, error) {
	switch kind {
	case schemas.Null:
		return schemas.Value{}, checkLength(b, 0)
	case schemas.Bool, schemas.Int, schemas.Time:
		i, n := binary.Varint(b)
		if n <= 0 || n != len(b) {
			return schemas.Value{}, errShort
		}
		return schemas.Value{Kind: kind, Bits: uint64(i)}, nil
	case schemas.Double:
		if err := checkLength(b, 8); err != nil {
			return schemas.Value{}, err
		}
		return schemas.Value{Kind: kind, Bits: binary.LittleEndian.Uint64(b)}, nil
	case schemas.Decimal:
		if err := checkLength(b, 16); err != nil {
			return schemas.Value{}, err
		}
		return schemas.DecimalValue(int64(binary.LittleEndian.Uint64(b[8:])), binary.LittleEndian.Uint64(b)), nil
	}
	return schemas.Value{Kind: kind, Bytes: b}, nil
}

func checkLength(b []byte, n int) error {
	if len(b) != n {
		return errShort
	}
	return nil
}
