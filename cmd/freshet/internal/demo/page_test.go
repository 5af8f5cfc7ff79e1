package demo

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/freshet-dev/freshet/schemas/catalog"
	"github.com/freshet-dev/freshet/schemas/feature"
	"github.com/freshet-dev/freshet/sink/redis"
)

// metered is a reading of metrics as a service has them.
func metered(t *testing.T, now time.Time, freshness ...float64) reading {
	t.Helper()
	reg := prometheus.NewRegistry()
	labels := []string{"group", "version", "partition"}
	records := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "freshet_records_total"}, append(labels, "reason"))
	lag := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "freshet_lag_records"}, labels)
	fresh := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "freshet_freshness_seconds", Buckets: []float64{0.1, 0.2, 0.4}}, labels)
	reg.MustRegister(records, lag, fresh)
	for p, partition := range []string{"0", "1"} {
		records.WithLabelValues("user_purchases", "1", partition, "accepted").Add(1000)
		records.WithLabelValues("user_purchases", "1", partition, "late").Add(10)
		records.WithLabelValues("user_purchases", "1", partition, "duplicate").Add(float64(3 * p))
		records.WithLabelValues("user_purchases", "1", partition, "future").Add(5)
		lag.WithLabelValues("user_purchases", "1", partition).Set(2)
		for _, f := range freshness {
			fresh.WithLabelValues("user_purchases", "1", partition).Observe(f)
		}
	}
	r, err := read(reg, now)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestReading(t *testing.T) {
	now := time.Now()
	r := metered(t, now, 0.05, 0.15, 0.15, 9)
	if all, accepted := r.records(); all != 2033 || accepted != 2020 || r.lag != 4 {
		t.Errorf("%d records, %d accepted, lag %d", all, accepted, r.lag)
	}
	if got := refusedText(&r); got != "10 future, 3 duplicate" {
		t.Errorf("refused %s", got)
	}
	// Of 8 observations 2 are up to 0.1 s, 4 between 0.1 and 0.2 s: the median is the second of those four.
	if p50, ok := r.freshness.quantile(0.5); !ok || p50 != 150*time.Millisecond {
		t.Errorf("p50 %v %v", p50, ok)
	}
	if p99, _ := r.freshness.quantile(0.99); p99 != 400*time.Millisecond {
		t.Errorf("p99 %v: beyond the last bucket it is its bound", p99)
	}
	if _, ok := r.freshness.since(r.freshness).quantile(0.5); ok {
		t.Error("a quantile of nothing")
	}
}

func watching(t *testing.T) *watcher {
	t.Helper()
	text, err := catalog.File(purchases.group + ".yaml")
	if err != nil {
		t.Fatal(err)
	}
	plan, problems := feature.Parse("p.yaml", text, catalog.File)
	if plan == nil {
		t.Fatal(problems)
	}
	w := &watcher{plan: plan, user: "u000001", values: make([]string, len(plan.Features)), last: redis.Vector{Known: true, AsOf: 1000, ValidUntil: 5000}}
	for i := range w.values {
		w.values[i] = "12.50"
	}
	for range 12 {
		w.changes = append(w.changes, change{at: time.UnixMilli(0), decay: true, text: strings.Repeat("purchase_count_1d 1 → 0, ", 3)})
	}
	return w
}

// The page fits the terminal, and keeps what matters where there is little room.
func TestPageFits(t *testing.T) {
	now := time.UnixMilli(2000)
	v := view{begun: now, phase: "live", recent: &recent{}, watch: watching(t), style: func(_, text string) string { return text }}
	v.recent.add(metered(t, now))
	for _, size := range [][2]int{{80, 15}, {80, 12}, {120, 31}, {200, 60}} {
		lines := v.page(size[0], size[1])
		page := strings.Join(lines, "\n")
		if len(lines) > size[1] {
			t.Errorf("%d lines on %d:\n%s", len(lines), size[1], page)
		}
		for _, text := range []string{"live ", "out ", "freshness ", "refused   10 future, 3 duplicate", "shopper u000001", "decay due in 3.0 s", "purchase_count ", "decay purchase_count_1d 1 → 0"} {
			if !strings.Contains(page, text) {
				t.Errorf("no %q on %v:\n%s", text, size, page)
			}
		}
		for _, l := range lines[6 : len(lines)-3] {
			if n := utf8.RuneCountInString(l); n > size[0] {
				t.Errorf("%d columns on %d: %s", n, size[0], l)
			}
		}
	}
	v.trouble = "user_purchases/v1/purchases/0: no space left on device"
	if page := strings.Join(v.page(120, 31), "\n") + strings.Join(v.plain(), "\n"); strings.Count(page, v.trouble) != 2 {
		t.Errorf("the trouble is not told:\n%s", page)
	}
}
