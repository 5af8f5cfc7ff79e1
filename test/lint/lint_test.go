package lint

import (
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// TestTree holds every file of the repository to every rule.
func TestTree(t *testing.T) {
	tree, err := readTree(os.DirFS("../.."))
	if err != nil {
		t.Fatal(err)
	}
	if len(tree.files) < 50 {
		t.Fatalf("only %d files were read", len(tree.files))
	}
	for _, r := range rules {
		t.Run(r.name, func(t *testing.T) {
			for _, found := range r.check(tree) {
				t.Error(found)
			}
		})
	}
}

func TestIgnoredIsGitignore(t *testing.T) {
	text, err := os.ReadFile("../../.gitignore")
	if err != nil {
		t.Fatal(err)
	}
	if want := strings.Fields(string(text)); !slices.Equal(ignored, want) {
		t.Errorf("ignored are %q, .gitignore has %q", ignored, want)
	}
}

// TestRulesFind plants a breach of each rule, and something close to it that is allowed.
func TestRulesFind(t *testing.T) {
	const imports = "package p\nimport _ \"%s\"\n"
	importing := func(what string) string { return strings.ReplaceAll(imports, "%s", what) }
	long := func(lines int) string {
		return "package p\nfunc f() {\n" + strings.Repeat("\t_ = 0\n", lines-2) + "}\n"
	}
	const gauge = "package p\nvar g = prometheus.NewGauge(prometheus.GaugeOpts{Name: \"freshet_a_bytes\"})\n"
	for _, c := range []struct {
		name, rule string
		files      map[string]string
		want       string // "" : nothing is found
	}{
		{"schemas above itself", "import directions", map[string]string{"schemas/feature/a.go": importing(module + "/state")}, "schemas/feature/a.go:2: schemas imports state"},
		{"state beside itself", "import directions", map[string]string{"state/a.go": importing(module + "/sink/redis")}, "state imports sink/redis"},
		{"sink beside itself", "import directions", map[string]string{"sink/pit/a.go": importing(module + "/state/window")}, "sink imports state/window"},
		{"processor above itself", "import directions", map[string]string{"processor/a.go": importing(module + "/cmd/freshet/internal/app")}, "processor imports cmd"},
		{"product on tests", "import directions", map[string]string{"cmd/freshet/a.go": importing(module + "/test/oracle")}, "cmd imports test/oracle"},
		{"demo on the oracle", "import directions", map[string]string{"cmd/freshet/internal/demo/a.go": importing(module + "/test/oracle")}, ""},
		{"demo on other tests", "import directions", map[string]string{"cmd/freshet/internal/demo/a.go": importing(module + "/test/crash")}, "imports test/crash"},
		{"oracle on the judged", "import directions", map[string]string{"test/oracle/a.go": importing(module + "/state/agg")}, "test/oracle imports state/agg"},
		{"oracle on definitions", "import directions", map[string]string{"test/oracle/a.go": importing(module + "/schemas/feature")}, ""},
		{"name that only begins alike", "import directions", map[string]string{"sink/a.go": importing(module + "/schemasx")}, "sink imports schemasx"},
		{"downwards", "import directions", map[string]string{"processor/kafka/a.go": importing(module + "/state/window")}, ""},
		{"a test, any way", "import directions", map[string]string{"schemas/a_test.go": importing(module + "/processor")}, ""},

		{"pebble in the processor", "foreign systems", map[string]string{"processor/a.go": importing("github.com/cockroachdb/pebble/v2/vfs")}, "processor/a.go:2: github.com/cockroachdb/pebble/v2/vfs is for state only"},
		{"pebble beside the store", "foreign systems", map[string]string{"state/window/a.go": importing("github.com/cockroachdb/pebble/v2")}, "is for state only"},
		{"kafka in the processor", "foreign systems", map[string]string{"processor/a.go": importing("github.com/twmb/franz-go/pkg/kgo")}, "is for processor/kafka"},
		{"the registry's client in the processor", "foreign systems", map[string]string{"processor/kafka/a.go": importing("github.com/twmb/franz-go/pkg/sr")}, "is for schemas/event"},
		{"yaml in a command", "foreign systems", map[string]string{"cmd/freshet/a.go": importing("gopkg.in/yaml.v3")}, "is for schemas/feature, cmd/freshet/internal/config only"},
		{"the oracle's decoder", "foreign systems", map[string]string{"schemas/event/a.go": importing("github.com/twmb/avro")}, "is for tests only"},
		{"cobra in a command", "foreign systems", map[string]string{"cmd/freshet/internal/app/a.go": importing("github.com/spf13/cobra")}, ""},
		{"kafka in its place", "foreign systems", map[string]string{"processor/kafka/a.go": importing("github.com/twmb/franz-go/pkg/kgo")}, ""},
		{"pebble in a test", "foreign systems", map[string]string{"processor/a_test.go": importing("github.com/cockroachdb/pebble/v2/vfs")}, ""},

		{"reader on kafka", "read side", map[string]string{
			"sink/redis/a.go": importing(module + "/sink"), "sink/a.go": importing("github.com/twmb/franz-go/pkg/kgo"),
		}, "sink/redis: reaches github.com/twmb/franz-go/pkg/kgo by sink/redis → sink"},
		{"reader on redis", "read side", map[string]string{"sink/redis/a.go": importing("github.com/redis/go-redis/v9")}, ""},

		{"long file", "sizes", map[string]string{"state/a.go": "package p\n" + strings.Repeat("// x\n", 800)}, "state/a.go: 801 lines"},
		{"long test file", "sizes", map[string]string{"state/a_test.go": "package p\n" + strings.Repeat("// x\n", 800)}, "801 lines"},
		{"longest file", "sizes", map[string]string{"state/a.go": "package p\n" + strings.Repeat("// x\n", 799)}, ""},
		{"long function", "sizes", map[string]string{"state/a.go": long(76)}, "state/a.go:2: function f has 76 lines"},
		{"longest function", "sizes", map[string]string{"state/a.go": long(75)}, ""},
		{"long test function", "sizes", map[string]string{"state/a_test.go": long(200)}, ""},

		{"sleep", "sleep", map[string]string{"sink/a.go": "package p\nimport \"time\"\nfunc f() { time.Sleep(1) }\n"}, "sink/a.go:3: time.Sleep"},
		{"sleep under a name", "sleep", map[string]string{"sink/a.go": "package p\nimport clock \"time\"\nvar f = clock.Sleep\n"}, "sink/a.go:3: time.Sleep"},
		{"another's sleep", "sleep", map[string]string{"sink/a.go": "package p\nfunc f(clock C) { clock.Sleep(1) }\n"}, ""},
		{"sleep in a test", "sleep", map[string]string{"sink/a_test.go": "package p\nimport \"time\"\nfunc f() { time.Sleep(1) }\n"}, ""},

		{"empty package name", "package names", map[string]string{"sink/text/a.go": "package util\n"}, "package util"},
		{"empty directory name", "package names", map[string]string{"sink/helpers/a.go": "package text\n"}, "sink/helpers/a.go"},
		{"a noun", "package names", map[string]string{"sink/text/a.go": "package text\n"}, ""},

		{"stray directory", "top level", map[string]string{"pkg/a.txt": ""}, "pkg: the top level holds only"},
		{"stray file", "top level", map[string]string{"notes.md": ""}, "notes.md: the top level"},
		{"allowed", "top level", map[string]string{"README.md": "", ".ci/run": "", "data/x": "", "freshet": "", "p.test": ""}, ""},

		{"a home", "machine paths", map[string]string{"README.md": "a\nsee /ho" + "me/kim/x\n"}, "README.md:2: /ho" + "me/kim is a path of one machine"},
		{"a checkout", "machine paths", map[string]string{"sink/a.go": "package p\n\nconst x = \"/wo" + "rk/main\"\n"}, "sink/a.go:3"},
		{"a relative path", "machine paths", map[string]string{"README.md": "data/wo" + "rk/x and ./ho" + "me/y and https://a.b/ho" + "mepage"}, ""},

		{"metric nobody sees", "metrics", map[string]string{"state/a.go": gauge}, "state/a.go:2: freshet_a_bytes is in no alert and on no dashboard"},
		{"alert on nothing", "metrics", map[string]string{"deploy/prometheus/a.rules.yaml": "expr: freshet_b_total > 0"}, "freshet_b_total is not a metric of ours"},
		{"a name in parts", "metrics", map[string]string{"state/a.go": "package p\nvar o = prometheus.GaugeOpts{Namespace: \"freshet\", Name: \"a\"}\n"}, "state/a.go:2: write a metric's name as one string"},
		{"histogram", "metrics", map[string]string{"state/a.go": gauge, "deploy/grafana/a.json": `{"expr": "rate(freshet_a_bytes_bucket[5m])"}`}, ""},
		{"neither", "metrics", map[string]string{"state/a.go": "package p\n"}, ""},
	} {
		t.Run(c.rule+"/"+c.name, func(t *testing.T) {
			planted := fstest.MapFS{}
			for name, text := range c.files {
				planted[name] = &fstest.MapFile{Data: []byte(text)}
			}
			tree, err := readTree(planted)
			if err != nil {
				t.Fatal(err)
			}
			i := slices.IndexFunc(rules, func(r rule) bool { return r.name == c.rule })
			found := rules[i].check(tree)
			switch {
			case c.want == "" && len(found) > 0:
				t.Errorf("it finds %q where nothing is wrong", found)
			case c.want != "" && (len(found) != 1 || !strings.Contains(found[0], c.want)):
				t.Errorf("it finds %q, want one with %q", found, c.want)
			}
		})
	}
}
