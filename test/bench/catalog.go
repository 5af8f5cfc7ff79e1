package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/freshet-dev/freshet/processor"
	"github.com/freshet-dev/freshet/processor/kafka"
	"github.com/freshet-dev/freshet/schemas/catalog"
	"github.com/freshet-dev/freshet/schemas/event"
	"github.com/freshet-dev/freshet/schemas/feature"
	"github.com/freshet-dev/freshet/sink"
	"github.com/freshet-dev/freshet/sink/redis"
	"github.com/freshet-dev/freshet/state"
	"github.com/freshet-dev/freshet/state/window"
	"github.com/freshet-dev/freshet/test/bench/gen"
)

// catalogRatio runs the shipped definition through the spine with and without its expressions, in turns.
func catalogRatio(b *bench) ([]row, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	events, users, rounds := "1000000", "100000", "3"
	if b.quick {
		events, users, rounds = "200000", "20000", "3"
	}
	out, err := b.output(self, "catalog", "-events", events, "-users", users, "-rounds", rounds)
	if err != nil {
		return nil, err
	}
	var rates, cpu [2]float64
	var ratio float64
	var memory, features int
	if _, err := fmt.Sscan(lastLine(out), &rates[0], &rates[1], &cpu[0], &cpu[1], &ratio, &memory, &features); err != nil {
		return nil, fmt.Errorf("cannot read %q: %w", lastLine(out), err)
	}
	return []row{{fmt.Sprintf("`user_purchases` as shipped (%d features, where, derive), rows discarded, no decay rows, %d shards", features, shards), fmt.Sprintf("%s events/s, %.2f CPU-s per million", thousands(rates[0]), cpu[0]),
		fmt.Sprintf("%s events of %s users in 180 days; RSS with the events %d MB", events, users, memory)},
		{"the same without its where, filters and derive", fmt.Sprintf("%s events/s, %.2f CPU-s per million", thousands(rates[1]), cpu[1]),
			fmt.Sprintf("with expressions %.2f × the CPU, median of %s rounds in turns", ratio, rounds)}}, nil
}

// expressions are the lines and words of user_purchases.yaml that are taken out for the comparison.
var expressions = []string{
	"where: status != \"cancelled\"\n", ", where: amount >= 100.0", "    where: category != null\n",
	"  - name: spend_trend\n    derive: \"total_spend_30d > 0.0 ? total_spend_7d / total_spend_30d : 0.0\"\n    description: Share of the month's spending that fell into the last week.\n",
}

// catalogPlan is the plan of the shipped user_purchases, with or without expressions, for a history that makes no log rows.
func catalogPlan(with bool) (*feature.Plan, error) {
	text, err := catalog.File("user_purchases.yaml")
	if err != nil {
		return nil, err
	}
	change := func(old, by string) {
		if err == nil && strings.Count(string(text), old) != 1 {
			err = fmt.Errorf("user_purchases.yaml has not exactly one %q: mend test/bench/catalog.go", old)
		}
		text = []byte(strings.Replace(string(text), old, by, 1))
	}
	change("  topic: purchases\n", "  topic: purchases\n  history: none\n")
	if !with {
		for _, e := range expressions {
			change(e, "")
		}
	}
	if err != nil {
		return nil, err
	}
	plan, problems := feature.Parse("user_purchases.yaml", text, catalog.File)
	if err := problems.Err(); err != nil {
		return nil, err
	}
	plan.Tick = 1 << 50 // no tick ever comes
	return plan, nil
}

// catalogChild is the child of catalogRatio: its last line has events/s with and without expressions, CPU-s per million with and without, the
// ratio of these two, the RSS in MB, and the number of features.
func catalogChild(args []string) error {
	f := flag.NewFlagSet("catalog", flag.ContinueOnError)
	events := f.Int("events", 1_000_000, "")
	users := f.Int("users", 100_000, "")
	rounds := f.Int("rounds", 3, "")
	if err := f.Parse(args); err != nil {
		return err
	}
	records := encodePurchases(*events, *users)
	var rates, cpu [2][]float64
	var ratios []float64
	for round := range *rounds {
		for i := range 2 {
			k := (i + round) % 2 // each goes first in turn: the machine changes as it warms up
			with := k == 0
			plan, err := catalogPlan(with)
			if err != nil {
				return err
			}
			wall, used, err := play(plan, records, int64(*events))
			if err != nil {
				return err
			}
			rates[k] = append(rates[k], float64(*events)/wall.Seconds())
			cpu[k] = append(cpu[k], used.Seconds()/float64(*events)*1e6)
		}
		ratios = append(ratios, cpu[0][round]/cpu[1][round])
	}
	plan, err := catalogPlan(true)
	if err != nil {
		return err
	}
	u := usage()
	fmt.Println(median(rates[0]), median(rates[1]), median(cpu[0]), median(cpu[1]), median(ratios), u.Maxrss/1024, len(plan.Features))
	return nil
}

// encodePurchases makes purchases over the peers' 180 days, up to an hour out of order, on shards by key. None is cancelled, so that the same
// rows are made with expressions and without.
func encodePurchases(events, users int) (records [shards][]kafka.Record) {
	s, r := newShop(1), newShop(2).rng
	for i := range events {
		p := s.next(r.IntN(users), gen.T0+int64(i)*(gen.Span/int64(events))-r.Int64N(gen.Disorder))
		p.cancelled = false
		key := []byte(userID(p.user))
		on := kafka.Murmur2Partition(key, shards)
		records[on] = append(records[on], kafka.Record{Offset: int64(len(records[on])), Timestamp: p.time, Key: key, Value: s.append(nil, p)})
	}
	return records
}

