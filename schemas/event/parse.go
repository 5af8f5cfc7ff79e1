package event

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/hamba/avro/v2"
)

// parser turns decoded JSON into nodes. It lives for one schema and those it refers to.
type parser struct {
	strict bool
	named  map[string]*node // by full name
	own    []*node          // the named types defined in this text, in order
}

// parse parses text; refs are schemas whose named types it may use (a registry's references), already parsed.
func parse(text []byte, strict bool, refs []*Schema) (*Schema, error) {
	if len(text) > maxSchemaBytes {
		return nil, fmt.Errorf("the schema has %d bytes; at most %d are allowed", len(text), maxSchemaBytes)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, fmt.Errorf("the schema is not JSON: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("the schema is followed by more text; give one JSON value")
	}
	p := &parser{strict: strict, named: map[string]*node{}}
	for _, r := range refs {
		p.collect(r.root)
	}
	root, err := p.parse(v, "", "the schema", 0)
	if err != nil {
		return nil, err
	}
	if strict {
		if err := p.checkDefaults(); err != nil {
			return nil, err
		}
		if err := bindLibrary(text, root); err != nil {
			return nil, err
		}
	}
	return &Schema{root: root, text: append([]byte{}, text...)}, nil
}

// collect makes the named types below n known. Their reference counts rise, so that they are compiled as calls.
func (p *parser) collect(n *node) {
	if n.name != "" {
		if p.named[n.name] != nil {
			return
		}
		c := *n
		p.named[n.name] = &c
		n = &c
		n.refs = 2 // it may be named here by any number of places
	}
	if n.elem != nil {
		p.collect(n.elem)
	}
	for _, b := range n.branches {
		p.collect(b)
	}
	for i := range n.fields {
		p.collect(n.fields[i].typ)
	}
}

func (p *parser) parse(v any, ns, place string, depth int) (*node, error) {
	if depth > maxSchemaDepth {
		return nil, fmt.Errorf("%s: types are nested more than %d deep; flatten the schema", place, maxSchemaDepth)
	}
	switch v := v.(type) {
	case string:
		return p.reference(v, ns, place)
	case []any:
		return p.union(v, ns, place, depth)
	case map[string]any:
		switch t := v["type"].(type) {
		case nil:
			return nil, fmt.Errorf(`%s: the type is missing; add "type"`, place)
		case string:
			return p.object(v, t, ns, place, depth)
		default:
			return p.parse(t, ns, place, depth+1)
		}
	}
	return nil, fmt.Errorf(`%s: a type is a name such as "string", an object or a list; got %s`, place, jsonText(v))
}

func (p *parser) reference(name, ns, place string) (*node, error) {
	if k, ok := primitives[name]; ok {
		return &node{kind: k}, nil
	}
	n := p.named[name]
	if !strings.Contains(name, ".") && ns != "" && p.named[ns+"."+name] != nil {
		n = p.named[ns+"."+name]
	}
	if n == nil {
		var known []string
		for k := range primitives {
			known = append(known, k)
		}
		for k := range p.named {
			known = append(known, k, unqualified(k))
		}
		known = append(known, "record", "enum", "array", "map", "fixed")
		hint := nearest(name, known)
		if hint != "" {
			hint = "; did you mean " + hint + "?"
		}
		return nil, fmt.Errorf("%s: there is no type %q%s", place, name, hint)
	}
	n.refs++
	return n, nil
}

func (p *parser) union(list []any, ns, place string, depth int) (*node, error) {
	if len(list) == 0 {
		return nil, fmt.Errorf("%s: a union needs at least one type", place)
	}
	n := &node{kind: kUnion}
	seen := map[string]bool{}
	for _, v := range list {
		b, err := p.parse(v, ns, place, depth+1)
		if err != nil {
			return nil, err
		}
		if b.kind == kUnion {
			return nil, fmt.Errorf("%s: a union inside a union; list its types in the outer one", place)
		}
		id := b.kind.String()
		if b.name != "" {
			id = b.name
		}
		if p.strict && seen[id] {
			return nil, fmt.Errorf("%s: the union has %s twice; keep one", place, id)
		}
		seen[id] = true
		n.branches = append(n.branches, b)
	}
	return n, nil
}

func (p *parser) object(m map[string]any, typ, ns, place string, depth int) (*node, error) {
	switch typ {
	case "record", "error", "enum", "fixed":
		return p.namedType(m, typ, ns, place, depth)
	case "array", "map":
		key := map[string]string{"array": "items", "map": "values"}[typ]
		if m[key] == nil {
			return nil, fmt.Errorf(`%s: the %s has no "%s"; add the type of its elements`, place, typ, key)
		}
		elem, err := p.parse(m[key], ns, place+"[]", depth+1)
		if err != nil {
			return nil, err
		}
		k := kArray
		if typ == "map" {
			k = kMap
		}
		return &node{kind: k, elem: elem}, nil
	}
	n, err := p.reference(typ, ns, place)
	if err != nil || n.name != "" {
		return n, err
	}
	return n, p.logicalType(n, m, place)
}

func (p *parser) namedType(m map[string]any, typ, ns, place string, depth int) (*node, error) {
	name, _ := m["name"].(string)
	if name == "" {
		return nil, fmt.Errorf(`%s: the %s has no "name"`, place, typ)
	}
	if !strings.Contains(name, ".") {
		if s, ok := m["namespace"].(string); ok {
			ns = s
		}
		name = qualify(name, ns)
	}
	ns = strings.TrimSuffix(strings.TrimSuffix(name, unqualified(name)), ".")
	if depth == 0 {
		place = name
	}
	if p.strict && !validName(name) {
		return nil, fmt.Errorf("%s: %q is not a name; names are letters, digits and _, and do not begin with a digit", place, name)
	}
	if p.named[name] != nil {
		return nil, fmt.Errorf("%s: %s is defined twice; name the first definition instead", place, name)
	}
	n := &node{name: name, refs: 1, fallback: -1}
	aliases, err := p.strings(m["aliases"], "aliases", place)
	if err != nil {
		return nil, err
	}
	for _, a := range aliases {
		n.aliases = append(n.aliases, qualify(a, ns))
	}
	p.named[name] = n
	p.own = append(p.own, n)
	switch typ {
	case "enum":
		n.kind = kEnum
		return n, p.enum(n, m, place)
	case "fixed":
		n.kind = kFixed
		size, ok := jsonInt(m["size"])
		if !ok || size < 0 || size > maxFixedBytes {
			return nil, fmt.Errorf(`%s: the fixed %s needs a "size" from 0 to %d bytes`, place, name, maxFixedBytes)
		}
		n.size = size
		return n, p.logicalType(n, m, place)
	}
	n.kind = kRecord
	return n, p.record(n, m, ns, place, depth)
}

func (p *parser) record(n *node, m map[string]any, ns, place string, depth int) error {
	list, ok := m["fields"].([]any)
	if !ok {
		return fmt.Errorf(`%s: the record %s has no list of "fields"`, place, n.name)
	}
	names, taken := map[string]bool{}, map[string]string{}
	n.fields = make([]field, 0, len(list))
	for i, v := range list {
		fm, ok := v.(map[string]any)
		name, _ := fm["name"].(string)
		if !ok || name == "" {
			return fmt.Errorf(`%s: field %d has no "name"`, place, i+1)
		}
		here := place + "." + name
		if p.strict && (!validName(name) || strings.Contains(name, ".")) {
			return fmt.Errorf("%s: %q is not a name; names are letters, digits and _, and do not begin with a digit", here, name)
		}
		if names[name] {
			return fmt.Errorf("%s: the record has two fields of this name; rename one", here)
		}
		names[name] = true
		f := field{name: name}
		f.doc, _ = fm["doc"].(string)
		f.def, f.has = fm["default"]
		var err error
		if f.aliases, err = p.strings(fm["aliases"], "aliases", here); err != nil {
			return err
		}
		if fm["type"] == nil {
			return fmt.Errorf(`%s: the type is missing; add "type"`, here)
		}
		// A logical type written beside the field's type instead of inside it is a common slip that other parsers pass over.
		if l, ok := fm["logicalType"].(string); ok && p.strict {
			return fmt.Errorf(`%s: logicalType belongs to the type; write "type": {"type": %s, "logicalType": %q}`, here, jsonText(fm["type"]), l)
		}
		if f.typ, err = p.parse(fm["type"], ns, here, depth+1); err != nil {
			return err
		}
		for _, a := range append([]string{name}, f.aliases...) {
			if other, ok := taken[a]; ok && p.strict && other != name {
				return fmt.Errorf("%s: %q also stands for the field %s; remove one alias", here, a, other)
			}
			taken[a] = name
		}
		n.fields = append(n.fields, f)
	}
	return nil
}

func (p *parser) enum(n *node, m map[string]any, place string) error {
	var err error
	if n.symbols, err = p.strings(m["symbols"], "symbols", place); err != nil {
		return err
	}
	if len(n.symbols) == 0 {
		return fmt.Errorf(`%s: the enum %s has no "symbols"`, place, n.name)
	}
	seen := map[string]bool{}
	for _, s := range n.symbols {
		if p.strict && (!validName(s) || seen[s]) {
			return fmt.Errorf("%s: the symbol %q is twice in the enum or not a name", place, s)
		}
		seen[s] = true
	}
	if d, ok := m["default"].(string); ok {
		for i, s := range n.symbols {
			if s == d {
				n.fallback = i
			}
		}
		if n.fallback < 0 && p.strict {
			return fmt.Errorf("%s: the default %q is not a symbol of the enum%s", place, d, didYouMean(d, n.symbols))
		}
	}
	return nil
}

// logicalBases says on which types a logical type may stand.
var logicalBases = map[logical][]kind{
	lDate: {kInt}, lTimeMillis: {kInt}, lTimeMicros: {kLong},
	lStampMillis: {kLong}, lStampMicros: {kLong}, lStampNanos: {kLong},
	lLocalMillis: {kLong}, lLocalMicros: {kLong}, lLocalNanos: {kLong},
	lDecimal: {kBytes, kFixed}, lUUID: {kString, kFixed},
}

// logicalType reads m's logical type into n. Unknown ones are passed over, as the specification asks; so are those that do not fit, unless strict.
func (p *parser) logicalType(n *node, m map[string]any, place string) error {
	name, _ := m["logicalType"].(string)
	var l logical
	for i, s := range logicalNames {
		if s == name {
			l = logical(i)
		}
	}
	if l == lNone {
		return nil
	}
	problem := ""
	fits := false
	for _, k := range logicalBases[l] {
		fits = fits || k == n.kind
	}
	switch {
	case !fits:
		problem = fmt.Sprintf("%s cannot be a logical type of %s; it needs %s", name, n.kind, logicalBases[l][0])
	case l == lUUID && n.kind == kFixed && n.size != 16:
		problem = fmt.Sprintf("a uuid needs a fixed of 16 bytes; this one has %d", n.size)
	case l == lDecimal:
		precision, ok := jsonInt(m["precision"])
		scale, scaleOK := jsonInt(m["scale"])
		if m["scale"] == nil {
			scale, scaleOK = 0, true
		}
		if !ok || precision < 1 || !scaleOK || scale < 0 || scale > precision {
			problem = `a decimal needs a "precision" of at least 1 and a "scale" from 0 to the precision`
		}
		n.scale = scale
	}
	if problem != "" {
		if p.strict {
			return fmt.Errorf("%s: %s", place, problem)
		}
		n.scale = 0
		return nil
	}
	n.logical = l
	return nil
}

func (p *parser) strings(v any, key, place string) ([]string, error) {
	if v == nil {
		return nil, nil
	}
	list, ok := v.([]any)
	if !ok {
		return nil, fmt.Errorf("%s: %q is a list of names; got %s", place, key, jsonText(v))
	}
	out := make([]string, len(list))
	for i, e := range list {
		if out[i], ok = e.(string); !ok {
			return nil, fmt.Errorf("%s: %q is a list of names; got %s in it", place, key, jsonText(e))
		}
	}
	return out, nil
}

// checkDefaults tries every default as the value it stands for.
func (p *parser) checkDefaults() error {
	for _, n := range p.own {
		for i := range n.fields {
			if f := &n.fields[i]; f.has {
				if _, err := nativeDefault(f); err != nil {
					return fmt.Errorf("%s.%s: the default %s does not fit: %w", n.name, f.name, jsonText(f.def), err)
				}
			}
		}
	}
	return nil
}

// bindLibrary has hamba/avro parse the text too, after all that bounds it, and gives each type of root hamba's schema of it, to encode with.
func bindLibrary(text []byte, root *node) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the Avro library cannot parse the schema (%v); give its records simpler defaults", r)
		}
	}()
	s, err := avro.ParseBytesWithCache(text, "", &avro.SchemaCache{})
	if err != nil {
		return fmt.Errorf("the Avro library refuses the schema: %w", err)
	}
	root.bind(s)
	return nil
}

