package redis

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are those of one Client.
type metrics struct {
	writeSeconds prometheus.Histogram   // a Write, from its first byte sent to its last answer
	readSeconds  prometheus.Histogram   // a GetFeatures or GetFeatureVectors
	pipelineRows prometheus.Histogram   // rows sent before the answers were awaited
	rows         [4]prometheus.Counter  // by Outcome
	entities     [2]prometheus.Counter  // read: unknown, known
	errors       *prometheus.CounterVec // by kind
	connections  prometheus.Counter     // opened; more than a handful means reconnects
	reloads      prometheus.Counter     // of the script, after a restart or SCRIPT FLUSH
}

// newMetrics registers the metrics in reg; nil leaves them unregistered. A second client of one process shares the first one's.
func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	seconds := prometheus.ExponentialBuckets(0.0001, 2, 18) // 0.1 ms to 13 s
	write := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "freshet_redis_write_seconds", Help: "Time from sending rows to Redis to its last answer.", Buckets: seconds})
	read := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "freshet_redis_read_seconds", Help: "Time to read feature vectors from Redis, all entities of a call.", Buckets: seconds})
	size := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "freshet_redis_pipeline_rows", Help: "Rows sent to Redis before the answers were awaited.", Buckets: prometheus.ExponentialBuckets(1, 4, 9)})
	rows := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "freshet_redis_rows_total", Help: "Rows that Redis answered: written, equal (rewritten), stale (a newer version is stored), split (another partition's)."}, []string{"outcome"})
	entities := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "freshet_redis_read_entities_total", Help: "Entities read from Redis, by whether it knew them."}, []string{"known"})
	errs := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "freshet_redis_errors_total", Help: "Calls to Redis that failed, by kind."}, []string{"kind"})
	connections := prometheus.NewCounter(prometheus.CounterOpts{Name: "freshet_redis_connections_total", Help: "Connections to Redis that were opened."})
	reloads := prometheus.NewCounter(prometheus.CounterOpts{Name: "freshet_redis_script_loads_total", Help: "Times Redis did not have the script and was given it: first use, restart, SCRIPT FLUSH."})
	if reg != nil {
		var err error
		write, read, size = register(reg, write, &err), register(reg, read, &err), register(reg, size, &err)
		rows, entities, errs = register(reg, rows, &err), register(reg, entities, &err), register(reg, errs, &err)
		connections, reloads = register(reg, connections, &err), register(reg, reloads, &err)
		if err != nil {
			return nil, err
		}
	}
	m := &metrics{writeSeconds: write, readSeconds: read, pipelineRows: size, errors: errs, connections: connections, reloads: reloads}
	for o := range m.rows {
		m.rows[o] = rows.WithLabelValues(Outcome(o).String())
	}
	m.entities[0], m.entities[1] = entities.WithLabelValues("false"), entities.WithLabelValues("true")
	return m, nil
}

func register[C prometheus.Collector](reg prometheus.Registerer, c C, err *error) C {
	e := reg.Register(c)
	if already, ok := errors.AsType[prometheus.AlreadyRegisteredError](e); ok {
		if old, ok := already.ExistingCollector.(C); ok {
			return old
		}
	}
	*err = errors.Join(*err, e)
	return c
}

func (m *metrics) outcomes(out []Outcome) {
	var n [len(m.rows)]int
	for _, o := range out {
		n[o]++
	}
	for o, k := range n {
		if k > 0 {
			m.rows[o].Add(float64(k))
		}
	}
}
