package feature

import (
	"fmt"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/freshet-dev/freshet/schemas"
)

// LogColumns are the columns of the log that are no features, besides the entity's: no feature and no key field may be called so.
var LogColumns = []string{
	"event_timestamp", "computed_at", "available_at", "valid_until", "generation", "source_offset", "definition_hash", "cause", "date",
}

// Parse compiles one definition. file is only for the problems; schema reads a schema file by the name that the definition gives it. The
// plan is nil where a problem is an error. All problems of the file are told, in the order of their places, up to MaxProblems.
func Parse(file string, text []byte, schema func(name string) ([]byte, error)) (*Plan, Problems) {
	c := compiler{document: document{reports: reports{file: file}}, plan: &Plan{}, named: map[string]int{}, bases: map[string][]string{}, written: map[string]bool{}}
	c.definition(text, schema)
	c.problems.sort()
	if c.problems.Errors() > 0 {
		return nil, c.problems
	}
	return c.plan, c.problems
}

// compiler resolves one definition to a plan. Each step tells its problems and goes on with what is right.
type compiler struct {
	document
	plan *Plan
	in   *inputs // nil where the schema could not be read: what needs it is not checked then

	named     map[string]int      // features so far by name
	bases     map[string][]string // the expanded names of a feature with windows
	written   map[string]bool     // all names as written, to tell a derive that reads too early
	failed    []string            // names as written of features that are not right, whose absence need not be told again
	current   string              // the derived feature that is being compiled
	noWindows bool                // the group declares none
}

func (c *compiler) definition(text []byte, schema func(name string) ([]byte, error)) {
	o := c.parse(text)
	if o == nil {
		return
	}
	p := c.plan
	p.Group, p.Version = o.text("group", ""), int(o.number("version", 0))
	if it := o.get("version"); it != nil {
		p.line = it.node.Line
	}
	p.Owner, p.Description = o.text("owner", ""), o.text("description", "")
	for _, name := range []string{"owner", "description"} {
		if !o.has(name) {
			c.warn(o.node, "the group has no "+name, "add `"+name+":`")
		}
	}
	if tags := o.get("tags"); tags != nil {
		for _, tag := range tags.list {
			p.Tags = append(p.Tags, tag.text)
		}
	}
	if source := o.get("source"); source != nil {
		c.schema(source.object, schema)
		c.entity(o.get("entity"))
		c.source(source.object)
	}
	p.Freshness = o.number("freshness", defaultFreshness)
	p.Tick = o.number("tick", p.Freshness)
	if p.Tick > p.Freshness {
		c.warn(o.get("tick").node, fmt.Sprintf("the tick, %s, is coarser than the freshness, %s: values may outlive their window by a tick",
			formatDuration(p.Tick), formatDuration(p.Freshness)), "make it at most the freshness")
	}
	if where := o.get("where"); where != nil {
		p.Where = c.where(where)
	}
	if list := o.get("features"); list != nil {
		c.features(list, o)
	}
	c.finish(o)
}

func (c *compiler) schema(source *object, read func(name string) ([]byte, error)) {
	it := source.get("schema")
	if it == nil {
		return
	}
	text, err := read(it.text)
	if err != nil {
		c.at(it.node, fmt.Sprintf("the schema %q cannot be read: %v", clip(it.text), err), "", "its name is relative to the definition's file")
		return
	}
	in, err := newInputs(text)
	if err != nil {
		c.at(it.node, fmt.Sprintf("the schema %q is not right: %v", clip(it.text), err), "", "")
		return
	}
	c.in = in
	c.plan.Source.SchemaFile, c.plan.Source.Schema = it.text, text
}

// column returns the number and type of the column that an item names, or −1 where there is none, which has then been told.
func (c *compiler) column(it *item) (int, schemas.Type) {
	if it == nil || c.in == nil || c.full() {
		return -1, schemas.Type{}
	}
	i, problem := c.in.column(it.text)
	if problem != nil {
		c.at(it.node, problem.message, problem.hint, problem.mend)
		return -1, schemas.Type{}
	}
	return i, c.in.columns[i].Type
}

