package processor

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/freshet-dev/freshet/processor/kafka"
	"github.com/freshet-dev/freshet/schemas/event"
	"github.com/freshet-dev/freshet/schemas/feature"
	"github.com/freshet-dev/freshet/sink"
	"github.com/freshet-dev/freshet/sink/parquet"
	"github.com/freshet-dev/freshet/sink/redis"
	"github.com/freshet-dev/freshet/state"
	"github.com/freshet-dev/freshet/state/window"
)

const rigSchema = `{"type":"record","name":"Purchase","fields":[
 {"name":"event_id","type":"string"},{"name":"user_id","type":"string"},{"name":"amount","type":"double"},
 {"name":"product_id","type":"string"},{"name":"event_time","type":{"type":"long","logicalType":"timestamp-millis"}}]}`

const rigDefinition = `
group: buys
version: 1
entity: {name: user, key: [user_id]}
source: {topic: purchases, schema: purchase.avsc, time: event_time, id: event_id, partitioner: any, key_format: any%s}
freshness: %s
windows: [%s]
features:
  - {name: n, agg: count}
  - {name: total, agg: sum, of: amount}
`

type logRow struct {
	v  sink.Version
	at int64
	n  string
}

type fakeOnline struct {
	mu     sync.Mutex
	v      map[string]sink.Version
	n      map[string]string
	prog   *redis.Progress
	down   bool
	writes int
	hold   func(rows []sink.Row) bool // true: take nothing, and fail
}

func (f *fakeOnline) Write(ctx context.Context, rows []sink.Row, out []redis.Outcome) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.down || f.hold != nil && f.hold(rows) {
		return errors.New("redis is down")
	}
	for i, r := range rows {
		old, ok := f.v[string(r.Entity)]
		switch c := r.Version.Compare(old); {
		case ok && c < 0:
			out[i] = redis.Stale
			continue
		case ok && c == 0:
			out[i] = redis.Equal
		default:
			out[i] = redis.Written
		}
		f.v[string(r.Entity)] = r.Version
		f.n[string(r.Entity)] = fmt.Sprint(r.Values[0].Int64())
		f.writes++
	}
	return nil
}
func (f *fakeOnline) Versions(ctx context.Context, es [][]byte) ([]sink.Version, []bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.down {
		return nil, nil, errors.New("redis is down")
	}
	vs, ok := make([]sink.Version, len(es)), make([]bool, len(es))
	for i, e := range es {
		vs[i], ok[i] = f.v[string(e)]
	}
	return vs, ok, nil
}
func (f *fakeOnline) WriteProgress(ctx context.Context, p redis.Progress) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.down {
		return errors.New("redis is down")
	}
	if o := f.prog; o != nil && (o.Generation > p.Generation || o.Generation == p.Generation && o.Seq > p.Seq) {
		return redis.ErrFenced
	}
	if p.After > 0 && (f.prog == nil || f.prog.Wall < p.After) {
		return redis.ErrLost
	}
	p.After = 0
	f.prog = &p
	return nil
}
func (f *fakeOnline) ReadProgress(ctx context.Context) (redis.Progress, bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.down {
		return redis.Progress{}, false, errors.New("redis is down")
	}
	if f.prog == nil {
		return redis.Progress{}, false, nil
	}
	return *f.prog, true, nil
}
func (f *fakeOnline) get(e string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.n[e]
}
func (f *fakeOnline) set(fn func()) { f.mu.Lock(); fn(); f.mu.Unlock() }

type rig struct {
	t      *testing.T
	dir    string
	plan   *feature.Plan
	deps   Deps
	online *fakeOnline
	bucket sink.Bucket
	offset atomic.Int64 // ms added to the wall clock
	tp     kafka.TP

	mu    sync.Mutex
	recs  []kafka.Record
	g     *Group
	added map[kafka.TP]bool
	batch int
	slow  time.Duration
	kill  context.CancelFunc
}

