package feature

import (
	"fmt"
	"slices"
	"strings"

	"github.com/freshet-dev/freshet/schemas"
)

// need says whether an aggregation takes a column.
type need uint8

const (
	without need = iota
	optional
	required
)

// aggregation is what there is to know of an aggregation to check and resolve a feature.
type aggregation struct {
	name    string
	agg     Agg
	column  need
	takes   []schemas.Kind // of the column
	words   string         // takes, in words
	result  func(column schemas.Type) schemas.Type
	options []string // the keys it takes beyond name, description, agg, of, where, window and windows
	needs   []string // those of them that must be there
}

var (
	numbers = []schemas.Kind{schemas.Int, schemas.Double, schemas.Decimal}
	ordered = append(slices.Clone(numbers), schemas.Time)
	scalars = append(slices.Clone(ordered), schemas.Bool, schemas.String, schemas.Bytes, schemas.UUID)
	columns = append(slices.Clone(scalars), schemas.Floats)
)

func same(t schemas.Type) schemas.Type { return t }

func always(k schemas.Kind) func(schemas.Type) schemas.Type {
	return func(schemas.Type) schemas.Type { return schemas.Type{Kind: k} }
}

const (
	wordsNumber  = "a number"
	wordsOrdered = "a number or a timestamp"
	wordsScalar  = "a number, timestamp, bool, string, bytes or uuid"
	wordsColumn  = "a number, timestamp, bool, string, bytes, uuid or array of float"
)

// aggregations are all there are, in the order of the documentation.
var aggregations = []aggregation{
	{name: "count", agg: Count, column: optional, takes: columns, words: wordsColumn, result: always(schemas.Int)},
	{name: "sum", agg: Sum, column: required, takes: numbers, words: wordsNumber, result: same},
	{name: "avg", agg: Avg, column: required, takes: numbers, words: wordsNumber, result: always(schemas.Double)},
	{name: "min", agg: Min, column: required, takes: ordered, words: wordsOrdered, result: same},
	{name: "max", agg: Max, column: required, takes: ordered, words: wordsOrdered, result: same},
	{name: "variance", agg: Variance, column: required, takes: numbers, words: wordsNumber, result: always(schemas.Double)},
	{name: "variance_pop", agg: VariancePop, column: required, takes: numbers, words: wordsNumber, result: always(schemas.Double)},
	{name: "stddev", agg: Stddev, column: required, takes: numbers, words: wordsNumber, result: always(schemas.Double)},
	{name: "stddev_pop", agg: StddevPop, column: required, takes: numbers, words: wordsNumber, result: always(schemas.Double)},
	{name: "count_distinct", agg: CountDistinct, column: required, takes: scalars, words: wordsScalar, result: always(schemas.Int), options: []string{"max_distinct"}},
	{name: "first", agg: First, column: required, takes: columns, words: wordsColumn, result: same, options: []string{"dim"}},
	{name: "last", agg: Last, column: required, takes: columns, words: wordsColumn, result: same, options: []string{"dim"}},
	{name: "first_time", agg: FirstTime, result: always(schemas.Time)},
	{name: "last_time", agg: LastTime, result: always(schemas.Time)},
	{name: "time_since_first", agg: TimeSinceFirst, result: always(schemas.Int), options: []string{"unit"}, needs: []string{"unit"}},
	{name: "time_since_last", agg: TimeSinceLast, result: always(schemas.Int), options: []string{"unit"}, needs: []string{"unit"}},
}

// laterAggregations come with a later version.
var laterAggregations = []string{"first_n", "last_n", "top_k", "percentile", "skew", "kurtosis"}

// otherWords are names of aggregations elsewhere.
var otherWords = map[string]string{
	"average": "avg", "mean": "avg", "total": "sum", "std": "stddev", "stddev_samp": "stddev", "var": "variance", "var_samp": "variance",
	"var_pop": "variance_pop", "distinct": "count_distinct", "nunique": "count_distinct", "unique": "count_distinct", "latest": "last",
	"earliest": "first", "minimum": "min", "maximum": "max", "days_since_last": "time_since_last", "days_since_first": "time_since_first",
}

// derivedKeys are the keys that go with derive.
var derivedKeys = []string{"name", "description", "derive"}

// keys are the keys that go with the aggregation.
func (a aggregation) keys() []string {
	keys := append([]string{"name", "description", "agg", "where", "window", "windows"}, a.options...)
	if a.column != without {
		keys = append(keys, "of")
	}
	return keys
}

func aggregationNames() []string {
	names := make([]string, len(aggregations))
	for i, a := range aggregations {
		names[i] = a.name
	}
	return names
}

// aggregationNamed returns the aggregation of a name.
func aggregationNamed(name string) (aggregation, bool) {
	i := slices.IndexFunc(aggregations, func(a aggregation) bool { return a.name == name })
	if i < 0 {
		return aggregation{}, false
	}
	return aggregations[i], true
}

// String returns the aggregation as definitions write it; "derive" for Derived.
func (a Agg) String() string {
	for _, rule := range aggregations {
		if rule.agg == a {
			return rule.name
		}
	}
	return "derive"
}

// typeName returns a type in the words of Describe and of messages: double, decimal(2), floats(8), list(string).
func typeName(t schemas.Type) string {
	name := [...]string{"null", "bool", "int", "double", "decimal", "string", "bytes", "uuid", "timestamp", "floats", "list", "map"}[t.Kind]
	var inside []string
	switch {
	case t.Kind == schemas.Decimal:
		inside = append(inside, fmt.Sprint(t.Scale))
	case t.Kind == schemas.Floats && t.Dim > 0:
		inside = append(inside, fmt.Sprint(t.Dim))
	case t.Elem != nil:
		inside = append(inside, typeName(*t.Elem))
	}
	if inside == nil {
		return name
	}
	return name + "(" + strings.Join(inside, ", ") + ")"
}
