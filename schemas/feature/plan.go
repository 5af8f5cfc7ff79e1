package feature

import (
	"github.com/freshet-dev/freshet/schemas"
)

// Semantics is raised whenever any value could come out differently for the same definition and events. It is part of every definition's
// hash: a binary refuses a frozen version of another semantics.
const Semantics = 1

// Agg is an aggregation over the events of a window.
type Agg uint8

// The aggregations. The numbers are part of definition hashes: never renumber them.
const (
	Derived        Agg = 0 // not an aggregation: Feature.Derive says how it is computed from the features before it
	Count          Agg = 1 // with Column ≥ 0: of the non-null values
	Sum            Agg = 2
	Avg            Agg = 3
	Min            Agg = 4
	Max            Agg = 5
	Variance       Agg = 6 // sample
	VariancePop    Agg = 7
	Stddev         Agg = 8 // sample
	StddevPop      Agg = 9
	CountDistinct  Agg = 10
	First          Agg = 11
	Last           Agg = 12
	FirstTime      Agg = 13
	LastTime       Agg = 14
	TimeSinceFirst Agg = 15
	TimeSinceLast  Agg = 16
)

// Lifetime is the window of a feature over all events ever accepted.
const Lifetime int64 = 0

// Plan is a definition, compiled for the loops: no names are looked up and nothing is parsed once it exists. It is read-only and may be
// shared by goroutines (programs evaluate without shared scratch). All durations are in ms.
type Plan struct {
	Group       string
	Version     int
	Hash        uint64 // of the resolved plan, its input and output types, and Semantics; metadata (owner, description, tags) is not in it
	Owner       string
	Description string
	Tags        []string

	EntityName string
	Keys       []Key
	Source     Source

	// Columns are the event columns that the plan reads, in the order the decoder fills them. All column numbers below index it.
	Columns []Column
	Where   *Program   // over Columns; nil: every event
	Filters []*Program // the distinct `where` of features, over Columns, at most 63

	// Stored are the columns kept with an event in the state, ascending. Feature.Column indexes Stored, not Columns.
	Stored   []int
	Features []Feature // in definition order, windows expanded

	Freshness   int64 // the SLA
	Tick        int64
	Horizon     int64 // ≥ Reach
	Reach       int64 // longest window of a feature; 0 where there are only lifetime features
	HasLifetime bool

	line int // of the version in its file
}

// Key is one field of the entity key.
type Key struct {
	Name   string
	Column int
	Type   schemas.Type // String, Int, UUID, Bytes (fixed)
}

// Source says where events come from and how a record is admitted.
type Source struct {
	Topic         string
	SchemaFile    string // the reader schema's file, as written
	Schema        []byte // the reader schema's text (JSON)
	TimeColumn    int
	TimeUnit      string // "ms", "us" or "s" where the column is a plain long (Int); "" where it is a Time
	IDColumn      int    // −1: every record is its own event
	PartitionedBy int    // column whose text the record key must be
	KeyFormat     string // "text", "long", "avro" or "any"
	Partitioner   string // "murmur2", "crc32" or "any"
	MaxFuture     int64  // ms
	History       string // "rows", "daily" or "none"
}

// Column is one column the decoder fills.
type Column struct {
	Path       string // as in the reader schema, nested fields joined by '.'
	Type       schemas.Type
	Nullable   bool
	Resolution string // the reader schema's defaults and aliases on the way to it, as text; part of the hash
}

// Feature is one output of a plan.
type Feature struct {
	Name        string
	Description string
	Type        schemas.Type // of the output
	Agg         Agg
	Column      int          // index into Plan.Stored, or −1 (count, first_time, …)
	ColumnType  schemas.Type // the type of that column
	Window      int64        // ms, or Lifetime
	Filter      int          // index into Plan.Filters, or −1: an event is in this feature's windows only if that filter is true for it
	Unit        int64        // ms: TimeSinceFirst, TimeSinceLast
	MaxDistinct int64        // CountDistinct: beyond it the feature is null from then on
	Derive      *Program     // Agg == Derived: over the values of Features; only those before it that it names are read
}
