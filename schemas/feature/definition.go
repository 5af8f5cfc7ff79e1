package feature

import (
	"fmt"
	"regexp"
	"strconv"
)

// Limits of definitions. Beyond one the definition is refused.
const (
	MaxFileBytes   = 1 << 20 // of a definition, and of a schema file
	MaxFeatures    = 2000    // of a group, windows expanded
	MaxColumns     = 256     // of a plan
	MaxFilters     = 63      // distinct `where` of features in a group
	MaxSteps       = 200     // changes of one time_since_… while an event is in its window
	MaxNameBytes   = 63      // of a feature, windows expanded
	MinTick        = 100     // ms
	maxDurationDay = 36500
	msPerDay       = 86_400_000
)

// What is assumed where a definition says nothing.
const (
	defaultMaxFuture   = 5 * 60_000
	defaultFreshness   = 10_000
	defaultHorizon     = 90 * msPerDay // where a group has only lifetime features
	defaultMaxDistinct = 1_000_000
)

// form is what the value of a key is written as.
type form uint8

const (
	formText form = iota
	formInteger
	formDuration   // 30d; item.number is in ms
	formWindow     // 30d or lifetime
	formExpression // CEL
	formTexts      // a list of texts
	formWindows    // a list of windows
	formObject     // keys and values
	formObjects    // a list of objects
)

func (f form) String() string {
	return [...]string{"a text", "an integer", "a duration", "a window", "an expression", "a list of texts", "a list of windows", "a map", "a list of maps"}[f]
}

const (
	namePattern     = `^[a-z][a-z0-9_]{0,62}$`
	columnPattern   = `^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*$`
	durationPattern = `^[1-9][0-9]{0,11}(ms|s|m|h|d)$`
	windowPattern   = `^([1-9][0-9]{0,11}(ms|s|m|h|d)|lifetime)$`
	nameShape       = "lower-case letters, digits and _, a letter first, at most 63 in all"
	columnShape     = "a field of the schema; fields of records are joined by a dot"
	durationShape   = "a whole number and ms, s, m, h or d, such as 90s or 30d"
)

// key is one key of a definition. The tables of keys below are the one source of what the parser allows and of the JSON Schema.
type key struct {
	name     string
	form     form
	required bool
	pattern  string // of the text, or of each text of a list
	shape    string // the pattern in words
	enum     []string
	min, max int64 // of an integer; of a duration in ms; else of the number of items or characters. 0: no limit
	keys     []key // of an object, or of each object of a list
	doc      string
}

// definitionKeys are the keys of a definition file.
var definitionKeys = []key{
	{name: "group", required: true, pattern: namePattern, shape: nameShape, doc: "Name of the feature group; also its name in Redis and in the log."},
	{name: "version", form: formInteger, required: true, min: 1, max: 999_999, doc: "Immutable once run: an edit that changes values needs the next version."},
	{name: "entity", form: formObject, required: true, keys: entityKeys, doc: "What the features describe."},
	{name: "owner", max: 4096, doc: "Who answers for the group."},
	{name: "description", max: 4096, doc: "What the group is about."},
	{name: "tags", form: formTexts, max: 64, doc: "Words to find the group by."},
	{name: "source", form: formObject, required: true, keys: sourceKeys, doc: "Where events come from, and which of them count."},
	{name: "freshness", form: formDuration, min: MinTick, max: msPerDay, doc: "The longest a value may be older than its inputs: the SLA. Default 10s."},
	{name: "tick", form: formDuration, min: MinTick, max: msPerDay, doc: "How often changes that are due without a new event are worked off. Default: the freshness."},
	{name: "horizon", form: formDuration, max: maxDurationDay * msPerDay, doc: "How old an event may be and still count. Default: the longest window, or 90d where there is none."},
	{name: "where", form: formExpression, doc: "Only events for which this CEL expression is true count."},
	{name: "windows", form: formWindows, min: 1, max: 64, doc: "The windows of features that declare none: one feature each, with the window as suffix."},
	{name: "features", form: formObjects, required: true, min: 1, max: MaxFeatures, keys: featureKeys, doc: "The features, in the order of the log's columns."},
}

