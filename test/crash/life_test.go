package crash

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/freshet-dev/freshet/processor"
	"github.com/freshet-dev/freshet/schemas/event"
	"github.com/freshet-dev/freshet/sink"
	"github.com/freshet-dev/freshet/sink/parquet"
	"github.com/freshet-dev/freshet/sink/redis"
	store "github.com/freshet-dev/freshet/state"
)

// Where a life's files lie on its disk.
const (
	dataDir   = "/data"
	bucketDir = "/bucket"
)

// life is one process, from its start to its crash.
type life struct {
	w       *world
	name    string // the client id
	skew    time.Duration
	disk    *disk
	wire    *proxy
	spotter spotter
	service *processor.Service
	cancel  context.CancelFunc
	done    chan error // of Run
	troubles

	mu      sync.Mutex
	armed   step // where the power is to go; guarded by mu
	skip    int  // occurrences of it to let pass; guarded by mu
	percent int  // of what is not synced, kept
	rng     *rand.Rand
	over    bool // guarded by mu
	ended   time.Time
	at      step          // where it went; valid once crashed is closed
	after   *vfs.MemFS    // what the disk held then; likewise
	crashed chan struct{} // closed when the power has gone
}

// troubles keeps what the service reports as an error while it lives; a crash must never leave behind what stops a shard.
type troubles struct {
	mu   sync.Mutex
	list []string // guarded by mu
}

// setup says how a life is to be.
type setup struct {
	name     string // client id
	instance string // static member
	data     string // directory
	mem      *vfs.MemFS
	skew     time.Duration
	rng      *rand.Rand
	armed    step
	skip     int
	percent  int
}

// begin starts a process on what a disk holds.
func (w *world) begin(o setup) *life {
	w.t.Helper()
	l := &life{w: w, name: o.name, skew: o.skew, rng: o.rng, armed: o.armed, skip: o.skip, percent: o.percent, crashed: make(chan struct{}), done: make(chan error, 1)}
	l.spotter.shards = map[string]stage{}
	l.disk = newDisk(o.mem, l.onDisk)
	w.enlist(l)
	w.sights.during(o.name)
	var err error
	if l.wire, err = newProxy(w.redis.Addr(), l.onWire); err != nil {
		w.t.Fatal(err)
	}
	log := slog.New(&handler{l: l})
	rc := redis.Default()
	rc.Addr, rc.Timeout = l.wire.addr(), 2*time.Second
	client, err := redis.Open(rc, log, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	sc := store.Default()
	sc.BlockCacheBytes, sc.MemTableBytes, sc.MemTablesBytes, sc.EntityCacheBytes, sc.MaxOpenFiles = 8<<20, 256<<10, 8<<20, 64<<10, 1024
	res := store.NewResources(sc, log, nil)
	kc := w.kafka
	kc.ClientID, kc.InstanceID = o.name, o.instance
	l.service, err = processor.NewService(processor.Options{
		Config: w.config(o.data), Kafka: kc, Plans: w.plans(), Writers: event.NewFiles(w.schema), Redis: client,
		Bucket: sink.NewDir(l.disk, bucketDir), FS: l.disk,
		Open:     func(dir string) (*store.Store, error) { return store.Open(dir, res, state{o.mem, l.disk}) },
		Entities: res.Entities(), Log: log, Registerer: prometheus.NewRegistry(),
		Now: func() time.Time { return time.Now().Add(l.skew) },
	})
	if err != nil {
		w.t.Fatal(err)
	}
	var ctx context.Context
	ctx, l.cancel = context.WithCancel(context.Background())
	w.lives.Go(func() { // ended by cancel: by crash or stop
		err := l.service.Run(ctx)
		if cerr := client.Close(); err == nil {
			err = cerr
		}
		res.Close()
		l.done <- err
	})
	return l
}

// onDisk sees every operation on the disk.
func (l *life) onDisk(op operation) {
	if s, ok := l.spotter.disk(op); ok {
		l.reach(s)
	}
}

// onWire sees the pipelines to the online store. Now and then the connection is lost without a crash: the pipeline is sent again then.
func (l *life) onWire(e wireEvent) bool {
	return l.reach(wires[e]) || l.w.hiccup()
}

// reach notes that a step is reached, and pulls the plug if it is the one.
func (l *life) reach(s step) (gone bool) {
	l.mu.Lock()
	if l.over || s != l.armed {
		defer l.mu.Unlock()
		return l.over
	}
	if l.skip > 0 {
		l.skip--
		l.mu.Unlock()
		return false
	}
	l.mu.Unlock()
	l.crash(s)
	return true
}

// crash ends the process here and now, as far as the world can tell: its wires are cut, and what it goes on to write is on a disk that
// nobody will read.
func (l *life) crash(at step) {
	l.mu.Lock()
	if l.over {
		l.mu.Unlock()
		return
	}
	l.over, l.at = true, at
	percent := l.percent
	l.mu.Unlock()
	l.ended = time.Now()
	l.disk.dead.Store(true)
	l.wire.cut()
	l.w.exchange.cut(l.name)
	l.after = l.disk.clone(percent, l.rng)
	l.cancel()
	close(l.crashed)
}

// stop ends the process in good order.
func (l *life) stop() error {
	l.cancel()
	err := <-l.done
	l.mu.Lock()
	l.over = true
	l.mu.Unlock()
	l.wire.cut()
	l.w.exchange.cut(l.name)
	return err
}

// complain returns what the service reported as errors.
func (l *life) complain() error {
	l.troubles.mu.Lock()
	defer l.troubles.mu.Unlock()
	var errs []error
	for _, text := range l.troubles.list {
		if strings.Contains(text, parquet.ErrFenced.Error()) || strings.Contains(text, redis.ErrFenced.Error()) {
			continue // another owner came: that is how it is told
		}
		errs = append(errs, errors.New(text))
	}
	return errors.Join(errs...)
}

// handler keeps error records of a life that is not over.
type handler struct {
	slog.Handler
	l     *life
	attrs []slog.Attr
}

// Enabled implements slog.Handler.
func (h *handler) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelError }

// WithAttrs implements slog.Handler.
func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &handler{l: h.l, attrs: append(h.attrs[:len(h.attrs):len(h.attrs)], attrs...)}
}

// Handle implements slog.Handler.
func (h *handler) Handle(_ context.Context, r slog.Record) error {
	h.l.mu.Lock()
	over := h.l.over
	h.l.mu.Unlock()
	if over {
		return nil
	}
	text := r.Message
	r.Attrs(func(a slog.Attr) bool { text += fmt.Sprintf(" %s", a); return true })
	h.l.troubles.mu.Lock()
	defer h.l.troubles.mu.Unlock()
	h.l.troubles.list = append(h.l.troubles.list, fmt.Sprintf("%s: %v: %s", h.l.name, h.attrs, text))
	return nil
}

// hiccups counts pipelines, and loses one in so many.
type hiccups struct {
	every atomic.Int64 // 0: none
	n     atomic.Int64
}

func (h *hiccups) hiccup() bool {
	every := h.every.Load()
	return every > 0 && h.n.Add(1)%every == 0
}
