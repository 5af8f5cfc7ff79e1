package oracle

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// Group is one version of a feature group, ready to judge records. It is read-only and may be shared by goroutines.
type Group struct {
	Name     string
	Version  int
	Features []Feature // in definition order, windows expanded

	Tick, Horizon, MaxFuture int64 // ms
	MaxBody                  int   // bytes; a larger record body is too_large

	keys                     []int // columns
	time, id, by             int   // columns; id −1: every record is an event of its own
	timeUnit                 string
	keyFormat, partitioner   string
	where                    *expression
	filters                  []*expression
	columns                  []column
	schema                   *schema
	hasLifetime, hasWindowed bool
}

// Feature is one output of a group.
type Feature struct {
	Name string
	Kind string // of its value: bool, int, double, decimal, string, bytes, uuid, time, floats; "" for a derived one, whose value says

	agg         string // "" for a derived feature
	column      int    // −1: none
	scale       int    // of the column, where it is a decimal
	window      int64  // ms; 0: lifetime
	filter      int    // into filters; −1: every event
	unit        int64  // ms
	maxDistinct int
	derive      *expression
}

// document is a definition file. Keys that do not change values are left out.
type document struct {
	Group   string
	Version int
	Entity  struct{ Key []string }
	Source  struct {
		Time, Unit, ID string
		PartitionedBy  string `yaml:"partitioned_by"`
		KeyFormat      string `yaml:"key_format"`
		Partitioner    string
		MaxFuture      string `yaml:"max_future"`
	}
	Freshness, Tick, Horizon, Where string
	Windows                         []string
	Features                        []struct {
		Name, Agg, Of, Where, Window, Unit, Derive string
		Windows                                    []string
		Dim                                        int
		MaxDistinct                                int `yaml:"max_distinct"`
	}
}

const (
	day                = 86_400_000 // ms
	defaultMaxDistinct = 1_000_000
	defaultMaxBody     = 1 << 20
)

// Load reads a definition and the reader's Avro schema.
func Load(definition, readerAvsc []byte) (*Group, error) {
	var d document
	if err := yaml.Unmarshal(definition, &d); err != nil {
		return nil, fmt.Errorf("read the definition: %w", err)
	}
	s, err := newSchema(readerAvsc)
	if err != nil {
		return nil, fmt.Errorf("read the schema: %w", err)
	}
	l := loader{d: &d, g: &Group{Name: d.Group, Version: d.Version, MaxBody: defaultMaxBody, schema: s}}
	l.source()
	for i := range d.Features {
		l.feature(i)
	}
	l.finish()
	if l.err != nil {
		return nil, fmt.Errorf("group %s: %w", d.Group, l.err)
	}
	return l.g, nil
}

// loader turns a document into a group and keeps all that is wrong.
type loader struct {
	d   *document
	g   *Group
	err error
}

func (l *loader) check(err error) {
	if err != nil {
		l.err = errors.Join(l.err, err)
	}
}

func (l *loader) source() {
	src, g := &l.d.Source, l.g
	for _, k := range l.d.Entity.Key {
		g.keys = append(g.keys, l.column(k))
	}
	g.by, g.id = g.keys[0], -1
	if src.PartitionedBy != "" {
		g.by = l.column(src.PartitionedBy)
	}
	if src.ID != "" {
		g.id = l.column(src.ID)
	}
	g.time, g.timeUnit = l.column(src.Time), src.Unit
	g.keyFormat, g.partitioner = or(src.KeyFormat, "text"), or(src.Partitioner, "murmur2")
	g.MaxFuture = l.duration(or(src.MaxFuture, "5m"))
	g.Tick = l.duration(or(l.d.Tick, or(l.d.Freshness, "10s")))
	g.where = l.expression(l.d.Where)
}

