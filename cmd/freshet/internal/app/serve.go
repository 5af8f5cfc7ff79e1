// Package app makes a service of a configuration.
package app

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/freshet-dev/freshet/cmd/freshet/internal/config"
	"github.com/freshet-dev/freshet/cmd/freshet/internal/web"
	"github.com/freshet-dev/freshet/processor"
	"github.com/freshet-dev/freshet/schemas/event"
	"github.com/freshet-dev/freshet/schemas/feature"
	"github.com/freshet-dev/freshet/sink"
	"github.com/freshet-dev/freshet/sink/redis"
	"github.com/freshet-dev/freshet/state"
)

// Definitions loads the plans of a configuration. Errors are all problems of all files; warnings are logged.
func Definitions(paths []string, log *slog.Logger) ([]*feature.Plan, error) {
	plans, problems, err := feature.Load(paths)
	if err != nil {
		return nil, err
	}
	if err := problems.Err(); err != nil {
		return nil, err
	}
	for _, p := range problems {
		log.Warn("definition", "problem", p.String())
	}
	if len(plans) == 0 {
		return nil, fmt.Errorf("no feature groups (*.yaml) in %s", strings.Join(paths, ", "))
	}
	return plans, nil
}

// Writers returns where writers' schemas come from: the registry, schema files, or the groups' own schemas.
func Writers(c *config.Registry, plans []*feature.Plan, reg prometheus.Registerer) (event.Writers, error) {
	if c.URL != "" {
		rc := event.DefaultRegistry(c.URL)
		rc.User = c.Username
		if c.PasswordFile != "" {
			text, err := os.ReadFile(c.PasswordFile)
			if err != nil {
				return nil, fmt.Errorf("read registry.password_file: %w", err)
			}
			rc.Password = strings.TrimRight(string(text), "\r\n")
		}
		return event.NewRegistry(rc, reg)
	}
	if len(c.Files) > 0 {
		return event.ReadFiles(c.Files...)
	}
	var own []*event.Schema
	seen := map[string]bool{}
	for _, p := range plans {
		if seen[string(p.Source.Schema)] {
			continue
		}
		seen[string(p.Source.Schema)] = true
		s, err := event.Parse(p.Source.Schema)
		if err != nil {
			return nil, err
		}
		own = append(own, s)
	}
	return event.NewFiles(own...), nil
}

// Bucket returns where manifests, state files and the log of a configuration lie.
func Bucket(c *config.Config) sink.Bucket {
	return sink.Places{Log: sink.NewDir(sink.OS, c.LogDir()), Rest: sink.NewDir(sink.OS, c.CheckpointsDir())}
}

// Server is a service with its metrics and its pages.
type Server struct {
	Config  config.Config
	Plans   []*feature.Plan
	Metrics *prometheus.Registry
	Service *processor.Service

	log      *slog.Logger
	redis    *redis.Client
	state    *state.Resources
	release  func()
	listener *web.Server
}

// New makes a server; Run runs it once.
func New(c config.Config, newGeneration []string, log *slog.Logger) (_ *Server, err error) {
	s := &Server{Config: c, log: log, Metrics: prometheus.NewRegistry(), release: func() {}}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	s.Metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if s.Plans, err = Definitions(c.Definitions, log); err != nil {
		return nil, err
	}
	writers, err := Writers(&c.Registry, s.Plans, s.Metrics)
	if err != nil {
		return nil, err
	}
	if s.redis, err = redis.Open(c.Redis, log, s.Metrics); err != nil {
		return nil, err
	}
	if s.release, err = processor.LockDir(c.LiveDir()); err != nil {
		return nil, err
	}
	if c.Kafka.InstanceID == "" {
		if c.Kafka.InstanceID, err = instanceID(c.LiveDir()); err != nil {
			return nil, err
		}
	}
	pc := c.Processor()
	pc.NewGeneration = map[string]bool{}
	for _, g := range newGeneration {
		pc.NewGeneration[g] = true
	}
	sc := c.State()
	sc.Stores = max(sc.Stores, 4*len(s.Plans)) // a guess: partitions are assigned later
	s.state = state.NewResources(sc, log, s.Metrics)
	s.Service, err = processor.NewService(processor.Options{
		Config: pc, Kafka: c.Kafka, Plans: s.Plans, Writers: writers, Redis: s.redis, Bucket: Bucket(&c), FS: sink.OS,
		Open:     func(dir string) (*state.Store, error) { return state.Open(dir, s.state, nil) },
		Entities: s.state.Entities(), Log: log, Registerer: s.Metrics,
	})
	if err != nil {
		return nil, err
	}
	if c.HTTP.Listen != "" {
		if s.listener, err = web.Listen(c.HTTP.Listen, s.Metrics, s.Service.Statuses); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// URL is where metrics and health are served; empty if nowhere.
func (s *Server) URL() string {
	if s.listener == nil {
		return ""
	}
	return s.listener.URL
}

// Run runs the service until ctx ends, then drains and leaves.
func (s *Server) Run(ctx context.Context) error {
	defer s.close()
	return s.Service.Run(ctx)
}

func (s *Server) close() {
	if s.listener != nil {
		s.listener.Close()
	}
	if s.redis != nil {
		s.redis.Close()
	}
	if s.state != nil {
		s.state.Close()
	}
	s.release()
}

// instanceID is this directory's name in the consumer group, so that a restart takes its partitions back at once.
func instanceID(dir string) (string, error) {
	name := filepath.Join(dir, "instance_id")
	data, err := os.ReadFile(name)
	if err == nil && len(data) > 0 {
		return strings.TrimSpace(string(data)), nil
	}
	host, err := os.Hostname()
	if err != nil {
		host = "freshet"
	}
	id := fmt.Sprintf("%s-%s", host, randomText())
	if err := os.WriteFile(name, []byte(id+"\n"), 0o644); err != nil {
		return "", fmt.Errorf("write the instance id: %w", err)
	}
	return id, nil
}
