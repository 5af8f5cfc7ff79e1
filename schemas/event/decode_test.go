package event

import (
	"errors"
	"fmt"
	"math"
	"os"
	"strings"
	"testing"

	"github.com/freshet-dev/freshet/schemas"
)

// record wraps the types of fields (JSON, each "name": type, optionally followed by more keys) into a record schema.
func record(fields ...string) string {
	list := make([]string, len(fields))
	for i, f := range fields {
		name, rest, _ := strings.Cut(f, " ")
		list[i] = fmt.Sprintf(`{"name": %q, "type": %s}`, name, rest)
	}
	return `{"type": "record", "name": "R", "namespace": "t", "fields": [` + strings.Join(list, ", ") + `]}`
}

func mustParse(t testing.TB, text string) *Schema {
	t.Helper()
	s, err := Parse([]byte(text))
	if err != nil {
		t.Fatalf("parse %s: %v", text, err)
	}
	return s
}

func mustRead(t testing.TB, path string) *Schema {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return mustParse(t, string(text))
}

func mustProject(t testing.TB, w, r *Schema, paths ...string) *Projection {
	t.Helper()
	p, err := Project(w, r, paths)
	if err != nil {
		t.Fatalf("project: %v", err)
	}
	return p
}

// encodeBody encodes without the header.
func encodeBody(t testing.TB, s *Schema, fields map[string]any) []byte {
	t.Helper()
	b, err := NewEncoder(s, 1).Encode(nil, fields)
	if err != nil {
		t.Fatalf("encode: %v", err)
	}
	return b[headerBytes:]
}

// valueText is a value for comparison.
func valueText(v schemas.Value) string {
	switch v.Kind {
	case schemas.Null:
		return "null"
	case schemas.Bool:
		return fmt.Sprint("bool ", v.Bits == 1)
	case schemas.Int:
		return fmt.Sprint("int ", v.Int64())
	case schemas.Time:
		return fmt.Sprint("time ", v.Int64())
	case schemas.Double:
		return fmt.Sprintf("double %v %x", v.Float64(), v.Bits)
	case schemas.Decimal:
		return fmt.Sprintf("decimal %d:%d", v.Hi, v.Bits)
	case schemas.String:
		return fmt.Sprintf("string %q", v.Bytes)
	}
	return fmt.Sprintf("kind %d %x", v.Kind, v.Bytes)
}

func TestCatalogRoundTrip(t *testing.T) {
	s := mustRead(t, "../catalog/purchase.avsc")
	body := encodeBody(t, s, map[string]any{
		"event_id": "e1", "user_id": "u1", "product_id": "p1", "amount": "12.5", "event_time": "2026-01-31T12:00:00Z",
		"embedding": []float32{1, -0.5, float32(math.Copysign(0, -1)), 4, 5, 6, 7, 8},
	})
	var paths []string
	for _, c := range s.Columns() {
		paths = append(paths, c.Path)
	}
	out := make([]schemas.Value, len(paths))
	if err := mustProject(t, s, s, paths...).Decode(body, out, &Scratch{}); err != nil {
		t.Fatal(err)
	}
	want := []string{`string "e1"`, `string "u1"`, `string "p1"`, "null", "double 12.5 4029000000000000", "int 1", `string "EUR"`, `string "completed"`,
		"time 1769860800000", "kind 9 0000803f000000bf00000000000080400000a0400000c0400000e04000000041"}
	for i, v := range out {
		if valueText(v) != want[i] {
			t.Errorf("%s = %s, want %s", paths[i], valueText(v), want[i])
		}
	}
}

func TestCatalogSession(t *testing.T) {
	s := mustRead(t, "../catalog/session.avsc")
	if s.Name() != "freshet.Session" || len(s.Columns()) != 8 {
		t.Errorf("got %s with columns %v", s.Name(), s.Columns())
	}
	for _, c := range s.Columns() {
		if c.Doc == "" {
			t.Errorf("%s has no doc", c.Path)
		}
	}
}

func isClass(err, class error) bool {
	if class == nil {
		return err == nil
	}
	return errors.Is(err, class)
}
