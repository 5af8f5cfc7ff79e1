package processor

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/freshet-dev/freshet/processor/kafka"
	"github.com/freshet-dev/freshet/schemas"
	"github.com/freshet-dev/freshet/sink"
	"github.com/freshet-dev/freshet/sink/parquet"
)

// a refill row supersedes a live row that is still to be logged.
func TestRefillTakesNoLogRow(t *testing.T) {
	t.Parallel()
	r := newRig(t, "", "1s", "1d", nil)
	seg, err := parquet.CreateSegment(sink.OS, r.dir+"/x.seg", parquet.Header{Features: 2, Group: "buys", Version: 1, Topic: "purchases", Epoch: 1})
	if err != nil {
		t.Fatal(err)
	}
	p := newPipeline(&pipeline{online: r.online, log: r.deps.Log, m: r.deps.Metrics.shard("buys", 1, 0), features: 2, limit: 1 << 16, rows: 512, now: r.now, seg: seg})
	row := func(e string) *sink.Row {
		return &sink.Row{Entity: []byte(e), Version: sink.Version{Generation: 1, Offset: 5, AsOf: 7}, ValidUntil: sink.Never, Cause: sink.Event, Values: []schemas.Value{schemas.IntValue(1), schemas.DoubleValue(1)}}
	}
	const n = 400 // fewer than refillRows
	for i := range n {
		p.add(row(fmt.Sprint("entity-with-a-name-of-usual-length-", i)), 0, true)
	}
	for i := range n {
		p.add(row(fmt.Sprint("entity-with-a-name-of-usual-length-", i)), 0, false)
	}
	go p.run(context.Background())
	p.idle(context.Background(), 5*time.Second)
	if seg.AckedRows() != n || r.online.writes < n {
		t.Errorf("%d entities shown in redis, %d log rows", len(r.online.v), seg.AckedRows())
	}
	p.stop()
	<-p.done
}

// an idle shard writes checkpoints for ever.
func TestUnchangedShardWritesNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t, "", "10s", "1d", func(c *Config) { c.CheckpointEvery, c.Idle = 300*time.Millisecond, IdleHold })
	r.up()
	r.eventually("live", 5*time.Second, r.live)
	r.send("a", r.ms())
	time.Sleep(1500 * time.Millisecond)
	n := len(r.files("manifest", ".json"))
	time.Sleep(3 * time.Second)
	if m := len(r.files("manifest", ".json")); m > n {
		t.Errorf("an idle shard wrote %d manifests in 3 s", m-n)
	}
	t.Log("state files:", len(r.files("state", "files")), "links of segments:", len(r.files("state", "segments")))
	r.stop()
}

// cache in one batch.
func TestGapInTheStreamKeepsTheCacheBounded(t *testing.T) {
	t.Parallel()
	r := newRig(t, "none", "10s", "1d, 7d", func(c *Config) { c.Idle = IdleHold })
	r.plan.Source.History = "none"
	var peak int64
	r.deps.Tap = func(*sink.Row) { peak = max(peak, r.deps.Budget.Used()) }
	const n = 60_000
	base := r.ms() - 30*86400_000
	for i := range n {
		r.rec(fmt.Sprintf("user-%d", i), base+int64(i)*100)
	}
	r.rec("user-0", base+3*86400_000)
	r.batch = 2000
	r.up()
	r.eventually("live", 180*time.Second, r.live)
	if peak > 16<<20 {
		t.Errorf("the budget is 1 MB, the cache held %d MB", peak>>20)
	}
}

// flood.
func TestFloodIsGotOver(t *testing.T) {
	t.Parallel()
	r := newRig(t, "", "1s", "1d", nil)
	r.up()
	r.eventually("live", 5*time.Second, r.live)
	for range 1500 {
		r.bad()
	}
	r.offer(0)
	r.eventually("flood", 5*time.Second, func() bool { return strings.Contains(r.g.Statuses()[0].Err, "more than half") })
	for range 3 {
		r.stop()
		r.up()
		r.eventually("live or not", 3*time.Second, func() bool { return r.g.Statuses()[0].Err != "" || r.live() })
		time.Sleep(200 * time.Millisecond)
		m, _ := parquet.Latest(context.Background(), r.bucket, "buys", 1, "purchases", 0)
		t.Logf("restarted by a person: position %d, %.40s", m.Position, r.g.Statuses()[0].Err)
	}
	if r.g.Statuses()[0].Err != "" {
		t.Error("no restart gets over the bad records")
	}
}

// stop while the queue is full.
func TestStopIsBoundedWithAFullQueue(t *testing.T) {
	t.Parallel()
	r := newRig(t, "", "1s", "1d", func(c *Config) { c.DrainLimit, c.QueueBytes = time.Second, 1<<16 })
	r.up()
	r.eventually("live", 5*time.Second, r.live)
	r.online.set(func() { r.online.down = true })
	for i := range 5000 {
		r.rec(fmt.Sprint("u", i), r.ms())
	}
	r.offer(0)
	time.Sleep(time.Second)
	ctx, cancel := context.WithTimeout(context.Background(), 8*time.Second)
	defer cancel()
	begun := time.Now()
	r.g.Revoke(ctx, []kafka.TP{r.tp})
	if d := time.Since(begun); d > 5*time.Second {
		t.Errorf("with a drain limit of 1 s a revoked shard is still there after %v; its status: %+v", d, r.g.Statuses())
	}
}