// never tells a column that may be null where none may.
func (c *compiler) never(it *item, column int, what string) {
	if column >= 0 && c.in.columns[column].Nullable {
		c.at(it.node, fmt.Sprintf("%s %q may be null", what, it.text), "", "declare it without null in the schema: records that have none are refused then")
	}
}

func (c *compiler) entity(it *item) {
	if it == nil {
		return
	}
	c.plan.EntityName = it.object.text("name", "")
	key := it.object.get("key")
	if key == nil {
		return
	}
	for _, field := range key.list {
		if c.reserved(field.text) {
			c.at(field.node, fmt.Sprintf("the key field %q is called like a column of the log", field.text), "", "give the schema's field another name")
		}
		if slices.ContainsFunc(c.plan.Keys, func(k Key) bool { return strings.EqualFold(k.Name, field.text) }) {
			c.at(field.node, fmt.Sprintf("the key fields have %q twice, but for upper and lower case", field.text), "", "leave one of them")
		}
		i, t := c.column(field)
		if i < 0 {
			continue
		}
		c.never(field, i, "the key field")
		c.identity(field, i, t, "a key field")
		c.plan.Keys = append(c.plan.Keys, Key{Name: field.text, Column: i, Type: t})
	}
}

func (c *compiler) reserved(name string) bool {
	return slices.Contains(LogColumns, strings.ToLower(name))
}

// identity tells a column that cannot identify something.
func (c *compiler) identity(it *item, column int, t schemas.Type, what string) {
	right := []schemas.Kind{schemas.String, schemas.Int, schemas.UUID, schemas.Bytes}
	if column >= 0 && (!slices.Contains(right, t.Kind) || t.Kind == schemas.Bytes && c.in.avro[column] == "bytes" && what != "the id") {
		c.at(it.node, fmt.Sprintf("%s is a string, int, long, uuid or fixed; %q is %s", what, it.text, c.in.avro[column]), "", "")
	}
}

func (c *compiler) source(o *object) {
	s := &c.plan.Source
	s.Topic = o.text("topic", "")
	if s.Topic == "." || s.Topic == ".." {
		c.at(o.get("topic").node, fmt.Sprintf("%q cannot be a topic", s.Topic), "", "")
	}
	s.KeyFormat, s.Partitioner, s.History = o.text("key_format", "text"), o.text("partitioner", "murmur2"), o.text("history", "rows")
	s.MaxFuture = o.number("max_future", defaultMaxFuture)
	s.TimeUnit = o.text("unit", "")

	var t schemas.Type
	if it := o.get("time"); it != nil {
		s.TimeColumn, t = c.column(it)
		c.never(it, s.TimeColumn, "the event time")
		switch {
		case s.TimeColumn < 0:
		case t.Kind == schemas.Time && o.has("unit"):
			c.at(o.node, fmt.Sprintf("%q is a %s, which has its unit", it.text, c.in.avro[s.TimeColumn]), "", "leave `unit` out")
		case c.in.avro[s.TimeColumn] == "long" && !o.has("unit"), c.in.avro[s.TimeColumn] == "int" && !o.has("unit"):
			c.at(it.node, fmt.Sprintf("%q is a plain %s, which does not say its unit", it.text, c.in.avro[s.TimeColumn]), "", "add `unit: ms`, us or s")
		case t.Kind != schemas.Time && c.in.avro[s.TimeColumn] != "long" && c.in.avro[s.TimeColumn] != "int":
			c.at(it.node, fmt.Sprintf("the event time is a timestamp or a long; %q is %s", it.text, c.in.avro[s.TimeColumn]), "", "")
		}
	}
	s.IDColumn = -1
	if it := o.get("id"); it != nil {
		s.IDColumn, t = c.column(it)
		c.never(it, s.IDColumn, "the id")
		c.identity(it, s.IDColumn, t, "the id")
	} else if !o.has("id") {
		c.warn(o.node, "the source has no `id`: an event that a producer sends twice counts twice", "add `id:`, the field that identifies an event")
	}
	c.partitioning(o)
}

