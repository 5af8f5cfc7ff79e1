package demo

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/freshet-dev/freshet/cmd/freshet/internal/show"
	"github.com/freshet-dev/freshet/cmd/freshet/internal/tty"
	"github.com/freshet-dev/freshet/schemas"
	"github.com/freshet-dev/freshet/schemas/feature"
	"github.com/freshet-dev/freshet/sink"
)

// view is what a page shows.
type view struct {
	begun   time.Time
	phase   string
	trouble string // of a shard; empty while all is well
	recent  *recent
	parts   int
	bytes   int64 // of the parts
	watch   *watcher
	style   func(style, text string) string
}

const labelWidth = 10

// statusLines tell what goes in, what comes out, how fresh it is and what was refused.
func (v *view) statusLines() []string {
	now := v.recent.last()
	in := []string{}
	for _, g := range slices.Sorted(maps.Keys(now.groups)) {
		in = append(in, fmt.Sprintf("%s %s (%.0f/s)", strings.TrimPrefix(g, "user_"), show.Count(now.groups[g]), v.recent.perSecond(func(r *reading) int64 { return r.groups[g] })))
	}
	state := fmt.Sprintf("lag %s", show.Plural(now.lag, "record", "records"))
	fresh := now.freshness.since(v.recent.first().freshness)
	freshness := "no new rows yet"
	if p50, ok := fresh.quantile(0.5); ok {
		p99, _ := fresh.quantile(0.99)
		freshness = fmt.Sprintf("p50 %s  p99 %s", show.Duration(p50), show.Duration(p99))
	}
	return []string{
		v.labelled(v.phase, strings.Join(in, "   ")+"   "+state),
		v.labelled("out", fmt.Sprintf("%s rows (%.0f/s)   log %s parts, %s   state %s", show.Count(now.rows), v.recent.perSecond(func(r *reading) int64 { return r.rows }),
			show.Count(int64(v.parts)), bytesText(v.bytes), bytesText(now.stateBytes))),
		v.labelled("freshness", fmt.Sprintf("%s   decay lag %s   checkpoint %s ago", freshness, show.Duration(now.decayLag), show.Duration(now.checkpointAge))),
		v.labelled("refused", refusedText(now)),
	}
}

func refusedText(r *reading) string {
	var parts []string
	for _, reason := range r.refused() {
		parts = append(parts, fmt.Sprintf("%s %s", show.Count(r.reasons[reason]), reason))
	}
	if parts == nil {
		return "nothing"
	}
	return strings.Join(parts, ", ")
}

func (v *view) labelled(label, text string) string {
	return v.style(tty.Bold, pad(label, labelWidth)) + text
}

func pad(text string, width int) string {
	return text + strings.Repeat(" ", max(width-utf8.RuneCountInString(text), 0))
}

func padLeft(text string, width int) string {
	return strings.Repeat(" ", max(width-utf8.RuneCountInString(text), 0)) + text
}

