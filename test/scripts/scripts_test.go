package scripts

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/freshet-dev/freshet/test/oracle"
)

var update = flag.Bool("update", false, "write what the oracle says into the scripts")

// judge is the oracle as an engine: at every question it works everything out again from the first record.
type judge struct {
	group    *oracle.Group
	records  []oracle.Record
	advances [][2]int64 // records before, instant
	told     int        // rows
}

func openJudge(t testing.TB, definition []byte) Engine {
	g, err := oracle.Load(definition, Schema())
	if err != nil {
		t.Fatal(err)
	}
	return &judge{group: g}
}

func (j *judge) history() (*oracle.History, error) {
	h, err := j.group.Admit(j.records, func(int32) []byte { return Schema() })
	if err == nil {
		for _, a := range j.advances {
			h.Advance(int(a[0]), a[1])
		}
	}
	return h, err
}

func (j *judge) Apply(r oracle.Record) (string, error) {
	j.records = append(j.records, r)
	h, err := j.history()
	if err != nil {
		return "", err
	}
	return h.Verdicts[len(h.Verdicts)-1].Reason, nil
}

func (j *judge) Advance(to int64) error {
	j.advances = append(j.advances, [2]int64{int64(len(j.records)), to})
	return nil
}

func (j *judge) Rows() ([]oracle.Row, error) {
	h, err := j.history()
	if err != nil {
		return nil, err
	}
	var rows []oracle.Row
	err = h.Rows(func(r *oracle.Row) error { rows = append(rows, *r); return nil })
	fresh := rows[j.told:]
	j.told = len(rows)
	return fresh, err
}

func TestOracle(t *testing.T) {
	if !*update {
		Run(t, openJudge)
		return
	}
	paths, err := filepath.Glob("golden/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range paths {
		text, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		played, err := Play(t, string(text), openJudge)
		if err != nil {
			t.Errorf("%s: %v", p, err)
			continue
		}
		if err := os.WriteFile(p, []byte(played), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// wrong is an engine that is the oracle but for one thing.
type wrong struct{ *judge }

func (w wrong) Rows() ([]oracle.Row, error) {
	rows, err := w.judge.Rows()
	for i := range rows {
		for k := range rows[i].Values {
			if rows[i].Values[k].Text == "0" {
				rows[i].Values[k].Null = true
			}
		}
	}
	return rows, err
}

func TestAWrongEngineIsFound(t *testing.T) {
	text, err := files.ReadFile("golden/empty-window.txt")
	if err != nil {
		t.Fatal(err)
	}
	played, err := Play(t, string(text), func(t testing.TB, definition []byte) Engine { return wrong{openJudge(t, definition).(*judge)} })
	if err != nil {
		t.Fatal(err)
	}
	if difference(string(text), played) == "" {
		t.Error("null for 0 was not found")
	}
}

func TestScriptsThatAreNotRight(t *testing.T) {
	const head = "definition\n  group: g\n"
	for text, want := range map[string]string{
		"# nothing":                             "no definition",
		head + "evnt 2026-01-01":                `line 3: "evnt" is not`,
		head + "event soon user=a":              "line 3: \"soon user=a\" does not begin with a time",
		head + "event 2026-01-01 usr=a":         `line 3: events have no field "usr"`,
		head + "event 2026-01-01 user=a price=": "is not a number",
		head + "at 2026-01-01":                  "line 3: at needs a table",
		head + "at 2026-01-01 10:00 ann\n  a":   `nothing may follow`,
	} {
		if _, err := parse(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}
