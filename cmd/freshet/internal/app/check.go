package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/freshet-dev/freshet/cmd/freshet/internal/config"
	"github.com/freshet-dev/freshet/processor/kafka"
	"github.com/freshet-dev/freshet/schemas/event"
	"github.com/freshet-dev/freshet/schemas/feature"
	"github.com/freshet-dev/freshet/sink/redis"
)

// Check connects to all that the configuration names, prints what it found, and returns an error that joins what is wrong.
func Check(ctx context.Context, c *config.Config, out io.Writer, log *slog.Logger) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	k := &checker{out: out}
	plans, err := Definitions(c.Definitions, log)
	k.note("definitions", err, "%d group versions in %s", len(plans), strings.Join(c.Definitions, ", "))
	for _, p := range plans {
		k.say("  %s v%d: %d features, topic %s, definition %016x", p.Group, p.Version, len(p.Features), p.Source.Topic, p.Hash)
	}
	writers, err := Writers(&c.Registry, plans, prometheus.NewRegistry())
	if r, ok := writers.(*event.Registry); ok && err == nil {
		err = r.Ping(ctx)
		r.CloseIdle()
	}
	from := c.Registry.URL
	if from == "" {
		from = "none: schemas from files"
	}
	k.note("registry", err, "%s", from)
	k.kafka(ctx, c, topicsOf(plans), log)
	k.redis(ctx, c, log)
	for what, dir := range map[string]string{"state": c.LiveDir(), "checkpoints": c.CheckpointsDir(), "log": c.LogDir()} {
		k.note(what, writable(dir), "%s", dir)
	}
	return errors.Join(k.errs...)
}

type checker struct {
	out  io.Writer
	errs []error
}

func (k *checker) say(format string, args ...any) { fmt.Fprintf(k.out, format+"\n", args...) }

func (k *checker) note(what string, err error, format string, args ...any) {
	if err != nil {
		k.say("FAIL %-12s %v", what, err)
		k.errs = append(k.errs, fmt.Errorf("%s: %w", what, err))
		return
	}
	k.say("ok   %-12s %s", what, fmt.Sprintf(format, args...))
}

func (k *checker) warn(what, format string, args ...any) {
	k.say("warn %-12s %s", what, fmt.Sprintf(format, args...))
}

func (k *checker) kafka(ctx context.Context, c *config.Config, topics []string, log *slog.Logger) {
	admin, err := kafka.NewAdmin(c.Kafka, log)
	if err != nil {
		k.note("kafka", err, "")
		return
	}
	defer admin.Close()
	cluster, err := admin.Cluster(ctx)
	k.note("kafka", err, "%d brokers at %s", len(cluster.Brokers), strings.Join(c.Kafka.Brokers, ", "))
	if err != nil {
		return
	}
	for _, t := range topics {
		n, _, err := admin.Partitions(ctx, t)
		k.note("topic", err, "%s: %d partitions", t, n)
		if err != nil {
			continue
		}
		conf, err := admin.TopicConfig(ctx, t)
		if err != nil {
			k.warn("topic", "%s: its configuration cannot be read (%v)", t, err)
			continue
		}
		if conf["message.timestamp.type"] != "LogAppendTime" && farFuture(conf["message.timestamp.after.max.ms"]) {
			k.warn("topic", "%s: the broker takes any timestamp (message.timestamp.after.max.ms=%s): one record stamped far ahead moves the stream clock there; set it to 3600000, or message.timestamp.type=LogAppendTime",
				t, conf["message.timestamp.after.max.ms"])
		}
		if strings.Contains(conf["cleanup.policy"], "compact") {
			k.warn("topic", "%s: it is compacted (cleanup.policy=%s): events of a key that were compacted away are not counted", t, conf["cleanup.policy"])
		}
	}
}

func farFuture(ms string) bool {
	var n int64
	_, err := fmt.Sscan(ms, &n)
	return err == nil && n > 7*24*3600*1000
}

func (k *checker) redis(ctx context.Context, c *config.Config, log *slog.Logger) {
	client, err := redis.Open(c.Redis, log, prometheus.NewRegistry())
	if err != nil {
		k.note("redis", err, "")
		return
	}
	defer client.Close()
	info, problems, err := client.Check(ctx)
	k.note("redis", err, "%s", strings.Join(info, ", "))
	for _, p := range problems {
		k.note("redis", errors.New(p), "")
	}
}

func topicsOf(plans []*feature.Plan) []string {
	var topics []string
	seen := map[string]bool{}
	for _, p := range plans {
		if !seen[p.Source.Topic] {
			seen[p.Source.Topic] = true
			topics = append(topics, p.Source.Topic)
		}
	}
	return topics
}

func writable(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, "check-*.tmp")
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}
