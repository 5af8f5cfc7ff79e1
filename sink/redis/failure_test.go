package redis

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/freshet-dev/freshet/schemas"
	"github.com/freshet-dev/freshet/sink"
)

// tryOne writes one row and returns the error.
func tryOne(t testing.TB, c *Client, n int64) error {
	t.Helper()
	return c.Writer(purchases, 3).Write(testContext(t), []sink.Row{purchase("42", n)}, make([]Outcome, 1))
}

func failsWith(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one with %q", parts)
	}
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) {
			t.Errorf("the error is %q, want %q in it", err, p)
		}
	}
}

// What the server refuses comes back as an error that says what helps, and the next write works once it is mended.
func TestServerRefuses(t *testing.T) {
	s := startRedis(t)
	c := open(t, s)
	ctx := testContext(t)
	do := func(args ...any) {
		t.Helper()
		if err := c.rdb.Do(ctx, args...).Err(); err != nil {
			t.Fatal(args, err)
		}
	}
	do("replicaof", "127.0.0.1", "1")
	failsWith(t, tryOne(t, c, 1), "READONLY", "primary's address")
	_, problems, err := c.Check(ctx)
	if all := strings.Join(problems, "\n"); err != nil || !strings.Contains(all, "is a replica") || !strings.Contains(all, "READONLY") {
		t.Errorf("Check of a replica finds %q, %v", problems, err)
	}
	do("config", "set", "replica-serve-stale-data", "no")
	_, err = c.ReaderOf("user_purchases", 1).GetFeatures(ctx, "42")
	failsWith(t, err, "MASTERDOWN", "primary is away")
	do("replicaof", "no", "one")

	do("config", "set", "maxmemory", "1")
	failsWith(t, tryOne(t, c, 1), "OOM", "maxmemory")
	do("config", "set", "maxmemory", "0")

	do("set", key42, "x")
	failsWith(t, tryOne(t, c, 1), "WRONGTYPE", "redis.prefix")
	do("del", key42)

	do("acl", "setuser", "reader", "on", ">secret", "~features:*", "+hmget", "+hgetall", "+@connection")
	reader := open(t, s, func(cfg *Config) { cfg.Username, cfg.Password = "reader", "secret" })
	failsWith(t, tryOne(t, reader, 1), "NOPERM", "ACL")
	if _, err := reader.ReaderOf("user_purchases", 1, "gift").GetFeatures(ctx, "42"); err != nil {
		t.Error(err)
	}
	do("acl", "setuser", "writer", "on", ">secret", "~features:*", "+@hash", "+@read", "+@scripting", "+@connection", "+pexpireat", "+persist", "+del", "+time", "+info")
	writer := open(t, s, func(cfg *Config) { cfg.Username, cfg.Password = "writer", "secret" })
	if info, problems, err := writer.Check(ctx); err != nil || len(problems) > 0 {
		t.Errorf("with the rights that the hint names: %q, %q, %v", info, problems, err)
	}
	if err := writer.Writer(purchases, 3).WriteProgress(ctx, Progress{}); err != nil {
		t.Error(err)
	}

	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte("wrong\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	do("config", "set", "requirepass", "right")
	failsWith(t, tryOne(t, open(t, s), 1), "NOAUTH", "password_file")
	secret := open(t, s, func(cfg *Config) { cfg.PasswordFile = file })
	failsWith(t, tryOne(t, secret, 1), "WRONGPASS", "password_file")
	if err := os.WriteFile(file, []byte("right\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := tryOne(t, secret, 1); err != nil {
		t.Error(err)
	}
}

func TestServerLoads(t *testing.T) {
	path, port, dir := findRedis(t, "redis-server"), freePort(t), t.TempDir()
	s := startRedisOn(t, path, port, dir)
	c := open(t, s)
	var rows []sink.Row
	for n := range int64(300) {
		rows = append(rows, purchase(fmt.Sprint(n), n))
	}
	write(t, c.Writer(purchases, 3), make([]Outcome, len(rows)), rows...)
	if err := c.rdb.Save(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	s.stop()
	startRedisOn(t, path, port, dir, "--key-load-delay", "10000", "--loading-process-events-interval-bytes", "1024")
	var err error
	for range 3 { // the connections of before the restart are dead
		if err = tryOne(t, c, 1000); err != nil && strings.Contains(err.Error(), "LOADING") {
			break
		}
	}
	failsWith(t, err, "LOADING", "still loading")
}

// A server that is away, restarted or stuck: errors within the time limit, then all goes on.
func TestServerGoesAway(t *testing.T) {
	path, port, dir := findRedis(t, "redis-server"), freePort(t), t.TempDir()
	s := startRedisOn(t, path, port, dir)
	reg := prometheus.NewPedanticRegistry()
	cfg := Default()
	cfg.Addr, cfg.Timeout = s.addr, 200*time.Millisecond
	c, err := Open(cfg, slog.New(slog.DiscardHandler), reg)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := tryOne(t, c, 1); err != nil {
		t.Fatal(err)
	}
	before, err := c.RunIDs(t.Context())
	if err != nil || len(before[s.addr]) != 40 {
		t.Fatal(before, err)
	}
	s.stop()
	failsWith(t, tryOne(t, c, 2), "write 1 rows of user_purchases v1 to redis")
	failsWith(t, tryOne(t, c, 2), "connection refused")
	if _, err := c.RunIDs(t.Context()); err == nil {
		t.Error("a server that is away has run ids")
	}
	s = startRedisOn(t, path, port, dir)
	write(t, c.Writer(purchases, 3), []Outcome{Written}, purchase("42", 2))
	after, err := c.RunIDs(t.Context())
	if err != nil || len(after[s.addr]) != 40 || after[s.addr] == before[s.addr] {
		t.Errorf("run ids are %v after the restart, %v before it; %v", after, before, err)
	}

	if err := s.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	failsWith(t, tryOne(t, c, 3), "timeout")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := c.Writer(purchases, 3).WriteProgress(ctx, Progress{}); err == nil {
		t.Error("a stuck server takes progress")
	}
	if d := time.Since(start); d > 2*time.Second {
		t.Errorf("a stuck server holds two calls for %s; their limits are 200 and 20 ms", d)
	}
	if err := s.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	// The answer that nobody waited for came late: the write may have been made.
	if err := tryOne(t, c, 3); err != nil {
		t.Fatal(err)
	}
	equal(t, hash(t, c, key42), stored(3, 3))

	checkCounters(t, counters(t, reg))
	if again, err := Open(cfg, slog.New(slog.DiscardHandler), reg); err != nil {
		t.Errorf("a second client of the same registry: %v", err)
	} else {
		again.Close()
	}
}

func checkCounters(t *testing.T, count map[string]float64) {
	t.Helper()
	if n := count["freshet_redis_script_loads_total"]; n != 2 {
		t.Errorf("the script was loaded %v times, want 2", n)
	}
	if n := count["freshet_redis_errors_total timeout"]; n < 2 {
		t.Errorf("%v timeouts are counted, want at least 2", n)
	}
	if n := count["freshet_redis_errors_total network"]; n < 1 {
		t.Errorf("%v network errors are counted, want some", n)
	}
	if w, e := count["freshet_redis_rows_total written"], count["freshet_redis_rows_total equal"]; w+e != 3 {
		t.Errorf("%v rows are counted as written, %v as equal", w, e)
	}
	if n := count["freshet_redis_write_seconds"]; n != 3 {
		t.Errorf("%v writes are timed, want 3", n)
	}
}

// counters returns each counter's value and each histogram's count, by name and labels.
func counters(t *testing.T, reg *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	n := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name += " " + l.GetValue()
			}
			n[name] = m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return n
}

// Two owners of a shard, one of them replaced without knowing it, write the same entities in different orders, while the script is
// flushed now and then. No reader sees a version go back, or values of two versions at once.
func TestReadersNeverSeeVersionsGoBack(t *testing.T) {
	onBoth(t, func(t *testing.T, s *server) {
		const entities, versions = 5, 120
		c := open(t, s)
		makeRow := func(e, n int64) sink.Row {
			r := purchase(fmt.Sprint(e), n)
			if n%3 == 0 {
				r.Values[1], r.Values[8] = schemas.Value{}, schemas.Value{}
			}
			return r
		}
		var stop atomic.Bool
		var readers, writers sync.WaitGroup
		var reads atomic.Int64
		for range 2 {
			readers.Go(func() {
				r := c.Reader(purchases, 0)
				var keys [][]byte
				var last [entities]sink.Version
				for e := range entities {
					keys = append(keys, fmt.Append(nil, e))
				}
				for !stop.Load() {
					vs, err := r.GetFeatureVectors(context.Background(), keys, nil)
					if err != nil {
						t.Error(err)
						return
					}
					for e := range vs {
						if err := checkSeen(&vs[e], last[e], makeRow); err != nil {
							t.Error(err)
							return
						}
						last[e] = vs[e].Version
					}
					reads.Add(1)
				}
			})
		}
		for k := range int64(2) {
			writers.Go(func() {
				w := c.Writer(purchases, 3)
				out := make([]Outcome, 4*entities)
				for n := int64(1); n <= versions; n += 4 {
					var rows []sink.Row
					for j := range int64(4) {
						for e := range int64(entities) {
							rows = append(rows, makeRow(e, max(n+j-k*5*(e%3), 1))) // the second one lags, by entity
						}
					}
					if err := w.Write(context.Background(), rows, out); err != nil {
						t.Error(err)
					}
					if n%20 == 1 {
						c.rdb.ScriptFlush(context.Background())
					}
				}
			})
		}
		writers.Wait()
		for min := reads.Load() + 2; reads.Load() < min && !t.Failed(); {
			time.Sleep(time.Millisecond)
		}
		stop.Store(true)
		readers.Wait()
		vs, err := c.Reader(purchases, 0).GetFeatureVectors(t.Context(), [][]byte{[]byte("0")}, nil)
		if err != nil || vs[0].Version.Offset != versions {
			t.Errorf("the last version is %v, want offset %d; %v", vs[0].Version, versions, err)
		}
	})
}

func checkSeen(v *Vector, last sink.Version, makeRow func(e, n int64) sink.Row) error {
	if v.Version.Compare(last) < 0 {
		return fmt.Errorf("entity %s went back from %s to %s", v.Entity, last, v.Version)
	}
	if !v.Known {
		return nil
	}
	want := makeRow(0, v.Version.Offset)
	var errs []error
	for i, name := range v.Names() {
		if got, err := v.Value(i); err != nil || !sameValue(got, want.Values[i]) {
			errs = append(errs, fmt.Errorf("entity %s at %s: %s is %+v, want %+v (%v)", v.Entity, v.Version, name, got, want.Values[i], err))
		}
	}
	return errors.Join(errs...)
}
