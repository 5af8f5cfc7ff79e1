package event

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/freshet-dev/freshet/schemas"
)

// maxOps bounds a compiled program (24 bytes an operation).
const maxOps = 1 << 16

// Projection is the compiled resolution of one writer's schema to the wanted columns of one reader's. It is read-only and may be shared by
// goroutines, each with its own Scratch.
type Projection struct {
	ops     []op
	places  []string // by operation: the writer's field, for errors
	jumps   []int32  // where the branches of unions begin
	subs    []int32  // where the subprograms begin: elements of arrays and maps, records named more than once
	enums   [][]schemas.Value
	consts  []schemas.Value
	columns []string
}

// Project compiles how records of writer are read as the columns of reader at paths. The whole reader must be resolvable, not only the
// columns, so that whether a record can be read does not depend on who else wants which columns. A reader with defaults for what the writer lacks
// must be one of our own, from Parse. Errors name the reader's field and the mend.
func Project(writer, reader *Schema, paths []string) (*Projection, error) {
	root := &want{column: -1}
	for i, path := range paths {
		if _, err := reader.Column(path); err != nil {
			return nil, err
		}
		w := root
		for name := range strings.SplitSeq(path, ".") {
			w = w.child(name)
		}
		if w.column >= 0 {
			return nil, fmt.Errorf("the column %s is wanted twice", path)
		}
		w.column = i
	}
	v := &resolver{seen: map[[2]*node]error{}}
	if err := v.check(writer.root, reader.root, reader.Name()); err != nil {
		return nil, fmt.Errorf("the writer's schema %s cannot be read as %s: %w", writer.Name(), reader.Name(), err)
	}
	c := &compiler{resolver: v, p: &Projection{columns: append([]string{}, paths...)}, numbers: map[subKey]int32{}}
	return c.compile(writer.root, reader.root, root)
}

// want is a tree of the reader's fields that are columns or hold some.
type want struct {
	column int // −1: not itself
	fields map[string]*want
}

func (w *want) child(name string) *want {
	if w.fields == nil {
		w.fields = map[string]*want{}
	}
	if w.fields[name] == nil {
		w.fields[name] = &want{column: -1}
	}
	return w.fields[name]
}

// columns are the columns at and below w, ascending.
func (w *want) columns() []int {
	var list []int
	if w.column >= 0 {
		list = append(list, w.column)
	}
	for _, f := range w.fields {
		list = append(list, f.columns()...)
	}
	slices.Sort(list)
	return list
}

type subKey struct {
	w, r *node
	want *want // nil: skip
}

type compiler struct {
	*resolver
	p       *Projection
	label   int // no operation before this one may be merged with a later one: a jump leads here
	numbers map[subKey]int32
	pending []subKey // subprograms numbered but not yet compiled, by order of number
	place   string
}

func (c *compiler) compile(w, r *node, wt *want) (*Projection, error) {
	if err := c.read(w, r, wt); err != nil {
		return nil, err
	}
	c.emit(op{code: opReturn})
	for len(c.pending) > 0 {
		k := c.pending[0]
		c.pending = c.pending[1:]
		c.place = k.w.text()
		c.p.subs[c.numbers[k]] = c.here()
		var err error
		switch {
		case k.want == nil && k.w.kind == kRecord:
			err = c.skipRecord(k.w)
		case k.want == nil:
			err = c.skip(k.w)
		case k.w.kind == kRecord:
			err = c.readRecord(k.w, k.r, k.want)
		default:
			err = c.read(k.w, k.r, k.want)
		}
		if err != nil {
			return nil, err
		}
		c.emit(op{code: opReturn})
	}
	if len(c.p.ops) > maxOps {
		return nil, errors.New("the writer's schema is too large to compile")
	}
	return c.p, nil
}

// here is the number of the next operation, to which a jump will lead.
func (c *compiler) here() int32 {
	c.label = len(c.p.ops)
	return int32(c.label)
}