func (r *rig) Add(tp kafka.TP, off int64) {
	r.mu.Lock()
	r.added[tp] = true
	r.mu.Unlock()
	go r.offer(off)
}
func (r *rig) offer(off int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.added[r.tp] {
		return
	}
	end := int64(len(r.recs))
	recs := r.recs[off:]
	if r.batch > 0 {
		for len(recs) > r.batch {
			r.g.Offer(kafka.Fetch{TP: r.tp, Records: recs[:r.batch], Next: recs[r.batch].Offset, End: end})
			recs = recs[r.batch:]
			time.Sleep(r.slow)
		}
	}
	r.g.Offer(kafka.Fetch{TP: r.tp, Records: recs, Next: end, End: end})
}
func (r *rig) Remove(tp kafka.TP) { r.mu.Lock(); delete(r.added, tp); r.mu.Unlock() }
func (r *rig) Pause(kafka.TP)     {}
func (r *rig) Resume(kafka.TP)    {}
func (r *rig) Offsets(context.Context, kafka.TP) (int64, int64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return 0, int64(len(r.recs)), nil
}
func (r *rig) DeadLetter(context.Context, string, []kafka.Record) error { return nil }
func (r *rig) Commit(context.Context, kafka.TP, int64, string) error    { return nil }

func advBody(id, user string, amount float64, at int64) []byte {
	b := []byte{0, 0, 0, 0, 1}
	text := func(s string) { b = append(binary.AppendVarint(b, int64(len(s))), s...) }
	text(id)
	text(user)
	b = binary.LittleEndian.AppendUint64(b, math.Float64bits(amount))
	text("p")
	return binary.AppendVarint(b, at)
}

// rec appends a record without offering it.
func (r *rig) rec(user string, at int64) {
	r.mu.Lock()
	o := int64(len(r.recs))
	r.recs = append(r.recs, kafka.Record{Offset: o, Timestamp: at, Key: []byte(user), Value: advBody(fmt.Sprint("e", o), user, 1, at)})
	r.mu.Unlock()
}
func (r *rig) bad() {
	r.mu.Lock()
	o := int64(len(r.recs))
	r.recs = append(r.recs, kafka.Record{Offset: o, Timestamp: 1, Key: []byte("x"), Value: []byte{0, 0, 0, 0, 1, 2}})
	r.mu.Unlock()
}
func (r *rig) send(user string, at int64) {
	r.rec(user, at)
	r.offer(int64(len(r.recs)) - 1)
}
func (r *rig) now() time.Time {
	return time.Now().Add(time.Duration(r.offset.Load()) * time.Millisecond)
}
func (r *rig) ms() int64 { return r.now().UnixMilli() }

func newRig(t *testing.T, history, tick, windows string, tune func(*Config)) *rig {
	t.Helper()
	r := &rig{t: t, dir: t.TempDir(), tp: kafka.TP{Topic: "purchases"}, added: map[kafka.TP]bool{}}
	r.online = &fakeOnline{v: map[string]sink.Version{}, n: map[string]string{}}
	if history != "" {
		history = ", history: " + history
	}
	plan, problems := feature.Parse("b.yaml", []byte(fmt.Sprintf(rigDefinition, history, tick, windows)), func(string) ([]byte, error) { return []byte(rigSchema), nil })
	if plan == nil {
		t.Fatal(problems)
	}
	r.plan = plan
	layout, err := window.NewLayout(plan)
	if err != nil {
		t.Fatal(err)
	}
	reader, err := event.Parse([]byte(rigSchema))
	if err != nil {
		t.Fatal(err)
	}
	var paths []string
	for _, c := range plan.Columns {
		paths = append(paths, c.Path)
	}
	reg := prometheus.NewRegistry()
	lv := slog.LevelInfo
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: lv}))
	sc := state.Default()
	res := state.NewResources(sc, log, reg)
	cfg := Default()
	cfg.Data, cfg.CheckpointEvery = r.dir, time.Hour
	if tune != nil {
		tune(&cfg)
	}
	r.bucket = sink.NewDir(sink.OS, r.dir)
	r.deps = Deps{Log: log, Metrics: NewMetrics(reg), Config: cfg, Bucket: r.bucket, FS: sink.OS,
		Open: func(d string) (*state.Store, error) { return state.Open(d, res, nil) }, Budget: state.NewBudget(1 << 20), Source: r, Broker: r,
		Online: func(int32) Online { return r.online }, RunIDs: func(context.Context) (map[string]string, error) { return nil, nil },
		Decoder: event.NewDecoder(reader, paths, event.NewFiles(reader)), Layout: layout, Now: r.now, StoreID: "s", Owner: "o"}
	return r
}

