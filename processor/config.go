package processor

import (
	"errors"
	"fmt"
	"time"
)

// What a shard does at the end of its partition.
const (
	IdleWall = "wall" // ticks follow the wall clock
	IdleHold = "hold" // ticks follow the stream clock alone
)

// Config is how shards run. The zero value is not useful: start from Default.
type Config struct {
	Data            string          // directory of state and segments (local, one process)
	Idle            string          // wall or hold
	CheckpointEvery time.Duration   // between two checkpoints of a shard
	PartMaxAge      time.Duration   // a part of the log closes at this age,
	PartMaxBytes    int64           // or when its segment has this many bytes
	QueueBytes      int             // rows of one shard waiting for Redis: at the limit each entity keeps its newest row only, then the shard waits
	PipelineRows    int             // rows in one pipeline to Redis
	FeedBytes       int             // records of one shard waiting to be applied: at the limit its partition is paused
	DeadLetterBytes int             // dead letters of one shard waiting for the broker: at the limit the shard waits
	MaxBodyBytes    int             // a larger record is refused as too_large
	DrainLimit      time.Duration   // how long a shard may take to leave
	ProgressEvery   time.Duration   // between two writes of the progress hash, each after a look whether Redis has lost data
	SweepEvery      time.Duration   // between two sweeps that write every entity to Redis again
	NewGeneration   map[string]bool // GROUP@V: begin its state anew where Redis tells of manifests that are not there
}

// Default returns the settings that suit most.
func Default() Config {
	return Config{
		Data: "./data", Idle: IdleWall, CheckpointEvery: time.Minute, PartMaxAge: 15 * time.Minute, PartMaxBytes: 64 << 20,
		QueueBytes: 8 << 20, PipelineRows: 512, FeedBytes: 8 << 20, DeadLetterBytes: 4 << 20, MaxBodyBytes: 1 << 20,
		DrainLimit: 20 * time.Second, ProgressEvery: time.Second, SweepEvery: 24 * time.Hour,
	}
}

// Validate reports all that is wrong.
func (c Config) Validate() error {
	var errs []error
	bad := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	bad(c.Data != "", "data: name a directory")
	bad(c.Idle == IdleWall || c.Idle == IdleHold, "idle: %q is neither wall nor hold", c.Idle)
	bad(c.CheckpointEvery >= 100*time.Millisecond, "checkpoint.every: %v is under 100ms", c.CheckpointEvery)
	bad(c.PartMaxAge >= 100*time.Millisecond, "log.part_max_age: %v is under 100ms", c.PartMaxAge)
	bad(c.PartMaxBytes >= 1<<16 && c.PartMaxBytes <= 1<<30, "log.part_max_bytes: %d is not within 65536 and 1 GiB", c.PartMaxBytes)
	bad(c.QueueBytes >= 1<<16, "limits.queue_bytes: %d is under 65536", c.QueueBytes)
	bad(c.PipelineRows >= 1 && c.PipelineRows <= 10000, "redis.pipeline_rows: %d is not within 1 and 10000", c.PipelineRows)
	bad(c.FeedBytes >= 1<<16, "limits.feed_bytes: %d is under 65536", c.FeedBytes)
	bad(c.DeadLetterBytes >= 1<<16, "limits.dead_letter_bytes: %d is under 65536", c.DeadLetterBytes)
	bad(c.MaxBodyBytes >= 1, "limits.max_body_bytes: %d is under 1", c.MaxBodyBytes)
	bad(c.DrainLimit >= time.Second, "drain_limit: %v is under 1s", c.DrainLimit)
	bad(c.ProgressEvery >= 10*time.Millisecond, "redis.progress_every: %v is under 10ms", c.ProgressEvery)
	bad(c.SweepEvery >= time.Second, "redis.sweep_every: %v is under 1s", c.SweepEvery)
	return errors.Join(errs...)
}
