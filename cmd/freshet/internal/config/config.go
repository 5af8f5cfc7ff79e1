// Package config reads the configuration of `freshet run`: one YAML file, whose keys are the settings of the packages they belong to.
package config

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"time"

	"github.com/freshet-dev/freshet/processor"
	"github.com/freshet-dev/freshet/processor/kafka"
	"github.com/freshet-dev/freshet/sink/redis"
	"github.com/freshet-dev/freshet/state"
)

// Config is the whole configuration. Keys that are left out have the values of Default.
type Config struct {
	Kafka       kafka.Config `yaml:"kafka"`
	Registry    Registry     `yaml:"registry"`
	Redis       redis.Config `yaml:"redis"`
	Definitions Paths        `yaml:"definitions"`     // directories and files of feature groups
	Data        string       `yaml:"data"`            // state/, checkpoints/ and log/ lie below it
	StateDir    string       `yaml:"state_dir"`       // instead of <data>/state: local to this process
	Checkpoints string       `yaml:"checkpoints_dir"` // instead of <data>/checkpoints: shared by all instances
	Log         Log          `yaml:"log"`
	Checkpoint  Checkpoint   `yaml:"checkpoint"`
	Idle        string       `yaml:"idle"` // wall or hold
	HTTP        HTTP         `yaml:"http"`
	Memory      Memory       `yaml:"memory"`
	Limits      Limits       `yaml:"limits"`
}

// Registry is where writers' schemas come from.
type Registry struct {
	URL          string   `yaml:"url"`
	Username     string   `yaml:"username"`
	PasswordFile string   `yaml:"password_file"`
	CAFile       string   `yaml:"ca_file"`
	Files        []string `yaml:"files"` // without url: writers' schemas, ids 1, 2, … in order; left out: the groups' own
}

// Log is the feature log.
type Log struct {
	Dir          string        `yaml:"dir"` // instead of <data>/log: shared by all instances
	PartMaxAge   time.Duration `yaml:"part_max_age"`
	PartMaxBytes int64         `yaml:"part_max_bytes"` // of rows, before they are encoded
}

// Checkpoint says how often state is made durable.
type Checkpoint struct {
	Every time.Duration `yaml:"every"`
}

// HTTP is where metrics and health are served.
type HTTP struct {
	Listen string `yaml:"listen"`
}

// Memory bounds what all shards of the process use together.
type Memory struct {
	EntityCacheBytes int64 `yaml:"entity_cache_bytes"` // decoded entities; beyond it the coldest are read again when needed
	BlockCacheBytes  int64 `yaml:"block_cache_bytes"`  // blocks of the state's tables
	MemTablesBytes   int64 `yaml:"memtables_bytes"`    // state not flushed yet
}

// Limits bound the queues of one shard.
type Limits struct {
	QueueBytes      int           `yaml:"queue_bytes"`       // rows waiting for Redis; then only an entity's newest waits, then the shard waits
	FeedBytes       int           `yaml:"feed_bytes"`        // records waiting to be applied; then the partition is paused
	DeadLetterBytes int           `yaml:"dead_letter_bytes"` // dead letters waiting for the broker; then the shard waits
	MaxBodyBytes    int           `yaml:"max_body_bytes"`    // a larger record is refused as too_large
	DrainLimit      time.Duration `yaml:"drain"`             // how long leaving may take
}

// Default returns the configuration of an empty file.
func Default() Config {
	p, s := processor.Default(), state.Default()
	return Config{
		Kafka: kafka.Default(), Redis: redis.Default(), Definitions: Paths{"schemas/catalog"}, Data: p.Data,
		Log: Log{PartMaxAge: p.PartMaxAge, PartMaxBytes: p.PartMaxBytes}, Checkpoint: Checkpoint{Every: p.CheckpointEvery}, Idle: p.Idle,
		HTTP:   HTTP{Listen: "127.0.0.1:8080"},
		Memory: Memory{EntityCacheBytes: s.EntityCacheBytes, BlockCacheBytes: s.BlockCacheBytes, MemTablesBytes: s.MemTablesBytes},
		Limits: Limits{QueueBytes: p.QueueBytes, FeedBytes: p.FeedBytes, DeadLetterBytes: p.DeadLetterBytes, MaxBodyBytes: p.MaxBodyBytes, DrainLimit: p.DrainLimit},
	}
}

// Processor returns the settings of the shards.
func (c *Config) Processor() processor.Config {
	p := processor.Default()
	p.Data, p.Idle, p.CheckpointEvery, p.PartMaxAge, p.PartMaxBytes = c.LiveDir(), c.Idle, c.Checkpoint.Every, c.Log.PartMaxAge, c.Log.PartMaxBytes
	p.QueueBytes, p.FeedBytes, p.DeadLetterBytes, p.MaxBodyBytes = c.Limits.QueueBytes, c.Limits.FeedBytes, c.Limits.DeadLetterBytes, c.Limits.MaxBodyBytes
	p.DrainLimit, p.PipelineRows = c.Limits.DrainLimit, min(c.Redis.PipelineRows, 512)
	return p
}

// State returns the settings of the stores.
func (c *Config) State() state.Config {
	s := state.Default()
	s.EntityCacheBytes, s.BlockCacheBytes, s.MemTablesBytes = c.Memory.EntityCacheBytes, c.Memory.BlockCacheBytes, c.Memory.MemTablesBytes
	return s
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// LiveDir, CheckpointsDir and LogDir are where things lie.
func (c *Config) LiveDir() string { return or(c.StateDir, filepath.Join(c.Data, "state")) }

// CheckpointsDir is where manifests and state files lie.
func (c *Config) CheckpointsDir() string {
	return or(c.Checkpoints, filepath.Join(c.Data, "checkpoints"))
}

// LogDir is where the parts of the log lie.
func (c *Config) LogDir() string { return or(c.Log.Dir, filepath.Join(c.Data, "log")) }

// Validate reports all problems at once.
func (c *Config) Validate() error {
	var errs []error
	if c.Data == "" {
		errs = append(errs, errors.New("data: name a directory"))
	}
	if len(c.Definitions) == 0 {
		errs = append(errs, errors.New("definitions: name a directory or files of feature groups"))
	}
	if _, _, err := net.SplitHostPort(c.HTTP.Listen); err != nil && c.HTTP.Listen != "" {
		errs = append(errs, fmt.Errorf("http.listen: %w; write host:port, such as 127.0.0.1:8080, or \"\" for none", err))
	}
	p := c.Processor()
	return errors.Join(append(errs, c.Kafka.Validate(), c.Redis.Validate(), p.Validate(), c.State().Validate())...)
}
