// Package registry freezes versions of definitions: once a version of a group has run, what decides its values may not change, because
// someone trains on them. It is pure; where records are kept is the processor's concern.
package registry

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/cespare/xxhash/v2"

	"github.com/freshet-dev/freshet/schemas/feature"
)

// Format is the version of the encoding of records. A record of another format is refused.
const Format = 1

// Record says what a version of a group was when it first ran.
type Record struct {
	Format    int             `json:"format"`
	Group     string          `json:"group"`
	Version   int             `json:"version"`
	Hash      string          `json:"hash"` // xxHash64 of Plan, 16 lower-case hex digits; the log's definition_hash
	Semantics int             `json:"semantics"`
	Plan      json.RawMessage `json:"plan"` // the canonical description (feature.Plan.Describe)
}

// Freeze returns the record of a plan.
func Freeze(p *feature.Plan) Record {
	return Record{Format: Format, Group: p.Group, Version: p.Version, Hash: hashText(p.Hash), Semantics: feature.Semantics, Plan: p.Describe()}
}

func hashText(h uint64) string { return fmt.Sprintf("%016x", h) }

// Encode returns the record as one line of JSON. Equal records have equal bytes.
func (r Record) Encode() []byte {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false) // Plan must keep its bytes
	if err := encoder.Encode(r); err != nil {
		panic(fmt.Sprintf("encode the record of %s version %d: %v", r.Group, r.Version, err)) // only a Plan that is not JSON can do that
	}
	return text.Bytes()
}

// Decode is the inverse of Encode. It refuses formats it does not know and records whose plan is not the one that was hashed.
func Decode(text []byte) (Record, error) {
	var version struct {
		Format int `json:"format"`
	}
	if err := json.Unmarshal(text, &version); err != nil {
		return Record{}, fmt.Errorf("decode frozen version: %w", err)
	}
	if version.Format != Format {
		return Record{}, fmt.Errorf("decode frozen version: format %d is not known; use the freshet that wrote it, or a newer one", version.Format)
	}
	var r Record
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&r); err != nil {
		return Record{}, fmt.Errorf("decode frozen version: %w", err)
	}
	if got := hashText(xxhash.Sum64(r.Plan)); got != r.Hash {
		return Record{}, fmt.Errorf("decode frozen version: the record of %s version %d is damaged: its plan hashes to %s, not %s", r.Group, r.Version, got, r.Hash)
	}
	return r, nil
}

// ChangedError says that a definition is not what its version was when it first ran.
type ChangedError struct {
	Group   string
	Version int
	Changes []string // "feature total_spend_7d: of was amount, is price", …; features first
}

// Error names the changes and the mend.
func (e *ChangedError) Error() string {
	return fmt.Sprintf("group %s version %d has run and is frozen, but its definition changed: %s; undo that, or write `version: %d`",
		e.Group, e.Version, strings.Join(e.Changes, "; "), e.Version+1)
}

// SemanticsError says that a version was first run by a freshet whose values could differ from this one's.
type SemanticsError struct {
	Group        string
	Version      int
	Frozen, Ours int
}

// Error names both and the mend.
func (e *SemanticsError) Error() string {
	return fmt.Sprintf("group %s version %d was frozen with semantics %d, this freshet computes semantics %d; run it with the freshet that it ran with, or write `version: %d`",
		e.Group, e.Version, e.Frozen, e.Ours, e.Version+1)
}

// Check returns nil where the plan is what the record says, a *SemanticsError where the record is of another semantics, and a
// *ChangedError that names the features that changed otherwise.
func Check(r Record, p *feature.Plan) error {
	if r.Group != p.Group || r.Version != p.Version {
		return fmt.Errorf("check frozen version: the record is of %s version %d, the plan is %s version %d", r.Group, r.Version, p.Group, p.Version)
	}
	if r.Semantics != feature.Semantics {
		return &SemanticsError{Group: r.Group, Version: r.Version, Frozen: r.Semantics, Ours: feature.Semantics}
	}
	if r.Hash == hashText(p.Hash) {
		return nil
	}
	changes, err := compare(r.Plan, p.Describe())
	if err != nil {
		return fmt.Errorf("check frozen version: %w", err)
	}
	return &ChangedError{Group: r.Group, Version: r.Version, Changes: changes}
}

