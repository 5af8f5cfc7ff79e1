package redis

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/freshet-dev/freshet/schemas"
	"github.com/freshet-dev/freshet/sink"
)

// Vector holds the features of one entity, all of one version.
//
// The accessors by name return ok = false where the feature is null, where the entity is unknown, and where the stored text is not of the
// wanted kind. They panic where the call did not ask for the feature: that is a misspelt name, not a null. (A vector of a reader without
// feature names holds whatever the entity has; a missing feature is null then.)
type Vector struct {
	Entity     []byte       // as it was asked for
	Known      bool         // false: no such entity, or it expired; nothing below is set
	Version    sink.Version // compare with Compare
	AsOf       int64        // ms since the epoch: the instant the values are computed for
	ValidUntil int64        // ms: when the values change if nothing new arrives; sink.Never: they do not
	Partition  int32        // of the topic; see Reader.Progress

	freshness time.Duration
	columns   *columns
	texts     [][]byte // nil: null
}

// Age returns how long before now the values were computed. An old value may well be right: see Expired.
func (v *Vector) Age(now time.Time) time.Duration { return now.Sub(time.UnixMilli(v.AsOf)) }

// Expired reports whether the values should have been replaced by now: ValidUntil has passed by more than the group's freshness SLA (0 for
// a reader without a Spec). The pipeline is late or down then. An unknown entity is not expired.
func (v *Vector) Expired(now time.Time) bool {
	return v.Known && v.ValidUntil != sink.Never && now.After(time.UnixMilli(v.ValidUntil).Add(v.freshness))
}

// Names returns the names of the features in the vector, in order. The slice must not be changed.
func (v *Vector) Names() []string { return v.columns.names }

// text returns nil for null.
func (v *Vector) text(name string) []byte {
	i, ok := v.columns.index[name]
	switch {
	case ok:
		return v.texts[i]
	case v.columns.found:
		return nil
	}
	panic(fmt.Sprintf("redis: feature %q was not asked for", name))
}

// Text returns a feature as it is stored: any feature has a text.
func (v *Vector) Text(name string) (text string, ok bool) {
	t := v.text(name)
	return string(t), t != nil
}

// Float64 returns a number. A decimal becomes the nearest double, as does an integer.
func (v *Vector) Float64(name string) (f float64, ok bool) {
	f, err := strconv.ParseFloat(string(v.text(name)), 64)
	return f, err == nil
}

// Int64 returns an integer.
func (v *Vector) Int64(name string) (n int64, ok bool) {
	n, err := strconv.ParseInt(string(v.text(name)), 10, 64)
	return n, err == nil
}

// Bool returns a truth value.
func (v *Vector) Bool(name string) (b, ok bool) {
	t := string(v.text(name))
	return t == "true", t == "true" || t == "false"
}

// Time returns a TIMESTAMP, in UTC.
func (v *Vector) Time(name string) (t time.Time, ok bool) {
	ms, ok := v.Int64(name)
	if !ok {
		return time.Time{}, false
	}
	return time.UnixMilli(ms).UTC(), true
}

// Floats returns an EMBEDDING.
func (v *Vector) Floats(name string) (f []float32, ok bool) {
	t := v.text(name)
	if t == nil || len(t)%4 != 0 {
		return nil, false
	}
	f = make([]float32, len(t)/4)
	for i := range f {
		f[i] = math.Float32frombits(binary.LittleEndian.Uint32(t[4*i:]))
	}
	return f, true
}

// Value returns a feature by its place in Names, read by its type; null has the kind Null. A reader without a Spec knows no types: every
// value is the stored Bytes. The value's Bytes belong to the vector.
func (v *Vector) Value(i int) (schemas.Value, error) {
	t, text := v.columns.types[i], v.texts[i]
	if text == nil {
		return schemas.Value{}, nil
	}
	if t.Kind == schemas.Null {
		return schemas.Value{Kind: schemas.Bytes, Bytes: text}, nil
	}
	value, err := sink.ParseText(text, t)
	if err != nil {
		return schemas.Value{}, fmt.Errorf("feature %s: %w", v.columns.names[i], err)
	}
	return value, nil
}

// foundColumns are the features of a hash read whole, ascending by name; reply is brought into their order.
func foundColumns(pairs [][]byte) (cols *columns, reply [][]byte) {
	values := make(map[string][]byte, len(pairs)/2)
	for i := 0; i+1 < len(pairs); i += 2 {
		values[string(pairs[i])] = pairs[i+1]
	}
	for _, f := range metaFields {
		reply = append(reply, values[f])
		delete(values, f)
	}
	names := slices.Sorted(maps.Keys(values))
	for _, n := range names {
		reply = append(reply, values[n])
	}
	cols = newColumns(untyped(names))
	cols.found = true
	return cols, reply
}