func bytesText(n int64) string {
	switch {
	case n < 1<<10:
		return fmt.Sprintf("%d B", n)
	case n < 1<<20:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
}

// page lays everything out within columns × rows: where there is less room, the features and changes that matter most.
func (v *view) page(columns, rows int) []string {
	lines := v.statusLines()
	if v.trouble != "" {
		lines = append(lines, v.style(tty.Red, v.trouble))
	}
	if v.watch == nil || !v.watch.last.Known {
		return lines
	}
	lines = append(lines, "", v.shopperLine())
	table, singles := v.table(columns), v.singles(columns)
	room := rows - len(lines)
	changes := max(3, room-len(table)-len(singles))
	table = table[:min(len(table), max(room-changes-1, 2))]
	singles = singles[:max(min(len(singles), room-changes-len(table)), 0)]
	lines = append(append(lines, table...), singles...)
	for _, c := range v.watch.changes[:min(len(v.watch.changes), changes)] {
		style := tty.Green
		if c.decay {
			style = tty.Yellow
		}
		lines = append(lines, v.style(tty.Dim, c.at.Format("15:04:05 "))+v.style(style, c.why())+" "+c.text)
	}
	return lines
}

// shopperLine says who is watched, and when the values change if the shopper does nothing.
func (v *view) shopperLine() string {
	w, now := v.watch, v.recent.last().at
	next := "until a new event"
	if until := time.UnixMilli(w.last.ValidUntil).Sub(now); w.last.ValidUntil != sink.Never {
		next = "decay due in " + show.Duration(until)
		if until < 0 {
			next = "decay due now, at the next tick"
		}
	}
	return v.style(tty.Bold, "shopper "+w.user) + fmt.Sprintf("   values of %s ago   %s", show.Duration(w.last.Age(now)), next)
}

// windows are the windows of the table's columns.
func windows(p *feature.Plan) []int64 {
	var ws []int64
	for _, f := range p.Features {
		if f.Agg != feature.Derived && f.Window != feature.Lifetime && !slices.Contains(ws, f.Window) {
			ws = append(ws, f.Window)
		}
	}
	slices.Sort(ws)
	return ws
}

// inTable finds the features that are there for each window: name → their places, in the order of the windows.
func inTable(p *feature.Plan, ws []int64) (names []string, places map[string][]int) {
	places = map[string][]int{}
	for i, f := range p.Features {
		at := slices.Index(ws, f.Window)
		if f.Agg == feature.Derived || at < 0 {
			continue
		}
		name := f.Name[:max(strings.LastIndexByte(f.Name, '_'), 0)]
		if at == 0 {
			names = append(names, name)
		}
		places[name] = append(places[name], i)
	}
	names = slices.DeleteFunc(names, func(n string) bool { return len(places[n]) != len(ws) })
	return names, places
}

func windowText(ms int64) string {
	const day, hour = 86_400_000, 3_600_000
	if ms%day == 0 {
		return fmt.Sprintf("%dd", ms/day)
	}
	return fmt.Sprintf("%gh", float64(ms)/hour)
}

// table has a line for each feature that is there for all windows.
func (v *view) table(columns int) []string {
	ws := windows(v.watch.plan)
	names, places := inTable(v.watch.plan, ws)
	width := 0
	for _, n := range names {
		width = max(width, len(n))
	}
	cell := min(max((columns-width-2)/max(len(ws), 1), 9), 14)
	head := pad("", width)
	for _, w := range ws {
		head += padLeft(windowText(w), cell)
	}
	lines := []string{v.style(tty.Dim, head)}
	for _, n := range names {
		line := pad(n, width)
		for _, i := range places[n] {
			line += v.value(i, cell)
		}
		lines = append(lines, line)
	}
	return lines
}

// value is the text of a feature, right-aligned, in colour while it has just changed.
func (v *view) value(i, width int) string {
	text := padLeft(v.watch.values[i], width)
	if _, changed := v.watch.changed[i]; !changed {
		return text
	}
	return v.style(tty.Bold, text)
}

// singles are all other features, as many on a line as fit.
func (v *view) singles(columns int) (lines []string) {
	names, places := inTable(v.watch.plan, windows(v.watch.plan))
	shown := map[int]bool{}
	for _, n := range names {
		for _, i := range places[n] {
			shown[i] = true
		}
	}
	line, used := "", 0
	for i, f := range v.watch.plan.Features {
		if shown[i] || f.Type.Kind == schemas.Floats && columns < 100 {
			continue
		}
		n := len(f.Name) + 1 + utf8.RuneCountInString(v.watch.values[i])
		if used > 0 && used+2+n > columns {
			lines, line, used = append(lines, line), "", 0
		}
		if used > 0 {
			line, used = line+"  ", used+2
		}
		line, used = line+v.style(tty.Dim, f.Name)+" "+v.value(i, 0), used+n
	}
	if used > 0 {
		lines = append(lines, line)
	}
	return lines
}

// plain is the page of where there is no terminal: two lines.
func (v *view) plain() []string {
	status := v.statusLines()
	for i := range status {
		status[i] = strings.Join(strings.Fields(status[i]), " ")
	}
	lines := []string{fmt.Sprintf("%s: %s", show.Duration(v.recent.last().at.Sub(v.begun).Truncate(time.Second)), strings.Join(status, "; "))}
	if v.trouble != "" {
		lines = append(lines, "  "+v.trouble)
	}
	if v.watch == nil || !v.watch.last.Known {
		return lines
	}
	ws := windows(v.watch.plan)
	names, places := inTable(v.watch.plan, ws)
	var parts []string
	for _, n := range names[:min(len(names), 3)] {
		var values []string
		for k, i := range places[n] {
			values = append(values, windowText(ws[k])+" "+v.watch.values[i])
		}
		parts = append(parts, n+" "+strings.Join(values, " "))
	}
	return append(lines, "  "+v.shopperLine()+": "+strings.Join(parts, "; "))
}
