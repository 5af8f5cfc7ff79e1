// Command spine measures a shard's spine on the peers' events: four windows by eight aggregates, a row per event, rows discarded, state on disk, checkpoints
// while it runs. It prints the rate over the event days 90 to 180, when all windows evict, and what it used.
package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"runtime/pprof"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/freshet-dev/freshet/processor"
	"github.com/freshet-dev/freshet/processor/kafka"
	"github.com/freshet-dev/freshet/schemas/event"
	"github.com/freshet-dev/freshet/schemas/feature"
	"github.com/freshet-dev/freshet/sink"
	"github.com/freshet-dev/freshet/sink/redis"
	"github.com/freshet-dev/freshet/state"
	"github.com/freshet-dev/freshet/state/window"
	"github.com/freshet-dev/freshet/test/bench/gen"
)

const schema = `{"type":"record","name":"E","fields":[{"name":"user","type":"long"},{"name":"ts","type":"long"},
 {"name":"amount","type":"double"},{"name":"product","type":"long"},{"name":"quantity","type":"int"}]}`

const definition = `
group: peers
version: 1
entity: {name: user, key: [user]}
source: {topic: events, schema: e.avsc, time: ts, unit: ms, partitioner: any, key_format: any, history: none}
freshness: 10s
windows: [1d, 7d, 30d, 90d]
features:
  - {name: n, agg: count}
  - {name: total, agg: sum, of: amount}
  - {name: mean, agg: avg, of: amount}
  - {name: least, agg: min, of: amount}
  - {name: most, agg: max, of: amount}
  - {name: spread, agg: stddev, of: amount}
  - {name: items, agg: sum, of: quantity}
  - {name: products, agg: count_distinct, of: product}
`

func main() {
	dist := flag.String("dist", "U", "U uniform or Z Zipf(1.1)")
	events := flag.Int64("events", 10_000_000, "")
	users := flag.Int("users", 1_000_000, "")
	shards := flag.Int("shards", 2, "partitions, one goroutine each")
	every := flag.Duration("checkpoint", 3*time.Second, "")
	cache := flag.Int64("cache", 256<<20, "decoded entities, bytes")
	decay := flag.Bool("decay", false, "emit decay rows too, at ticks of 10 s")
	verify := flag.Int("verify", 1000, "users whose rows are held to the oracle afterwards")
	path := flag.String("file", "", "the peers' event file; made in the temporary directory if it is not there")
	profile := flag.String("cpuprofile", "", "")
	flag.Parse()
	if *profile != "" {
		f, err := os.Create(*profile)
		if err != nil {
			fail(err)
		}
		if err := pprof.StartCPUProfile(f); err != nil {
			fail(err)
		}
		defer pprof.StopCPUProfile()
	}
	if err := measure(options{*dist, *events, *users, *shards, *every, *cache, *decay, *path, *verify}); err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "spine:", err)
	os.Exit(1)
}

type options struct {
	dist   string
	events int64
	users  int
	shards int
	every  time.Duration
	cache  int64
	decay  bool
	path   string
	verify int
}

// source feeds generated events to the shards; it implements processor.Source and processor.Broker.
type source struct {
	o       options
	group   *processor.Group
	mu      sync.Mutex
	cond    *sync.Cond
	paused  map[kafka.TP]bool
	added   int
	judge   *judge
	decayed atomic.Int64
	commits atomic.Int64 // checkpoints whose manifests are published
}

func (s *source) Add(kafka.TP, int64) { s.mu.Lock(); s.added++; s.mu.Unlock(); s.cond.Broadcast() }
func (s *source) Remove(kafka.TP)     {}
func (s *source) Pause(tp kafka.TP)   { s.mu.Lock(); s.paused[tp] = true; s.mu.Unlock() }
func (s *source) Resume(tp kafka.TP) {
	s.mu.Lock()
	delete(s.paused, tp)
	s.mu.Unlock()
	s.cond.Broadcast()
}
func (s *source) Offsets(context.Context, kafka.TP) (int64, int64, error) {
	return 0, math.MaxInt64 / 2, nil
}
func (s *source) DeadLetter(context.Context, string, []kafka.Record) error {
	return fmt.Errorf("a record was refused")
}
func (s *source) Committed(context.Context, kafka.TP) (string, error) { return "", nil }
func (s *source) Commit(context.Context, kafka.TP, int64, string) error {
	s.commits.Add(1)
	return nil
}

