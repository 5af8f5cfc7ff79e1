package event

import (
	"encoding/hex"
	"runtime"
	"testing"

	"github.com/freshet-dev/freshet/schemas"
)

// fuzzPairs are writers' and readers' schemas that between them use every operation.
func fuzzPairs(t testing.TB) (pairs [][2]*Schema) {
	all := func(extra ...string) string {
		return record(append([]string{`b "boolean"`, `i "int"`, `l "long"`, `f "float"`, `d "double"`, `s "string"`, `y "bytes"`, "x " + fix2, "e " + enumAB,
			"m " + millis, "u " + micros, "dec " + dec2, "fd " + fixDec, "id " + uuid, "fid " + fixUUID, "emb " + floats, `n ["null", "string"]`, "a " + address,
			`map {"type": "map", "values": {"type": "array", "items": "null"}}`, `arr {"type": "array", "items": "Address"}`, `none {"type": "array", "items": "null"}`}, extra...)...)
	}
	self := `{"type": "record", "name": "L", "fields": [{"name": "v", "type": "int"}, {"name": "next", "type": ["null", "L"]}, {"name": "kids", "type": {"type": "array", "items": "L"}}]}`
	for _, p := range [][2]string{
		{all(), all()},
		{all(), record()}, // everything is skipped
		{record(`v {"type": "array", "items": ["null", "int", {"type": "array", "items": "null"}]}`, `w ["int", "string", "null"]`, "x "+enumAB, `i "int"`, `j "int"`),
			record("v "+floats, `w ["null", "double"]`, "x "+enumDef, `i "double"`, "j "+micros, `new ["string", "null"], "default": "q"`)},
		{self, self},
	} {
		pairs = append(pairs, [2]*Schema{mustParse(t, p[0]), mustParse(t, p[1])})
	}
	return pairs
}

// FuzzDecode: no bytes may make decoding panic or hang, or take memory out of proportion; what is read of a column is the same whether or
// not the others are wanted.
func FuzzDecode(f *testing.F) {
	type target struct {
		all  *Projection
		each []*Projection
	}
	var targets []target
	for _, p := range fuzzPairs(f) {
		var paths []string
		var each []*Projection
		for _, c := range p[1].Columns() {
			paths = append(paths, c.Path)
			each = append(each, mustProject(f, p[0], p[1], c.Path))
		}
		targets = append(targets, target{mustProject(f, p[0], p[1], paths...), append(each, mustProject(f, p[0], p[1]))})
	}
	w := mustRead(f, "../catalog/purchase.avsc")
	f.Add(uint8(0), encodeBody(f, w, map[string]any{"event_id": "e", "user_id": "u", "product_id": "p", "amount": 1, "event_time": 1}))
	for i, seed := range []string{"808080808040", "02020202", "01ff", "0108000080bf00", "ffffffffffffffffff01", "020200020000", "0304020400"} {
		b, err := hex.DecodeString(seed)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint8(i), b)
	}
	f.Fuzz(func(t *testing.T, which uint8, body []byte) {
		target := targets[int(which)%len(targets)]
		all, one := &Scratch{}, &Scratch{}
		out, single := make([]schemas.Value, len(target.all.columns)), make([]schemas.Value, 1)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_ = target.all.Decode(body, out, all)
		runtime.ReadMemStats(&after)
		// A float takes 4 bytes where an int took 1; appending doubles; errors and the first arena are small.
		if grown, limit := after.TotalAlloc-before.TotalAlloc, uint64(32*len(body)+4*arenaBytes+4*4*maxItems); grown > limit {
			t.Errorf("%d bytes allocated for a record of %d", grown, len(body))
		}
		for i, p := range target.each {
			n := len(p.columns)
			_ = p.Decode(body, single[:n], one)
			if (one.whole == nil) != (all.whole == nil) {
				t.Fatalf("alone: %v; with the others: %v", one.whole, all.whole)
			}
			if n == 0 || one.whole != nil {
				continue
			}
			a, b := one.Fault(0), all.Fault(i)
			if (a == nil) != (b == nil) || a != nil && a.Error() != b.Error() || valueText(single[0]) != valueText(out[i]) {
				t.Fatalf("column %s alone: %s, %v; with the others: %s, %v", p.columns[0], valueText(single[0]), a, valueText(out[i]), b)
			}
		}
	})
}

// FuzzParse: no text may make parsing panic; what parses strictly can be read as itself.
func FuzzParse(f *testing.F) {
	f.Add([]byte(record("a "+address, "e "+enumDef, "d "+dec2, "u "+fixUUID)))
	f.Add([]byte(`{"type": "record", "name": "R", "fields": [{"name": "v", "type": ["null", "R"], "default": null}]}`))
	f.Add([]byte(`{"type": {"type": "array", "items": {"type": "map", "values": "null"}}}`))
	f.Add([]byte(`{"type": "record", "name": "a.R", "aliases": ["S"], "fields": [{"name": "v", "type": {"type": "fixed", "name": "F", "size": 1}, "default": "\u0000"}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		if s, err := ParseWriter(text); err == nil {
			_, _ = Project(s, s, nil)
		}
		s, err := Parse(text)
		if err != nil {
			return
		}
		for _, c := range s.Columns() {
			if _, err := s.Column(c.Path); err != nil {
				t.Errorf("the column %s is listed: %v", c.Path, err)
			}
			if _, err := Project(s, s, []string{c.Path}); err != nil {
				t.Errorf("read as itself: %v", err)
			}
		}
	})
}
