package lint

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func deployed(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile("../../deploy/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func names(text, pattern string) (found []string) {
	for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
		found = append(found, m[1])
	}
	slices.Sort(found)
	return found
}

// TestAlertsHaveRunbookAndTest: each alert has exactly one section in the runbook, which it links to, and exactly one case in promtool's
// test, and the reverse.
func TestAlertsHaveRunbookAndTest(t *testing.T) {
	rules := deployed(t, "prometheus/freshet.rules.yaml")
	alerts := names(rules, `(?m)^\s+- alert: (\w+)$`)
	if len(alerts) == 0 {
		t.Fatal("no alerts were found")
	}
	if got := names(deployed(t, "RUNBOOK.md"), `(?m)^## (\w+)$`); !slices.Equal(got, alerts) {
		t.Errorf("the runbook has sections for %q, the alerts are %q", got, alerts)
	}
	if got := names(deployed(t, "prometheus/freshet.rules.test.yaml"), `- alertname: (\w+)`); !slices.Equal(got, alerts) {
		t.Errorf("the test has cases for %q, the alerts are %q", got, alerts)
	}
	links := names(rules, `RUNBOOK\.md#(\w+)"`)
	for i, a := range alerts {
		if i >= len(links) || links[i] != strings.ToLower(a) {
			t.Errorf("%s does not link to its section; the links are %q", a, links)
			break
		}
	}
	for _, part := range []string{"Means", "Look", "Mend"} {
		if n := strings.Count(deployed(t, "RUNBOOK.md"), "**"+part+".**"); n != len(alerts) {
			t.Errorf("%d of %d sections say **%s.**", n, len(alerts), part)
		}
	}
}

func TestDashboardIsWhole(t *testing.T) {
	var board struct {
		Panels []struct {
			ID      int
			Type    string
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal([]byte(deployed(t, "grafana/freshet.json")), &board); err != nil {
		t.Fatal(err)
	}
	seen := map[int]bool{}
	for _, p := range board.Panels {
		if seen[p.ID] {
			t.Errorf("panel %q has the number of another", p.Title)
		}
		seen[p.ID] = true
		if p.Type != "row" && (len(p.Targets) == 0 || p.Title == "") {
			t.Errorf("panel %d %q shows nothing", p.ID, p.Title)
		}
	}
	if len(seen) == 0 {
		t.Error("no panels were found")
	}
}

// TestStopBoundsAgree: whoever stops freshet waits 10 s longer than it takes to drain.
func TestStopBoundsAgree(t *testing.T) {
	drain := names(deployed(t, "freshet.yaml"), `drain: (\d+)s`)
	unit := names(deployed(t, "freshet.service"), `(?m)^TimeoutStopSec=(\d+)s$`)
	compose := names(deployed(t, "compose.yaml"), `stop_grace_period: (\d+)s`)
	if !slices.Equal(drain, []string{"20"}) || !slices.Equal(unit, []string{"30"}) || !slices.Equal(compose, unit) {
		t.Errorf("freshet drains for %s s, systemd waits %s s, compose %s s", drain, unit, compose)
	}
}