// discard is an online store that takes nothing; history mode none never writes to it.
type discard struct{}

func (discard) Write(context.Context, []sink.Row, []redis.Outcome) error { return nil }
func (discard) Versions(context.Context, [][]byte) ([]sink.Version, []bool, error) {
	return nil, nil, nil
}
func (discard) WriteProgress(context.Context, redis.Progress) error { return nil }
func (discard) ReadProgress(context.Context) (redis.Progress, bool, error) {
	return redis.Progress{}, false, nil
}

func measure(o options) error {
	dir, err := os.MkdirTemp("", "spine")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	plan, problems := feature.Parse("peers.yaml", []byte(definition), func(string) ([]byte, error) { return []byte(schema), nil })
	if err := problems.Err(); err != nil {
		return err
	}
	if !o.decay {
		plan.Tick = 1 << 50 // no tick ever comes
	}
	layout, err := window.NewLayout(plan)
	if err != nil {
		return err
	}
	reader, err := event.Parse([]byte(schema))
	if err != nil {
		return err
	}
	var paths []string
	for _, c := range plan.Columns {
		paths = append(paths, c.Path)
	}
	reg := prometheus.NewRegistry()
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	sc := state.Default()
	sc.EntityCacheBytes = o.cache
	res := state.NewResources(sc, log, reg)
	cfg := processor.Default()
	cfg.Data, cfg.CheckpointEvery, cfg.Idle = dir, o.every, processor.IdleHold
	var rows atomic.Int64
	src := &source{o: o, paused: map[kafka.TP]bool{}}
	src.cond = sync.NewCond(&src.mu)
	src.judge = newJudge(processor.SpecOf(plan), o.verify, o.users, o.shards)
	deps := processor.Deps{
		Log: log, Metrics: processor.NewMetrics(reg), Config: cfg, Bucket: sink.NewDir(sink.OS, dir+"/bucket"), FS: sink.OS,
		Open: func(d string) (*state.Store, error) { return state.Open(d, res, nil) }, Budget: res.Entities(), Source: src, Broker: src,
		Online: func(int32) processor.Online { return discard{} }, RunIDs: func(context.Context) (map[string]string, error) { return nil, nil },
		Decoder: event.NewDecoder(reader, paths, event.NewFiles(reader)), Layout: layout, Now: time.Now, StoreID: "bench", Owner: "bench",
		Tap: func(r *sink.Row) {
			src.judge.row(r)
			if r.Cause == sink.Decay {
				src.decayed.Add(1)
			} else {
				rows.Add(1)
			}
		},
	}
	src.group = processor.NewGroup(deps, plan, processor.Topic{ID: "bench", Partitions: int32(o.shards)})
	return src.run(deps, &rows)
}

// awaitShards returns once so many shards want records.
func (s *source) awaitShards(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.added < n {
		s.cond.Wait()
	}
}

