//go:build unix

package e2e

import (
	"log/slog"

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
