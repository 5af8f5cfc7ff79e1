package event

import (
	"encoding/hex"
	"math"
	"strings"
	"testing"

	"github.com/freshet-dev/freshet/schemas"
)

// Types used below, as a schema's text.
const (
	millis  = `{"type": "long", "logicalType": "timestamp-millis"}`
	micros  = `{"type": "long", "logicalType": "timestamp-micros"}`
	nanos   = `{"type": "long", "logicalType": "timestamp-nanos"}`
	localUs = `{"type": "long", "logicalType": "local-timestamp-micros"}`
	date    = `{"type": "int", "logicalType": "date"}`
	dec2    = `{"type": "bytes", "logicalType": "decimal", "precision": 20, "scale": 2}`
	dec4    = `{"type": "bytes", "logicalType": "decimal", "precision": 20, "scale": 4}`
	dec38   = `{"type": "bytes", "logicalType": "decimal", "precision": 38, "scale": 0}`
	dec40   = `{"type": "bytes", "logicalType": "decimal", "precision": 40, "scale": 2}`
	fixDec  = `{"type": "fixed", "name": "D", "size": 8, "logicalType": "decimal", "precision": 18, "scale": 2}`
	uuid    = `{"type": "string", "logicalType": "uuid"}`
	fixUUID = `{"type": "fixed", "name": "U", "size": 16, "logicalType": "uuid"}`
	fix2    = `{"type": "fixed", "name": "F", "size": 2}`
	floats  = `{"type": "array", "items": "float"}`
	enumAB  = `{"type": "enum", "name": "E", "symbols": ["A", "B"]}`
	enumBC  = `{"type": "enum", "name": "E", "symbols": ["C", "B"]}`
	enumDef = `{"type": "enum", "name": "E", "symbols": ["C", "B"], "default": "C"}`
	address = `{"type": "record", "name": "Address", "fields": [{"name": "city", "type": "string"}, {"name": "zip", "type": ["null", "string"], "default": null}]}`
)