// run generates, feeds, waits, and judges what came of it.
func (s *source) run(deps processor.Deps, rows *atomic.Int64) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var tps []kafka.TP
	for p := range s.o.shards {
		tps = append(tps, kafka.TP{Topic: "events", Partition: int32(p)})
	}
	file, err := s.file()
	if err != nil {
		return err
	}
	defer file.Close()
	s.group.Assign(ctx, tps)
	s.awaitShards(s.o.shards)
	cpu0, start := cpu(), time.Now()
	var wg sync.WaitGroup
	var fed error
	wg.Go(func() { fed = s.feed(file, tps) })
	var half time.Time
	var halfCPU time.Duration
	var halfRows, halfCommits int64
	for rows.Load() < s.o.events {
		time.Sleep(20 * time.Millisecond)
		if n := rows.Load(); half.IsZero() && n >= s.o.events/2 {
			half, halfCPU, halfRows, halfCommits = time.Now(), cpu(), n, s.commits.Load()
			fmt.Printf("days 0–90: %.0f events/s\n", float64(n)/half.Sub(start).Seconds())
		}
		for _, st := range s.group.Statuses() {
			if st.Err != "" {
				return fmt.Errorf("%s: %s", st.Shard, st.Err)
			}
		}
	}
	end := time.Now()
	n := rows.Load() - halfRows
	fmt.Printf("days 90–180: %.0f events/s, %.2f CPU-s per million, peak RSS %d MB\n", float64(n)/end.Sub(half).Seconds(),
		(cpu()-halfCPU).Seconds()/float64(n)*1e6, rss())
	fmt.Printf("checkpoints complete in days 90–180: %d, of %d shards\n", s.commits.Load()-halfCommits, s.o.shards)
	if s.o.decay {
		fmt.Printf("decay rows: %d\n", s.decayed.Load())
	}
	fmt.Printf("all: %.0f events/s, %.1f CPU-s\n", float64(s.o.events)/end.Sub(start).Seconds(), (cpu() - cpu0).Seconds())
	wg.Wait()
	s.group.Close(ctx)
	if fed != nil {
		return fed
	}
	compared, users, err := s.judge.compare()
	if err != nil {
		return err
	}
	fmt.Printf("%d rows of %d users are the oracle's\n", compared, users)
	return restored(deps, s, s.group, tps)
}

// file opens the peers' event file, and makes it first if it is not there.
func (s *source) file() (*os.File, error) {
	if s.o.path == "" {
		s.o.path = filepath.Join(os.TempDir(), fmt.Sprintf("freshet-bench-%s_%d_%d.bin", s.o.dist, s.o.events, s.o.users))
	}
	if f, err := os.Open(s.o.path); err == nil {
		return f, nil
	}
	f, err := os.Create(s.o.path + ".part")
	if err != nil {
		return nil, err
	}
	err = gen.Write(f, s.o.dist[0], s.o.events, s.o.users)
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	if err := os.Rename(s.o.path+".part", s.o.path); err != nil {
		return nil, err
	}
	return os.Open(s.o.path)
}

// feed reads the file and deals its events, as Avro, to the shards by user.
func (s *source) feed(file *os.File, tps []kafka.TP) error {
	const batch = 2048
	in := bufio.NewReaderSize(file, 1<<20)
	recs, next := make([][]kafka.Record, len(tps)), make([]int64, len(tps))
	offer := func(p int) {
		s.mu.Lock()
		for s.paused[tps[p]] {
			s.cond.Wait()
		}
		s.mu.Unlock()
		s.group.Offer(kafka.Fetch{TP: tps[p], Records: recs[p], Next: next[p], End: math.MaxInt64 / 2})
		recs[p] = nil
	}
	var e [36]byte
	for range s.o.events {
		if _, err := io.ReadFull(in, e[:]); err != nil {
			return err
		}
		word := func(i int) int64 { return int64(binary.LittleEndian.Uint64(e[i:])) }
		user, ts := word(0), word(8)
		p := int(uint64(user) * 0x9e3779b97f4a7c15 >> 32 % uint64(len(tps)))
		if recs[p] == nil {
			recs[p] = make([]kafka.Record, 0, batch)
		}
		body := encode(user, ts, math.Float64frombits(uint64(word(16))), word(24), int32(binary.LittleEndian.Uint32(e[32:])))
		rec := kafka.Record{Offset: next[p], Timestamp: ts, Value: body}
		s.judge.event(p, user, rec)
		recs[p] = append(recs[p], rec)
		next[p]++
		if len(recs[p]) == batch {
			offer(p)
		}
	}
	for p := range recs {
		offer(p)
	}
	return nil
}

func encode(user, ts int64, amount float64, product int64, quantity int32) []byte {
	b := make([]byte, 5, 40)
	b[4] = 1
	b = binary.AppendVarint(b, user)
	b = binary.AppendVarint(b, ts)
	b = binary.LittleEndian.AppendUint64(b, math.Float64bits(amount))
	b = binary.AppendVarint(b, product)
	return binary.AppendVarint(b, int64(quantity))
}

func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func rss() int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return u.Maxrss / 1024
}
