package kafka

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

// cluster returns a fake cluster, or nil and the address of the real one that FRESHET_KAFKA names. Tests that need a fake one's tricks
// are skipped there.
func cluster(t *testing.T, opts ...kfake.Opt) (*kfake.Cluster, Config) {
	t.Helper()
	cfg := Default()
	cfg.FetchMaxWait = 50 * time.Millisecond
	if addr := os.Getenv("FRESHET_KAFKA"); addr != "" {
		cfg.Brokers = []string{addr}
		return nil, cfg
	}
	return fake(t, opts...)
}

func fake(t *testing.T, opts ...kfake.Opt) (*kfake.Cluster, Config) {
	t.Helper()
	cfg := Default()
	cfg.FetchMaxWait = 50 * time.Millisecond
	c, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1), kfake.DataDir(t.TempDir()), kfake.GroupMinSessionTimeout(time.Second)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	cfg.Brokers = c.ListenAddrs()
	return c, cfg
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// within is the time any test step may take.
func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// newTopic makes a topic of a name that was never used. It keeps its records for ever, or a real broker would delete those stamped years
// ago within seconds.
func newTopic(t *testing.T, cfg Config, partitions int32, config map[string]string) string {
	t.Helper()
	name := fmt.Sprintf("t-%d", time.Now().UnixNano())
	config = maps.Clone(config)
	if config == nil {
		config = map[string]string{}
	}
	config["retention.ms"] = "-1"
	if err := admin(t, cfg).EnsureTopic(within(t), name, partitions, config); err != nil {
		t.Fatal(err)
	}
	return name
}

func admin(t *testing.T, cfg Config) *Admin {
	t.Helper()
	a, err := NewAdmin(cfg, quiet())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	return a
}

func reader(t *testing.T, cfg Config) *Reader {
	t.Helper()
	r, err := NewReader(cfg, quiet(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

func producer(t *testing.T, cfg Config) *Producer {
	t.Helper()
	p, err := NewProducer(cfg, quiet(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// numbered returns records with the values from … to−1.
func numbered(from, to int) []Record {
	var rs []Record
	for i := from; i < to; i++ {
		rs = append(rs, Record{Timestamp: 1_700_000_000_000 + int64(i), Key: fmt.Appendf(nil, "k%d", i), Value: fmt.Appendf(nil, "v%d", i)})
	}
	return rs
}

func write(t *testing.T, cfg Config, tp TP, rs []Record) {
	t.Helper()
	if err := producer(t, cfg).Produce(within(t), tp.Topic, rs, tp.Partition); err != nil {
		t.Fatal(err)
	}
}

// transaction writes records in one transaction, which it ends as told.
func transaction(t *testing.T, cfg Config, tp TP, rs []Record, end kgo.TransactionEndTry) {
	t.Helper()
	ctx := within(t)
	begin(t, cfg, tp, rs)(ctx, end)
}

// begin writes records in a transaction and returns what ends it.
func begin(t *testing.T, cfg Config, tp TP, rs []Record) func(context.Context, kgo.TransactionEndTry) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(cfg.Brokers...), kgo.TransactionalID(fmt.Sprint("tx-", time.Now().UnixNano())),
		kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	if err := cl.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	for _, r := range rs {
		if err := cl.ProduceSync(within(t), &kgo.Record{Topic: tp.Topic, Partition: tp.Partition, Key: r.Key, Value: r.Value}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	return func(ctx context.Context, end kgo.TransactionEndTry) {
		t.Helper()
		if err := cl.EndTransaction(ctx, end); err != nil {
			t.Fatal(err)
		}
	}
}

// await polls until done says so of all that came.
func await(t *testing.T, r *Reader, done func(Fetch) bool) {
	t.Helper()
	ctx := within(t)
	for {
		fetches, err := r.Poll(ctx)
		if err != nil {
			t.Fatalf("poll: %v", err)
		}
		for _, f := range fetches {
			if done(f) {
				return
			}
		}
	}
}

// readAll polls a partition until its position is its end, at least want.
func readAll(t *testing.T, r *Reader, tp TP, want int64) (values []string) {
	t.Helper()
	await(t, r, func(f Fetch) bool {
		if f.Err != nil || f.TP != tp {
			t.Fatalf("fetch of %v: %v", f.TP, f.Err)
		}
		for _, rec := range f.Records {
			values = append(values, string(rec.Value))
		}
		return f.Next == f.End && f.Next >= want
	})
	return values
}

func equal(t *testing.T, got, want []string) {
	t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("got %d values %.200q\nwant %d values %.200q", len(got), got, len(want), want)
	}
}

func values(from, to int) (vs []string) {
	for _, r := range numbered(from, to) {
		vs = append(vs, string(r.Value))
	}
	return vs
}