func (n *node) bind(s avro.Schema) {
	if ref, ok := s.(*avro.RefSchema); ok {
		s = ref.Schema()
	}
	if n.avro != nil {
		return
	}
	n.avro, n.avroName = s, string(s.Type())
	if l, ok := s.(avro.LogicalTypeSchema); ok && l.Logical() != nil {
		n.avroName += "." + string(l.Logical().Type())
	}
	if named, ok := s.(avro.NamedSchema); ok {
		n.avroName = named.FullName()
	}
	switch s := s.(type) {
	case *avro.RecordSchema:
		for i, f := range s.Fields() {
			n.fields[i].typ.bind(f.Type())
		}
	case *avro.ArraySchema:
		n.elem.bind(s.Items())
	case *avro.MapSchema:
		n.elem.bind(s.Values())
	case *avro.UnionSchema:
		for i, b := range s.Types() {
			n.branches[i].bind(b)
		}
	}
}

func qualify(name, ns string) string {
	if ns == "" || strings.Contains(name, ".") {
		return name
	}
	return ns + "." + name
}

func validName(name string) bool {
	for part := range strings.SplitSeq(name, ".") {
		if part == "" {
			return false
		}
		for i, c := range part {
			letter := c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
			if !letter && (i == 0 || c < '0' || c > '9') {
				return false
			}
		}
	}
	return true
}

func jsonInt(v any) (int, bool) {
	n, ok := v.(json.Number)
	if !ok {
		return 0, false
	}
	i, err := strconv.ParseInt(string(n), 10, 32)
	return int(i), err == nil
}

// jsonText is v as JSON, cut short for an error.
func jsonText(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	if len(b) > 80 {
		return string(b[:80]) + "…"
	}
	return string(b)
}
