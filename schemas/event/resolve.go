package event

import (
	"fmt"
	"slices"
)

// resolver decides how a value written as one type is read as another: the Avro specification's "schema resolution", with these choices
// where it is silent or impractical. Records are compared by name only where a union leaves a choice. Timestamps of different units are
// converted. A decimal may gain digits after the point, not lose them. An enum may be read as a string.
type resolver struct {
	seen map[[2]*node]error // nil while being looked at: a recursive type resolves if the rest does
}

// check returns why values written as w cannot be read as r; place names the reader's field.
func (v *resolver) check(w, r *node, place string) error {
	key := [2]*node{w, r}
	if err, ok := v.seen[key]; ok {
		return err
	}
	v.seen[key] = nil
	err := v.compare(w, r, place)
	v.seen[key] = err
	return err
}

func (v *resolver) compare(w, r *node, place string) error {
	if w.kind == kUnion {
		var first error
		for _, b := range w.branches {
			if _, err := v.branch(w, b, r, place); err == nil {
				return nil
			} else if first == nil || b.kind != kNull {
				first = err
			}
		}
		return first
	}
	if r.kind == kUnion {
		_, err := v.pick(w, r, place)
		return err
	}
	switch {
	case w.kind == kRecord && r.kind == kRecord:
		return v.record(w, r, place)
	case w.kind == kArray && r.kind == kArray, w.kind == kMap && r.kind == kMap:
		return v.check(w.elem, r.elem, place+"[]")
	}
	if _, why := leaf(w, r); why != "" {
		return fmt.Errorf("%s: %s", place, why)
	}
	return nil
}

// branch returns the type that b, a branch of the writer's union w, is read as: r, or a branch of it.
func (v *resolver) branch(w, b, r *node, place string) (*node, error) {
	if r.kind == kUnion {
		return v.pick(b, r, place)
	}
	if b.kind == kRecord && r.kind == kRecord && records(w) > 1 && !nameFits(b, r) {
		return nil, fmt.Errorf("%s: the writer's %s is not the reader's %s; make it an alias", place, b.name, r.name)
	}
	return r, v.check(b, r, place)
}

// pick returns the branch of the reader's union r that a value written as w, no union, is read as: the one of the same type and name,
// else the first that fits.
func (v *resolver) pick(w, r *node, place string) (*node, error) {
	var first error
	for _, exact := range []bool{true, false} {
		for _, b := range r.branches {
			same := b.kind == w.kind && (b.name == "" || nameFits(w, b))
			if same != exact || w.kind == kRecord && !same && records(r) > 1 {
				continue
			}
			err := v.check(w, b, place)
			if err == nil {
				return b, nil
			}
			if first == nil || b.kind != kNull {
				first = err
			}
		}
	}
	if first == nil {
		first = fmt.Errorf("%s: the reader's union has no type for the writer's %s", place, w.text())
	}
	return nil, first
}

func (v *resolver) record(w, r *node, place string) error {
	used := map[*field]string{}
	for i := range r.fields {
		rf := &r.fields[i]
		here := place + "." + rf.name
		wf := writerField(w, rf)
		if wf == nil {
			if !rf.has {
				return fmt.Errorf("%s: the writer's %s has no such field%s; give it a default in the reader's schema, or an alias",
					here, w.name, didYouMean(rf.name, fieldNames(w)))
			}
			if _, err := nativeDefault(rf); err != nil {
				return fmt.Errorf("%s: the default %s does not fit: %w", here, jsonText(rf.def), err)
			}
			continue
		}
		if other := used[wf]; other != "" {
			return fmt.Errorf("%s: the writer's field %s is already read as %s; remove one alias", here, wf.name, other)
		}
		used[wf] = rf.name
		if err := v.check(wf.typ, rf.typ, here); err != nil {
			return err
		}
	}
	return nil
}

// writerField is the writer's field that rf reads: by its name, else by its aliases.
func writerField(w *node, rf *field) *field {
	if wf := w.field(rf.name); wf != nil {
		return wf
	}
	for _, a := range rf.aliases {
		if wf := w.field(a); wf != nil {
			return wf
		}
	}
	return nil
}

func records(union *node) (count int) {
	for _, b := range union.branches {
		if b.kind == kRecord {
			count++
		}
	}
	return count
}

// nameFits reports whether the writer's named type is the reader's: the unqualified names are equal, or an alias of the reader is the full name.
func nameFits(w, r *node) bool {
	return unqualified(w.name) == unqualified(r.name) || slices.Contains(r.aliases, w.name)
}

