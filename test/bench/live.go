package main

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"time"

	"github.com/freshet-dev/freshet/schemas/catalog"
)

const (
	partitions = 4
	mostRate   = 20_000 // events/s of the latency measurement
	nearly     = 250 * time.Millisecond
)

// world is a running service with its servers: redis-server, a broker, and `freshet run` with the shipped user_purchases, each a process.
type world struct {
	b       *bench
	freshet string // the program
	args    []string
	http    string // address
	run     *process
	load    *load
}

// scale is how much is done.
type scale struct {
	users, history, burst int
	checkpoint, measured  time.Duration
}

// live measures the real thing from end to end.
func live(b *bench) (rows []row, err error) {
	s := scale{50_000, 500_000, 400_000, 10 * time.Second, 40 * time.Second}
	if b.quick {
		s = scale{10_000, 40_000, 100_000, 3 * time.Second, 12 * time.Second}
	}
	ctx, cancel := context.WithTimeout(b.ctx, 10*time.Minute)
	defer cancel()
	w := &world{b: b}
	if w.freshet, err = b.build("./cmd/freshet"); err != nil {
		return nil, err
	}
	store, redis, err := b.redisServer()
	if err != nil {
		return nil, err
	}
	defer store.kill()
	brk, broker, err := b.brokerServer()
	if err != nil {
		return nil, err
	}
	defer brk.kill()
	if err := w.configure(broker, redis, s); err != nil {
		return nil, err
	}
	if w.load, err = newLoad(broker, redis, s.users); err != nil {
		return nil, err
	}
	defer w.load.close()
	if err := w.load.history(ctx, s.history); err != nil {
		return nil, err
	}
	began := time.Now()
	if err := w.start(ctx); err != nil {
		return nil, err
	}
	defer func() { w.run.kill() }()
	took := time.Since(began)
	started, err := scrape(ctx, w.http)
	if err != nil {
		return nil, err
	}
	rows = append(rows, row{fmt.Sprintf("bootstrap of `freshet run`: history of %s purchases of %s shoppers to the log, Redis filled, %d partitions", thousands(float64(s.history)), thousands(float64(s.users)), partitions),
		fmt.Sprintf("%.1f s, %s events/s", took.Seconds(), thousands(float64(s.history)/took.Seconds())), fmt.Sprintf("process start included; %s rows of events and decay", thousands(started.sum("freshet_rows_total")))})
	reading, stop := context.WithCancel(ctx)
	read := make(chan error, 1)
	go func() { read <- w.load.read(reading) }()
	more, err := w.measure(ctx, s)
	stop()
	if readErr := <-read; err == nil {
		err = readErr
	}
	return append(rows, more...), err
}

func (w *world) configure(broker, redis string, s scale) (err error) {
	defs := filepath.Join(w.b.dir, "definitions")
	if err := catalog.Extract(defs, "user_purchases.yaml", "purchase.avsc"); err != nil {
		return err
	}
	if w.http, err = freeAddr(); err != nil {
		return err
	}
	w.args = []string{"run"}
	for _, set := range []string{"kafka.brokers=[" + broker + "]", "redis.addr=" + redis, "definitions=" + defs, "data=" + filepath.Join(w.b.dir, "data"),
		"http.listen=" + w.http, "checkpoint.every=" + s.checkpoint.String()} {
		w.args = append(w.args, "--set", set)
	}
	return nil
}

// start starts the service and waits until all its shards are live.
func (w *world) start(ctx context.Context) (err error) {
	if w.run, err = w.b.start("freshet", w.freshet, w.args...); err != nil {
		return err
	}
	err = w.run.ready(ctx, 5*time.Minute, func() bool {
		_, code, err := get(ctx, "http://"+w.http+"/readyz")
		return err == nil && code == http.StatusOK
	})
	if err != nil {
		w.run.kill()
	}
	return err
}

// measure finds the highest rate, then the latency at half of it, then the time to catch up after a kill.
func (w *world) measure(ctx context.Context, s scale) (rows []row, err error) {
	if _, err := w.load.burst(ctx, s.burst/4); err != nil { // warms up
		return nil, err
	}
	before, err := scrape(ctx, w.http)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	published, err := w.load.burst(ctx, s.burst)
	if err != nil {
		return nil, err
	}
	took := time.Since(began).Seconds()
	after, err := scrape(ctx, w.http)
	if err != nil {
		return nil, err
	}
	// Of a long queue an entity's newest row alone is written: that is not a rate at which every row could be.
	coalesced := diff(before, after, "freshet_rows_coalesced_total")
	most := (float64(s.burst) - coalesced) / took
	rows = append(rows, row{"highest rate of `freshet run`, event published → readable in redis-server", thousands(most) + " events/s",
		fmt.Sprintf("%s events at once, published in %.1f s, readable after %.1f s; %.0f %% of their rows were coalesced and are not counted; publisher, broker and redis-server on the same cores",
			thousands(float64(s.burst)), published.Seconds(), took, 100*coalesced/float64(s.burst))})
	rate := min(most/2, mostRate)
	loading, stop := context.WithCancel(ctx)
	defer stop()
	late := make(chan time.Duration, 1)
	go func() { late <- w.load.run(loading, rate) }()
	more, err := w.latency(ctx, s, rate)
	stop()
	generator := <-late
	if err != nil {
		return rows, err
	}
	more[0].note += fmt.Sprintf("; the publisher was at most %d ms late", generator.Milliseconds())
	caught, err := w.killed(ctx, s, rate/2)
	return append(append(rows, more...), caught...), err
}

