package registry

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/freshet-dev/freshet/schemas/feature"
)

var update = flag.Bool("update", false, "rewrite testdata")

const definition = `group: buys
version: 1
entity: {name: user, key: [user_id]}
owner: team@example.com
source: {topic: purchases, schema: purchase.avsc, time: event_time, id: event_id}
where: status != "cancelled" && amount < 1e6
windows: [1d, 7d]
features:
  - {name: spend, agg: sum, of: amount}
  - {name: big, agg: count, where: amount > 100.0}
  - {name: last_category, agg: last, of: category, window: 30d}
  - {name: share, derive: "spend_7d > 0.0 ? spend_1d / spend_7d : 0.0"}
`

func plan(t testing.TB, replace ...string) *feature.Plan {
	t.Helper()
	schema, err := os.ReadFile("../catalog/purchase.avsc")
	if err != nil {
		t.Fatal(err)
	}
	var pairs, inText []string
	for i := 0; i < len(replace); i += 2 {
		if !strings.Contains(definition+string(schema), replace[i]) {
			t.Fatalf("%q is nowhere", replace[i])
		}
		pairs, inText = append(pairs, replace[i], replace[i+1]), append(inText, replace[i])
	}
	r := strings.NewReplacer(pairs...)
	p, problems := feature.Parse("buys.yaml", []byte(r.Replace(definition)), func(string) ([]byte, error) { return []byte(r.Replace(string(schema))), nil })
	if p == nil {
		t.Fatalf("%v: %v", inText, problems.Err())
	}
	return p
}

func TestRoundTrip(t *testing.T) {
	r := Freeze(plan(t))
	text := r.Encode()
	back, err := Decode(text)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(back.Encode(), text) {
		t.Errorf("%s becomes %s", text, back.Encode())
	}
	if err := Check(back, plan(t, "team@example.com", "other@example.com")); err != nil {
		t.Errorf("metadata is frozen: %v", err)
	}
}

// TestGolden keeps the bytes of format 1: records written today must be read by every later freshet.
func TestGolden(t *testing.T) {
	if *update {
		if err := os.WriteFile("testdata/format1.json", Freeze(plan(t)).Encode(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile("testdata/format1.json")
	if err != nil {
		t.Fatal(err)
	}
	if got := Freeze(plan(t)).Encode(); !bytes.Equal(got, text) {
		t.Errorf("a record is\n%sthe golden one is\n%s", got, text)
	}
	r, err := Decode(text)
	if err != nil {
		t.Fatal(err)
	}
	if err := Check(r, plan(t)); err != nil {
		t.Error(err)
	}
}

func TestDecodeRefuses(t *testing.T) {
	text := string(Freeze(plan(t)).Encode())
	for name, c := range map[string]struct{ from, to, want string }{
		"format":  {`"format":1`, `"format":2`, "format 2 is not known"},
		"damage":  {`"of":"amount"`, `"of":"amounT"`, "is damaged"},
		"no JSON": {`{"format"`, `"format"`, "decode frozen version"},
		"key":     {`"semantics"`, `"semantic"`, "unknown field"},
	} {
		if !strings.Contains(text, c.from) {
			t.Fatalf("%s is not in %s", c.from, text)
		}
		if _, err := Decode([]byte(strings.Replace(text, c.from, c.to, 1))); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCheckNamesWhatChanged(t *testing.T) {
	frozen := Freeze(plan(t))
	for _, c := range []struct {
		from, to string
		want     []string
	}{
		{"agg: sum, of: amount", "agg: avg, of: amount", []string{"feature spend_1d: agg was sum, is avg", "feature spend_7d: agg was sum, is avg"}},
		{"amount > 100.0", "amount > 10.0", []string{"feature big_1d: where was (amount > 100.0), is (amount > 10.0)", "feature big_7d: where was (amount > 100.0), is (amount > 10.0)"}},
		{", window: 30d", ", window: 31d", []string{"feature last_category: window was 30d, is 31d", "horizon_ms was 2592000000, is 2678400000"}},
		{"name: last_category, agg: last, of: category", "name: last_currency, agg: last, of: currency", []string{"feature last_category is gone", "feature last_currency is new"}},
		{"  - {name: last_category", "  - {name: n, agg: count, window: 1d}\n  - {name: last_category", []string{"feature n is new"}},
		{`spend_1d / spend_7d : 0.0`, `spend_1d / spend_7d : 1.0`, []string{"feature share: derive was ((spend_7d > 0.0) ? (spend_1d / spend_7d) : 0.0), is ((spend_7d > 0.0) ? (spend_1d / spend_7d) : 1.0)"}},
		{"topic: purchases", "topic: orders", []string{"source.topic was purchases, is orders"}},
		{"1e6", "1e5", []string{`where was ((status != "cancelled") && (amount < 1e+06)), is ((status != "cancelled") && (amount < 100000.0))`}},
		{`"default": "completed"`, `"default": "open"`, []string{`column status.resolution was status="completed", is status="open"`}},
		{"windows: [1d, 7d]", "windows: [7d, 1d]", []string{"feature spend_7d has moved: it came after spend_1d", "feature big_7d has moved: it came after big_1d"}},
	} {
		var changed *ChangedError
		err := Check(frozen, plan(t, c.from, c.to))
		if !errors.As(err, &changed) {
			t.Errorf("%q → %q: %v", c.from, c.to, err)
			continue
		}
		if got, want := strings.Join(changed.Changes, "\n"), strings.Join(c.want, "\n"); got != want {
			t.Errorf("%q → %q:\n%s\nwant:\n%s", c.from, c.to, got, want)
		}
		if !strings.Contains(err.Error(), "write `version: 2`") {
			t.Errorf("no mend in %v", err)
		}
	}
}

func TestCheckRefuses(t *testing.T) {
	r := Freeze(plan(t))
	if err := Check(r, plan(t, "version: 1", "version: 2")); err == nil {
		t.Error("a record of another version passes")
	}
	var semantics *SemanticsError
	r.Semantics++
	if err := Check(r, plan(t)); !errors.As(err, &semantics) || !strings.Contains(err.Error(), "semantics 2") {
		t.Errorf("another semantics: %v", err)
	}
}