func (c *compiler) emit(o op) int {
	if last := len(c.p.ops) - 1; last >= c.label {
		if l := &c.p.ops[last]; l.code == o.code && (o.code == opSkipFixed || o.code == opSkipBytes) {
			l.n += o.n
			return last
		}
	}
	c.p.ops = append(c.p.ops, o)
	c.p.places = append(c.p.places, c.place)
	return len(c.p.ops) - 1
}

// sub returns the number of the subprogram for k.
func (c *compiler) sub(k subKey) int32 {
	n, ok := c.numbers[k]
	if !ok {
		n = int32(len(c.p.subs))
		c.numbers[k] = n
		c.p.subs = append(c.p.subs, 0)
		c.pending = append(c.pending, k)
	}
	return n
}

// union emits the choice between the branches of the writer's union w; branch emits one of them.
func (c *compiler) union(w *node, branch func(*node) error) error {
	if len(c.p.ops) > maxOps {
		return errors.New("the writer's schema is too large to compile")
	}
	table := len(c.p.jumps)
	c.emit(op{code: opUnion, n: int64(len(w.branches)), a: int32(table)})
	c.p.jumps = append(c.p.jumps, make([]int32, len(w.branches))...)
	var ends, empty []int // operations, branches
	for i, b := range w.branches {
		start := c.here()
		c.p.jumps[table+i] = start
		if err := branch(b); err != nil {
			return err
		}
		if len(c.p.ops) == int(start) {
			empty = append(empty, table+i)
		} else if i < len(w.branches)-1 {
			ends = append(ends, c.emit(op{code: opJump}))
		}
	}
	end := c.here()
	for _, e := range ends {
		c.p.ops[e].a = end
	}
	for _, e := range empty {
		c.p.jumps[e] = end
	}
	return nil
}

// read emits the reading of a value written as w into the columns wt of r.
func (c *compiler) read(w, r *node, wt *want) error {
	if w.kind == kUnion {
		return c.union(w, func(b *node) error {
			to, err := c.branch(w, b, r, c.place)
			switch {
			case err == nil:
				return c.read(b, to, wt)
			default:
				for _, column := range wt.columns() {
					c.emit(op{code: opFault, col: int32(column), n: int64(b.kind)})
				}
				return c.skip(b)
			}
		})
	}
	if r.kind == kUnion {
		to, err := c.pick(w, r, c.place)
		if err != nil {
			return err
		}
		return c.read(w, to, wt)
	}
	switch {
	case w.kind == kRecord && r.kind == kRecord:
		if w.refs > 1 {
			c.emit(op{code: opCall, a: c.sub(subKey{w, r, wt})})
			return nil
		}
		return c.readRecord(w, r, wt)
	case w.kind == kArray:
		o := op{code: opFloats, col: int32(wt.column), a: -1}
		if w.elem.kind != kFloat {
			o.code, o.a = opFloatsEach, c.sub(subKey{w.elem, r.elem, &want{column: wt.column}})
		}
		c.emit(o)
		return nil
	}
	o, why := leaf(w, r)
	if why != "" {
		return fmt.Errorf("%s: %s", c.place, why)
	}
	if o.code == opNull {
		return nil
	}
	o.col = int32(wt.column)
	if o.code == opEnum {
		o.a = int32(len(c.p.enums))
		c.p.enums = append(c.p.enums, symbols(w, r))
	}
	c.emit(o)
	return nil
}

// symbols are the values of the writer's enum w as r reads them; null where r has neither the symbol nor a default.
func symbols(w, r *node) []schemas.Value {
	values := make([]schemas.Value, len(w.symbols))
	for i, s := range w.symbols {
		known := r.kind == kString
		for _, t := range r.symbols {
			known = known || s == t
		}
		if !known && r.fallback >= 0 {
			s, known = r.symbols[r.fallback], true
		}
		if known {
			values[i] = schemas.StringValue([]byte(s))
		}
	}
	return values
}

