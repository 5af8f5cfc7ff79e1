package processor_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/freshet-dev/freshet/processor"
	"github.com/freshet-dev/freshet/processor/kafka"
	"github.com/freshet-dev/freshet/schemas/event"
	"github.com/freshet-dev/freshet/schemas/feature"
	"github.com/freshet-dev/freshet/sink"
	"github.com/freshet-dev/freshet/sink/parquet"
	"github.com/freshet-dev/freshet/sink/redis"
	"github.com/freshet-dev/freshet/state"
)

const purchaseSchema = `{"type":"record","name":"Purchase","fields":[
 {"name":"event_id","type":"string"},{"name":"user_id","type":"string"},{"name":"amount","type":"double"},
 {"name":"product_id","type":"string"},{"name":"event_time","type":{"type":"long","logicalType":"timestamp-millis"}}]}`

const purchases = `
group: buys
version: 1
entity: {name: user, key: [user_id]}
source: {topic: purchases, schema: purchase.avsc, time: event_time, id: event_id}
freshness: 1s
windows: [1d, 7d]
features:
  - {name: n, agg: count}
  - {name: total, agg: sum, of: amount}
  - {name: products, agg: count_distinct, of: product_id}
  - {name: lifetime, agg: sum, of: amount, window: lifetime}
`

// world is a broker, an online store and a directory, and the service that runs on them.
type world struct {
	t       *testing.T
	kafka   kafka.Config
	cluster *kfake.Cluster
	redis   *miniredis.Miniredis
	dir     string
	plan    *feature.Plan
	schema  *event.Schema
	out     *kafka.Producer
	service *processor.Service
	stop    func()
}

func newWorld(t *testing.T, partitions int32) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), redis: miniredis.RunT(t)}
	var err error
	w.cluster, err = kfake.NewCluster(kfake.NumBrokers(1), kfake.DataDir(filepath.Join(w.dir, "kafka")), kfake.SeedTopics(partitions, "purchases"), kfake.GroupMinSessionTimeout(time.Second))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.cluster.Close)
	w.kafka = kafka.Default()
	w.kafka.Brokers, w.kafka.InstanceID = w.cluster.ListenAddrs(), "one"
	plan, problems := feature.Parse("buys.yaml", []byte(purchases), func(string) ([]byte, error) { return []byte(purchaseSchema), nil })
	if len(problems) > 0 && plan == nil {
		t.Fatal(problems)
	}
	w.plan = plan
	if w.schema, err = event.Parse([]byte(purchaseSchema)); err != nil {
		t.Fatal(err)
	}
	if w.out, err = kafka.NewProducer(w.kafka, slog.New(slog.DiscardHandler), kafka.NewMetrics(prometheus.NewRegistry())); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.out.Close)
	return w
}

func (w *world) start() {
	w.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cfg := processor.Default()
	cfg.Data, cfg.CheckpointEvery, cfg.PartMaxAge = filepath.Join(w.dir, "data"), 500*time.Millisecond, time.Second
	rcfg := redis.Default()
	rcfg.Addr = w.redis.Addr()
	reg := prometheus.NewRegistry()
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelInfo}))
	client, err := redis.Open(rcfg, log, reg)
	if err != nil {
		w.t.Fatal(err)
	}
	res := state.NewResources(state.Default(), log, reg)
	w.service, err = processor.NewService(processor.Options{
		Config: cfg, Kafka: w.kafka, Plans: []*feature.Plan{w.plan}, Writers: event.NewFiles(w.schema), Redis: client,
		Bucket: sink.NewDir(sink.OS, cfg.Data), FS: sink.OS, Open: func(dir string) (*state.Store, error) { return state.Open(dir, res, nil) },
		Entities: res.Entities(), Log: log, Registerer: reg,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- w.service.Run(ctx) }()
	w.stop = func() {
		w.t.Helper()
		cancel()
		if err := <-done; err != nil {
			w.t.Errorf("run: %v", err)
		}
		client.Close()
		res.Close()
	}
}

// body is a purchase in the registry's wire format, schema 1.
func body(id, user, product string, amount float64, at int64) []byte {
	b := []byte{0, 0, 0, 0, 1}
	text := func(s string) { b = append(binary.AppendVarint(b, int64(len(s))), s...) }
	text(id)
	text(user)
	b = binary.LittleEndian.AppendUint64(b, math.Float64bits(amount))
	text(product)
	return binary.AppendVarint(b, at)
}

func (w *world) buy(user string, n int, amount float64, at time.Time) {
	w.t.Helper()
	rec := kafka.Record{Timestamp: at.UnixMilli(), Key: []byte(user), Value: body(fmt.Sprintf("%s-%d", user, n), user, fmt.Sprint("p", n%3), amount, at.UnixMilli())}
	if err := w.out.Produce(context.Background(), "purchases", []kafka.Record{rec}, -1); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) eventually(what string, ok func() bool) {
	w.t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if ok() {
			return
		}
	}
	w.t.Fatalf("not within 20 s: %s; shards: %+v", what, w.service.Statuses())
}

func (w *world) field(user, name string) string {
	return w.redis.HGet("features:buys:v1:"+user, name)
}

func TestServiceHistoryLiveRestart(t *testing.T) {
	w := newWorld(t, 2)
	now := time.Now()
	w.buy("b", 3, 1, now.Add(-10*24*time.Hour))
	w.buy("a", 1, 10, now.Add(-3*24*time.Hour))
	w.buy("a", 2, 5, now.Add(-time.Hour))
	w.start()
	w.eventually("a after history", func() bool {
		return w.field("a", "n_1d") == "1" && w.field("a", "total_7d") == "15" && w.field("a", "lifetime") == "15"
	})
	w.eventually("b decayed", func() bool { return w.field("b", "n_7d") == "0" && w.field("b", "lifetime") == "1" })
	w.buy("a", 4, 0.5, time.Now())
	w.buy("a", 4, 0.5, time.Now().Add(-2*time.Hour)) // another time: another event
	w.eventually("a live", func() bool { return w.field("a", "total_1d") == "6" && w.field("a", "lifetime") == "16" })
	w.stop()
	w.redis.FlushAll()
	w.buy("a", 5, 1, time.Now())
	w.start()
	w.eventually("a and b after the restart, with an empty redis", func() bool {
		return w.field("a", "lifetime") == "17" && w.field("b", "lifetime") == "1"
	})
	w.redis.FlushAll()
	w.eventually("a and b after a flush", func() bool {
		return w.field("a", "lifetime") == "17" && w.field("b", "lifetime") == "1"
	})
	w.stop()
	parts, err := parquet.Parts(context.Background(), sink.NewDir(sink.OS, filepath.Join(w.dir, "data")), "buys", 1)
	if err != nil {
		t.Fatal(err)
	}
	var rows int64
	for _, p := range parts {
		rows += p.Rows
		if _, err := os.Stat(filepath.Join(w.dir, "data", p.Name)); err != nil {
			t.Error(err)
		}
	}
	t.Logf("%d parts, %d rows", len(parts), rows)
}
