package lint

import (
	"fmt"
	"go/ast"
	"go/token"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

var (
	metricName  = regexp.MustCompile(`^freshet_[a-z0-9_]*[a-z0-9]$`)
	metricWords = regexp.MustCompile(`\bfreshet_[a-z0-9_]*[a-z0-9]\b`)
)

// metrics compares what the product registers with what the alerts and dashboards under deploy/ use. A metric's name stands in the code
// as one string, so that whoever looks for it finds it.
func metrics(t *tree) (found []string) {
	registered, used := map[string]string{}, map[string]string{} // name → place
	for _, f := range t.files {
		switch {
		case f.isProduct():
			found = append(found, registeredIn(&f, registered)...)
		case within(f.dir(), "deploy") && (strings.HasSuffix(f.path, ".rules.yaml") || strings.HasSuffix(f.path, ".json")):
			for _, name := range metricWords.FindAllString(string(f.text), -1) {
				used[name] = f.path
			}
		}
	}
	if len(registered) == 0 && len(used) == 0 {
		return found
	}
	shown := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(used)) {
		base := name
		for _, suffix := range []string{"_bucket", "_sum", "_count"} { // of a histogram
			if b, ok := strings.CutSuffix(name, suffix); ok && registered[name] == "" && registered[b] != "" {
				base = b
			}
		}
		if shown[base] = true; registered[base] == "" {
			found = append(found, fmt.Sprintf("%s: %s is not a metric of ours", used[name], name))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(registered)) {
		if !shown[name] {
			found = append(found, fmt.Sprintf("%s: %s is in no alert and on no dashboard under deploy/", registered[name], name))
		}
	}
	return found
}

// registeredIn adds the metric names of a file to names.
func registeredIn(f *file, names map[string]string) (found []string) {
	ast.Inspect(f.syntax, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.BasicLit:
			if n.Kind != token.STRING {
				break
			}
			if name, err := strconv.Unquote(n.Value); err == nil && metricName.MatchString(name) {
				names[name] = f.at(n)
			}
		case *ast.CompositeLit:
			typ, ok := n.Type.(*ast.SelectorExpr)
			if !ok || !strings.HasSuffix(typ.Sel.Name, "Opts") {
				break
			}
			for _, e := range n.Elts {
				if kv, ok := e.(*ast.KeyValueExpr); ok {
					if k, ok := kv.Key.(*ast.Ident); ok && (k.Name == "Namespace" || k.Name == "Subsystem") {
						found = append(found, f.at(kv)+": write a metric's name as one string")
					}
				}
			}
		}
		return true
	})
	return found
}
