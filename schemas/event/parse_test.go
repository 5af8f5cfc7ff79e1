package event

import (
	"fmt"
	"strings"
	"testing"
)

func TestParseErrors(t *testing.T) {
	deep := strings.Repeat(`{"type": "array", "items": `, 70) + `"int"` + strings.Repeat("}", 70)
	doubling := `{"type": "record", "name": "R0", "fields": []}`
	for i := range 40 {
		doubling = fmt.Sprintf(`{"type": "record", "name": "R%d", "fields": [{"name": "a", "type": %s, "default": {}}, {"name": "b", "type": "R%d", "default": {}}]}`, i+1, doubling, i)
	}
	field := func(f string) string {
		return `{"type": "record", "name": "R", "namespace": "t", "fields": [` + f + `]}`
	}
	for _, c := range []struct{ name, text, want string }{
		{"not JSON", `{"type"`, "the schema is not JSON"},
		{"two values", `"int" "int"`, "followed by more text"},
		{"too long", `"` + strings.Repeat("x", 1<<20) + `"`, "at most 1048576"},
		{"too deep", record("v " + deep), "t.R.v[][]"},
		{"too deep, says", record("v " + deep), "nested more than 64 deep"},
		{"number", `5`, `a type is a name such as "string", an object or a list; got 5`},
		{"no type", field(`{"name": "v"}`), `t.R.v: the type is missing; add "type"`},
		{"unknown type", record(`v "doubel"`), `t.R.v: there is no type "doubel"; did you mean double?`},
		{"unknown named type", record("a "+address, `b "Adress"`), `t.R.b: there is no type "Adress"; did you mean Address?`},
		{"no fields", `{"type": "record", "name": "R"}`, `R: the record R has no list of "fields"`},
		{"no name", `{"type": "record", "fields": []}`, `the record has no "name"`},
		{"bad name", `{"type": "record", "name": "my-event", "fields": []}`, `"my-event" is not a name`},
		{"bad field name", record(`a-b "int"`), `t.R.a-b: "a-b" is not a name`},
		{"no field name", field(`{"type": "int"}`), `t.R: field 1 has no "name"`},
		{"field twice", record(`v "int"`, `v "int"`), "t.R.v: the record has two fields of this name"},
		{"alias twice", field(`{"name": "a", "type": "int", "aliases": ["x"]}, {"name": "b", "type": "int", "aliases": ["x"]}`), `t.R.b: "x" also stands for the field a`},
		{"aliases", field(`{"name": "a", "type": "int", "aliases": "x"}`), `t.R.a: "aliases" is a list of names`},
		{"type twice", record("a "+fix2, "b "+fix2), "t.R.b: t.F is defined twice"},
		{"empty union", record(`v []`), "t.R.v: a union needs at least one type"},
		{"union in a union", record(`v ["null", ["int"]]`), "t.R.v: a union inside a union"},
		{"union twice", record(`v ["int", "null", "int"]`), "t.R.v: the union has int twice"},
		{"no items", record(`v {"type": "array"}`), `t.R.v: the array has no "items"`},
		{"no values", record(`v {"type": "map"}`), `t.R.v: the map has no "values"`},
		{"no size", record(`v {"type": "fixed", "name": "F"}`), `t.R.v: the fixed t.F needs a "size"`},
		{"no symbols", record(`v {"type": "enum", "name": "E"}`), `t.R.v: the enum t.E has no "symbols"`},
		{"symbol twice", record(`v {"type": "enum", "name": "E", "symbols": ["A", "A"]}`), `the symbol "A" is twice`},
		{"enum default", record(`v {"type": "enum", "name": "E", "symbols": ["Apple", "Pear"], "default": "Aple"}`), "did you mean Apple?"},
		{"logical type", record(`v {"type": "string", "logicalType": "timestamp-millis"}`), "t.R.v: timestamp-millis cannot be a logical type of string; it needs long"},
		{"logical type beside", field(`{"name": "v", "type": "long", "logicalType": "timestamp-millis"}`),
			`t.R.v: logicalType belongs to the type; write "type": {"type": "long", "logicalType": "timestamp-millis"}`},
		{"decimal", record(`v {"type": "bytes", "logicalType": "decimal", "precision": 2, "scale": 3}`), `t.R.v: a decimal needs a "precision"`},
		{"uuid", record(`v {"type": "fixed", "name": "F", "size": 8, "logicalType": "uuid"}`), "t.R.v: a uuid needs a fixed of 16 bytes; this one has 8"},
		{"default", field(`{"name": "v", "type": "int", "default": "1"}`), `t.R.v: the default "1" does not fit: v: "1" is not an int: write it without quotes`},
		{"default null", field(`{"name": "v", "type": "int", "default": null}`), `t.R.v: the default null does not fit`},
		{"default bytes", field(`{"name": "v", "type": "bytes", "default": "€"}`), "U+0000 to U+00FF"},
		{"default of a union", record(`v ["null", "int"], "default": 7`), "t.R.v: the default 7 does not fit: v: 7 is not null; a default is of the union's first type"},
		{"default null of a union", record(`v ["int", "null"], "default": null`), "v: null is not among the union's types; give a value; a default is of the union's first type"},
		{"order", field(`{"name": "v", "type": "int", "order": "up"}`), `the Avro library refuses the schema: avro: field "v" order "up" is invalid`},
		{"default of the record itself", field(`{"name": "v", "type": {"type": "array", "items": "R"}, "default": [{"v": []}]}`), "give its records simpler defaults"},
		{"default without end", `{"type": "record", "name": "R", "fields": [{"name": "v", "type": "R", "default": {}}]}`, "nested more than 64 deep"},
		{"default that doubles", doubling, "the default stands for more than 65536 values"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := Parse([]byte(c.text)); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

// TestParseWriter: what a parser may overlook in a foreign schema is overlooked.
func TestParseWriter(t *testing.T) {
	text := `{"type": "record", "name": "my-event", "fields": [
		{"name": "an id", "type": "string", "default": 5},
		{"name": "d", "type": {"type": "bytes", "logicalType": "decimal", "precision": 0}},
		{"name": "t", "type": {"type": "string", "logicalType": "timestamp-millis"}},
		{"name": "x", "type": {"type": "int", "logicalType": "fortnight"}, "logicalType": "date"}]}`
	if _, err := Parse([]byte(text)); err == nil {
		t.Error("it was parsed strictly")
	}
	s, err := ParseWriter([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	got := ""
	for _, c := range s.Columns() {
		got += fmt.Sprintf("%s %s, ", c.Path, c.Avro)
	}
	if want := "an id string, d bytes, t string, x int, "; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestColumns(t *testing.T) {
	s := mustParse(t, record(`user_id "string"`, "a "+address, `n ["null", "Address"]`, `m {"type": "map", "values": "int"}`, `u ["int", "string"]`, `z "null"`,
		`r {"type": "array", "items": "Address"}`, "emb "+floats, `next ["null", "R"]`, "d "+dec2, "at "+micros,
		`big {"type": "bytes", "logicalType": "decimal", "precision": 50, "scale": 40}`))
	got := ""
	for _, c := range s.Columns() {
		got += fmt.Sprintf("%s:%d:%d:%v:%s ", c.Path, c.Type.Kind, c.Type.Scale, c.Nullable, c.Avro)
		if one, err := s.Column(c.Path); err != nil || one != c {
			t.Errorf("%s alone is %v, %v", c.Path, one, err)
		}
	}
	want := "user_id:5:0:false:string a.city:5:0:false:string a.zip:5:0:true:string n.city:5:0:true:string n.zip:5:0:true:string " +
		"emb:9:0:false:array d:4:2:false:decimal at:8:0:false:timestamp-micros "
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if c, err := s.Column("next.next.a.city"); err != nil || !c.Nullable {
		t.Errorf("a column of the record inside itself: %v, %v", c, err)
	}
	for path, want := range map[string]string{
		"user_ident":                            `t.R has no field "user_ident"; did you mean user_id?`,
		"a.town":                                `t.Address has no field "a.town"; there is city, zip`,
		"user_id.x":                             `user_id is a string, so it has no field "x"`,
		"a":                                     "a cannot be a column: it is a record; name one of its fields, as in address.city",
		"m":                                     "m cannot be a column: it is a map",
		"m.x":                                   `m is a map, so it has no field "x"`,
		"u":                                     "u cannot be a column: it is a union of several types",
		"z":                                     "z cannot be a column: it is always null",
		"r":                                     `r cannot be a column: it is an array of record t.Address; only arrays of float (embeddings) are columns`,
		"big":                                   "big cannot be a column: its scale is 40",
		"":                                      `has no field ""`,
		strings.Repeat("next.", 70) + "user_id": "nested more than 64 deep",
	} {
		if _, err := s.Column(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", path, err, want)
		}
	}
	if _, err := mustParse(t, `"int"`).Column("v"); err == nil || !strings.Contains(err.Error(), "events are records") {
		t.Errorf("got %v", err)
	}
	if _, err := Project(s, s, []string{"user_id", "at", "user_id"}); err == nil || !strings.Contains(err.Error(), "user_id is wanted twice") {
		t.Errorf("got %v", err)
	}
}