const shards = 2

// feeder gives the shards their records; it implements processor.Source and processor.Broker.
type feeder struct {
	mu     sync.Mutex
	cond   *sync.Cond
	paused map[kafka.TP]bool
	added  int
}

func (f *feeder) change(fn func()) { f.mu.Lock(); fn(); f.mu.Unlock(); f.cond.Broadcast() }

func (f *feeder) Add(kafka.TP, int64) { f.change(func() { f.added++ }) }
func (f *feeder) Remove(kafka.TP)     {}
func (f *feeder) Pause(tp kafka.TP)   { f.change(func() { f.paused[tp] = true }) }
func (f *feeder) Resume(tp kafka.TP)  { f.change(func() { delete(f.paused, tp) }) }
func (f *feeder) await(ok func() bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for !ok() {
		f.cond.Wait()
	}
}
func (f *feeder) Offsets(context.Context, kafka.TP) (int64, int64, error) {
	return 0, math.MaxInt64 / 2, nil // all is history: no rows to Redis, none to the log
}
func (f *feeder) DeadLetter(context.Context, string, []kafka.Record) error {
	return errors.New("a record was refused")
}
func (f *feeder) Commit(context.Context, kafka.TP, int64, string) error { return nil }
func (f *feeder) Committed(context.Context, kafka.TP) (string, error)   { return "", nil }

// discard is an online store that takes nothing.
type discard struct{}

func (discard) Write(context.Context, []sink.Row, []redis.Outcome) error { return nil }
func (discard) Versions(context.Context, [][]byte) ([]sink.Version, []bool, error) {
	return nil, nil, nil
}
func (discard) WriteProgress(context.Context, redis.Progress) error { return nil }
func (discard) ReadProgress(context.Context) (p redis.Progress, ok bool, err error) {
	return p, false, nil
}

// group is a running group of a plan that discards its rows, but counts them.
func group(plan *feature.Plan, dir string, f *feeder, rows *atomic.Int64) (*processor.Group, error) {
	layout, err := window.NewLayout(plan)
	if err != nil {
		return nil, err
	}
	schema, err := event.Parse(plan.Source.Schema)
	if err != nil {
		return nil, err
	}
	var paths []string
	for _, c := range plan.Columns {
		paths = append(paths, c.Path)
	}
	reg, log := prometheus.NewRegistry(), slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	res := state.NewResources(state.Default(), log, reg)
	cfg := processor.Default()
	cfg.Data, cfg.CheckpointEvery, cfg.Idle = dir, 3*time.Second, processor.IdleHold
	return processor.NewGroup(processor.Deps{
		Log: log, Metrics: processor.NewMetrics(reg), Config: cfg, Bucket: sink.NewDir(sink.OS, dir+"/bucket"), FS: sink.OS,
		Open: func(d string) (*state.Store, error) { return state.Open(d, res, nil) }, Budget: res.Entities(), Source: f, Broker: f,
		Online: func(int32) processor.Online { return discard{} }, RunIDs: func(context.Context) (map[string]string, error) { return nil, nil },
		Decoder: event.NewDecoder(schema, paths, event.NewFiles(schema)), Layout: layout, Now: time.Now, StoreID: "bench", Owner: "bench",
		Tap: func(*sink.Row) { rows.Add(1) },
	}, plan, processor.Topic{ID: "bench", Partitions: shards}), nil
}

// play gives the records to a group of the plan and returns how long it took, until it had made as many rows as wanted, and the processor
// time.
func play(plan *feature.Plan, records [shards][]kafka.Record, want int64) (wall, cpu time.Duration, err error) {
	dir, err := os.MkdirTemp("", "freshet-bench-catalog")
	if err != nil {
		return 0, 0, err
	}
	defer os.RemoveAll(dir)
	f := &feeder{paused: map[kafka.TP]bool{}}
	f.cond = sync.NewCond(&f.mu)
	var rows atomic.Int64
	g, err := group(plan, dir, f, &rows)
	if err != nil {
		return 0, 0, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var tps []kafka.TP
	for p := range int32(shards) {
		tps = append(tps, kafka.TP{Topic: plan.Source.Topic, Partition: p})
	}
	g.Assign(ctx, tps)
	f.await(func() bool { return f.added == shards })
	runtime.GC()
	before, began := cpuTime(), time.Now()
	for p, tp := range tps {
		go f.feed(g, tp, records[p]) // ends when all is given; the loop below waits for what it gave
	}
	for rows.Load() < want {
		time.Sleep(5 * time.Millisecond)
		for _, s := range g.Statuses() {
			if s.Err != "" {
				return 0, 0, fmt.Errorf("%s: %s", s.Shard, s.Err)
			}
		}
	}
	wall, cpu = time.Since(began), cpuTime()-before
	g.Close(ctx)
	return wall, cpu, nil
}

func (f *feeder) feed(g *processor.Group, tp kafka.TP, records []kafka.Record) {
	for from := 0; from < len(records); {
		to := min(from+2048, len(records))
		f.await(func() bool { return !f.paused[tp] })
		g.Offer(kafka.Fetch{TP: tp, Records: records[from:to], Next: int64(to), End: math.MaxInt64 / 2})
		from = to
	}
}

func usage() (u syscall.Rusage) {
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err) // it has no reason to
	}
	return u
}

// cpuTime is what this process has used so far.
func cpuTime() time.Duration {
	u := usage()
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