func (c *compiler) partitioning(o *object) {
	if len(c.plan.Keys) == 0 {
		return
	}
	key := c.plan.Keys[0]
	if it := o.get("partitioned_by"); it != nil {
		i := slices.IndexFunc(c.plan.Keys, func(k Key) bool { return k.Name == it.text })
		if i < 0 {
			var names []string
			for _, k := range c.plan.Keys {
				names = append(names, k.Name)
			}
			c.at(it.node, fmt.Sprintf("%q is no field of the entity's key: one entity's events could lie on several partitions", it.text),
				nearest(it.text, names), "it is one of "+strings.Join(names, ", "))
			return
		}
		key = c.plan.Keys[i]
	}
	c.plan.Source.PartitionedBy = key.Column
	if c.plan.Source.KeyFormat == "long" && key.Type.Kind != schemas.Int {
		c.at(o.get("key_format").node, fmt.Sprintf("key_format long needs an int or a long; %q is %s", key.Name, c.in.avro[key.Column]), "", "use text, avro or any")
	}
}

// where compiles a `where`; nil where it is not right, or where nothing can be said without the schema.
func (c *compiler) where(it *item) *Program {
	if c.in == nil {
		return nil
	}
	p := c.expression(it, c.in.lookup)
	switch {
	case p == nil:
	case p.root.class != classBool:
		c.at(it.node, fmt.Sprintf("`where` is true or false, this is %s", p.root.class), "", "compare it with something")
		return nil
	case p.root.literal:
		c.warn(it.node, "this `where` is the same for every event", "")
	}
	return p
}

// expression compiles an expression and tells its problems at their places in the file.
func (c *compiler) expression(it *item, find lookup) *Program {
	if c.full() {
		return nil
	}
	p, problems := compileExpression(it.text, find)
	for _, x := range problems {
		line, column := c.place(it.node, x)
		c.add(Problem{Line: line, Column: column, Message: x.message, Hint: x.hint, Mend: x.mend})
	}
	return p
}

// place turns a place in a scalar's value into one in the file. Where the file writes the value with escapes or folded lines, it is the
// place where the scalar begins.
func (c *compiler) place(n *yaml.Node, x exprProblem) (line, column int) {
	values := strings.Split(n.Value, "\n")
	if x.line > len(values) {
		return n.Line, n.Column
	}
	value := values[x.line-1]
	if n.Style&yaml.LiteralStyle != 0 {
		for at := n.Line + x.line - 1; at < len(c.lines); at++ {
			raw := strings.TrimSuffix(c.lines[at], "\r")
			if strings.HasSuffix(raw, value) && strings.TrimSpace(raw) == strings.TrimSpace(value) {
				return at + 1, len([]rune(raw)) - len([]rune(value)) + x.column + 1
			}
		}
		return n.Line, n.Column
	}
	start := n.Column - 1
	if n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle) != 0 {
		start++
	}
	raw := []rune(c.lines[n.Line-1])
	if len(values) == 1 && start <= len(raw) && strings.HasPrefix(string(raw[start:]), value) {
		return n.Line, start + x.column + 1
	}
	return n.Line, n.Column
}

// finish works out what follows from all features.
func (c *compiler) finish(o *object) {
	p := c.plan
	for _, f := range p.Features {
		p.Reach = max(p.Reach, f.Window)
		p.HasLifetime = p.HasLifetime || f.Agg != Derived && f.Window == Lifetime
	}
	p.Horizon = p.Reach
	if p.Reach == 0 {
		p.Horizon = defaultHorizon
	}
	if it := o.get("horizon"); it != nil {
		if p.Horizon = it.number; it.number < p.Reach {
			c.at(it.node, fmt.Sprintf("the horizon, %s, is shorter than the longest window, %s", it.text, formatDuration(p.Reach)), "", "make it as long, or leave it out")
		}
	}
	if c.problems.Errors() > 0 {
		return
	}
	p.Columns = c.in.columns
	p.Stored = stored(p.Features)
	for i := range p.Features {
		if f := &p.Features[i]; f.Column >= 0 {
			f.ColumnType = p.Columns[f.Column].Type // with the dim that a later feature may have declared
			f.Column = slices.Index(p.Stored, f.Column)
		}
	}
	p.Hash = hash(p)
}