func diff(before, after metrics, name string) float64 { return after.sum(name) - before.sum(name) }

// latency measures from publication to Redis while the load runs.
func (w *world) latency(ctx context.Context, s scale, rate float64) ([]row, error) {
	wait := func(d time.Duration) {
		select {
		case <-time.After(d):
		case <-ctx.Done():
		}
	}
	wait(3 * time.Second)
	before, err := scrape(ctx, w.http)
	if err != nil {
		return nil, err
	}
	from := time.Now()
	wait(s.measured)
	to := time.Now()
	after, err := scrape(ctx, w.http)
	if err != nil {
		return nil, err
	}
	if err := w.load.settle(ctx, func(oldest time.Duration) bool { return oldest < time.Since(to) }); err != nil {
		return nil, err
	}
	took := w.load.sightings(from)
	if len(took) < 100 {
		return nil, fmt.Errorf("only %d probes were seen", len(took))
	}
	q := func(q float64) string {
		return fmt.Sprintf("%.0f", after.quantile(before, "freshet_freshness_seconds", q)*1e3)
	}
	at := func(q float64) string {
		return fmt.Sprintf("%.1f", took[int(q*float64(len(took)-1))].Seconds()*1e3)
	}
	checkpoints := diff(before, after, "freshet_checkpoint_pause_seconds_count") / partitions
	seconds := to.Sub(from).Seconds()
	events, rowsMade := diff(before, after, "freshet_records_total"), diff(before, after, "freshet_rows_total")
	return []row{
		{fmt.Sprintf("event published → readable in redis-server, open loop at %s events/s", thousands(rate)), fmt.Sprintf("p50 %s ms, p99 %s ms", at(0.5), at(0.99)),
			fmt.Sprintf("%d probes, a reader polls each 0.5 ms; p99.9 %s, worst %s ms; %.1f checkpoints a shard, %v apart", len(took), at(0.999), at(1), checkpoints, s.checkpoint)},
		{"the same by freshet_freshness_seconds", fmt.Sprintf("p50 %s ms, p99 %s ms", q(0.5), q(0.99)), fmt.Sprintf("of %s rows, interpolated in the histogram", thousands(rowsMade))},
		{"checkpoint pause in that time", fmt.Sprintf("mean %.0f ms, p99 %.0f ms", 1e3*diff(before, after, "freshet_checkpoint_pause_seconds_sum")/max(checkpoints*partitions, 1),
			after.quantile(before, "freshet_checkpoint_pause_seconds", 0.99)*1e3), ""},
		{"the process in that time", fmt.Sprintf("%.0f CPU-µs an event, RSS %.0f MB", diff(before, after, "process_cpu_seconds_total")/events*1e6, after.sum("process_resident_memory_bytes")/(1<<20)),
			fmt.Sprintf("%s events/s in", thousands(events/seconds))},
	}, nil
}

// killed kills the service while events come in, starts it again at once, and measures until the reader is up to date again.
func (w *world) killed(ctx context.Context, s scale, rate float64) ([]row, error) {
	loading, stop := context.WithCancel(ctx)
	defer stop()
	done := make(chan time.Duration, 1)
	go func() { done <- w.load.run(loading, rate) }()
	defer func() { stop(); <-done }()
	kills := 3
	if w.b.quick {
		kills = 1
	}
	var all, ready []float64
	for range kills {
		select {
		case <-time.After(s.checkpoint / 2 * 3): // not long after a checkpoint, not long before one
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		at := time.Now()
		w.run.kill()
		if err := w.start(ctx); err != nil {
			return nil, err
		}
		ready = append(ready, time.Since(at).Seconds())
		if err := w.load.settle(ctx, func(oldest time.Duration) bool { return oldest < nearly && time.Since(at) > nearly }); err != nil {
			return nil, err
		}
		all = append(all, time.Since(at).Seconds())
	}
	return []row{{fmt.Sprintf("kill -9 → every event readable within %v again, %s shoppers, %s events/s coming in", nearly, thousands(float64(s.users)), thousands(rate)),
		fmt.Sprintf("%.1f s", median(all)), fmt.Sprintf("median of %d, process start included; shards live after %.1f s; checkpoints %v apart", kills, median(ready), s.checkpoint)}}, nil
}
