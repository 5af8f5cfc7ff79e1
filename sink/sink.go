// Package sink says what a row is, which the online store and the log share.
package sink

import (
	"time"

	"github.com/freshet-dev/freshet/schemas"
)

// Never is the ValidUntil of a row that no passing of time changes, in ms.
const Never int64 = 1<<63 - 1

// Version is the version of a value: monotone for an entity of a group version, compared field by field. Its text is
// generation (8 hex) - offset (16 hex) - as-of (12 hex), lower case, which compares bytewise in the same order.
type Version struct {
	Generation uint32
	Offset     int64 // ≥ 0, or −1 before any record
	AsOf       int64 // ms since the epoch
}

// Cause says why a row was made.
type Cause uint8

// The causes, of the row's last event. The numbers are stored in row segments.
const (
	Event    Cause = 1
	Late     Cause = 2
	Decay    Cause = 3
	Backfill Cause = 4
)

// String returns the cause as the log writes it.
func (c Cause) String() string { return [...]string{"", "event", "late", "decay", "backfill"}[c] }

// Row is one version of all features of one entity.
type Row struct {
	Entity      []byte // the entity's text (schemas.AppendEntity)
	Version     Version
	ValidUntil  int64 // ms: the first instant at which the value changes without a new event; or Never
	ComputedAt  int64 // µs: the wall clock when it was evaluated
	AvailableAt int64 // µs: when the online store had acknowledged it; 0 until then
	Cause       Cause
	Last        bool            // the entity's last row: nothing is left of it
	Values      []schemas.Value // the features, in definition order
}

// Field is one key field or feature of a Spec.
type Field struct {
	Name string
	Type schemas.Type
}

// Spec describes the rows of one group version.
type Spec struct {
	Group    string
	Version  int
	Hash     uint64  // the definition's
	Entity   string  // the entity's name
	Keys     []Field // the entity column(s)
	Features []Field
	TTL      time.Duration // of an entity in the online store; 0: never expires
}
