package feature

import (
	"bytes"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// object is a YAML map that was checked against a table of keys. It holds only what was right.
type object struct {
	node  *yaml.Node
	items map[string]*item
	wrong map[string]bool // keys that are there, but not right
}

// item is one value of an object.
type item struct {
	key     *yaml.Node
	node    *yaml.Node
	text    string // of a scalar
	number  int64  // integer; duration and window in ms
	list    []*item
	object  *object
	objects []*object
}

// get returns the value of a key, or nil where it is not there or not right.
func (o *object) get(name string) *item { return o.items[name] }

// has reports whether the key is written, right or not.
func (o *object) has(name string) bool { return o.items[name] != nil || o.wrong[name] }

func (o *object) text(name, otherwise string) string {
	if it := o.get(name); it != nil {
		return it.text
	}
	return otherwise
}

func (o *object) number(name string, otherwise int64) int64 {
	if it := o.get(name); it != nil {
		return it.number
	}
	return otherwise
}

// document checks the structure of a definition: everything that can be said without the schema and without comparing values.
type document struct {
	reports
	lines []string // of the text
}

var yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)

// parse returns the definition of a file, or nil where it is not even a map.
func (d *document) parse(text []byte) *object {
	if len(text) > MaxFileBytes {
		d.add(Problem{Line: 1, Column: 1, Message: fmt.Sprintf("the file is larger than %d bytes", MaxFileBytes)})
		return nil
	}
	d.lines = strings.Split(string(text), "\n")
	var root, second yaml.Node
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	if err := decoder.Decode(&root); err == io.EOF {
		d.add(Problem{Line: 1, Column: 1, Message: "the file is empty", Mend: "a definition begins with `group: a_name`"})
		return nil
	} else if err != nil {
		d.syntax(err)
		return nil
	}
	if err := decoder.Decode(&second); err == nil {
		d.at(&second, "a second document", "", "write one group per file")
	} else if err != io.EOF {
		d.syntax(err)
	}
	if !d.plain(&root) {
		return nil
	}
	return d.object(root.Content[0], "a definition", definitionKeys)
}

// syntax tells an error of the YAML parser, which writes the place into its text.
func (d *document) syntax(err error) {
	place := yamlLine.FindStringSubmatch(err.Error())
	line := 1
	if place != nil && place[1] != "" {
		line, _ = strconv.Atoi(place[1])
		if strings.Contains(err.Error(), "did not find expected") {
			line++ // yaml.v3 counts the lines of these from 0
		}
	}
	message := yamlLine.ReplaceAllString(strings.ReplaceAll(err.Error(), "\n", " "), "")
	d.add(Problem{Line: line, Column: 1, Message: "the file is not YAML: " + message})
}

// at tells an error at a node.
func (d *document) at(n *yaml.Node, message, hint, mend string) {
	d.add(Problem{Line: max(n.Line, 1), Column: max(n.Column, 1), Message: message, Hint: hint, Mend: mend})
}

// warn tells a warning at a node.
func (d *document) warn(n *yaml.Node, message, mend string) {
	d.add(Problem{Line: n.Line, Column: n.Column, Severity: Warning, Message: message, Mend: mend})
}

// plain refuses anchors, aliases and merges: what is written is what there is, and no small file grows large.
func (d *document) plain(n *yaml.Node) bool {
	ok := true
	switch {
	case n.Kind == yaml.AliasNode:
		d.at(n, "YAML aliases are not supported", "", "write it out")
		return false
	case n.Anchor != "":
		d.at(n, "YAML anchors are not supported", "", "write it out")
		ok = false
	}
	for _, child := range n.Content {
		ok = d.plain(child) && ok
	}
	return ok
}

// object checks a map against its keys. what is the map in words: "a feature".
func (d *document) object(n *yaml.Node, what string, keys []key) *object {
	if n.Kind != yaml.MappingNode {
		d.at(n, fmt.Sprintf("%s is a map, this is %s", what, describeNode(n)), "", "")
		return nil
	}
	o := &object{node: n, items: map[string]*item{}, wrong: map[string]bool{}}
	for i := 0; i < len(n.Content); i += 2 {
		name, value := n.Content[i], n.Content[i+1]
		at := slices.IndexFunc(keys, func(k key) bool { return k.name == name.Value })
		switch {
		case name.Kind != yaml.ScalarNode || at < 0:
			d.unknownKey(name, what, keys)
		case o.has(name.Value):
			d.at(name, fmt.Sprintf("key %q is written twice", name.Value), "", "leave one of them")
		default:
			if it := d.value(name, value, keys[at]); it != nil {
				o.items[name.Value] = it
			} else {
				o.wrong[name.Value] = true
			}
		}
	}
	for _, k := range keys {
		if k.required && !o.has(k.name) {
			d.at(n, fmt.Sprintf("%s needs %q", what, k.name), "", fmt.Sprintf("add `%s:`, %s", k.name, lowerFirst(k.doc)))
		}
	}
	return o
}