var entityKeys = []key{
	{name: "name", required: true, pattern: namePattern, shape: nameShape, doc: "Name of the entity, such as user."},
	{name: "key", form: formTexts, required: true, min: 1, max: 16, pattern: columnPattern, shape: columnShape, doc: "The event fields that identify an entity: string, int, long, uuid or fixed, without null."},
}

var sourceKeys = []key{
	{name: "topic", required: true, pattern: `^[A-Za-z0-9._-]{1,249}$`, shape: "letters, digits, '.', '_' and '-', at most 249", doc: "The Kafka topic."},
	{name: "schema", required: true, min: 1, max: 1024, doc: "File of the Avro schema to read events with, relative to this file."},
	{name: "time", required: true, pattern: columnPattern, shape: columnShape, doc: "The event time: timestamp-millis, timestamp-micros, or a long with `unit`."},
	{name: "unit", enum: []string{"ms", "us", "s"}, doc: "What the event time counts, where it is a plain long."},
	{name: "id", pattern: columnPattern, shape: columnShape, doc: "The event's id, by which duplicates are known. Left out: every record is an event of its own."},
	{name: "partitioned_by", pattern: columnPattern, shape: columnShape, doc: "The key field whose text is the record key. Default: the first."},
	{name: "key_format", enum: []string{"text", "long", "avro", "any"}, doc: "How the record key is written; any: it is not checked. Default text."},
	{name: "partitioner", enum: []string{"murmur2", "crc32", "any"}, doc: "How producers choose the partition: murmur2 (Java, franz-go), crc32 (librdkafka), any: not checked. Default murmur2."},
	{name: "max_future", form: formDuration, max: msPerDay * 366, doc: "How far an event may be ahead of its record's timestamp. Default 5m."},
	{name: "history", enum: []string{"rows", "daily", "none"}, doc: "Which rows the log gets of events before the version's first start. Default rows."},
}

var featureKeys = []key{
	{name: "name", required: true, pattern: namePattern, shape: nameShape, doc: "Name of the feature; windows from a list are appended, as in total_7d."},
	{name: "agg", enum: aggregationNames(), doc: "The aggregation over the events of the window."},
	{name: "of", pattern: columnPattern, shape: columnShape, doc: "The event field that is aggregated."},
	{name: "where", form: formExpression, doc: "Only events for which this CEL expression is true, too, count."},
	{name: "window", form: formWindow, doc: "The one window of the feature, which then has exactly its name."},
	{name: "windows", form: formWindows, min: 1, max: 64, doc: "The windows of the feature: one feature each, with the window as suffix."},
	{name: "unit", enum: []string{"day", "hour", "minute"}, doc: "What time_since_first and time_since_last count."},
	{name: "dim", form: formInteger, min: 1, max: 65_536, doc: "The number of elements of an embedding; another number is refused."},
	{name: "max_distinct", form: formInteger, min: 1, max: 100_000_000, doc: "Values a count_distinct holds for an entity before it gives up and is null. Default 1000000."},
	{name: "derive", form: formExpression, doc: "CEL over the features above, by their names."},
	{name: "description", max: 4096, doc: "What the feature says."},
}

// laterKeys are keys of features that come with a later version.
var laterKeys = []string{"by", "max_keys", "offset", "n", "k", "p", "distinct"}

var units = map[string]int64{"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": msPerDay, "minute": 60_000, "hour": 3_600_000, "day": msPerDay}

var durationParts = regexp.MustCompile(`^([0-9]+)([a-z]+)$`)

// parseDuration returns the ms of a text that matches durationPattern, or says what is wrong with it.
func parseDuration(text string) (ms int64, wrong string) {
	parts := durationParts.FindStringSubmatch(text)
	if parts == nil || units[parts[2]] == 0 {
		return 0, "is not a duration"
	}
	n, err := strconv.ParseInt(parts[1], 10, 64)
	if err != nil || n > maxDurationDay*msPerDay/units[parts[2]] {
		return 0, fmt.Sprintf("is longer than %dd", maxDurationDay)
	}
	return n * units[parts[2]], ""
}