func (c *compiler) readRecord(w, r *node, wt *want) error {
	outer := c.place
	defer func() { c.place = outer }()
	readers := map[*field]*field{}
	for i := range r.fields {
		rf := &r.fields[i]
		if wf := writerField(w, rf); wf != nil {
			readers[wf] = rf
		} else if wt.fields[rf.name] != nil {
			if err := c.defaults(rf, wt.fields[rf.name]); err != nil {
				return err
			}
		}
	}
	for i := range w.fields {
		wf := &w.fields[i]
		c.place = join(outer, wf.name)
		rf := readers[wf]
		var err error
		if rf != nil && wt.fields[rf.name] != nil {
			err = c.read(wf.typ, rf.typ, wt.fields[rf.name])
		} else {
			err = c.skip(wf.typ)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// defaults emits the default of a field that the writer does not have. It is encoded, and decoded by a program of its own, so that a
// default means what the same value written by a producer would.
func (c *compiler) defaults(rf *field, wt *want) error {
	v, err := nativeDefault(rf)
	if err != nil {
		return fmt.Errorf("%s: the default %s does not fit: %w", rf.name, jsonText(rf.def), err)
	}
	body, err := marshal(avroConfig.Freeze(), rf.typ, v)
	if err != nil {
		return fmt.Errorf("the default of %s: %w", rf.name, err)
	}
	inner := &compiler{resolver: c.resolver, p: &Projection{columns: c.p.columns}, numbers: map[subKey]int32{}, place: rf.name}
	p, err := inner.compile(rf.typ, rf.typ, wt)
	if err != nil {
		return err
	}
	out := make([]schemas.Value, len(p.columns))
	if err := p.Decode(body, out, &Scratch{}); err != nil {
		return fmt.Errorf("the default of %s: %w", rf.name, err)
	}
	for _, column := range wt.columns() {
		if v := out[column]; !v.IsNull() {
			v.Bytes = append([]byte(nil), v.Bytes...)
			c.emit(op{code: opSet, col: int32(column), a: int32(len(c.p.consts))})
			c.p.consts = append(c.p.consts, v)
		}
	}
	return nil
}

var skips = map[kind]op{
	kBoolean: {code: opSkipBool}, kInt: {code: opSkipInt}, kLong: {code: opSkipLong}, kFloat: {code: opSkipFixed, n: 4},
	kDouble: {code: opSkipFixed, n: 8}, kBytes: {code: opSkipBytes, n: 1}, kString: {code: opSkipBytes, n: 1},
}

// skip emits the passing over of a value written as w.
func (c *compiler) skip(w *node) error {
	switch w.kind {
	case kNull:
	case kUnion:
		return c.union(w, c.skip)
	case kRecord:
		if w.refs > 1 {
			c.emit(op{code: opCall, a: c.sub(subKey{w: w})})
			return nil
		}
		return c.skipRecord(w)
	case kEnum:
		c.emit(op{code: opSkipEnum, n: int64(len(w.symbols))})
	case kFixed:
		c.emit(op{code: opSkipFixed, n: int64(w.size)})
	case kArray:
		c.emit(op{code: opSkipArray, n: width(w.elem), a: c.sub(subKey{w: w.elem})})
	case kMap:
		c.emit(op{code: opSkipMap, a: c.sub(subKey{w: w.elem})})
	default:
		c.emit(skips[w.kind])
	}
	return nil
}

// width is the number of bytes of every value of n, or −1 where that differs.
func width(n *node) int64 {
	switch n.kind {
	case kNull:
		return 0
	case kFixed:
		return int64(n.size)
	case kFloat, kDouble:
		return skips[n.kind].n
	}
	return -1
}

func (c *compiler) skipRecord(w *node) error {
	outer := c.place
	defer func() { c.place = outer }()
	for i := range w.fields {
		c.place = join(outer, w.fields[i].name)
		if err := c.skip(w.fields[i].typ); err != nil {
			return err
		}
	}
	return nil
}

func join(outer, name string) string {
	if outer == "" {
		return name
	}
	return outer + "." + name
}
