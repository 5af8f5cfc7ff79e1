package props

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// eventSchema has a column of each kind.
const eventSchema = `{"type": "record", "name": "Event", "fields": [
	{"name": "id", "type": "string"},
	{"name": "user", "type": "string"},
	{"name": "shop", "type": "int"},
	{"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
	{"name": "amount", "type": ["null", "double"], "default": null},
	{"name": "n", "type": ["null", "long"], "default": null},
	{"name": "k", "type": "int", "default": 1},
	{"name": "price", "type": ["null", {"type": "bytes", "logicalType": "decimal", "precision": 30, "scale": 2}], "default": null},
	{"name": "category", "type": ["null", "string"], "default": null},
	{"name": "flag", "type": ["null", "boolean"], "default": null},
	{"name": "raw", "type": ["null", "bytes"], "default": null},
	{"name": "seen", "type": ["null", {"type": "long", "logicalType": "timestamp-millis"}], "default": null},
	{"name": "vector", "type": ["null", {"type": "array", "items": "float"}], "default": null}
]}`

var (
	numeric = []string{"amount", "n", "k", "price"}
	ordered = append([]string{"seen"}, numeric...)
	scalar  = append([]string{"category", "flag", "raw", "user"}, ordered...)
)

// of says which columns an aggregation takes.
var of = []struct {
	agg     string
	columns []string
}{
	{"count", nil}, {"first_time", nil}, {"last_time", nil}, {"count", scalar},
	{"sum", numeric}, {"avg", numeric}, {"min", ordered}, {"max", ordered}, {"variance", numeric}, {"variance_pop", numeric},
	{"stddev", numeric}, {"stddev_pop", numeric}, {"count_distinct", scalar}, {"first", scalar}, {"last", scalar},
}

var conditions = []string{"amount > 10.0", `category == "b"`, "k % 2 == 0", "flag == true", "n != null && n < 100"}

// pick returns one of a list.
func pick[T any](rng *rand.Rand, list []T) T { return list[rng.IntN(len(list))] }

// randomDefinition makes a group of some features over windows that fit a time scale in ms.
func randomDefinition(rng *rand.Rand, scale int64, o traits) string {
	var b strings.Builder
	windows := []string{fmt.Sprintf("%dms", scale), fmt.Sprintf("%dms", 7*scale)}
	if rng.IntN(2) == 0 {
		windows = append(windows, fmt.Sprintf("%dms", 30*scale+rng.Int64N(scale)))
	}
	keys := pick(rng, []string{"[user]", "[user, shop]", "[shop, user]"})
	fmt.Fprintf(&b, "group: g\nversion: 1\nentity: {name: e, key: %s}\n", keys)
	id := ", id: id"
	if rng.IntN(3) == 0 && !o.reordering {
		id = ""
	}
	fmt.Fprintf(&b, "source: {topic: t, schema: e.avsc, time: at%s, partitioned_by: user, history: %s}\n", id, o.history)
	fmt.Fprintf(&b, "freshness: %dms\nwindows: [%s]\n", min(86_400_000, max(100, scale/pick(rng, []int64{1, 3, 10, 100}))), strings.Join(windows, ", "))
	if rng.IntN(3) == 0 {
		fmt.Fprintf(&b, "horizon: %dms\n", 40*scale)
	}
	if rng.IntN(2) == 0 {
		b.WriteString("where: category != \"out\"\n")
	}
	b.WriteString("features:\n  - {name: events, agg: count}\n")
	for i := range 3 + rng.IntN(8) {
		fmt.Fprintf(&b, "  - {%s}\n", randomFeature(rng, fmt.Sprintf("f%d", i), scale, o))
	}
	fmt.Fprintf(&b, "  - {name: share, derive: \"double(events_%s) / double(events_%s)\"}\n", windows[0], windows[1])
	return b.String()
}

// traits restrict a definition.
type traits struct {
	history    string
	reordering bool // nothing in it may depend on the order of arrival
}

func randomFeature(rng *rand.Rand, name string, scale int64, o traits) string {
	f := "name: " + name
	x := pick(rng, of)
	switch {
	case rng.IntN(8) == 0 && scale >= 60_000:
		unit := "minute"
		if scale >= 3_600_000*4 {
			unit = pick(rng, []string{"hour", "day"})
		}
		return fmt.Sprintf("%s, agg: %s, unit: %s, window: %dms", f, pick(rng, []string{"time_since_first", "time_since_last"}), unit, min(scale, 100*map[string]int64{"minute": 60_000, "hour": 3_600_000, "day": 86_400_000}[unit]))
	case rng.IntN(8) == 0:
		f += fmt.Sprintf(", agg: %s, of: vector, dim: 3", pick(rng, []string{"first", "last"}))
	case x.columns == nil:
		f += ", agg: " + x.agg
	default:
		f += fmt.Sprintf(", agg: %s, of: %s", x.agg, pick(rng, x.columns))
	}
	if x.agg == "count_distinct" && rng.IntN(3) == 0 && !o.reordering && !strings.Contains(f, "vector") {
		f += fmt.Sprintf(", max_distinct: %d", 1+rng.IntN(5))
	}
	if rng.IntN(3) == 0 {
		f += ", where: '" + pick(rng, conditions) + "'"
	}
	if rng.IntN(4) == 0 {
		f += ", window: lifetime"
	}
	return f
}
