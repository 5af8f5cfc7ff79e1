package feature

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/freshet-dev/freshet/schemas"
)

var update = flag.Bool("update", false, "rewrite the expected problems of testdata/bad")

// parseFile parses a file of testdata; its name in the problems is the bare one.
func parseFile(t testing.TB, file string) (*Plan, Problems) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return Parse(filepath.Base(file), text, func(name string) ([]byte, error) { return readSchema(file, name) })
}

// TestBadFiles compares the problems of each bad file with those in the file of the same name that ends in .txt. Run it with -update to
// rewrite them, and read the difference.
func TestBadFiles(t *testing.T) {
	files, err := filepath.Glob("testdata/bad/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 60 {
		t.Fatalf("only %d bad files", len(files))
	}
	for _, file := range files {
		plan, problems := parseFile(t, file)
		if plan != nil || problems.Errors() == 0 {
			t.Errorf("%s is taken for right", file)
		}
		var got strings.Builder
		for _, p := range problems {
			fmt.Fprintln(&got, p)
		}
		expected := strings.TrimSuffix(file, ".yaml") + ".txt"
		if *update {
			if err := os.WriteFile(expected, []byte(got.String()), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		want, err := os.ReadFile(expected)
		if err != nil {
			t.Fatal(err)
		}
		if got.String() != string(want) {
			t.Errorf("%s:\n%swant:\n%s", file, got.String(), want)
		}
	}
}

// TestGoodFiles compares the description and the hash of each good file with the .json of the same name. A difference means that frozen
// versions of users would be refused: that needs a new Semantics or a mend, not -update alone.
func TestGoodFiles(t *testing.T) {
	for _, file := range goodFiles(t) {
		plan, problems := parseFile(t, file)
		if plan == nil {
			t.Errorf("%s:\n%v", file, problems.Err())
			continue
		}
		var got bytes.Buffer
		fmt.Fprintf(&got, "{\"hash\": \"%016x\"}\n", plan.Hash)
		if err := json.Indent(&got, plan.Describe(), "", " "); err != nil {
			t.Fatal(err)
		}
		expected := strings.TrimSuffix(file, filepath.Ext(file)) + ".json"
		if *update {
			if err := os.WriteFile(expected, got.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		want, err := os.ReadFile(expected)
		if err != nil {
			t.Fatal(err)
		}
		if got.String() != string(want) {
			t.Errorf("%s:\n%s\nwant:\n%s", file, got.String(), want)
		}
	}
}

// goodFiles are the good files of testdata and the catalog.
func goodFiles(t testing.TB) []string {
	var all []string
	for _, pattern := range []string{"testdata/good/*.yaml", "testdata/good/*.yml"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, files...)
	}
	if len(all) < 3 {
		t.Fatalf("only %d good files", len(all))
	}
	return all
}

func TestPlan(t *testing.T) {
	p, problems := parseFile(t, "testdata/good/everything.yml")
	if p == nil {
		t.Fatal(problems.Err())
	}
	var paths []string
	for _, c := range p.Columns {
		paths = append(paths, c.Path)
	}
	want := "user_id shop_id visitor hash seconds raw guest status price address.city quantity paid_at amount address.zip embedding gift"
	if got := strings.Join(paths, " "); got != want {
		t.Errorf("columns %s, want %s", got, want)
	}
	var kept []string
	for _, i := range p.Stored {
		kept = append(kept, p.Columns[i].Path)
	}
	if got, want := strings.Join(kept, " "), "price address.city quantity paid_at amount address.zip embedding gift"; got != want {
		t.Errorf("stored %s, want %s", got, want)
	}
	if !slices.IsSorted(p.Stored) {
		t.Errorf("stored columns %v are not ascending", p.Stored)
	}
	if len(p.Filters) != 1 {
		t.Errorf("%d filters, want 1: two features have the same where", len(p.Filters))
	}
	const day = msPerDay
	if p.Reach != 30*day || p.Horizon != 400*day || p.Tick != 500 || p.Freshness != 5000 || !p.HasLifetime {
		t.Errorf("reach %d, horizon %d, tick %d, freshness %d, lifetime %v", p.Reach, p.Horizon, p.Tick, p.Freshness, p.HasLifetime)
	}
	s := p.Source
	if s.TimeUnit != "s" || p.Columns[s.TimeColumn].Path != "seconds" || p.Columns[s.IDColumn].Path != "raw" || p.Columns[s.PartitionedBy].Path != "shop_id" ||
		s.MaxFuture != 3_600_000 || s.History != "daily" || s.KeyFormat != "long" || s.Partitioner != "crc32" || len(s.Schema) == 0 {
		t.Errorf("source %+v", s)
	}
	types := map[string]string{
		"n_1d": "int", "price_sum_24h": "decimal(2)", "quantity_sum_7d": "int", "price_avg_lifetime": "double", "price_min_1d": "decimal(2)",
		"paid_max_7d": "timestamp", "zips": "int", "first_vector": "floats(4)", "last_gift_7d": "bool", "first_at_lifetime": "timestamp",
		"hours": "int", "minutes_200m": "int", "share": "double", "busy": "bool", "newest": "timestamp", "std_p_7d": "double",
	}
	for _, f := range p.Features {
		if want, ok := types[f.Name]; ok && typeName(f.Type) != want {
			t.Errorf("%s is %s, want %s", f.Name, typeName(f.Type), want)
		}
		delete(types, f.Name)
		if f.Column >= 0 && f.ColumnType != p.Columns[p.Stored[f.Column]].Type {
			t.Errorf("%s: column type %v, the column's is %v", f.Name, f.ColumnType, p.Columns[p.Stored[f.Column]].Type)
		}
		if f.Name == "vectors" && f.ColumnType.Dim != 4 {
			t.Errorf("vectors does not know the dim that another feature declares")
		}
	}
	for name := range types {
		t.Errorf("no feature %s", name)
	}
}

func TestDefaults(t *testing.T) {
	p, problems := parseFile(t, "testdata/good/minimal.yaml")
	if p == nil {
		t.Fatal(problems.Err())
	}
	s := p.Source
	if s.IDColumn != -1 || s.KeyFormat != "text" || s.Partitioner != "murmur2" || s.MaxFuture != 300_000 || s.History != "rows" || s.PartitionedBy != p.Keys[0].Column {
		t.Errorf("source %+v", s)
	}
	if p.Tick != 10_000 || p.Freshness != 10_000 || p.Reach != 90_000 || p.Horizon != 90_000 || p.HasLifetime || p.Where != nil || len(p.Stored) != 0 {
		t.Errorf("plan %+v", p)
	}
	var got []string
	for _, problem := range problems {
		got = append(got, problem.String())
	}
	want := []string{
		"minimal.yaml:1:1: warning: the group has no owner; add `owner:`",
		"minimal.yaml:1:1: warning: the group has no description; add `description:`",
		"minimal.yaml:4:9: warning: the source has no `id`: an event that a producer sends twice counts twice; add `id:`, the field that identifies an event",
	}
	if !slices.Equal(got, want) {
		t.Errorf("problems %q, want %q", got, want)
	}
}

// TestHash shows what is part of the hash and what is not.
func TestHash(t *testing.T) {
	text, err := os.ReadFile("testdata/good/everything.yml")
	if err != nil {
		t.Fatal(err)
	}
	schema, err := os.ReadFile("testdata/order.avsc")
	if err != nil {
		t.Fatal(err)
	}
	hashOf := func(file, text, schema string) uint64 {
		p, problems := Parse(file, []byte(text), func(string) ([]byte, error) { return []byte(schema), nil })
		if p == nil {
			t.Fatal(problems.Err())
		}
		return p.Hash
	}
	base := hashOf("a.yaml", string(text), string(schema))
	for _, c := range []struct {
		from, to string
		same     bool
	}{
		{"owner: team@example.com", "owner: else@example.com", true},
		{"tags: [a, b]", "", true},
		{"Every key", "Each key", true},
		{`status in ["open", "paid"] && price`, `status in ["open","paid"]   && price`, true},
		{"../order.avsc", "order.avsc", true},
		{"windows: [1d, 24h, 7d, lifetime]", "windows: [1d, 24h, 8d, 7d, lifetime]", false},
		{"max_distinct: 10", "max_distinct: 11", false},
		{"dim: 4", "dim: 5", false},
		{"tick: 500ms", "tick: 600ms", false},
		{"horizon: 400d", "horizon: 401d", false},
		{"version: 12", "version: 13", false},
		{"max_future: 1h", "max_future: 2h", false},
		{"share > 0.5", "share > 0.6", false},
		{"price < 1000", "price < 1000.0", false},
		{"- {name: hours, agg: time_since_first", "- {name: hours, agg: time_since_last", false},
		{"  - {name: first_at, agg: first_time}\n  - {name: last_at, agg: last_time}\n", "  - {name: last_at, agg: last_time}\n  - {name: first_at, agg: first_time}\n", false},
		{"\"scale\": 2", "\"scale\": 3", false},
		{`"name": "quantity", "type": "int", "default": 1`, `"name": "quantity", "type": "int", "default": 2`, false},
		{`"name": "city", "type": "string", "default": "?"`, `"name": "city", "type": "string", "default": "!"`, false},
		{`"symbols": ["open", "paid", "cancelled"]`, `"symbols": ["open", "paid", "cancelled"], "default": "open"`, false},
		{`"name": "gift", `, `"name": "gift", "aliases": ["present"], `, false},
		{`"name": "amount", "type": "double"`, `"name": "amount", "doc": "What was paid.", "type": "double"`, true},
		{`"name": "cause", "type": "string", "default": "web"`, `"name": "cause", "type": "string", "default": "app"`, true},
	} {
		text, schema := string(text), string(schema)
		if !strings.Contains(text+schema, c.from) {
			t.Fatalf("%q is nowhere", c.from)
		}
		text, schema = strings.Replace(text, c.from, c.to, 1), strings.Replace(schema, c.from, c.to, 1)
		if got := hashOf("b.yaml", text, schema) == base; got != c.same {
			t.Errorf("%q → %q: same hash is %v, want %v", c.from, c.to, got, c.same)
		}
	}
}

func TestLoad(t *testing.T) {
	schema, err := os.ReadFile("testdata/order.avsc")
	if err != nil {
		t.Fatal(err)
	}
	minimal, err := os.ReadFile("testdata/good/minimal.yaml")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(string(minimal), "../order.avsc", "order.avsc", 1)
	dir := t.TempDir()
	for name, text := range map[string]string{
		"order.avsc": string(schema), "a.yaml": text, "b.yml": text, "c.yaml": strings.Replace(text, "version: 1", "version: 2", 1),
		"d.yaml": "group: 1\n", ".hidden.yaml": "no", "notes.txt": "no",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	plans, problems, err := Load([]string{dir, filepath.Join(dir, "a.yaml")})
	if err != nil {
		t.Fatal(err)
	}
	if len(plans) != 2 || plans[0].Version != 1 || plans[1].Version != 2 {
		t.Errorf("plans %v", plans)
	}
	var twice, bad bool
	for _, p := range problems {
		twice = twice || filepath.Base(p.File) == "b.yml" && p.Line == 2 && strings.Contains(p.String(), "is declared in "+filepath.Join(dir, "a.yaml"))
		bad = bad || filepath.Base(p.File) == "d.yaml" && p.Severity == Error
	}
	if !twice || !bad {
		t.Errorf("problems: %v", problems)
	}
	if _, _, err := Load([]string{filepath.Join(dir, "nothing")}); err == nil {
		t.Error("a path that is not there is no error")
	}
	if _, _, err := Load([]string{t.TempDir()}); err == nil {
		t.Error("a directory without definitions is no error")
	}
}

func FuzzParse(f *testing.F) {
	for _, pattern := range []string{"testdata/bad/*.yaml", "testdata/good/*.y*ml"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(text)
		}
	}
	schema, err := os.ReadFile("testdata/order.avsc")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		plan, problems := Parse("f.yaml", text, func(string) ([]byte, error) { return schema, nil })
		if (plan == nil) != (problems.Errors() > 0) {
			t.Fatalf("plan %v with %v", plan, problems)
		}
		lines := 1 + bytes.Count(text, []byte("\n"))
		for _, p := range problems {
			if p.Line < 1 || p.Line > lines+1 || p.Column < 1 || p.Message == "" {
				t.Fatalf("a problem nowhere: %+v", p)
			}
		}
		if plan == nil {
			return
		}
		row := make([]schemas.Value, len(plan.Columns)) // all null
		if plan.Where != nil {
			plan.Where.Bool(row)
		}
		for _, filter := range plan.Filters {
			filter.Bool(row)
		}
		values := make([]schemas.Value, len(plan.Features))
		for i, feature := range plan.Features {
			if feature.Agg == Derived {
				values[i], _ = feature.Derive.Value(values)
			}
		}
	})
}
