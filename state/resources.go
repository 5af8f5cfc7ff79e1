package state

import (
	"log/slog"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/prometheus/client_golang/prometheus"
)

// Resources is what the stores of a process share: memory, open files, compaction slots, the logger and the metrics.
type Resources struct {
	cfg      Config
	log      *slog.Logger
	blocks   *pebble.Cache
	files    *pebble.FileCache
	slots    *slots
	entities *Budget
	open     atomic.Int64 // stores
	stalls   prometheus.Counter
	unlist   func()
}

// NewResources allocates what cfg, which must be valid, allows. log may be nil (silent); reg may be nil (no metrics).
func NewResources(cfg Config, log *slog.Logger, reg prometheus.Registerer) *Resources {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	r := &Resources{
		cfg:      cfg,
		log:      log,
		blocks:   pebble.NewCache(cfg.BlockCacheBytes + cfg.MemTablesBytes), // memtables are reserved from it
		files:    pebble.NewFileCache(16, cfg.MaxOpenFiles),
		slots:    &slots{free: cfg.CompactionSlots},
		entities: NewBudget(cfg.EntityCacheBytes),
		unlist:   func() {},
	}
	r.register(reg)
	return r
}

// Entities is the budget of decoded entities that all shards draw on.
func (r *Resources) Entities() *Budget { return r.entities }

// Close releases what no open store holds any more. Stores must be closed before, or their memory is released only when they are.
func (r *Resources) Close() {
	r.unlist()
	r.files.Unref()
	r.blocks.Unref()
}

func (r *Resources) register(reg prometheus.Registerer) {
	r.stalls = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "freshet_state_stall_seconds_total", Help: "Time that commits waited for flushes and compactions.",
	})
	if reg == nil {
		return
	}
	all := []prometheus.Collector{
		r.stalls,
		gauge("freshet_state_stores", "Open stores.", func() float64 { return float64(r.open.Load()) }),
		gauge("freshet_state_block_cache_bytes", "Table blocks in memory.", func() float64 { return float64(r.blocks.Metrics().Size) }),
		counter("freshet_state_block_cache_hits_total", "Blocks found in memory.", func() float64 { return float64(r.blocks.Metrics().Hits) }),
		counter("freshet_state_block_cache_misses_total", "Blocks read from disk.", func() float64 { return float64(r.blocks.Metrics().Misses) }),
		gauge("freshet_state_entity_cache_bytes", "Decoded entities in memory.", func() float64 { return float64(r.entities.Used()) }),
		counter("freshet_state_entity_cache_hits_total", "Entities found decoded.", func() float64 { return float64(r.entities.hits.Load()) }),
		counter("freshet_state_entity_cache_misses_total", "Entities not found decoded.", func() float64 { return float64(r.entities.misses.Load()) }),
	}
	for _, c := range all {
		reg.MustRegister(c)
	}
	r.unlist = func() {
		for _, c := range all {
			reg.Unregister(c)
		}
	}
}

func gauge(name, help string, f func() float64) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, f)
}

func counter(name, help string, f func() float64) prometheus.Collector {
	return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, f)
}
