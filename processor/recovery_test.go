package processor

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/freshet-dev/freshet/processor/kafka"
	"github.com/freshet-dev/freshet/sink"
	"github.com/freshet-dev/freshet/sink/parquet"
)

// a crash between the manifest and the publication of its parts.
type failPublish struct {
	sink.Bucket
	n atomic.Int32
}

func (f *failPublish) Publish(ctx context.Context, a, b string) error {
	if f.n.Add(1) == 1 {
		return errors.New("bucket: 503 slow down")
	}
	return f.Bucket.Publish(ctx, a, b)
}

func TestCommittedPartIsPublishedAfterAFault(t *testing.T) {
	t.Parallel()
	r := newRig(t, "", "1s", "1d", func(c *Config) { c.CheckpointEvery, c.PartMaxAge = 300*time.Millisecond, 100*time.Millisecond })
	fp := &failPublish{Bucket: r.bucket}
	r.deps.Bucket = fp
	r.up()
	r.eventually("live", 5*time.Second, r.live)
	r.send("a", r.ms())
	r.eventually("a failed publication", 5*time.Second, func() bool { return fp.n.Load() > 0 })
	time.Sleep(2500 * time.Millisecond)
	r.stop()
	parts, err := parquet.Parts(context.Background(), r.bucket, "buys", 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Log(r.files("log", ""))
	for _, p := range parts {
		if len(r.files("log", strings.TrimPrefix(p.Name, "log/"))) == 0 || len(r.files("log", p.Name+".staged")) > 0 {
			t.Errorf("committed part %s is not published", p.Name)
		}
	}
}

// how late are parts published and the manifest taken note of.
func TestPartIsPublishedSoonAfterItsManifest(t *testing.T) {
	t.Parallel()
	r := newRig(t, "", "1s", "1d", func(c *Config) { c.CheckpointEvery, c.PartMaxAge = 6*time.Second, 100*time.Millisecond })
	r.up()
	r.eventually("live", 5*time.Second, r.live)
	r.send("a", r.ms())
	r.eventually("staged", 10*time.Second, func() bool { return len(r.files("log", ".staged")) > 0 })
	r.eventually("manifest", 3*time.Second, func() bool { return len(r.files("manifest", "0000000002")) > 0 })
	begun := time.Now()
	r.eventually("published", 20*time.Second, func() bool { return len(r.files("log", ".staged")) == 0 })
	if late := time.Since(begun); late > 4*time.Second { // the next checkpoint is 6 s away
		t.Errorf("the part got its name %v after its manifest", late)
	}
}

// leaving while recovering.
func TestLeavingAReplayCommitsNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t, "", "1s", "1d", nil)
	r.up()
	r.eventually("live", 5*time.Second, r.live)
	r.online.set(func() { r.online.down = true })
	now := r.ms()
	for i := range 30000 {
		r.rec(fmt.Sprint("u", i), now)
	}
	r.offer(0)
	r.eventually("applied", 10*time.Second, func() bool { s := r.shard(); p, _ := s.pipe.backlog(); return p > 10000 })
	r.crash()
	r.online.set(func() { r.online.down = false })
	r.batch, r.slow = 500, 20*time.Millisecond
	r.up()
	r.eventually("recovering", 5*time.Second, func() bool {
		s := r.shard()
		if s == nil {
			return false
		}
		st := s.status.Load()
		return st != nil && st.Phase == "recovering"
	})
	r.stop()
	m, _ := parquet.Latest(context.Background(), r.bucket, "buys", 1, "purchases", 0)
	t.Log("left with manifest at position", m.Position)
	r.slow = 0
	r.up()
	r.eventually("live", 10*time.Second, r.live)
	time.Sleep(time.Second)
	missing := 0
	for i := range 30000 {
		if r.online.get(fmt.Sprint("u", i)) != "1" {
			missing++
		}
	}
	r.crash()
	for _, e := range []string{"u3", "u499", "u25000"} {
		t.Log(e, "log rows:", r.rows(e))
		if len(r.rows(e)) == 0 {
			t.Errorf("%s is in redis (%q) and not in the log", e, r.online.get(e))
		}
	}
	if missing > 0 {
		t.Errorf("%d of 30000 entities are not in Redis after recovery", missing)
	}
}

