package config

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// Paths is one path or a list of them.
type Paths []string

// UnmarshalYAML implements yaml.Unmarshaler.
func (p *Paths) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind == yaml.ScalarNode {
		*p = Paths{n.Value}
		return nil
	}
	var list []string
	if err := n.Decode(&list); err != nil {
		return err
	}
	*p = list
	return nil
}

const maxFileBytes = 1 << 20

// Read reads the file (none if empty), puts the settings (a.b=c) on top, replaces scalars that are wholly ${NAME} by the environment's NAME, and
// checks everything. Errors name file, line and column.
func Read(file string, settings []string) (Config, error) {
	c := Default()
	root := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
	if file != "" {
		text, err := os.ReadFile(file)
		if err != nil {
			return c, fmt.Errorf("read configuration: %w", err)
		}
		if len(text) > maxFileBytes {
			return c, fmt.Errorf("%s: %d bytes are more than %d", file, len(text), maxFileBytes)
		}
		var doc yaml.Node
		if err := yaml.Unmarshal(text, &doc); err != nil {
			return c, fmt.Errorf("%s: %s", file, strings.TrimPrefix(err.Error(), "yaml: "))
		}
		if len(doc.Content) > 0 {
			root = doc.Content[0]
		}
	}
	for _, s := range settings {
		if err := set(root, s); err != nil {
			return c, err
		}
	}
	r := &reader{file: file}
	r.walk(root, reflect.TypeFor[Config](), "")
	if len(r.errs) == 0 {
		if err := root.Decode(&c); err != nil {
			r.errs = append(r.errs, fmt.Errorf("%s: %w", file, err))
		}
	}
	if len(r.errs) > 0 {
		return c, errors.Join(r.errs...)
	}
	if err := c.Validate(); err != nil {
		return c, fmt.Errorf("%s is not usable:\n%w", or(file, "the configuration"), err)
	}
	return c, nil
}

type reader struct {
	file string
	errs []error
}

func (r *reader) fail(n *yaml.Node, format string, args ...any) {
	place := "--set"
	if n.Line > 0 {
		place = fmt.Sprintf("%s:%d:%d", r.file, n.Line, n.Column)
	}
	r.errs = append(r.errs, fmt.Errorf("%s: %s", place, fmt.Sprintf(format, args...)))
}

var wholeEnv = regexp.MustCompile(`^\$\{([A-Za-z_][A-Za-z0-9_]*)\}$`)

// walk checks keys against the fields of t and fills in the environment.
func (r *reader) walk(n *yaml.Node, t reflect.Type, path string) {
	if n.Kind == yaml.AliasNode || n.Anchor != "" {
		r.fail(n, "%s: anchors and aliases are not read; write the value out", path)
		return
	}
	if n.Kind == yaml.ScalarNode {
		r.env(n, path)
		if t.Kind() == reflect.Struct {
			r.fail(n, "%s: expected keys below it, got %q", path, n.Value)
			return
		}
		if err := n.Decode(reflect.New(t).Interface()); err != nil {
			r.fail(n, "%s: %q is not a %s", path, n.Value, kindName(t))
		}
		return
	}
	if t.Kind() != reflect.Struct {
		for _, c := range n.Content {
			if c.Kind == yaml.ScalarNode {
				r.env(c, path)
			}
		}
		if n.Kind == yaml.MappingNode {
			r.fail(n, "%s: expected a %s, got keys", path, kindName(t))
		}
		return
	}
	if n.Kind != yaml.MappingNode {
		r.fail(n, "%s: expected keys", or(path, "the configuration"))
		return
	}
	known := fields(t)
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		full := strings.TrimPrefix(path+"."+k.Value, ".")
		f, ok := known[k.Value]
		switch {
		case !ok:
			r.fail(k, "unknown key %s%s; the keys here are %s", full, didYouMean(k.Value, known), strings.Join(names(known), ", "))
		case seen[k.Value]:
			r.fail(k, "%s stands twice; keep one", full)
		default:
			r.walk(v, f, full)
		}
		seen[k.Value] = true
	}
}

func (r *reader) env(n *yaml.Node, path string) {
	m := wholeEnv.FindStringSubmatch(n.Value)
	switch {
	case m != nil:
		v, ok := os.LookupEnv(m[1])
		if !ok {
			r.fail(n, "%s: the environment has no %s; set it, or write the value", path, m[1])
			return
		}
		n.Value, n.Tag, n.Style = v, "", 0
	case strings.Contains(n.Value, "${"):
		r.fail(n, "%s: ${NAME} is replaced only where it is the whole value, got %q", path, n.Value)
	}
}

func kindName(t reflect.Type) string {
	switch {
	case t.String() == "time.Duration":
		return "duration, such as 30s"
	case t.Kind() == reflect.Bool:
		return "true or false"
	case t.Kind() == reflect.Int || t.Kind() == reflect.Int64:
		return "whole number"
	case t.Kind() == reflect.Slice:
		return "list"
	}
	return t.Kind().String()
}

func fields(t reflect.Type) map[string]reflect.Type {
	m := map[string]reflect.Type{}
	for i := range t.NumField() {
		if tag := t.Field(i).Tag.Get("yaml"); tag != "" && tag != "-" {
			m[tag] = t.Field(i).Type
		}
	}
	return m
}

func names(m map[string]reflect.Type) []string {
	var all []string
	for k := range m {
		all = append(all, k)
	}
	slices.Sort(all)
	return all
}

// didYouMean names the known key that differs least, if any is near.
func didYouMean(got string, known map[string]reflect.Type) string {
	best, least := "", 3
	for _, k := range names(known) {
		if d := distance(got, k); d < least {
			best, least = k, d
		}
	}
	if best == "" {
		return ""
	}
	return ", did you mean " + best + "?"
}

// distance is the Levenshtein distance.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := diagonal
			if a[i-1] != b[j-1] {
				cost++
			}
			diagonal = row[j]
			row[j] = min(cost, row[j]+1, row[j-1]+1)
		}
	}
	return row[len(b)]
}

// set puts one a.b=c into the tree.
func set(root *yaml.Node, s string) error {
	path, value, ok := strings.Cut(s, "=")
	if !ok || path == "" {
		return fmt.Errorf("--set %q: write a.b=c", s)
	}
	var v yaml.Node
	if err := yaml.Unmarshal([]byte(value), &v); err != nil {
		return fmt.Errorf("--set %q: %w", s, err)
	}
	leaf := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str"}
	if len(v.Content) > 0 {
		leaf = v.Content[0]
		unplace(leaf)
	}
	n := root
	keys := strings.Split(path, ".")
	for i, k := range keys {
		if n.Kind != yaml.MappingNode {
			return fmt.Errorf("--set %q: %s has no keys below it", s, strings.Join(keys[:i], "."))
		}
		at := -1
		for j := 0; j+1 < len(n.Content); j += 2 {
			if n.Content[j].Value == k {
				at = j + 1
			}
		}
		if at < 0 {
			n.Content = append(n.Content, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: k}, &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"})
			at = len(n.Content) - 1
		}
		if i == len(keys)-1 {
			n.Content[at] = leaf
		}
		n = n.Content[at]
	}
	return nil
}

func unplace(n *yaml.Node) {
	n.Line, n.Column = 0, 0
	for _, c := range n.Content {
		unplace(c)
	}
}
