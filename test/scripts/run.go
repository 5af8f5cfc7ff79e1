package scripts

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/freshet-dev/freshet/test/oracle"
)

// Engine is what scripts try: one shard of one group. Its methods are called one after the other.
type Engine interface {
	// Apply gives the next record of the partition, after working off the ticks up to its clock. It returns what became of it, in the words
	// of admission: accepted, late, duplicate, …
	Apply(r oracle.Record) (verdict string, err error)
	// Advance lets the wall clock reach the instant to, in ms: all ticks up to it are worked off.
	Advance(to int64) error
	// Rows returns the rows made since the last call, in order.
	Rows() ([]oracle.Row, error)
}

// Open makes an engine for a definition; all its events are written with Schema, as schema 1. What it holds is released by t.Cleanup.
type Open func(t testing.TB, definition []byte) Engine

// Run plays every script with an engine of its own and reports where it does not say what the script says.
func Run(t *testing.T, open Open) {
	names, err := files.ReadDir("golden")
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		t.Run(strings.TrimSuffix(n.Name(), ".txt"), func(t *testing.T) {
			want, err := files.ReadFile(path.Join("golden", n.Name()))
			if err != nil {
				t.Fatal(err)
			}
			got, err := Play(t, string(want), open)
			if err != nil {
				t.Fatalf("%s: %v", n.Name(), err)
			}
			if diff := difference(string(want), got); diff != "" {
				t.Errorf("%s:\n%s", n.Name(), diff)
			}
		})
	}
}

// Play plays a script and returns its text with what the engine said in it.
func Play(t testing.TB, text string, open Open) (string, error) {
	s, err := parse(text)
	if err != nil {
		return "", err
	}
	group, err := oracle.Load(s.definition, Schema())
	if err != nil {
		return "", err
	}
	p := player{features: group.Features, engine: open(t, s.definition), newest: map[string]oracle.Row{}}
	for i := range s.steps {
		if err := p.play(&s.steps[i]); err != nil {
			return "", fmt.Errorf("line %d: %w", s.steps[i].line, err)
		}
	}
	p.flush()
	return p.out.String(), nil
}

// player writes a script anew.
type player struct {
	features []oracle.Feature
	engine   Engine
	out      strings.Builder
	events   [][2]string           // the event lines before, and their verdicts, not yet written
	newest   map[string]oracle.Row // by entity
	rows     []oracle.Row          // since the last `rows`
}

func (p *player) play(st *step) error {
	if st.kind != eventStep {
		p.flush()
		p.out.WriteString(st.text + "\n")
	}
	switch st.kind {
	case eventStep:
		verdict, err := p.engine.Apply(st.record)
		if err != nil {
			return err
		}
		p.events = append(p.events, [2]string{st.text, verdict})
	case atStep:
		if err := p.engine.Advance(st.time); err != nil {
			return err
		}
		if err := p.collect(); err != nil {
			return err
		}
		return p.at(st)
	case rowsStep:
		if err := p.collect(); err != nil {
			return err
		}
		return p.list(st)
	}
	return nil
}

func (p *player) collect() error {
	rows, err := p.engine.Rows()
	for _, r := range rows {
		r.Values = slices.Clone(r.Values)
		p.newest[r.Entity] = r
		p.rows = append(p.rows, r)
	}
	return err
}

// flush writes the event lines, their arrows in one column.
func (p *player) flush() {
	width := 0
	for _, e := range p.events {
		width = max(width, utf8.RuneCountInString(e[0]))
	}
	for _, e := range p.events {
		fmt.Fprintf(&p.out, "%-*s  -> %s\n", width, e[0], e[1])
	}
	p.events = nil
}

// at writes the table of the entities' newest values.
func (p *player) at(st *step) error {
	table := [][]string{st.header}
	for _, key := range st.keys {
		line := []string{key}
		for _, name := range st.header[1:] {
			r, known := p.newest[key]
			text, err := p.value(&r, known, name)
			if err != nil {
				return err
			}
			line = append(line, text)
		}
		table = append(table, line)
	}
	p.table(table)
	return nil
}

// list writes the table of rows.
func (p *player) list(st *step) error {
	table := [][]string{st.header}
	for i := range p.rows {
		var line []string
		for _, name := range st.header {
			text, err := p.value(&p.rows[i], true, name)
			if err != nil {
				return err
			}
			line = append(line, text)
		}
		table = append(table, line)
	}
	p.rows = nil
	p.table(table)
	return nil
}

// value is the text of one column of a row.
func (p *player) value(r *oracle.Row, known bool, name string) (string, error) {
	i := slices.IndexFunc(p.features, func(f oracle.Feature) bool { return f.Name == name })
	switch {
	case name == "user":
		return r.Entity, nil
	case name == "as_of":
		return timeText(r.AsOf), nil
	case name == "valid_until" && r.ValidUntil == oracle.Never:
		return "never", nil
	case name == "valid_until":
		return timeText(r.ValidUntil), nil
	case name == "cause":
		return r.Cause, nil
	case i < 0:
		return "", fmt.Errorf("there is no feature %q", name)
	case !known:
		return "-", nil
	case r.Values[i].Null:
		return "null", nil
	case p.features[i].Kind == "time":
		var ms int64
		_, err := fmt.Sscan(r.Values[i].Text, &ms)
		return timeText(ms), err
	}
	return r.Values[i].Text, nil
}

func (p *player) table(lines [][]string) {
	for _, line := range lines {
		text := " "
		for i, cell := range line {
			width := 0
			for _, other := range lines {
				width = max(width, utf8.RuneCountInString(other[i]))
			}
			if i > 0 {
				text += " |"
			}
			text += fmt.Sprintf(" %-*s", width, cell)
		}
		p.out.WriteString(strings.TrimRight(text, " ") + "\n")
	}
}

// difference shows the lines in which two texts differ; empty if there are none.
func difference(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	var out strings.Builder
	for i := range max(len(w), len(g)) {
		var a, b string
		if i < len(w) {
			a = w[i]
		}
		if i < len(g) {
			b = g[i]
		}
		if a != b {
			fmt.Fprintf(&out, "line %d:\n  script: %s\n  engine: %s\n", i+1, a, b)
		}
	}
	return out.String()
}
