package feature

import (
	"fmt"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/freshet-dev/freshet/schemas"
)

// features resolves all features in order.
func (c *compiler) features(list *item, group *object) {
	for _, o := range list.objects {
		c.written[o.text("name", "")] = true
	}
	used, windows := false, group.get("windows")
	c.noWindows = !group.has("windows")
	for _, o := range list.objects {
		if len(c.plan.Features) > MaxFeatures {
			c.at(o.node, fmt.Sprintf("the group has more than %d features, windows expanded", MaxFeatures), "", "split it into two groups")
			return
		}
		before := len(c.plan.Features)
		switch {
		case o.has("derive") && o.has("agg"):
			c.at(o.node, "a feature has either `agg` or `derive`", "", "leave one of them out")
		case o.has("derive"):
			c.derived(o)
		case o.has("agg"):
			used = used || !o.has("window") && !o.has("windows")
			c.aggregated(o, windows)
		default:
			c.at(o.node, "a feature needs `agg` or `derive`", "", "add `agg: count`, or another aggregation")
		}
		if len(c.plan.Features) == before {
			c.failed = append(c.failed, o.text("name", ""))
		}
	}
	if len(c.plan.Features) > MaxFeatures {
		c.at(list.node, fmt.Sprintf("the group has %d features, windows expanded", len(c.plan.Features)), "", fmt.Sprintf("it may have %d: split it into two groups", MaxFeatures))
	}
	if windows != nil && !used && c.problems.Errors() == 0 {
		c.warn(windows.key, "no feature uses the group's `windows`", "leave them out")
	}
}

// refuse tells the keys of a feature that do not go with its kind.
func (c *compiler) refuse(o *object, what string, allowed []string) {
	for _, k := range featureKeys {
		if it := o.get(k.name); it != nil && !slices.Contains(allowed, k.name) {
			c.at(it.key, fmt.Sprintf("%q does not go with %s", k.name, what), "", "leave it out")
		}
	}
}

func (c *compiler) derived(o *object) {
	c.refuse(o, "derive", derivedKeys)
	f := Feature{Description: o.text("description", ""), Agg: Derived, Column: -1, Filter: -1}
	c.current = o.text("name", "")
	if it := o.get("derive"); it != nil {
		if f.Derive = c.expression(it, c.earlier); f.Derive != nil {
			f.Type = f.Derive.Type()
			if right := []class{classBool, classInt, classDouble, classTime, classText}; !slices.Contains(right, f.Derive.root.class) {
				c.at(it.node, fmt.Sprintf("`derive` gives %s", f.Derive.root.class), "", "it gives a number, a bool, a string or a timestamp")
			} else if f.Derive.root.literal {
				c.warn(it.node, "this `derive` is the same for every entity", "")
			}
		}
	}
	if name := o.get("name"); name != nil {
		f.Name = name.text
		c.append(f, name.node)
	}
}

// earlier finds the features that a derive names.
func (c *compiler) earlier(name string) (int, schemas.Type, *exprProblem) {
	if i, ok := c.named[name]; ok {
		if c.plan.Features[i].Type.Kind == schemas.Null {
			return -1, schemas.Type{}, &exprProblem{}
		}
		return i, c.plan.Features[i].Type, nil
	}
	if slices.ContainsFunc(c.failed, func(base string) bool { return name == base || strings.HasPrefix(name, base+"_") }) {
		return -1, schemas.Type{}, &exprProblem{}
	}
	p := &exprProblem{message: fmt.Sprintf("there is no feature %q before this one", name)}
	switch expanded := c.bases[name]; {
	case expanded != nil:
		p.mend = "there is " + strings.Join(expanded, ", ")
	case name == c.current:
		p.mend = "a feature cannot be derived from itself"
	case c.written[name] || c.written[name[:max(0, strings.LastIndexByte(name, '_'))]]:
		p.mend = "declare it further up"
	case c.full():
	default:
		names := make([]string, 0, len(c.plan.Features))
		for _, f := range c.plan.Features {
			names = append(names, f.Name)
		}
		if p.hint = nearest(name, names); p.hint == "" && c.in != nil {
			if _, err := c.in.schema.Column(name); err == nil {
				p.mend = "a derive reads features, not fields of events"
			}
		}
	}
	return -1, schemas.Type{}, p
}

func (c *compiler) aggregated(o *object, windows *item) {
	agg := o.get("agg")
	if agg == nil {
		return // told before
	}
	rule, _ := aggregationNamed(agg.text)
	c.refuse(o, "agg "+rule.name, rule.keys())
	for _, name := range rule.needs {
		if !o.has(name) {
			c.at(o.node, fmt.Sprintf("agg %s needs %q", rule.name, name), "", "add `unit: day`, hour or minute")
		}
	}
	f := Feature{Description: o.text("description", ""), Agg: rule.agg, Column: -1, Filter: -1, Unit: units[o.text("unit", "")]}
	if rule.agg == CountDistinct {
		f.MaxDistinct = o.number("max_distinct", defaultMaxDistinct)
	}
	f.Column, f.ColumnType = c.input(o, rule)
	if f.Column >= 0 || rule.column != required {
		f.Type = rule.result(f.ColumnType)
	}
	if it := o.get("where"); it != nil {
		f.Filter = c.filter(it)
	}
	c.expand(o, f, windows)
}

