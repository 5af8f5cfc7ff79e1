package feature

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/freshet-dev/freshet/schemas"
	"github.com/freshet-dev/freshet/schemas/event"
)

// inputs are the columns that a definition reads of its schema, deduplicated, in the order of their first use.
type inputs struct {
	schema  *event.Schema
	text    []byte
	columns []Column
	avro    []string // the Avro types of columns
	index   map[string]int
}

func newInputs(text []byte) (*inputs, error) {
	if len(text) > MaxFileBytes {
		return nil, fmt.Errorf("it is larger than %d bytes", MaxFileBytes)
	}
	schema, err := event.Parse(text)
	if err != nil {
		return nil, err
	}
	return &inputs{schema: schema, text: text, index: map[string]int{}}, nil
}

// column returns the number of the column at path, which is new if it was not used before; or what is wrong with it.
func (in *inputs) column(path string) (int, *exprProblem) {
	if i, ok := in.index[path]; ok {
		return i, nil
	}
	c, err := in.schema.Column(path)
	if err != nil {
		message, _, _ := strings.Cut(err.Error(), "; did you mean") // its own advice is of one level, ours of the whole schema
		message, _, _ = strings.Cut(message, "; there is")
		var paths []string
		for _, other := range in.schema.Columns() {
			paths = append(paths, other.Path)
		}
		p := &exprProblem{message: message, hint: nearest(path, paths)}
		if p.hint == "" && !strings.Contains(message, "cannot be a column") && len(paths) <= 20 {
			p.mend = "its columns are " + strings.Join(paths, ", ")
		}
		return -1, p
	}
	if len(in.columns) == MaxColumns {
		return -1, &exprProblem{message: fmt.Sprintf("the group reads more than %d columns", MaxColumns), mend: "split it into two groups"}
	}
	i := len(in.columns)
	in.index[path] = i
	in.columns = append(in.columns, Column{Path: path, Type: c.Type, Nullable: c.Nullable, Resolution: resolution(in.text, path)})
	in.avro = append(in.avro, c.Avro)
	return i, nil
}

// lookup finds the columns of `where`.
func (in *inputs) lookup(name string) (int, schemas.Type, *exprProblem) {
	i, problem := in.column(name)
	if problem != nil {
		return -1, schemas.Type{}, problem
	}
	return i, in.columns[i].Type, nil
}

// stored returns the columns that features aggregate, ascending.
func stored(features []Feature) []int {
	var columns []int
	for _, f := range features {
		if f.Column >= 0 {
			columns = append(columns, f.Column)
		}
	}
	slices.Sort(columns)
	return slices.Compact(columns)
}

// resolution returns what the schema says of how writers' records are read as it, beyond types: the defaults and aliases on the way to
// path, and an enum's default. Different ones give different values, so they are part of the definition's hash.
func resolution(schema []byte, path string) string {
	var parts []string
	add := func(name string, value json.RawMessage) {
		var v any
		if value != nil && json.Unmarshal(value, &v) == nil {
			text, _ := json.Marshal(v) // it was JSON a moment ago; this writes it canonically
			parts = append(parts, name+string(text))
		}
	}
	named := map[string]json.RawMessage{}
	collectNamed(schema, named, 0)
	at := json.RawMessage(schema)
	for _, name := range strings.Split(path, ".") {
		f, ok := fieldOf(at, name, named)
		if !ok {
			break
		}
		add(name+"=", f.Default)
		add(name+"~", f.Aliases)
		at = f.Type
	}
	if enum := branch(at, named, func(t avroType) bool { return t.Symbols != nil }); enum != nil {
		add("enum=", enum.Default)
	}
	return strings.Join(parts, " ")
}

type avroField struct {
	Name    string          `json:"name"`
	Type    json.RawMessage `json:"type"`
	Default json.RawMessage `json:"default"`
	Aliases json.RawMessage `json:"aliases"`
}

type avroType struct {
	Name    string          `json:"name"`
	Type    json.RawMessage `json:"type"`
	Items   json.RawMessage `json:"items"`
	Values  json.RawMessage `json:"values"`
	Fields  []avroField     `json:"fields"`
	Symbols json.RawMessage `json:"symbols"`
	Default json.RawMessage `json:"default"`
}

// collectNamed finds the records and enums by their short names. A schema that has two of one short name in different namespaces only
// makes the hash depend on the later one.
func collectNamed(t json.RawMessage, named map[string]json.RawMessage, depth int) {
	var union []json.RawMessage
	var def avroType
	switch {
	case depth > 64:
	case json.Unmarshal(t, &union) == nil:
		for _, b := range union {
			collectNamed(b, named, depth+1)
		}
	case json.Unmarshal(t, &def) == nil:
		if def.Name != "" {
			named[shortName(def.Name)] = t
		}
		for _, f := range def.Fields {
			collectNamed(f.Type, named, depth+1)
		}
		for _, inner := range []json.RawMessage{def.Type, def.Items, def.Values} {
			if inner != nil {
				collectNamed(inner, named, depth+1)
			}
		}
	}
}

func shortName(name string) string { return name[strings.LastIndexByte(name, '.')+1:] }

// branch returns the first type for which is holds, of a type that may be a name, or a union of null and it; or nil.
func branch(t json.RawMessage, named map[string]json.RawMessage, is func(avroType) bool) *avroType {
	var name string
	var union []json.RawMessage
	var def avroType
	switch {
	case json.Unmarshal(t, &name) == nil:
		if def, ok := named[shortName(name)]; ok {
			return branch(def, nil, is) // a definition, no name again
		}
	case json.Unmarshal(t, &union) == nil:
		for _, b := range union {
			if found := branch(b, named, is); found != nil {
				return found
			}
		}
	case json.Unmarshal(t, &def) == nil && is(def):
		return &def
	}
	return nil
}

// fieldOf returns a field of a record type.
func fieldOf(t json.RawMessage, name string, named map[string]json.RawMessage) (avroField, bool) {
	at := func(def avroType) int {
		return slices.IndexFunc(def.Fields, func(f avroField) bool { return f.Name == name })
	}
	record := branch(t, named, func(def avroType) bool { return at(def) >= 0 })
	if record == nil {
		return avroField{}, false
	}
	return record.Fields[at(*record)], true
}