func (r *rig) up() {
	ctx, cancel := context.WithCancel(context.Background())
	r.kill = cancel
	r.mu.Lock()
	r.g = NewGroup(r.deps, r.plan, Topic{ID: "t", Partitions: 1})
	r.mu.Unlock()
	r.g.Assign(ctx, []kafka.TP{r.tp})
	r.t.Cleanup(func() { cancel(); r.wait() })
}
func (r *rig) wait() {
	r.g.mu.Lock()
	var all []*running
	for _, x := range r.g.shards {
		all = append(all, x)
	}
	r.g.mu.Unlock()
	for _, x := range all {
		<-x.done
	}
}
func (r *rig) crash() { r.kill(); r.wait() }
func (r *rig) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	r.g.Close(ctx)
}
func (r *rig) eventually(what string, d time.Duration, ok func() bool) bool {
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if ok() {
			return true
		}
	}
	r.t.Errorf("not within %v: %s; %+v", d, what, r.g.Statuses())
	return false
}
func (r *rig) shard() *Shard {
	r.g.mu.Lock()
	x := r.g.shards[r.tp]
	r.g.mu.Unlock()
	if x == nil {
		return nil
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.shard
}
func (r *rig) live() bool {
	st := r.g.Statuses()
	return len(st) == 1 && st[0].Phase == "live" && st[0].Err == ""
}

// rows returns the log rows of an entity in the segments that lie locally.
func (r *rig) rows(entity string) (out []logRow) {
	dir := filepath.Join(r.dir, "segments", "buys/v1/purchases/0")
	names, _ := sink.OS.List(dir)
	for _, n := range names {
		h, err := parquet.ReadHeader(sink.OS, filepath.Join(dir, n))
		if err != nil {
			r.t.Fatal(err)
		}
		seg, _, err := parquet.OpenSegment(sink.OS, filepath.Join(dir, n), h)
		if err != nil {
			r.t.Fatal(err)
		}
		seg.Each(func(row *sink.Row) error {
			if string(row.Entity) == entity {
				out = append(out, logRow{row.Version, row.AvailableAt, fmt.Sprint(row.Values[0].Int64())})
			}
			return nil
		})
		seg.Close()
	}
	return out
}

func (r *rig) files(sub, has string) (out []string) {
	filepath.Walk(filepath.Join(r.dir, sub), func(p string, i os.FileInfo, err error) error {
		if err == nil && !i.IsDir() && strings.Contains(p, has) {
			out = append(out, strings.TrimPrefix(p, r.dir))
		}
		return nil
	})
	return out
}

type redisSnap struct {
	v map[string]sink.Version
	n map[string]string
	p redis.Progress
}

func snapOf(f *fakeOnline) redisSnap { return redisSnap{maps.Clone(f.v), maps.Clone(f.n), *f.prog} }
func (s redisSnap) to(f *fakeOnline) { f.v, f.n, f.prog = s.v, s.n, &s.p }

func (r *rig) Committed(context.Context, kafka.TP) (string, error) { return "", nil }
