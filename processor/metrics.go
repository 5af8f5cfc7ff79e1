package processor

import (
	"context"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/freshet-dev/freshet/sink/redis"
)

// Metrics are what shards tell, by group, version and partition.
type Metrics struct {
	freshness     *prometheus.HistogramVec
	records       *prometheus.CounterVec
	lag           *prometheus.GaugeVec
	decayLag      *prometheus.GaugeVec
	checkpointAge *prometheus.GaugeVec
	pause         *prometheus.HistogramVec
	stateBytes    *prometheus.GaugeVec
	rows          *prometheus.CounterVec
	refused       *prometheus.CounterVec
	coalesced     *prometheus.CounterVec
	redisErrors   *prometheus.CounterVec
	refills       *prometheus.CounterVec
	queueBytes    *prometheus.GaugeVec
	deadLetters   *prometheus.CounterVec
	valueErrors   *prometheus.CounterVec
	schemaRetries *prometheus.CounterVec
	failed        *prometheus.GaugeVec
}

var shardLabels = []string{"group", "version", "partition"}

// NewMetrics registers the metrics of shards.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	counter := func(name, help string, more ...string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, append(append([]string{}, shardLabels...), more...))
		reg.MustRegister(v)
		return v
	}
	gauge := func(name, help string) *prometheus.GaugeVec {
		v := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, shardLabels)
		reg.MustRegister(v)
		return v
	}
	histogram := func(name, help string, buckets []float64) *prometheus.HistogramVec {
		v := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, shardLabels)
		reg.MustRegister(v)
		return v
	}
	return &Metrics{
		freshness:     histogram("freshet_freshness_seconds", "From a record's timestamp to its row readable in Redis.", prometheus.ExponentialBuckets(0.001, 2, 18)),
		records:       counter("freshet_records_total", "Records by what became of them.", "reason"),
		lag:           gauge("freshet_lag_records", "Records between a shard's position and the end of its partition."),
		decayLag:      gauge("freshet_decay_lag_seconds", "How far the earliest due tick lies behind the wall clock."),
		checkpointAge: gauge("freshet_checkpoint_age_seconds", "Since the last checkpoint was committed, or found to have nothing to write."),
		pause:         histogram("freshet_checkpoint_pause_seconds", "For how long a checkpoint stopped applying.", prometheus.ExponentialBuckets(0.001, 2, 14)),
		stateBytes:    gauge("freshet_state_bytes", "State of a shard on disk."),
		rows:          counter("freshet_rows_total", "Rows acknowledged by Redis, and rows of history written to the log."),
		refused:       counter("freshet_rows_refused_total", "Rows that Redis refused because it held a newer version."),
		coalesced:     counter("freshet_rows_coalesced_total", "Rows not sent because a newer one of the same entity was waiting behind them."),
		redisErrors:   counter("freshet_redis_write_errors_total", "Pipelines to Redis that failed and were sent again."),
		refills:       counter("freshet_refills_total", "Refills begun because Redis had lost data."),
		queueBytes:    gauge("freshet_queue_bytes", "Rows waiting for Redis."),
		deadLetters:   counter("freshet_dead_letters_total", "Records acknowledged by the dead-letter topic."),
		valueErrors:   counter("freshet_value_errors_total", "Values that are null because of an overflow, an error of a derive, or an outgrown limit; and where expressions that erred, and so were false.", "kind"),
		schemaRetries: counter("freshet_schema_retries_total", "Times that records waited because the registry could not tell their schema."),
		failed:        gauge("freshet_shard_failed", "1 while a shard is stopped by an error."),
	}
}

// shardMetrics are those of one shard.
type shardMetrics struct {
	all    *Metrics
	labels []string

	freshnessHist prometheus.Observer
	pause         prometheus.Observer
	lag, decayLag prometheus.Gauge
	age, state    prometheus.Gauge
	queue         prometheus.Gauge
	rows          prometheus.Counter
	refused       prometheus.Counter
	coalesced     prometheus.Counter
	redisErrors   prometheus.Counter
	refills       prometheus.Counter
	deadLetters   prometheus.Counter
	schemaRetries prometheus.Counter
	failed        prometheus.Gauge
	records       [reasons]prometheus.Counter
	overflow      prometheus.Counter
	deriveErrors  prometheus.Counter
	overLimit     prometheus.Counter
	whereErrors   prometheus.Counter

	seenErrs uint64
	seen     Stats // what of the step's counts is in the counters
	next     time.Time
}