func (l *loader) feature(i int) {
	d := &l.d.Features[i]
	f := Feature{Name: d.Name, agg: d.Agg, column: -1, filter: -1, maxDistinct: d.MaxDistinct}
	if d.Derive != "" {
		var err error
		f.derive, err = compile(d.Derive)
		l.check(err)
		l.g.Features = append(l.g.Features, f)
		return
	}
	if !slices.Contains(aggregations, d.Agg) {
		l.check(fmt.Errorf("feature %s: the oracle does not know agg %q", d.Name, d.Agg))
		return
	}
	if d.Of != "" {
		f.column = l.column(d.Of)
		f.scale = l.g.columns[f.column].scale
		l.g.columns[f.column].dim = max(d.Dim, l.g.columns[f.column].dim)
	}
	f.Kind = l.kind(&f)
	if d.Where != "" {
		f.filter = len(l.g.filters)
		l.g.filters = append(l.g.filters, l.expression(d.Where))
	}
	if f.maxDistinct == 0 {
		f.maxDistinct = defaultMaxDistinct
	}
	if d.Unit != "" {
		f.unit = map[string]int64{"day": day, "hour": 3_600_000, "minute": 60_000}[d.Unit]
	}
	if d.Window != "" {
		f.window = l.window(d.Window)
		l.g.Features = append(l.g.Features, f)
		return
	}
	windows := d.Windows
	if windows == nil {
		windows = l.d.Windows
	}
	for _, w := range windows {
		f.Name, f.window = d.Name+"_"+w, l.window(w)
		l.g.Features = append(l.g.Features, f)
	}
}

// kind is the kind of the value of an aggregation.
func (l *loader) kind(f *Feature) string {
	switch f.agg {
	case "count", "count_distinct", "time_since_first", "time_since_last":
		return kindInt
	case "first_time", "last_time":
		return kindTime
	case "sum", "min", "max", "first", "last":
		if f.column < 0 {
			l.check(fmt.Errorf("feature %s: agg %s needs `of`", f.Name, f.agg))
			return ""
		}
		return l.g.columns[f.column].kind
	}
	return kindDouble
}

func (l *loader) finish() {
	g, reach := l.g, int64(0)
	for _, f := range g.Features {
		reach = max(reach, f.window)
		if f.derive == nil {
			g.hasLifetime = g.hasLifetime || f.window == 0
			g.hasWindowed = g.hasWindowed || f.window > 0
		}
	}
	g.Horizon = reach
	if reach == 0 {
		g.Horizon = 90 * day
	}
	if l.d.Horizon != "" {
		g.Horizon = l.duration(l.d.Horizon)
	}
	if l.err == nil {
		l.check(g.schema.project(g.columns))
	}
}

// column returns the number of the column at a path of the schema, which is added where it is new.
func (l *loader) column(path string) int {
	for i := range l.g.columns {
		if l.g.columns[i].path == path {
			return i
		}
	}
	c, err := l.g.schema.column(path)
	l.check(err)
	l.g.columns = append(l.g.columns, c)
	return len(l.g.columns) - 1
}

// expression compiles a `where`, and sees to it that the columns it names are read.
func (l *loader) expression(text string) *expression {
	if text == "" {
		return nil
	}
	x, err := compile(text)
	if err != nil {
		l.check(err)
		return nil
	}
	for _, name := range x.names {
		l.column(name)
	}
	return x
}

func (l *loader) window(text string) int64 {
	if text == "lifetime" {
		return 0
	}
	return l.duration(text)
}

var durationShape = regexp.MustCompile(`^([0-9]+)(ms|s|m|h|d)$`)

func (l *loader) duration(text string) int64 {
	m := durationShape.FindStringSubmatch(text)
	if m == nil {
		l.check(fmt.Errorf("%q is not a duration", text))
		return 1
	}
	n, err := strconv.ParseInt(m[1], 10, 64)
	l.check(err)
	return n * map[string]int64{"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": day}[m[2]]
}

func or(text, otherwise string) string {
	if strings.TrimSpace(text) == "" {
		return otherwise
	}
	return text
}
