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
	in.columns = append(in.columns, Column{Path: path, Type: c.Type, Nullable: c.Nullable, Default: defaultOf(in.text, path)})
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

// defaultOf returns what the schema says of records whose writers do not have the field at path: the defaults on the way there, as JSON.
// A different default gives different values, so it is part of the definition's hash.
func defaultOf(schema []byte, path string) string {
	var defaults []string
	var named = map[string]json.RawMessage{}
	collectNamed(schema, named, 0)
	at := json.RawMessage(schema)
	for _, name := range strings.Split(path, ".") {
		f, ok := fieldOf(at, name, named)
		if !ok {
			break
		}
		if f.Default != nil {
			var compact any
			if json.Unmarshal(f.Default, &compact) == nil {
				text, _ := json.Marshal(compact) // it was JSON a moment ago
				defaults = append(defaults, name+"="+string(text))
			}
		}
		at = f.Type
	}
	return strings.Join(defaults, " ")
}

type avroField struct {
	Name    string          `json:"name"`
	Type    json.RawMessage `json:"type"`
	Default json.RawMessage `json:"default"`
}

type avroType struct {
	Name   string          `json:"name"`
	Type   json.RawMessage `json:"type"`
	Items  json.RawMessage `json:"items"`
	Values json.RawMessage `json:"values"`
	Fields []avroField     `json:"fields"`
}

// collectNamed finds the record types by their short names.
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
		if def.Fields != nil && def.Name != "" {
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

// fieldOf returns a field of a record type, which may be a name, or a union of null and it.
func fieldOf(t json.RawMessage, field string, named map[string]json.RawMessage) (avroField, bool) {
	var name string
	var union []json.RawMessage
	var def avroType
	switch {
	case json.Unmarshal(t, &name) == nil:
		if def, ok := named[shortName(name)]; ok {
			return fieldOf(def, field, nil) // a definition, no name again
		}
	case json.Unmarshal(t, &union) == nil:
		for _, b := range union {
			if f, ok := fieldOf(b, field, named); ok {
				return f, true
			}
		}
	case json.Unmarshal(t, &def) == nil:
		for _, f := range def.Fields {
			if f.Name == field {
				return f, true
			}
		}
	}
	return avroField{}, false
}