// decay lost: the crash cuts off the decay row of an entity that the replay touches.
func TestDecayCutOffByACrashIsMadeAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t, "", "1s", "1d, 7d", nil)
	r.up()
	r.eventually("live", 5*time.Second, r.live)
	// x's event leaves the 1-day window soon.
	leaves := r.ms() - 86400_000 + 2000
	for i := range 1500 {
		r.rec(fmt.Sprintf("a%04d", i), leaves)
	}
	r.rec("x", leaves)
	r.offer(0)
	r.eventually("x", 5*time.Second, func() bool { return r.online.get("x") == "1" })
	r.online.set(func() {
		r.online.hold = func(rows []sink.Row) bool {
			for _, w := range rows {
				if string(w.Entity) == "x" {
					return true
				}
			}
			return false
		}
	})
	time.Sleep(4 * time.Second) // the tick passes; progress tells of it
	r.crash()
	r.online.set(func() { r.online.hold = nil })
	t.Logf("redis before: n_1d=%s progress=%+v now=%d", r.online.get("x"), *r.online.prog, r.ms())
	r.up()
	r.eventually("live", 10*time.Second, r.live)
	t.Log("a0000:", r.online.get("a0000"), "x:", r.online.get("x"))
	r.eventually("x decays to 0", 12*time.Second, func() bool { return r.online.get("x") == "0" })
}

// equal versions logged twice.
func TestDecayIsNotLoggedTwice(t *testing.T) {
	t.Parallel()
	r := newRig(t, "", "1s", "1d, 7d", func(c *Config) { c.ProgressEvery = time.Hour })
	r.up()
	r.eventually("live", 5*time.Second, r.live)
	r.send("x", r.ms()-86400_000+3000)
	r.eventually("x", 5*time.Second, func() bool { return r.online.get("x") == "1" })
	r.stop() // a checkpoint
	r.up()
	r.eventually("x decays", 8*time.Second, func() bool { return r.online.get("x") == "0" })
	time.Sleep(50 * time.Millisecond)
	r.crash()
	t.Log(r.rows("x"))
	r.up()
	r.eventually("live", 10*time.Second, r.live)
	time.Sleep(1500 * time.Millisecond)
	r.crash()
	rows := r.rows("x")
	t.Log(rows)
	seen := map[sink.Version]bool{}
	for _, w := range rows {
		if seen[w.v] {
			t.Errorf("version %+v is in the log twice", w.v)
		}
		seen[w.v] = true
	}
	zero := 0
	for _, w := range rows {
		if w.n == "0" {
			zero++
		}
	}
	if zero > 1 {
		t.Errorf("the one decay made %d log rows", zero)
	}
}

// revoked too slowly, then assigned again.
func TestPartitionThatComesBackRuns(t *testing.T) {
	t.Parallel()
	r := newRig(t, "", "1s", "1d", func(c *Config) { c.DrainLimit = time.Second })
	r.up()
	r.eventually("live", 5*time.Second, r.live)
	r.send("a", r.ms())
	r.eventually("a", 5*time.Second, func() bool { return r.online.get("a") == "1" })
	r.crash()
	r.online.set(func() { r.online.down = true })
	ctxAll, cancelAll := context.WithCancel(context.Background())
	defer cancelAll()
	r.mu.Lock()
	r.g = NewGroup(r.deps, r.plan, Topic{ID: "t", Partitions: 1})
	r.mu.Unlock()
	r.g.Assign(ctxAll, []kafka.TP{r.tp}) // waits for redis
	time.Sleep(300 * time.Millisecond)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	begun := time.Now()
	r.g.Revoke(ctx, []kafka.TP{r.tp})
	cancel()
	t.Log("revoke took", time.Since(begun))
	r.g.Assign(ctxAll, []kafka.TP{r.tp}) // and it comes back
	r.online.set(func() { r.online.down = false })
	time.Sleep(7 * time.Second) // back-off of up to 5 s
	r.send("a", r.ms())
	r.eventually("a's second", 10*time.Second, func() bool { return r.online.get("a") == "2" })
	t.Logf("%+v", r.g.Statuses())
	cancelAll()
}
