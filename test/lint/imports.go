package lint

import (
	"fmt"
	"go/ast"
	"slices"
	"strings"
)

// layers say what a package may import of ours: itself and what stands in the list. The longest directory that fits counts.
var layers = map[string][]string{
	"schemas":   {},
	"state":     {"schemas"},
	"sink":      {"schemas"},
	"processor": {"schemas", "state", "sink"},
	"cmd":       {"schemas", "state", "sink", "processor"},
	// The demo has what it computed judged by the oracle, before the user's eyes.
	"cmd/freshet/internal/demo": {"cmd", "schemas", "sink", "processor", "test/oracle"},
	// The oracle shares nothing with what it judges but the parsed definition.
	"test/oracle": {"schemas/feature"},
}

// layer is the longest key of layers that dir is within.
func layer(dir string) (key string, ok bool) {
	for k := range layers {
		if within(dir, k) && len(k) > len(key) {
			key, ok = k, true
		}
	}
	return key, ok
}

func directions(t *tree) (found []string) {
	for _, f := range t.files {
		if !f.isGo() || strings.HasSuffix(f.path, "_test.go") {
			continue
		}
		own, ok := layer(f.dir())
		if !ok {
			continue
		}
		f.imports(func(spec *ast.ImportSpec, imported string) {
			dir, ok := ours(imported)
			if !ok || within(dir, own) || slices.ContainsFunc(layers[own], func(l string) bool { return within(dir, l) }) {
				return
			}
			found = append(found, fmt.Sprintf("%s: %s imports %s; imports go cmd → processor → {state, sink} → schemas", f.at(spec), own, dir))
		})
	}
	return found
}

// fenced are the foreign systems: a module, or a package of it before the module, and the only directories that may import it. The first
// that fits counts. Tests and what is below test/ are free.
var fenced = []fence{
	{"github.com/cockroachdb/pebble", []string{"state"}},
	{"github.com/twmb/franz-go/pkg/sr", []string{"schemas/event", "cmd/freshet/internal/embedded", "cmd/freshet/internal/produce"}},
	{"github.com/twmb/franz-go", []string{"processor/kafka", "cmd/freshet/internal/embedded"}},
	{"github.com/redis/go-redis", []string{"sink/redis"}},
	{"github.com/parquet-go/parquet-go", []string{"sink/parquet"}},
	{"gopkg.in/yaml.v3", []string{"schemas/feature", "cmd/freshet/internal/config"}}, // the service's own configuration is YAML too
	{"github.com/google/cel-go", []string{"schemas/feature"}},
	{"github.com/hamba/avro", []string{"schemas/event"}},
	{"github.com/alicebob/miniredis", []string{"cmd/freshet/internal/embedded"}},
	{"github.com/spf13/cobra", []string{"cmd"}},
	{"github.com/twmb/avro", nil},     // the oracle's
	{"github.com/duckdb", nil},        // likewise
	{"github.com/stretchr", nil},      // nobody's
	{"github.com/sirupsen", nil},      // log/slog
	{"go.uber.org/zap", nil},          // log/slog
	{"github.com/pkg/errors", nil},    // fmt.Errorf
	{"github.com/goccy/go-yaml", nil}, // yaml.v3
}

type fence struct {
	module string
	dirs   []string
}

func fences(t *tree) (found []string) {
	for _, f := range t.files {
		if !f.isProduct() {
			continue
		}
		f.imports(func(spec *ast.ImportSpec, imported string) {
			i := slices.IndexFunc(fenced, func(fence fence) bool { return within(imported, fence.module) })
			if i < 0 || slices.ContainsFunc(fenced[i].dirs, func(d string) bool { return f.dir() == d || d == "cmd" && within(f.dir(), d) }) {
				return
			}
			where := "tests only"
			if len(fenced[i].dirs) > 0 {
				where = strings.Join(fenced[i].dirs, ", ") + " only"
			}
			found = append(found, fmt.Sprintf("%s: %s is for %s", f.at(spec), imported, where))
		})
	}
	return found
}

// light are the packages a ranking service or a training job imports: nothing they reach may be of Kafka or Pebble.
var (
	light = []string{"sink/redis", "sink/pit"}
	heavy = []string{"github.com/cockroachdb/pebble", "github.com/twmb/franz-go"}
)

func readSide(t *tree) (found []string) {
	imports := map[string][]string{} // directory → what its product files import
	for _, f := range t.files {
		if f.isProduct() {
			f.imports(func(_ *ast.ImportSpec, imported string) { imports[f.dir()] = append(imports[f.dir()], imported) })
		}
	}
	for _, root := range light {
		via := map[string]string{root: root}
		for queue := []string{root}; len(queue) > 0; queue = queue[1:] {
			for _, imported := range imports[queue[0]] {
				if slices.ContainsFunc(heavy, func(h string) bool { return within(imported, h) }) {
					found = append(found, fmt.Sprintf("%s: reaches %s by %s", root, imported, via[queue[0]]))
				}
				if dir, ok := ours(imported); ok && via[dir] == "" {
					via[dir] = via[queue[0]] + " → " + dir
					queue = append(queue, dir)
				}
			}
		}
	}
	return found
}
