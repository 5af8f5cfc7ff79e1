//go:build unix

package e2e

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/freshet-dev/freshet/sink/redis"
)

var discard = slog.New(slog.DiscardHandler)

func registry() prometheus.Registerer { return prometheus.NewRegistry() }

func redisConfig(w *world) redis.Config {
	c := redis.Default()
	c.Addr = w.redis.Addr
	return c
}

// TestRedis takes Redis away in all the ways there are, under load, and shows each time that it comes to hold what the oracle says, that
// nothing was dropped and no version went back.
//
// It was shown to fail: without the look at the progress hash and the run ids (lost in processor/refill.go telling of nothing) a flushed
// Redis is never filled again.
func TestRedis(t *testing.T) {
	w := newWorld(t, "--appendonly", "yes", "--appendfsync", "always")
	w.past(300, 60)
	one := w.instance("one", "--set", "limits.queue_bytes=65536", "--set", "limits.feed_bytes=65536", "--set", "redis.timeout=2s")
	one.Start()
	w.awaitCaughtUp(one)
	stopReader := w.sights.poll()
	var away []int64
	for _, c := range []struct {
		name string
		do   func()
	}{
		{"its scripts are flushed", func() {
			if err := w.rdb.ScriptFlush(context.Background()).Err(); err != nil {
				t.Fatal(err)
			}
		}},
		{"it restarts with its data", func() { w.redis.Restart() }},
		{"it is flushed", func() {
			w.sights.lose(true)
			if err := w.rdb.FlushAll(context.Background()).Err(); err != nil {
				t.Fatal(err)
			}
		}},
		{"it is killed, and starts without its data", func() {
			w.sights.lose(true)
			w.redis.Kill()
			if err := os.RemoveAll(filepath.Join(w.redis.Dir, "appendonlydir")); err != nil {
				t.Fatal(err)
			}
			time.Sleep(300 * time.Millisecond)
			w.redis.Restart()
		}},
		{"it hangs", func() { w.hang(one) }},
	} {
		if !full() && c.name != "it is killed, and starts without its data" {
			t.Logf("Redis: %s: FRESHET_E2E=full shows that", c.name)
			continue
		}
		t.Log("Redis: " + c.name)
		load := w.run(60)
		time.Sleep(300 * time.Millisecond)
		away = append(away, time.Now().UnixMicro())
		c.do()
		away = append(away, time.Now().UnixMicro())
		time.Sleep(300 * time.Millisecond)
		load.stop()
		w.awaitCaughtUp(one)
		w.admit().awaitOnline(c.name + ": Redis equal to the oracle again")
		w.sights.lose(false)
	}
	// Two losses between two looks are one; that each was mended awaitOnline has seen.
	if got, want := one.metric("freshet_refills_total"), 2*partitions; int(got) < want {
		t.Errorf("%v refills, not %d: a shard noticed nothing", got, want)
	}
	stopReader()
	j := w.verdict(shown, one)
	j.judgeSights(away, 0)
	j.sentence()
}

const (
	hangs      = 5 * time.Second
	growthMax  = 96 << 20 // bytes: garbage is let grow to twice the heap; what the load would take is beyond it
	hangLoad   = 1500     // events a second and topic
	hangEvents = int(hangs/time.Second) * hangLoad
)

// hang makes Redis hang under a heavy load: rows wait, then records wait in the broker, and memory stays as it was.
func (w *world) hang(one *instance) {
	w.t.Helper()
	load := w.run(hangLoad)
	time.Sleep(500 * time.Millisecond)
	coalesced, before := one.metric("freshet_rows_coalesced_total"), w.memory(one)
	w.redis.Pause()
	var lag, most, queued float64
	for end := time.Now().Add(hangs); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		lag = one.metric("freshet_lag_records")
		queued = max(queued, one.metric("freshet_queue_bytes"))
		most = max(most, w.memory(one))
	}
	w.redis.Resume()
	resumed := time.Now()
	load.stop()
	w.awaitCaughtUp(one)
	w.t.Logf("after %v: %v records behind, at most %v bytes queued; memory %.0f MB before, at most %.0f MB; %v rows coalesced; caught up %v after it went on",
		hangs, lag, queued, before/1e6, most/1e6, one.metric("freshet_rows_coalesced_total")-coalesced, time.Since(resumed).Round(10*time.Millisecond))
	if lag < float64(hangEvents)/2 {
		w.t.Errorf("freshet_lag_records says %v with some %d records waiting", lag, 2*hangEvents)
	}
	if most > before+growthMax {
		w.t.Errorf("memory grew from %.0f to %.0f MB", before/1e6, most/1e6)
	}
}

// memory is the resident memory of a process, in bytes; 0 where there is no /proc.
func (w *world) memory(i *instance) float64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", i.Pid()))
	if err != nil {
		return 0
	}
	pages, err := strconv.Atoi(strings.Fields(string(text))[1])
	if err != nil {
		w.t.Fatal(err)
	}
	return float64(pages * os.Getpagesize())
}
