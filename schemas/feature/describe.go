package feature

import (
	"bytes"
	"encoding/json"

	"github.com/cespare/xxhash/v2"
)

// The description of a plan: what its hash covers. Keys are only ever added, with omitempty, so that frozen versions keep their hashes.
type (
	planDescription struct {
		Semantics int                          `json:"semantics"`
		Group     string                       `json:"group"`
		Version   int                          `json:"version"`
		Entity    entityDescription            `json:"entity"`
		Source    sourceDescription            `json:"source"`
		Where     string                       `json:"where,omitempty"`
		Freshness int64                        `json:"freshness_ms"`
		Tick      int64                        `json:"tick_ms"`
		Horizon   int64                        `json:"horizon_ms"`
		Columns   map[string]columnDescription `json:"columns"`
		Features  []featureDescription         `json:"features"`
	}
	entityDescription struct {
		Name string   `json:"name"`
		Key  []string `json:"key"`
	}
	sourceDescription struct {
		Topic         string `json:"topic"`
		Time          string `json:"time"`
		Unit          string `json:"unit,omitempty"`
		ID            string `json:"id,omitempty"`
		PartitionedBy string `json:"partitioned_by"`
		KeyFormat     string `json:"key_format"`
		Partitioner   string `json:"partitioner"`
		MaxFuture     int64  `json:"max_future_ms"`
		History       string `json:"history"`
	}
	columnDescription struct {
		Type       string `json:"type"`
		Nullable   bool   `json:"nullable,omitempty"`
		Resolution string `json:"resolution,omitempty"`
	}
	featureDescription struct {
		Name        string `json:"name"`
		Type        string `json:"type"`
		Agg         string `json:"agg,omitempty"`
		Of          string `json:"of,omitempty"`
		Where       string `json:"where,omitempty"`
		Window      string `json:"window,omitempty"` // in the largest unit that holds it whole, or lifetime
		Unit        int64  `json:"unit_ms,omitempty"`
		MaxDistinct int64  `json:"max_distinct,omitempty"`
		Derive      string `json:"derive,omitempty"`
	}
)

// Describe returns the resolved plan as canonical JSON: everything that decides what its values are, and nothing else (owner, description,
// tags and file names are not in it). Features are described one by one, in order, so that a comparison can name the one that changed.
func (p *Plan) Describe() []byte {
	path := func(i int) string { return p.Columns[i].Path }
	d := planDescription{
		Semantics: Semantics, Group: p.Group, Version: p.Version, Entity: entityDescription{Name: p.EntityName},
		Source: sourceDescription{
			Topic: p.Source.Topic, Time: path(p.Source.TimeColumn), Unit: p.Source.TimeUnit, PartitionedBy: path(p.Source.PartitionedBy),
			KeyFormat: p.Source.KeyFormat, Partitioner: p.Source.Partitioner, MaxFuture: p.Source.MaxFuture, History: p.Source.History,
		},
		Freshness: p.Freshness, Tick: p.Tick, Horizon: p.Horizon, Columns: map[string]columnDescription{},
	}
	if p.Source.IDColumn >= 0 {
		d.Source.ID = path(p.Source.IDColumn)
	}
	if p.Where != nil {
		d.Where = p.Where.Canonical()
	}
	for _, k := range p.Keys {
		d.Entity.Key = append(d.Entity.Key, k.Name)
	}
	for _, c := range p.Columns {
		d.Columns[c.Path] = columnDescription{Type: typeName(c.Type), Nullable: c.Nullable, Resolution: c.Resolution}
	}
	for _, f := range p.Features {
		d.Features = append(d.Features, p.describe(f))
	}
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(d); err != nil {
		panic(err) // texts, integers and maps of them
	}
	return bytes.TrimSuffix(text.Bytes(), []byte("\n"))
}

func (p *Plan) describe(f Feature) featureDescription {
	d := featureDescription{Name: f.Name, Type: typeName(f.Type), Unit: f.Unit, MaxDistinct: f.MaxDistinct}
	if f.Agg == Derived {
		d.Derive = f.Derive.Canonical()
		return d
	}
	d.Agg, d.Window = f.Agg.String(), "lifetime"
	if f.Window != Lifetime {
		d.Window = formatDuration(f.Window)
	}
	if f.Column >= 0 {
		d.Of = p.Columns[p.Stored[f.Column]].Path
	}
	if f.Filter >= 0 {
		d.Where = p.Filters[f.Filter].Canonical()
	}
	return d
}

// hash is the xxHash64 of the description.
func hash(p *Plan) uint64 { return xxhash.Sum64(p.Describe()) }