// input resolves `of`.
func (c *compiler) input(o *object, rule aggregation) (int, schemas.Type) {
	of := o.get("of")
	if of == nil {
		if rule.column == required && !o.has("of") {
			c.at(o.node, fmt.Sprintf("agg %s needs \"of\"", rule.name), "", "add `of:`, the field it is over")
		}
		return -1, schemas.Type{}
	}
	if rule.column == without {
		return -1, schemas.Type{}
	}
	i, t := c.column(of)
	if i < 0 {
		return -1, t
	}
	dim := o.get("dim")
	switch {
	case t.Kind == schemas.Floats && rule.agg == Avg:
		c.at(of.node, "avg of an array comes with a later version of freshet", "", "leave the feature out until then")
	case !slices.Contains(rule.takes, t.Kind):
		c.at(of.node, fmt.Sprintf("agg %s is over %s; %q is %s", rule.name, rule.words, of.text, c.in.avro[i]), "", "")
	case t.Kind != schemas.Floats && dim != nil:
		c.at(dim.key, fmt.Sprintf("\"dim\" is for arrays of float; %q is %s", of.text, c.in.avro[i]), "", "leave it out")
	case t.Kind == schemas.Floats && slices.Contains(rule.options, "dim"):
		if dim == nil {
			if !o.has("dim") {
				c.at(o.node, fmt.Sprintf("agg %s of an array of float needs \"dim\"", rule.name), "", "add `dim:`, the number of its elements")
			}
			return -1, t
		}
		if t.Dim != 0 && t.Dim != int(dim.number) {
			c.at(dim.node, fmt.Sprintf("%q has dim %d in a feature above", of.text, t.Dim), "", "an array of events has one dim: make them equal")
			return -1, t
		}
		t.Dim = int(dim.number)
		c.in.columns[i].Type.Dim = t.Dim
	}
	return i, t
}

// filter returns the number of a feature's `where` among the distinct ones.
func (c *compiler) filter(it *item) int {
	p := c.where(it)
	if p == nil {
		return -1
	}
	if i := slices.IndexFunc(c.plan.Filters, func(f *Program) bool { return f.Canonical() == p.Canonical() }); i >= 0 {
		return i
	}
	if len(c.plan.Filters) == MaxFilters {
		c.at(it.node, fmt.Sprintf("the group's features have more than %d different `where`", MaxFilters), "", "split it into two groups")
		return -1
	}
	c.plan.Filters = append(c.plan.Filters, p)
	return len(c.plan.Filters) - 1
}

// expand makes the features of all windows.
func (c *compiler) expand(o *object, f Feature, windows *item) {
	name := o.get("name")
	if name == nil {
		return
	}
	switch {
	case o.has("window") && o.has("windows"):
		c.at(o.node, "a feature has either `window` or `windows`", "", "leave one of them out")
	case o.has("window"):
		if it := o.get("window"); it != nil {
			f.Name, f.Window = name.text, it.number
			c.steps(it, f)
			c.append(f, name.node)
		}
	default:
		if o.has("windows") {
			windows = o.get("windows")
		} else if c.noWindows {
			c.at(o.node, fmt.Sprintf("the feature %q has no window", name.text), "", "add `window:` or `windows:`, or `windows:` for the group")
		}
		if windows == nil {
			return
		}
		var lengths []int64
		for _, w := range windows.list {
			if slices.Contains(lengths, w.number) && o.has("windows") {
				c.warn(w.node, fmt.Sprintf("%s is as long as another window of the list", w.text), "leave one of them")
			}
			lengths = append(lengths, w.number)
			f.Name, f.Window = name.text+"_"+w.text, w.number
			place := &item{node: name.node, text: w.text}
			if o.has("windows") {
				place = w
			}
			c.steps(place, f)
			c.append(f, name.node)
			c.bases[name.text] = append(c.bases[name.text], f.Name)
		}
	}
}

// steps tells an age whose window is not finite, or so long that it would change too often.
func (c *compiler) steps(window *item, f Feature) {
	if f.Agg != TimeSinceFirst && f.Agg != TimeSinceLast {
		return
	}
	other := map[Agg]string{TimeSinceFirst: "first_time", TimeSinceLast: "last_time"}[f.Agg]
	switch {
	case f.Window == Lifetime:
		c.at(window.node, fmt.Sprintf("agg %s is for finite windows", f.Agg), "", "give "+other+" instead, or a window of days")
	case f.Unit > 0 && f.Window/f.Unit > MaxSteps:
		c.at(window.node, fmt.Sprintf("agg %s would step %d times within %s, at most %d are allowed", f.Agg, f.Window/f.Unit, window.text, MaxSteps),
			"", "take a coarser unit, a shorter window, or "+other)
	}
}

// append adds a feature under its name. A feature that is not right otherwise is added too, so that names are checked and found.
func (c *compiler) append(f Feature, at *yaml.Node) {
	switch i, twice := c.named[f.Name]; {
	case len(f.Name) > MaxNameBytes:
		c.at(at, fmt.Sprintf("the feature name %q is longer than %d characters", f.Name, MaxNameBytes), "", "the window counts, too: shorten it")
	case c.reserved(f.Name):
		c.at(at, fmt.Sprintf("%q is a column of the log", f.Name), "", "give the feature another name")
	case slices.ContainsFunc(c.plan.Keys, func(k Key) bool { return strings.EqualFold(k.Name, f.Name) }):
		c.at(at, fmt.Sprintf("%q is a field of the entity's key", f.Name), "", "give the feature another name")
	case twice:
		c.at(at, fmt.Sprintf("there are two features %q", f.Name), "", fmt.Sprintf("the other is number %d, windows expanded: rename one of them", i+1))
		return
	}
	c.named[f.Name] = len(c.plan.Features)
	c.plan.Features = append(c.plan.Features, f)
}
