package demo

import (
	"fmt"
	"maps"
	"slices"
	"sort"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// reading is what the service's metrics said at an instant, over all its shards.
type reading struct {
	at            time.Time
	groups        map[string]int64 // records read, by group
	reasons       map[string]int64 // records, by what became of them
	rows          int64
	lag           int64 // records
	decayLag      time.Duration
	checkpointAge time.Duration
	stateBytes    int64
	freshness     histogram
}

func read(g prometheus.Gatherer, now time.Time) (reading, error) {
	r := reading{at: now, groups: map[string]int64{}, reasons: map[string]int64{}}
	families, err := g.Gather()
	if err != nil {
		return r, fmt.Errorf("read the metrics: %w", err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			r.add(f.GetName(), m)
		}
	}
	return r, nil
}

func (r *reading) add(name string, m *dto.Metric) {
	gauge := m.GetGauge().GetValue()
	switch name {
	case "freshet_records_total":
		n := int64(m.GetCounter().GetValue())
		r.groups[label(m, "group")] += n
		r.reasons[label(m, "reason")] += n
	case "freshet_rows_total":
		r.rows += int64(m.GetCounter().GetValue())
	case "freshet_lag_records":
		r.lag += int64(gauge)
	case "freshet_decay_lag_seconds":
		r.decayLag = max(r.decayLag, time.Duration(gauge*float64(time.Second)))
	case "freshet_checkpoint_age_seconds":
		r.checkpointAge = max(r.checkpointAge, time.Duration(gauge*float64(time.Second)))
	case "freshet_state_bytes":
		r.stateBytes += int64(gauge)
	case "freshet_freshness_seconds":
		r.freshness.add(m.GetHistogram())
	}
}

func label(m *dto.Metric, name string) string {
	for _, l := range m.GetLabel() {
		if l.GetName() == name {
			return l.GetValue()
		}
	}
	return ""
}

// records is how many records became something, and how many of them count.
func (r *reading) records() (all, accepted int64) {
	for reason, n := range r.reasons {
		all += n
		if counted(reason) {
			accepted += n
		}
	}
	return all, accepted
}

func counted(reason string) bool { return reason == "accepted" || reason == "late" }

// refused are the reasons of records that do not count, the most frequent first.
func (r *reading) refused() []string {
	var reasons []string
	for _, reason := range slices.Sorted(maps.Keys(r.reasons)) {
		if !counted(reason) && r.reasons[reason] > 0 {
			reasons = append(reasons, reason)
		}
	}
	slices.SortStableFunc(reasons, func(a, b string) int { return int(r.reasons[b] - r.reasons[a]) })
	return reasons
}

// histogram is the sum of the histograms of all shards, which have the same buckets.
type histogram struct {
	bounds []float64 // upper, ascending, s
	counts []uint64  // cumulative
	total  uint64
}

func (h *histogram) add(m *dto.Histogram) {
	h.total += m.GetSampleCount()
	for i, b := range m.GetBucket() {
		if i == len(h.bounds) {
			h.bounds, h.counts = append(h.bounds, b.GetUpperBound()), append(h.counts, 0)
		}
		h.counts[i] += b.GetCumulativeCount()
	}
}

// since is what came after an earlier reading.
func (h histogram) since(before histogram) histogram {
	d := histogram{bounds: h.bounds, counts: slices.Clone(h.counts), total: h.total - before.total}
	for i := range before.counts {
		d.counts[i] -= before.counts[i]
	}
	return d
}

// quantile estimates a quantile by linear interpolation within its bucket, as PromQL's histogram_quantile does; false where there is nothing.
func (h histogram) quantile(q float64) (time.Duration, bool) {
	if h.total == 0 {
		return 0, false
	}
	rank := q * float64(h.total)
	i := sort.Search(len(h.counts), func(i int) bool { return float64(h.counts[i]) >= rank })
	if i == len(h.counts) {
		return time.Duration(h.bounds[len(h.bounds)-1] * float64(time.Second)), true
	}
	low, under := 0.0, 0.0
	if i > 0 {
		low, under = h.bounds[i-1], float64(h.counts[i-1])
	}
	at := low + (h.bounds[i]-low)*(rank-under)/(float64(h.counts[i])-under)
	return time.Duration(at * float64(time.Second)), true
}

// recent are the readings of the last seconds, for rates.
type recent struct{ list []reading }

const recentFor = 10 * time.Second

func (r *recent) add(x reading) {
	r.list = append(r.list, x)
	for len(r.list) > 2 && x.at.Sub(r.list[1].at) >= recentFor {
		r.list = r.list[1:]
	}
}

func (r *recent) first() *reading { return &r.list[0] }
func (r *recent) last() *reading  { return &r.list[len(r.list)-1] }

// perSecond is the rate of a count over the readings.
func (r *recent) perSecond(of func(*reading) int64) float64 {
	a, b := r.first(), r.last()
	if d := b.at.Sub(a.at).Seconds(); d > 0 {
		return float64(of(b)-of(a)) / d
	}
	return 0
}