// leaf returns the operation that reads a value written as w into a column of type r, or why there is none. Neither is a union, and not
// both are records, arrays or maps.
func leaf(w, r *node) (op, string) {
	no := func(format string, args ...any) (op, string) { return op{}, fmt.Sprintf(format, args...) }
	switch r.kind {
	case kNull:
		if w.kind == kNull {
			return op{code: opNull}, ""
		}
	case kBoolean:
		if w.kind == kBoolean {
			return op{code: opBool}, ""
		}
	case kInt, kLong:
		if w.kind == kInt || w.kind == kLong && r.kind == kLong {
			return integer(w, r)
		}
		if w.kind == kLong {
			return no("the writer's long does not fit an int; declare long in the reader's schema")
		}
	case kFloat, kDouble:
		if o, ok := floatOps[[2]kind{w.kind, r.kind}]; ok {
			return op{code: o}, ""
		}
		if w.kind == kDouble {
			return no("the writer's double does not fit a float; declare double in the reader's schema")
		}
	case kString:
		return text(w, r)
	case kBytes:
		if r.logical == lDecimal && w.kind == kBytes {
			return decimal(w, r, opDecimal)
		}
		if r.logical != lDecimal && (w.kind == kBytes || w.kind == kString) {
			return op{code: opBytes}, ""
		}
	case kFixed:
		return fixed(w, r)
	case kEnum:
		if w.kind == kEnum && nameFits(w, r) {
			return op{code: opEnum, n: int64(len(w.symbols))}, ""
		}
	}
	return no("the writer's %s cannot be read as %s", w.text(), r.text())
}

var floatOps = map[[2]kind]opcode{
	{kInt, kFloat}: opIntFloat, {kLong, kFloat}: opLongFloat, {kFloat, kFloat}: opFloat,
	{kInt, kDouble}: opIntDouble, {kLong, kDouble}: opLongDouble, {kFloat, kDouble}: opFloat, {kDouble, kDouble}: opDouble,
}

// integer reads int and long. A timestamp of the writer keeps its own unit; a plain number of the writer is in the reader's.
func integer(w, r *node) (op, string) {
	unit := r.logical
	if w.logical != lNone && r.logical != lNone && w.logical != r.logical {
		if !w.logical.stamp() || !r.logical.stamp() {
			return op{}, fmt.Sprintf("the writer's %s cannot be read as %s", w.logical, r.logical)
		}
		unit = w.logical
	}
	if unit.stamp() {
		if w.kind == kInt {
			return op{code: opIntTime, n: unit.perMilli()}, ""
		}
		return op{code: opTime, n: unit.perMilli()}, ""
	}
	if w.kind == kInt {
		return op{code: opInt}, ""
	}
	return op{code: opLong}, ""
}

func text(w, r *node) (op, string) {
	switch {
	case w.kind == kEnum && r.logical == lNone:
		return op{code: opEnum, n: int64(len(w.symbols))}, ""
	case w.kind != kString && w.kind != kBytes, w.logical == lDecimal:
		return op{}, fmt.Sprintf("the writer's %s cannot be read as %s", w.text(), r.text())
	case r.logical == lUUID:
		return op{code: opUUIDText}, ""
	}
	return op{code: opString}, ""
}

func fixed(w, r *node) (op, string) {
	switch {
	case w.kind != kFixed || !nameFits(w, r):
		return op{}, fmt.Sprintf("the writer's %s cannot be read as fixed %s", w.text(), r.name)
	case w.size != r.size:
		return op{}, fmt.Sprintf("the writer's fixed has %d bytes, the reader's %d", w.size, r.size)
	case r.logical == lDecimal:
		return decimal(w, r, opDecimalFixed)
	case r.logical == lUUID:
		return op{code: opUUID, n: 16}, ""
	}
	return op{code: opFixed, n: int64(w.size)}, ""
}

// decimal reads a decimal with the reader's scale. Bytes that the writer does not call a decimal are taken as one of the reader's scale.
func decimal(w, r *node, code opcode) (op, string) {
	o := op{code: code, n: int64(w.size)}
	if w.logical != lDecimal {
		return o, ""
	}
	if w.scale > r.scale {
		return op{}, fmt.Sprintf("the writer's decimal has %d digits after the point, the reader's %d, so digits would be lost; raise the reader's scale", w.scale, r.scale)
	}
	if o.a = int32(r.scale - w.scale); o.a > maxDecimalScale {
		return op{}, fmt.Sprintf("the reader's decimal has %d digits after the point; at most %d are allowed", r.scale, maxDecimalScale)
	}
	return o, ""
}