// compare names the differences of two descriptions: of features by name, then of the group.
func compare(before, after []byte) ([]string, error) {
	var was, is map[string]any
	for _, d := range []struct {
		text []byte
		into *map[string]any
	}{{before, &was}, {after, &is}} {
		decoder := json.NewDecoder(bytes.NewReader(d.text))
		decoder.UseNumber()
		if err := decoder.Decode(d.into); err != nil {
			return nil, fmt.Errorf("read the description of a plan: %w", err)
		}
	}
	changes := compareFeatures(features(was), features(is))
	columns := compareColumns(was["columns"], is["columns"])
	delete(was, "features")
	delete(is, "features")
	delete(was, "columns")
	delete(is, "columns")
	changes = append(changes, compareMaps("", was, is)...)
	changes = append(changes, columns...)
	if changes == nil {
		changes = []string{"the order of its parts"}
	}
	return changes, nil
}

type named struct {
	name string
	keys map[string]any
}

func features(d map[string]any) []named {
	list, _ := d["features"].([]any)
	var all []named
	for _, f := range list {
		keys, _ := f.(map[string]any)
		name, _ := keys["name"].(string)
		all = append(all, named{name, keys})
	}
	return all
}

func compareFeatures(was, is []named) []string {
	var changes []string
	find := func(all []named, name string) int {
		return slices.IndexFunc(all, func(f named) bool { return f.name == name })
	}
	var common []string // in the order they were
	for _, f := range was {
		at := find(is, f.name)
		if at < 0 {
			changes = append(changes, "feature "+f.name+" is gone")
			continue
		}
		common = append(common, f.name)
		if differences := compareMaps("", f.keys, is[at].keys); differences != nil {
			changes = append(changes, "feature "+f.name+": "+strings.Join(differences, ", "))
		}
	}
	for _, f := range is {
		if find(was, f.name) < 0 {
			changes = append(changes, "feature "+f.name+" is new")
			continue
		}
		if f.name != common[0] {
			changes = append(changes, "feature "+f.name+" has moved: it came after "+common[0])
			common = slices.DeleteFunc(common, func(name string) bool { return name == f.name })
			continue
		}
		common = common[1:]
	}
	return changes
}

// compareColumns names the columns whose type or default changed. Columns that came or went do so with features or `where`, which say it.
func compareColumns(was, is any) []string {
	before, _ := was.(map[string]any)
	after, _ := is.(map[string]any)
	for name := range before {
		if _, ok := after[name]; !ok {
			delete(before, name)
		}
	}
	for name := range after {
		if _, ok := before[name]; !ok {
			delete(after, name)
		}
	}
	return compareMaps("column ", before, after)
}

// compareMaps names the keys with different values, sorted, nested ones by their path.
func compareMaps(prefix string, was, is map[string]any) []string {
	names := make([]string, 0, len(was)+len(is))
	for name := range was {
		names = append(names, name)
	}
	for name := range is {
		names = append(names, name)
	}
	slices.Sort(names)
	var changes []string
	for _, name := range slices.Compact(names) {
		before, isMap := was[name].(map[string]any)
		after, isMap2 := is[name].(map[string]any)
		if isMap && isMap2 {
			changes = append(changes, compareMaps(prefix+name+".", before, after)...)
			continue
		}
		x, y := text(was[name]), text(is[name])
		if x != y {
			changes = append(changes, fmt.Sprintf("%s%s was %s, is %s", prefix, name, x, y))
		}
	}
	return changes
}

func text(v any) string {
	switch v := v.(type) {
	case nil:
		return "not there"
	case string:
		return v
	}
	b, _ := json.Marshal(v) // it came from JSON
	return string(b)
}
