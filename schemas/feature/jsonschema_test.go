package feature

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"gopkg.in/yaml.v3"
)

func compiledSchema(t *testing.T) *jsonschema.Schema {
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(JSONSchema()))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	compiler.DefaultDraft(jsonschema.Draft7)
	if err := compiler.AddResource("definition.json", document); err != nil {
		t.Fatal(err)
	}
	schema, err := compiler.Compile("definition.json")
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

func TestJSONSchemaTakesGoodFiles(t *testing.T) {
	schema := compiledSchema(t)
	catalog, err := filepath.Glob("../catalog/*.yaml")
	if err != nil || len(catalog) < 2 {
		t.Fatalf("the catalog has %v, %v", catalog, err)
	}
	for _, file := range append(goodFiles(t), catalog...) {
		if err := schema.Validate(readYAML(t, file)); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
}

// needsMore are the bad files whose faults a JSON Schema cannot see: they lie in the YAML text, in the event schema, in a comparison of
// two values, or in an expression. All others it must refuse, as the parser does.
var needsMore = []string{
	"age-steps", "alias", "avg-array-later", "column-array", "derive-", "dim-differs", "dim-missing", "dim-of-text", "distinct-of-array", "duplicate-key",
	"feature-name-date", "feature-name-expands-twice", "feature-name-key", "feature-name-long", "feature-name-reserved", "feature-name-twice",
	"freshness-small", "horizon-short", "id-", "key-bytes", "key-double", "key-format-long", "key-nullable", "key-reserved", "key-unknown", "merge", "min-of-bool",
	"no-window", "of-", "partitioned-by-other", "schema-", "sum-of-", "tick-small", "time-", "too-many-", "two-documents", "version-hex", "where-", "window-endless",
	"age-lifetime",
}

func TestJSONSchemaRefusesBadFiles(t *testing.T) {
	schema := compiledSchema(t)
	files, err := filepath.Glob("testdata/bad/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	refused := 0
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".yaml")
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var v any
		if yaml.Unmarshal(text, &v) != nil {
			continue // editors say that themselves
		}
		if schema.Validate(v) != nil {
			refused++
			continue
		}
		excused := false
		for _, prefix := range needsMore {
			excused = excused || strings.HasPrefix(name, prefix)
		}
		if !excused {
			t.Errorf("%s is taken for right", file)
		}
	}
	if refused < 50 {
		t.Errorf("only %d of %d bad files are refused", refused, len(files))
	}
}

func readYAML(t *testing.T, file string) any {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var v any
	if err := yaml.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	return v
}