func (m *Metrics) shard(group string, version int, partition int32) *shardMetrics {
	l := []string{group, strconv.Itoa(version), strconv.Itoa(int(partition))}
	s := &shardMetrics{
		all: m, labels: l, freshnessHist: m.freshness.WithLabelValues(l...), pause: m.pause.WithLabelValues(l...),
		lag: m.lag.WithLabelValues(l...), decayLag: m.decayLag.WithLabelValues(l...), age: m.checkpointAge.WithLabelValues(l...),
		state: m.stateBytes.WithLabelValues(l...), queue: m.queueBytes.WithLabelValues(l...), rows: m.rows.WithLabelValues(l...),
		refused: m.refused.WithLabelValues(l...), coalesced: m.coalesced.WithLabelValues(l...), redisErrors: m.redisErrors.WithLabelValues(l...),
		refills: m.refills.WithLabelValues(l...), deadLetters: m.deadLetters.WithLabelValues(l...), failed: m.failed.WithLabelValues(l...),
		schemaRetries: m.schemaRetries.WithLabelValues(l...),
	}
	for r := range s.records {
		s.records[r] = m.records.WithLabelValues(append(append([]string{}, l...), Reason(r).String())...)
	}
	kind := func(k string) prometheus.Counter {
		return m.valueErrors.WithLabelValues(append(append([]string{}, l...), k)...)
	}
	s.overflow, s.deriveErrors, s.overLimit, s.whereErrors = kind("overflow"), kind("derive"), kind("limit"), kind("where")
	return s
}

// outcome counts what became of a row.
func (m *shardMetrics) outcome(o redis.Outcome) {
	if o == redis.Stale {
		m.refused.Inc()
	} else {
		m.rows.Inc()
	}
}

// unpublished stands for the time of publication of a row that no record made.
const unpublished = -1

// freshness observes the rows of an acknowledged pipeline that records made.
func (m *shardMetrics) freshness(b *sendBatch, now time.Time) {
	ms := now.UnixMilli()
	for i, at := range b.published {
		if b.log[i] && at != unpublished {
			m.freshnessHist.Observe(float64(max(ms-at, 0)) / 1000)
		}
	}
}

// observe brings the metrics of a shard up to date. The shard's goroutine calls it after each batch.
func (m *shardMetrics) observe(s *Shard) {
	st := &s.step.stats
	for r := range st.Records {
		if d := st.Records[r] - m.seen.Records[r]; d > 0 {
			m.records[r].Add(float64(d))
		}
	}
	m.overflow.Add(float64(st.Overflow - m.seen.Overflow))
	m.deriveErrors.Add(float64(st.DeriveErrors - m.seen.DeriveErrors))
	if d := st.OverLimit - m.seen.OverLimit; d > 0 {
		m.overLimit.Add(float64(d))
		s.limited = s.plan.Features[st.LastOver].Name
	}
	m.whereErrors.Add(float64(s.step.adm.errs - m.seenErrs))
	m.seenErrs = s.step.adm.errs
	m.seen = *st
	m.lag.Set(float64(max(s.end-s.step.meta.Position, 0)))
	s.tellStatus("")
	now := s.Now()
	if now.Before(m.next) {
		return
	}
	m.next = now.Add(500 * time.Millisecond)
	m.age.Set(now.Sub(s.ckpt.published).Seconds())
	m.state.Set(float64(s.store.DiskBytes()))
	_, queued := s.pipe.backlog()
	m.queue.Set(float64(queued))
	lag := int64(0)
	if s.phase == live && s.Config.Idle == IdleWall {
		lag = s.step.backlog(now.UnixMilli())
	}
	m.decayLag.Set(float64(lag) / 1000)
}

// watch keeps lag, checkpoint age and the end in the status true while the shard's goroutine is held up, by an online store that does not
// answer, say: it tells nothing itself then. It ends with ctx.
func (s *Shard) watch(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		st, now := s.status.Load(), s.Now()
		if st == nil || now.Sub(st.told) < time.Second {
			continue
		}
		_, end, err := s.Broker.Offsets(ctx, s.tp)
		if err != nil {
			continue // the reader says so
		}
		grown := *st
		grown.End = max(st.End, end)
		if s.status.CompareAndSwap(st, &grown) {
			s.m.lag.Set(float64(max(grown.End-grown.Position, 0)))
			s.m.age.Set(now.Sub(grown.Checkpoint).Seconds())
		}
	}
}

// forget drops the metrics of a shard that has left.
func (m *shardMetrics) forget() {
	for _, v := range []interface{ DeletePartialMatch(prometheus.Labels) int }{
		m.all.lag, m.all.decayLag, m.all.checkpointAge, m.all.stateBytes, m.all.queueBytes, m.all.failed,
	} {
		v.DeletePartialMatch(prometheus.Labels{"group": m.labels[0], "version": m.labels[1], "partition": m.labels[2]})
	}
}
