package demo

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/freshet-dev/freshet/cmd/freshet/internal/show"
	"github.com/freshet-dev/freshet/processor"
	"github.com/freshet-dev/freshet/schemas"
	"github.com/freshet-dev/freshet/schemas/feature"
	"github.com/freshet-dev/freshet/sink/redis"
)

// watcher reads one shopper's features from Redis and notices changes.
type watcher struct {
	reader *redis.Reader
	plan   *feature.Plan
	user   string

	last    redis.Vector
	values  []string       // of last, in definition order
	changed map[int]string // features that changed within the last seconds → the style of the change
	since   time.Time      // of changed
	changes []change       // newest first
}

// change is what one new version of the values brought.
type change struct {
	at    time.Time
	decay bool // time passed; else an event came
	text  string
}

const (
	keptChanges   = 12
	highlightFor  = 4 * time.Second
	toldInOneLine = 4 // features
)

func newWatcher(c *redis.Client, plan *feature.Plan, user string) *watcher {
	return &watcher{reader: c.Reader(processor.SpecOf(plan), time.Duration(plan.Freshness)*time.Millisecond), plan: plan, user: user}
}

// look reads the features. It returns the change since the last look, if there is one.
func (w *watcher) look(ctx context.Context, now time.Time) (*change, error) {
	v, err := w.reader.GetFeatures(ctx, w.user)
	if err != nil || !v.Known {
		return nil, err
	}
	if now.Sub(w.since) > highlightFor {
		w.changed = nil
	}
	if w.last.Known && v.Version == w.last.Version {
		return nil, nil
	}
	values := make([]string, len(w.plan.Features))
	for i := range values {
		value, err := v.Value(i)
		if err != nil {
			return nil, err
		}
		values[i] = brief(value, w.plan.Features[i].Type)
	}
	c := w.compare(v, values, now)
	w.last, w.values = v, values
	return c, nil
}

// compare says what changed since the last values.
func (w *watcher) compare(v redis.Vector, values []string, now time.Time) *change {
	if !w.last.Known {
		return nil
	}
	// A tick stamps its rows with itself.
	c := &change{at: now, decay: v.AsOf%w.plan.Tick == 0 && v.AsOf >= w.last.ValidUntil}
	w.changed, w.since = map[int]string{}, now
	var told []string
	for i, text := range values {
		if text == w.values[i] {
			continue
		}
		w.changed[i] = text
		if k := w.plan.Features[i].Type.Kind; k == schemas.Floats || k == schemas.Time {
			continue
		}
		told = append(told, fmt.Sprintf("%s %s → %s", w.plan.Features[i].Name, w.values[i], text))
	}
	if len(told) == 0 {
		return nil
	}
	c.text = strings.Join(told[:min(len(told), toldInOneLine)], ", ")
	if n := len(told) - toldInOneLine; n > 0 {
		c.text += fmt.Sprintf(", %d more", n)
	}
	w.changes = append([]change{*c}, w.changes[:min(len(w.changes), keptChanges-1)]...)
	return c
}

// why names the cause of a change.
func (c *change) why() string {
	if c.decay {
		return "decay"
	}
	return "event"
}

// brief writes a value in little room: doubles with two decimals.
func brief(v schemas.Value, t schemas.Type) string {
	switch v.Kind {
	case schemas.Double:
		return fmt.Sprintf("%.2f", v.Float64())
	case schemas.Time:
		return time.UnixMilli(v.Int64()).UTC().Format("2006-01-02 15:04:05")
	}
	return show.Text(v, t)
}