func lowerFirst(s string) string {
	s = strings.TrimSuffix(s, ".")
	if len(s) > 1 && s[1] >= 'a' && s[1] <= 'z' {
		return strings.ToLower(s[:1]) + s[1:]
	}
	return s
}

// places say where a key that stands in the wrong place belongs; common are names that mean something elsewhere, too.
var places = []struct {
	place  string
	keys   []key
	common []string
}{
	{"at the top", definitionKeys, []string{"where", "windows", "description"}},
	{"under `entity`", entityKeys, []string{"name"}},
	{"under `source`", sourceKeys, []string{"unit"}},
}

func (d *document) unknownKey(n *yaml.Node, what string, keys []key) {
	if d.full() {
		return
	}
	if n.Kind != yaml.ScalarNode {
		d.at(n, fmt.Sprintf("a key of %s is a name, this is %s", what, describeNode(n)), "", "")
		return
	}
	if what == "a feature" && slices.Contains(laterKeys, n.Value) {
		d.at(n, fmt.Sprintf("%q comes with a later version of freshet", n.Value), "", "leave it out")
		return
	}
	names := make([]string, len(keys))
	for i, k := range keys {
		names[i] = k.name
	}
	hint, mend := nearest(n.Value, names), ""
	for _, other := range places {
		if hint == "" && slices.ContainsFunc(other.keys, func(k key) bool { return k.name == n.Value }) && !slices.Contains(other.common, n.Value) {
			mend = fmt.Sprintf("%q belongs %s", n.Value, other.place)
		}
	}
	if hint == "" && mend == "" {
		mend = "its keys are " + strings.Join(names, ", ")
	}
	d.at(n, fmt.Sprintf("unknown key %q in %s", clip(n.Value), what), hint, mend)
}

// clip shortens a text that a message quotes.
func clip(s string) string {
	if utf8.RuneCountInString(s) <= 80 {
		return s
	}
	return string([]rune(s)[:79]) + "…"
}

func describeNode(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a map"
	case yaml.SequenceNode:
		return "a list"
	}
	switch n.ShortTag() {
	case "!!null":
		return "empty"
	case "!!int", "!!float":
		return "the number " + clip(n.Value)
	case "!!bool":
		return "the boolean " + clip(n.Value)
	case "!!timestamp":
		return "the date " + clip(n.Value)
	}
	return fmt.Sprintf("the text %q", clip(n.Value))
}

// value checks the value of a key; nil where it is not right, which has then been told.
func (d *document) value(name, n *yaml.Node, k key) *item {
	it := &item{key: name, node: n}
	ok := true
	switch k.form {
	case formObject:
		it.object = d.object(n, "`"+k.name+"`", k.keys)
		ok = it.object != nil
	case formObjects, formTexts, formWindows:
		ok = d.list(it, n, k)
	case formInteger:
		ok = d.integer(it, n, k)
	default:
		ok = d.scalar(it, n, k)
	}
	if !ok {
		return nil
	}
	return it
}

func (d *document) wrongForm(n *yaml.Node, k key) bool {
	mend := ""
	switch {
	case n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null":
		mend = "give it a value or leave the key out"
	case n.Kind == yaml.ScalarNode && k.form == formText && k.enum == nil:
		mend = "put it in quotes"
	case n.Kind == yaml.ScalarNode && (k.form == formTexts || k.form == formWindows):
		mend = fmt.Sprintf("write [%s]", clip(n.Value))
	case k.form == formDuration || k.form == formWindow:
		mend = "write " + durationShape
	}
	d.at(n, fmt.Sprintf("%q is %s, this is %s", k.name, k.form, describeNode(n)), "", mend)
	return false
}

func (d *document) list(it *item, n *yaml.Node, k key) bool {
	if n.Kind != yaml.SequenceNode {
		return d.wrongForm(n, k)
	}
	if count := int64(len(n.Content)); count < k.min || count > k.max {
		d.at(n, fmt.Sprintf("%q has %d items", k.name, count), "", fmt.Sprintf("it takes %d to %d", k.min, k.max))
		return false
	}
	ok := true
	for _, child := range n.Content {
		if k.form == formObjects {
			o := d.object(child, "a "+strings.TrimSuffix(k.name, "s"), k.keys)
			if o != nil {
				it.objects = append(it.objects, o)
			}
			continue // what is right of the others is checked on
		}
		one := key{name: k.name, pattern: k.pattern, shape: k.shape}
		if k.form == formWindows {
			one.form = formWindow
		}
		entry := &item{key: child, node: child}
		if !d.scalar(entry, child, one) {
			ok = false
			continue
		}
		if slices.ContainsFunc(it.list, func(other *item) bool { return other.text == entry.text }) {
			d.at(child, fmt.Sprintf("%q is in the list twice", entry.text), "", "leave one of them")
			ok = false
		}
		it.list = append(it.list, entry)
	}
	return ok
}