// TestResolve writes v as the writer's type and reads it as the reader's. A row per rule.
func TestResolve(t *testing.T) {
	canonical := "123e4567-e89b-12d3-a456-426614174000"
	big := strings.Repeat("9", 38)
	for _, c := range []struct {
		name, writer, reader string
		v                    any
		want                 string // the value, or what the error of Project says
		class                error  // of Decode's error
	}{
		{"bool", `"boolean"`, `"boolean"`, true, "bool true", nil},
		{"int", `"int"`, `"int"`, math.MinInt32, "int -2147483648", nil},
		{"long", `"long"`, `"long"`, math.MinInt64, "int -9223372036854775808", nil},
		{"int as long", `"int"`, `"long"`, -5, "int -5", nil},
		{"int as float", `"int"`, `"float"`, 16777217, "double 1.6777216e+07 4170000000000000", nil},
		{"int as double", `"int"`, `"double"`, 16777217, "double 1.6777217e+07 4170000010000000", nil},
		{"long as float", `"long"`, `"float"`, 3, "double 3 4008000000000000", nil},
		{"long as double", `"long"`, `"double"`, -3, "double -3 c008000000000000", nil},
		{"float as double", `"float"`, `"double"`, 0.1, "double 0.10000000149011612 3fb99999a0000000", nil},
		{"minus zero", `"double"`, `"double"`, math.Copysign(0, -1), "double 0 0", nil},
		{"minus zero float", `"float"`, `"float"`, math.Copysign(0, -1), "double 0 0", nil},
		{"NaN", `"double"`, `"double"`, math.NaN(), "", ErrInvalid},
		{"Inf", `"double"`, `"double"`, math.Inf(-1), "", ErrInvalid},
		{"NaN float", `"float"`, `"double"`, math.NaN(), "", ErrInvalid},
		{"long as int", `"long"`, `"int"`, 1, "R.v: the writer's long does not fit an int; declare long", nil},
		{"double as float", `"double"`, `"float"`, 1, "R.v: the writer's double does not fit a float; declare double", nil},
		{"string as long", `"string"`, `"long"`, "1", "R.v: the writer's string cannot be read as long", nil},
		{"string", `"string"`, `"string"`, "zwölf", `string "zwölf"`, nil},
		{"string as bytes", `"string"`, `"bytes"`, "ab", "kind 6 6162", nil},
		{"bytes as string", `"bytes"`, `"string"`, "ab", `string "ab"`, nil},
		{"bytes as string, bad", `"bytes"`, `"string"`, []byte{0xff}, "", ErrUndecodable},
		{"string, bad", `"string"`, `"string"`, []byte{0xc0, 0x80}, "", ErrUndecodable},
		{"fixed", fix2, fix2, "a1b2", "kind 6 a1b2", nil},
		{"fixed of another size", fix2, `{"type": "fixed", "name": "F", "size": 3}`, "a1b2", "R.v: the writer's fixed has 2 bytes, the reader's 3", nil},
		{"fixed of another name", fix2, `{"type": "fixed", "name": "G", "size": 2}`, "a1b2", "cannot be read as fixed t.G", nil},
		{"fixed by alias", fix2, `{"type": "fixed", "name": "G", "size": 2, "aliases": ["F"]}`, "a1b2", "kind 6 a1b2", nil},
		{"date", date, date, "1969-12-31", "int -1", nil},
		{"millis", millis, millis, -1, "time -1", nil},
		{"micros", micros, micros, -1, "time -1", nil},
		{"micros, exact", micros, micros, -2000, "time -2", nil},
		{"nanos", nanos, nanos, 1999999, "time 1", nil},
		{"nanos before 1970", nanos, nanos, -1000001, "time -2", nil},
		{"local", localUs, localUs, 1999, "time 1", nil},
		{"micros as millis", micros, millis, 1234567, "time 1234", nil},
		{"millis as nanos", millis, nanos, 7, "time 7", nil},
		{"plain long as micros", `"long"`, micros, 5000, "time 5", nil},
		{"plain int as micros", `"int"`, micros, 5000, "time 5", nil},
		{"micros as plain long", micros, `"long"`, 5000, "int 5000", nil},
		{"date as millis", date, millis, 1, "R.v: the writer's date cannot be read as timestamp-millis", nil},
		{"decimal", dec2, dec2, "-12.34", "decimal -1:18446744073709550382", nil},
		{"decimal of 38 digits", dec38, dec38, big, "decimal 5421010862427522170:687399551400673279", nil},
		{"negative of 38 digits", dec38, dec38, "-" + big, "decimal -5421010862427522171:17759344522308878337", nil},
		{"decimal of a longer scale", dec2, dec4, "123.45", "decimal 0:1234500", nil},
		{"negative of a longer scale", dec2, dec4, "-0.01", "decimal -1:18446744073709551516", nil},
		{"decimal too large once scaled", dec2, dec4, strings.Repeat("9", 36), "", ErrInvalid},
		{"decimal of a shorter scale", dec4, dec2, "1", "R.v: the writer's decimal has 4 digits after the point, the reader's 2, so digits would be lost", nil},
		{"decimal of 39 digits", dec40, dec40, append([]byte{0x7f}, make([]byte, 16)...), "", ErrInvalid},
		{"decimal padded", dec40, dec40, append(make([]byte, 30), 5), "decimal 0:5", nil},
		{"decimal padded, negative", dec40, dec40, append([]byte(strings.Repeat("\xff", 30)), 0xfe), "decimal -1:18446744073709551614", nil},
		{"decimal of no bytes", dec2, dec2, []byte{}, "", ErrInvalid},
		{"decimal fixed", fixDec, fixDec, "-0.01", "decimal -1:18446744073709551615", nil},
		{"plain bytes as decimal", `"bytes"`, dec2, []byte{1, 0}, "decimal 0:256", nil},
		{"string as decimal", `"string"`, dec2, "1", "R.v: the writer's string cannot be read as decimal", nil},
		{"uuid", uuid, uuid, strings.ToUpper(canonical), "kind 7 123e4567e89b12d3a456426614174000", nil},
		{"uuid fixed", fixUUID, fixUUID, canonical, "kind 7 123e4567e89b12d3a456426614174000", nil},
		{"bad uuid", `"string"`, uuid, "123e4567-e89b-12d3-a456-42661417400g", "", ErrInvalid},
		{"uuid without dashes", `"string"`, uuid, strings.Repeat("0", 36), "", ErrInvalid},
		{"enum", enumAB, enumAB, "B", `string "B"`, nil},
		{"enum reordered", enumAB, enumBC, "B", `string "B"`, nil},
		{"enum without the symbol", enumAB, enumBC, "A", "", ErrInvalid},
		{"enum with a default", enumAB, enumDef, "A", `string "C"`, nil},
		{"enum as string", enumAB, `"string"`, "A", `string "A"`, nil},
		{"string as enum", `"string"`, enumAB, "A", "R.v: the writer's string cannot be read as enum t.E", nil},
		{"enum of another name", enumAB, strings.Replace(enumAB, `"E"`, `"X"`, 1), "A", "cannot be read as enum", nil},
		{"floats", floats, floats, []float32{1, 2}, "kind 9 0000803f00000040", nil},
		{"no floats", floats, floats, []float32{}, "kind 9 ", nil},
		{"floats with minus zero", floats, floats, []any{"-0", 1, "-0"}, "kind 9 000000000000803f00000000", nil},
		{"floats with NaN", floats, floats, []any{1, "NaN"}, "", ErrInvalid},
		{"floats with Inf", floats, floats, []any{"Inf", 1}, "", ErrInvalid},
		{"ints as floats", `{"type": "array", "items": "int"}`, floats, []any{1, -2}, "kind 9 0000803f000000c0", nil},
		{"doubles as floats", `{"type": "array", "items": "double"}`, floats, []any{1}, "R.v[]: the writer's double does not fit a float", nil},
		{"floats or nulls", `{"type": "array", "items": ["null", "float"]}`, floats, []any{1, 2}, "kind 9 0000803f00000040", nil},
		{"a null among floats", `{"type": "array", "items": ["null", "float"]}`, floats, []any{1, nil}, "", ErrInvalid},
		{"union", `["null", "double"]`, `["null", "double"]`, 2, "double 2 4000000000000000", nil},
		{"union, null", `["double", "null"]`, `["null", "double"]`, nil, "null", nil},
		{"union as one", `["null", "double"]`, `"double"`, 2, "double 2 4000000000000000", nil},
		{"null as one", `["null", "double"]`, `"double"`, nil, "", ErrInvalid},
		{"one as union", `"long"`, `["null", "double"]`, 2, "double 2 4000000000000000", nil},
		{"branch that does not fit", `["string", "double"]`, `"double"`, "x", "", ErrInvalid},
		{"branch that fits", `["string", "double"]`, `"double"`, 1.5, "double 1.5 3ff8000000000000", nil},
		{"no branch fits", `["null", "string"]`, `"double"`, nil, "R.v: the writer's string cannot be read as double", nil},
		{"one, not in the union", `"string"`, `["null", "long"]`, "x", "R.v: the writer's string cannot be read as long", nil},
		{"null as union", `"null"`, `["null", "long"]`, nil, "null", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, r := mustParse(t, record("before [\"null\", \"string\"]", "v "+c.writer, `after "string"`)), mustParse(t, record("v "+c.reader))
			p, err := Project(w, r, []string{"v"})
			if strings.HasPrefix(c.want, "R.v") || strings.HasPrefix(c.want, "cannot") {
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Fatalf("got the error %v, want %q", err, c.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			out := make([]schemas.Value, 1)
			err = p.Decode(encodeBody(t, w, map[string]any{"v": c.v, "after": "after"}), out, &Scratch{})
			if !isClass(err, c.class) {
				t.Fatalf("got the error %v, want %v", err, c.class)
			}
			if c.class == nil && valueText(out[0]) != c.want || c.class != nil && !out[0].IsNull() {
				t.Errorf("got %s, want %s", valueText(out[0]), c.want)
			}
		})
	}
}

// TestResolveRecords: fields added, removed, reordered, renamed; records in records, in unions, in themselves.
func TestResolveRecords(t *testing.T) {
	withAlias := `{"type": "record", "name": "R", "fields": [{"name": "uid", "aliases": ["user", "user_id"], "type": "string"}]}`
	list := `{"type": "record", "name": "R", "fields": [{"name": "v", "type": "int"}, {"name": "next", "type": ["null", "R"], "default": null}, {"name": "w", "type": "int"}]}`
	twoAddresses := record("a "+address, `b "Address"`, `c ["null", "Address"]`)
	def := func(typ, d string) string {
		return `{"type": "record", "name": "R", "fields": [{"name": "v", "type": ` + typ + `, "default": ` + d + `}]}`
	}
	city := func(c string) map[string]any { return map[string]any{"city": c, "zip": "z" + c} }
	for _, c := range []struct {
		name, writer, reader string
		fields               map[string]any
		path, want           string // a want that begins with "!" is an error of Project
	}{
		{"removed and reordered", record(`x "string"`, `b "int"`, `y {"type": "map", "values": ["null", "long"]}`, `a "int"`), record(`a "int"`, `b "int"`),
			map[string]any{"x": "x", "b": 2, "y": map[string]any{"k": 1, "l": nil}, "a": 1}, "a b", "int 1, int 2"},
		{"alias", record(`user_id "string"`), withAlias, map[string]any{"user_id": "u"}, "uid", `string "u"`},
		{"missing", record(`user_ident "string"`), record(`user_id "string"`), nil, "user_id", "!R.user_id: the writer's t.R has no such field; did you mean user_ident?"},
		{"missing, though not wanted", record(`a "int"`), record(`a "int"`, `b "int"`), nil, "a", "!R.b: the writer's t.R has no such field"},
		{"default string", record(), def(`"string"`, `"completed"`), nil, "v", `string "completed"`},
		{"default bytes", record(), def(`"bytes"`, `"\u00ff\u0001"`), nil, "v", "kind 6 ff01"},
		{"default decimal", record(), def(dec2, `"\u0001\u0000"`), nil, "v", "decimal 0:256"},
		{"default time", record(), def(micros, `-1`), nil, "v", "time -1"},
		{"default double", record(), def(`"double"`, `1`), nil, "v", "double 1 3ff0000000000000"},
		{"default floats", record(), def(floats, `[1, -0.0]`), nil, "v", "kind 9 0000803f00000000"},
		{"default null", record(), def(`["null", "int"]`, `null`), nil, "v", "null"},
		{"default of a union", record(), def(`["int", "null"]`, `7`), nil, "v", "int 7"},
		{"default enum", record(), def(enumAB, `"B"`), nil, "v", `string "B"`},
		{"default uuid", record(), def(uuid, `"123e4567-e89b-12d3-a456-426614174000"`), nil, "v", "kind 7 123e4567e89b12d3a456426614174000"},
		{"default record", record(), def(address, `{"city": "Bern"}`), nil, "v.city v.zip", `string "Bern", null`},
		{"nested", twoAddresses, twoAddresses, map[string]any{"a": city("A"), "b": city("B")}, "b.city a.zip c.city", `string "B", string "zA", null`},
		{"nested, nullable", twoAddresses, twoAddresses, map[string]any{"a": city("A"), "b": city("B"), "c": city("C")}, "c.zip", `string "zC"`},
		{"default inside", record(`a ["null", {"type": "record", "name": "Address", "fields": []}]`),
			record(`a ["null", {"type": "record", "name": "Address", "fields": [{"name": "x", "type": "int", "default": 3}]}]`), map[string]any{"a": map[string]any{}}, "a.x", "int 3"},
		{"default inside null", record(`a ["null", {"type": "record", "name": "Address", "fields": []}]`),
			record(`a ["null", {"type": "record", "name": "Address", "fields": [{"name": "x", "type": "int", "default": 3}]}]`), map[string]any{}, "a.x", "null"},
		{"records of other names", strings.Replace(record(`a "int"`), `"R"`, `"Order"`, 1), record(`a "int"`), map[string]any{"a": 1}, "a", "int 1"},
		{"in itself", list, list, map[string]any{"v": 1, "w": 10, "next": map[string]any{"v": 2, "w": 20, "next": map[string]any{"v": 3, "w": 30}}},
			"w next.w next.next.v next.next.next.v", "int 10, int 20, int 3, null"},
		{"two records in a union", record(`u [{"type": "record", "name": "A", "fields": [{"name": "v", "type": "int"}]}, {"type": "record", "name": "B", "fields": [{"name": "v", "type": "int"}]}]`),
			record(`u {"type": "record", "name": "B", "fields": [{"name": "v", "type": "int"}]}`), map[string]any{"u": map[string]any{"v": 4}}, "u.v", "ErrInvalid"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, r := mustParse(t, c.writer), mustParse(t, c.reader)
			paths := strings.Fields(c.path)
			p, err := Project(w, r, paths)
			if want, ok := strings.CutPrefix(c.want, "!"); ok {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Fatalf("got the error %v, want %q", err, want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			out := make([]schemas.Value, len(paths))
			err = p.Decode(encodeBody(t, w, c.fields), out, &Scratch{})
			if c.want == "ErrInvalid" {
				if !isClass(err, ErrInvalid) {
					t.Errorf("got the error %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got := make([]string, len(out))
			for i := range out {
				got[i] = valueText(out[i])
			}
			if g := strings.Join(got, ", "); g != c.want {
				t.Errorf("got %s, want %s", g, c.want)
			}
		})
	}
}

// TestDecodeHostile: bytes that lie. Each row is decoded with v wanted and again with nothing wanted: structure is checked all the same.
func TestDecodeHostile(t *testing.T) {
	list := `{"type": "record", "name": "L", "fields": [{"name": "next", "type": ["null", "L"]}]}`
	for _, c := range []struct {
		name, typ, body string // body in hexadecimal
		wanted, skipped error
	}{
		{"nothing", `"long"`, "", ErrUndecodable, ErrUndecodable},
		{"trailing byte", `"long"`, "0200", ErrUndecodable, ErrUndecodable},
		{"endless varint", `"long"`, strings.Repeat("ff", 10) + "01", ErrUndecodable, ErrUndecodable},
		{"varint of 64 bits", `"long"`, strings.Repeat("ff", 9) + "01", nil, nil},
		{"varint of 65 bits", `"long"`, strings.Repeat("ff", 9) + "02", ErrUndecodable, ErrUndecodable},
		{"int of 33 bits", `"int"`, "8080808010", ErrUndecodable, ErrUndecodable},
		{"boolean 2", `"boolean"`, "02", ErrUndecodable, ErrUndecodable},
		{"half a double", `"double"`, "00000000", ErrUndecodable, ErrUndecodable},
		{"half a float", `"float"`, "0000", ErrUndecodable, ErrUndecodable},
		{"half a fixed", fix2, "00", ErrUndecodable, ErrUndecodable},
		{"no length", `"string"`, "", ErrUndecodable, ErrUndecodable},
		{"string beyond the end", `"string"`, "0661", ErrUndecodable, ErrUndecodable},
		{"string of negative length", `"string"`, "01", ErrUndecodable, ErrUndecodable},
		{"string of 2^62 bytes", `"string"`, "80808080808080808001", ErrUndecodable, ErrUndecodable},
		{"string, not UTF-8", `"string"`, "02ff", ErrUndecodable, nil},
		{"branch 2 of 2", `["null", "long"]`, "04", ErrUndecodable, ErrUndecodable},
		{"branch -1", `["null", "long"]`, "01", ErrUndecodable, ErrUndecodable},
		{"symbol 2 of 2", enumAB, "04", ErrUndecodable, ErrUndecodable},
		{"array of 2^40 floats", floats, "808080808040", ErrUndecodable, ErrUndecodable},
		{"array of -2^63 floats", floats, strings.Repeat("ff", 9) + "0100", ErrUndecodable, ErrUndecodable},
		{"array without its end", floats, "02" + "0000803f", ErrUndecodable, ErrUndecodable},
		{"sized block", floats, "01" + "08" + "0000803f" + "00", nil, nil},
		{"two blocks", floats, "02" + "0000803f" + "01" + "08" + "00000040" + "00", nil, nil},
		{"sized block beyond the end", floats, "01" + "10" + "0000803f" + "00", ErrUndecodable, ErrUndecodable},
		{"sized block too long for its floats", floats, "01" + "0a" + "0000803f00" + "00", ErrUndecodable, nil},
		{"sized block of negative size", floats, "01" + "01" + "00", ErrUndecodable, ErrUndecodable},
		{"sized block of ints", `{"type": "array", "items": "int"}`, "03" + "04" + "0204" + "00", nil, nil},
		{"sized block too short for its ints", `{"type": "array", "items": "int"}`, "03" + "02" + "02" + "00", ErrUndecodable, nil},
		{"recursion of 64", list, strings.Repeat("02", 63) + "00", nil, nil},
		{"recursion of 65", list, strings.Repeat("02", 64) + "00", nil, ErrUndecodable},
	} {
		t.Run(c.name, func(t *testing.T) {
			body, err := hex.DecodeString(c.body)
			if err != nil {
				t.Fatal(err)
			}
			w := mustParse(t, record("v "+c.typ))
			readerType := c.typ
			if strings.Contains(c.typ, `"items": "int"`) {
				readerType = floats
			}
			r := mustParse(t, record("v "+readerType))
			var scratch Scratch
			if !strings.Contains(c.typ, `"L"`) {
				if err := mustProject(t, w, r, "v").Decode(body, make([]schemas.Value, 1), &scratch); !isClass(err, c.wanted) {
					t.Errorf("wanted: got %v, want %v", err, c.wanted)
				}
			}
			if err := mustProject(t, w, r).Decode(body, nil, &scratch); !isClass(err, c.skipped) {
				t.Errorf("skipped: got %v, want %v", err, c.skipped)
			}
		})
	}
}

// TestDecodeBoundsItems: elements of no bytes cannot make a small record last.
func TestDecodeBoundsItems(t *testing.T) {
	for _, items := range []string{`"null"`, `{"type": "fixed", "name": "Z", "size": 0}`, `{"type": "record", "name": "Z", "fields": []}`, `["null"]`} {
		s := mustParse(t, record(`v {"type": "array", "items": `+items+`}`))
		p := mustProject(t, s, s)
		for _, c := range []struct {
			body string
			want error
		}{{"808080808040" + "00", ErrUndecodable}, {"82808001" + "00", ErrUndecodable}, {"8001" + "00", nil}} {
			body, _ := hex.DecodeString(c.body)
			if items == `["null"]` && c.want == nil {
				body = append(append(body[:2], make([]byte, 64)...), 0)
			}
			if err := p.Decode(body, nil, &Scratch{}); !isClass(err, c.want) {
				t.Errorf("%s: %s: got %v, want %v", items, c.body, err, c.want)
			}
		}
	}
}

// TestFaultsAreOfColumns: what is wrong with one column does not touch another, and Fault tells them apart; what is wrong with the record does.
func TestFaultsAreOfColumns(t *testing.T) {
	s := mustParse(t, record(`a "double"`, `b "string"`, `c "string"`))
	p := mustProject(t, s, s, "c", "b", "a")
	var scratch Scratch
	out := make([]schemas.Value, 3)
	err := p.Decode(encodeBody(t, s, map[string]any{"a": math.NaN(), "b": "fine", "c": []byte{0xff}}), out, &scratch)
	if !isClass(err, ErrInvalid) || !strings.Contains(err.Error(), "field a") {
		t.Errorf("got the error %v, want the first field's", err)
	}
	if f := scratch.Fault(0); !isClass(f, ErrUndecodable) || !strings.Contains(f.Error(), "field c") {
		t.Errorf("the fault of c is %v", f)
	}
	if f := scratch.Fault(1); f != nil || valueText(out[1]) != `string "fine"` {
		t.Errorf("b is %s with the fault %v", valueText(out[1]), f)
	}
	if !isClass(scratch.Fault(2), ErrInvalid) || !out[0].IsNull() || !out[2].IsNull() {
		t.Errorf("a is %s with the fault %v; c is %s", valueText(out[2]), scratch.Fault(2), valueText(out[0]))
	}
	err = p.Decode([]byte{1}, out, &scratch)
	if !isClass(err, ErrUndecodable) || scratch.Fault(1) == nil || !strings.Contains(err.Error(), "field a at byte 0") {
		t.Errorf("got %v; the fault of b is %v", err, scratch.Fault(1))
	}
}