// --new-generation where an older manifest is there.
func TestNewGenerationBehindAnOlderManifest(t *testing.T) {
	t.Parallel()
	r := newRig(t, "", "1s", "1d", func(c *Config) {
		c.NewGeneration = map[string]bool{"buys@1": true}
		c.ProgressEvery = 50 * time.Millisecond
	})
	r.up()
	r.eventually("live", 5*time.Second, r.live)
	r.send("a", r.ms())
	time.Sleep(500 * time.Millisecond)
	r.stop()
	r.online.set(func() { p := *r.online.prog; p.Seq += 50; r.online.prog = &p }) // the directory is an older copy
	gen := r.online.prog.Generation
	r.up()
	time.Sleep(2 * time.Second)
	m, _ := parquet.Latest(context.Background(), r.bucket, "buys", 1, "purchases", 0)
	t.Logf("generation %d → %d; %+v", gen, m.Generation, r.g.Statuses())
	if m.Generation == gen {
		t.Error("not a new generation")
	}
	if r.g.Statuses()[0].Err != "" {
		t.Error("and it does not run")
	}
}

// the version of a decay row depends on where a fetch ends.
func TestVersionsDoNotDependOnFetches(t *testing.T) {
	t.Parallel()
	run := func(split bool) string {
		r := newRig(t, "", "1s", "1d, 7d", func(c *Config) { c.Idle = IdleHold })
		var got string
		r.deps.Tap = func(w *sink.Row) {
			if w.Cause == sink.Decay {
				got += fmt.Sprintf("%s@%d/%d ", w.Entity, w.Version.Offset, w.Version.AsOf)
			}
		}
		r.up()
		r.eventually("live", 5*time.Second, r.live)
		t0 := int64(1_700_000_000_000)
		mk := func(o int64, u string, at int64) kafka.Record {
			return kafka.Record{Offset: o, Timestamp: at, Key: []byte(u), Value: advBody(fmt.Sprint(o), u, 1, at)}
		}
		a, b := mk(10, "a", t0), mk(12, "b", t0+2*86400_000) // 11 is a transaction's marker
		if split {
			r.g.Offer(kafka.Fetch{TP: r.tp, Records: []kafka.Record{a}, Next: 12, End: 13})
			r.g.Offer(kafka.Fetch{TP: r.tp, Records: []kafka.Record{b}, Next: 13, End: 13})
		} else {
			r.g.Offer(kafka.Fetch{TP: r.tp, Records: []kafka.Record{a, b}, Next: 13, End: 13})
		}
		r.eventually("b", 5*time.Second, func() bool { return r.online.get("b") == "1" })
		r.crash()
		return got
	}
	if x, y := run(false), run(true); x != y {
		t.Errorf("one fetch: %s; two fetches: %s", x, y)
	}
}

// Redis goes back to an older snapshot while the shard is away: the progress hash has the right manifest.
func TestRedisThatWentBackIsFilled(t *testing.T) {
	t.Parallel()
	r := newRig(t, "", "1s", "1d", func(c *Config) { c.ProgressEvery = 50 * time.Millisecond })
	r.up()
	r.eventually("live", 5*time.Second, r.live)
	r.send("a", r.ms())
	r.eventually("a", 5*time.Second, func() bool { return r.online.get("a") == "1" })
	time.Sleep(200 * time.Millisecond)
	var snap redisSnap
	r.online.set(func() { snap = snapOf(r.online) })
	r.send("a", r.ms())
	r.eventually("a", 5*time.Second, func() bool { return r.online.get("a") == "2" })
	time.Sleep(200 * time.Millisecond)
	r.crash()
	r.online.set(func() { snap.to(r.online) })
	r.up()
	r.eventually("live", 5*time.Second, r.live)
	if !r.eventually("a is 2 again", 6*time.Second, func() bool { return r.online.get("a") == "2" }) {
		r.crash()
		t.Log(r.rows("a"))
	}
}

// after a recovery a refill writes a version that is not in the log.
func TestRefillWritesWhatTheLogHas(t *testing.T) {
	t.Parallel()
	r := newRig(t, "", "1s", "1d", func(c *Config) { c.ProgressEvery = 50 * time.Millisecond })
	r.up()
	r.eventually("live", 5*time.Second, r.live)
	r.send("a", r.ms())
	r.eventually("a", 5*time.Second, func() bool { return r.online.get("a") == "1" })
	time.Sleep(2500 * time.Millisecond)
	r.crash()
	r.up()
	r.eventually("live", 5*time.Second, r.live)
	time.Sleep(500 * time.Millisecond)
	r.online.set(func() { r.online.v, r.online.n, r.online.prog = map[string]sink.Version{}, map[string]string{}, nil }) // FLUSHALL
	r.eventually("refilled", 5*time.Second, func() bool { return r.online.get("a") == "1" })
	r.crash()
	rows := r.rows("a")
	if last := rows[len(rows)-1]; last.v != r.online.v["a"] {
		t.Errorf("redis holds %+v, the last log row is %+v", r.online.v["a"], last.v)
	}
}
