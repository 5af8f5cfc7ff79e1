package kafka

import "github.com/prometheus/client_golang/prometheus"

// Metrics are those of all Readers and Producers of a process.
type Metrics struct {
	FetchBytes    prometheus.Counter     // as sent by the brokers, compressed
	Fetches       prometheus.Counter     // answers of brokers
	Records       prometheus.Counter     // read
	Errors        *prometheus.CounterVec // reason; one a failed try of a partition
	BufferedBytes prometheus.Gauge       // read and not yet polled
	LagRecords    prometheus.Gauge       // from the fetch positions to the last stable offsets, all partitions together
	Produced      prometheus.Counter     // acknowledged records
	ProduceErrors prometheus.Counter     // records given up
}

// NewMetrics registers the metrics with reg. It panics if they are registered already.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		FetchBytes:    prometheus.NewCounter(prometheus.CounterOpts{Name: "freshet_kafka_fetch_bytes_total", Help: "Bytes of record batches fetched, compressed."}),
		Fetches:       prometheus.NewCounter(prometheus.CounterOpts{Name: "freshet_kafka_fetches_total", Help: "Fetch responses of brokers."}),
		Records:       prometheus.NewCounter(prometheus.CounterOpts{Name: "freshet_kafka_records_total", Help: "Records fetched."}),
		Errors:        prometheus.NewCounterVec(prometheus.CounterOpts{Name: "freshet_kafka_errors_total", Help: "Failed tries to fetch a partition."}, []string{"reason"}),
		BufferedBytes: prometheus.NewGauge(prometheus.GaugeOpts{Name: "freshet_kafka_buffered_bytes", Help: "Bytes of records fetched and not yet taken."}),
		LagRecords:    prometheus.NewGauge(prometheus.GaugeOpts{Name: "freshet_kafka_lag_records", Help: "Records between the fetch positions and the last stable offsets."}),
		Produced:      prometheus.NewCounter(prometheus.CounterOpts{Name: "freshet_kafka_produced_records_total", Help: "Records written and acknowledged."}),
		ProduceErrors: prometheus.NewCounter(prometheus.CounterOpts{Name: "freshet_kafka_produce_errors_total", Help: "Records that could not be written."}),
	}
	for _, reason := range errorReasons {
		m.Errors.WithLabelValues(reason.label)
	}
	m.Errors.WithLabelValues("other")
	reg.MustRegister(m.FetchBytes, m.Fetches, m.Records, m.Errors, m.BufferedBytes, m.LagRecords, m.Produced, m.ProduceErrors)
	return m
}