func (d *document) integer(it *item, n *yaml.Node, k key) bool {
	if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!int" {
		if _, err := strconv.ParseInt(n.Value, 10, 64); err == nil && n.Kind == yaml.ScalarNode {
			d.at(n, fmt.Sprintf("%q is an integer, this is %s", k.name, describeNode(n)), "", "write it without quotes")
			return false
		}
		return d.wrongForm(n, k)
	}
	v, err := strconv.ParseInt(n.Value, 10, 64)
	if err != nil || v < k.min || v > k.max {
		d.at(n, fmt.Sprintf("%q is %s", k.name, clip(n.Value)), "", fmt.Sprintf("it is a decimal integer from %d to %d", k.min, k.max))
		return false
	}
	it.number = v
	return true
}

func (d *document) scalar(it *item, n *yaml.Node, k key) bool {
	if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!str" && !(k.form == formExpression && n.ShortTag() == "!!bool") {
		return d.wrongForm(n, k)
	}
	it.text = n.Value
	switch {
	case k.form == formDuration, k.form == formWindow:
		return d.duration(it, n, k)
	case k.enum != nil:
		if !slices.Contains(k.enum, it.text) {
			return d.notIn(n, k)
		}
	case k.pattern != "" && !matchesPattern(k.pattern, it.text):
		d.at(n, fmt.Sprintf("%q is not right for %q", clip(it.text), k.name), "", "it is "+k.shape)
		return false
	case k.form == formText && k.max > 0 && int64(utf8.RuneCountInString(it.text)) > k.max:
		d.at(n, fmt.Sprintf("%q is longer than %d characters", k.name, k.max), "", "")
		return false
	case k.form == formText && it.text == "":
		d.at(n, fmt.Sprintf("%q is empty", k.name), "", "give it a value or leave the key out")
		return false
	}
	return true
}

func (d *document) notIn(n *yaml.Node, k key) bool {
	if d.full() {
		return false
	}
	if k.name == "agg" && slices.Contains(laterAggregations, n.Value) {
		d.at(n, fmt.Sprintf("agg %q comes with a later version of freshet", n.Value), "", "leave the feature out until then")
		return false
	}
	hint := nearest(n.Value, k.enum)
	if other, ok := otherWords[n.Value]; ok && k.name == "agg" {
		hint = other
	}
	mend := ""
	if hint == "" {
		mend = "it is one of " + strings.Join(k.enum, ", ")
	}
	d.at(n, fmt.Sprintf("%q is not one of the values of %q", clip(n.Value), k.name), hint, mend)
	return false
}

func (d *document) duration(it *item, n *yaml.Node, k key) bool {
	if k.form == formWindow && it.text == "lifetime" {
		it.number = Lifetime
		return true
	}
	ms, wrong := parseDuration(it.text)
	if wrong == "" && !matchesPattern(durationPattern, it.text) {
		wrong = "is not a duration"
	}
	mend := "write " + durationShape
	if k.form == formWindow {
		mend += ", or lifetime"
	}
	if wrong != "" {
		hint := ""
		if k.form == formWindow {
			hint = nearest(it.text, []string{"lifetime"})
		}
		d.at(n, fmt.Sprintf("%q %s", clip(it.text), wrong), hint, mend)
		return false
	}
	if ms < k.min || k.max > 0 && ms > k.max {
		d.at(n, fmt.Sprintf("%q is %s", k.name, it.text), "", fmt.Sprintf("it is from %s to %s", formatDuration(max(k.min, 1)), formatDuration(k.max)))
		return false
	}
	it.number = ms
	return true
}

// formatDuration writes ms in the largest unit that holds it whole.
func formatDuration(ms int64) string {
	for _, u := range []string{"d", "h", "m", "s"} {
		if ms%units[u] == 0 {
			return fmt.Sprintf("%d%s", ms/units[u], u)
		}
	}
	return fmt.Sprintf("%dms", ms)
}

var patterns = map[string]*regexp.Regexp{}

func init() {
	var add func(keys []key)
	add = func(keys []key) {
		for _, k := range keys {
			if k.pattern != "" {
				patterns[k.pattern] = regexp.MustCompile(k.pattern)
			}
			add(k.keys)
		}
	}
	add(definitionKeys)
	patterns[durationPattern] = regexp.MustCompile(durationPattern)
}

func matchesPattern(pattern, text string) bool { return patterns[pattern].MatchString(text) }
