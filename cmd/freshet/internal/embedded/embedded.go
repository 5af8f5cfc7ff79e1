// Package embedded runs a broker, a schema registry and an online store in this process, on loopback ports, for the quick start and for
// tests: kfake, srfake and miniredis. The service reaches them through their protocols, as it would the real ones.
//
// The broker keeps topics, records and committed offsets in the directory, and the registry its schemas; a start over the same directory
// has them all. The online store is memory only: it starts empty, and the service fills it again from its state.
package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/freshet-dev/freshet/processor/kafka"
)

// Topic is a topic to have. One that exists stays as it is.
type Topic struct {
	Name       string
	Partitions int32
}

// Options of [Start]. The zero value is good.
type Options struct {
	Topics                             []Topic // kept for ever (retention.ms = −1), as history is replayed from them
	KafkaPort, RegistryPort, RedisPort int     // on 127.0.0.1; 0: any free one
	Log                                *slog.Logger
	redisTick                          time.Duration // how exact the expiry of keys is; 1 s unless a test says otherwise
}

// Servers are the running servers.
type Servers struct {
	Brokers     []string // host:port
	RegistryURL string
	RedisAddr   string // host:port

	kafka    *kfake.Cluster
	registry *registry
	http     *http.Server
	redis    *miniredis.Miniredis
	stop     chan struct{}
	wg       sync.WaitGroup
	once     sync.Once
}

// Start starts the servers over dir, which is made if need be and must not be in use by another process. ctx bounds the start only.
func Start(ctx context.Context, dir string, opts Options) (*Servers, error) {
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	if opts.redisTick == 0 {
		opts.redisTick = time.Second
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make directory of the embedded servers: %w", err)
	}
	s := &Servers{stop: make(chan struct{})}
	for _, start := range []func(context.Context, string, Options) error{s.startKafka, s.startRegistry, s.startRedis} {
		if err := start(ctx, dir, opts); err != nil {
			return nil, errors.Join(err, s.Close())
		}
	}
	return s, nil
}

func (s *Servers) startKafka(ctx context.Context, dir string, opts Options) error {
	var err error
	// With a directory always: in memory it would hold every record ever written. No topic makes itself: such a one is lost by kill -9.
	s.kafka, err = kfake.NewCluster(kfake.NumBrokers(1), kfake.Ports(opts.KafkaPort), kfake.DataDir(filepath.Join(dir, "kafka")),
		kfake.GroupMinSessionTimeout(time.Second))
	if err != nil {
		return fmt.Errorf("start embedded broker: %w%s", err, portHint(opts.KafkaPort))
	}
	s.Brokers = s.kafka.ListenAddrs()
	cfg := kafka.Default()
	cfg.Brokers = s.Brokers
	admin, err := kafka.NewAdmin(cfg, opts.Log)
	if err != nil {
		return err
	}
	defer admin.Close()
	for _, t := range opts.Topics {
		if err := admin.EnsureTopic(ctx, t.Name, t.Partitions, map[string]string{"retention.ms": "-1"}); err != nil {
			return err
		}
	}
	return nil
}

func (s *Servers) startRegistry(_ context.Context, dir string, opts Options) error {
	var err error
	if s.registry, err = openRegistry(filepath.Join(dir, "registry.jsonl")); err != nil {
		return fmt.Errorf("open schemas of the embedded registry: %w", err)
	}
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", opts.RegistryPort))
	if err != nil {
		return fmt.Errorf("start embedded schema registry: %w%s", err, portHint(opts.RegistryPort))
	}
	s.RegistryURL = "http://" + l.Addr().String()
	s.http = &http.Server{Handler: s.registry, ReadHeaderTimeout: 10 * time.Second}
	s.wg.Go(func() {
		if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			opts.Log.Error("embedded schema registry stopped", "err", err)
		}
	})
	return nil
}

func (s *Servers) startRedis(_ context.Context, _ string, opts Options) error {
	m := miniredis.NewMiniRedis()
	if err := m.StartAddr(fmt.Sprintf("127.0.0.1:%d", opts.RedisPort)); err != nil {
		return fmt.Errorf("start embedded online store: %w%s", err, portHint(opts.RedisPort))
	}
	s.redis, s.RedisAddr = m, m.Addr()
	// Keys expire as time passes only if it is told of time. Not by ClockTTL: that goes through all keys at each command.
	s.wg.Go(func() {
		tick := time.NewTicker(opts.redisTick)
		defer tick.Stop()
		for last := time.Now(); ; {
			select {
			case <-s.stop:
				return
			case now := <-tick.C:
				m.FastForward(now.Sub(last))
				last = now
			}
		}
	})
	return nil
}

func portHint(port int) string {
	if port == 0 {
		return ""
	}
	return fmt.Sprintf("; is port %d taken? Choose another, or 0 for any", port)
}

// Close stops the servers and waits for them.
func (s *Servers) Close() error {
	var err error
	s.once.Do(func() {
		close(s.stop)
		if s.http != nil {
			err = s.http.Close()
		}
		s.wg.Wait()
		if s.redis != nil {
			s.redis.Close()
		}
		if s.kafka != nil {
			s.kafka.Close()
		}
		if s.registry != nil {
			err = errors.Join(err, s.registry.file.Close())
		}
	})
	return err
}
