package redis

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	goredis "github.com/redis/go-redis/v9"
)

// Client is a pool of connections to one Redis server or cluster, shared by Writers and Readers. It may be used by any number of goroutines.
type Client struct {
	cfg     Config
	rdb     goredis.UniversalClient
	metrics *metrics
	batches sync.Pool // of *batch
}

// Open prepares a client; it connects when it is first used, so the server may be away. The metrics freshet_redis_* are registered in reg
// where it is not nil.
func Open(cfg Config, log *slog.Logger, reg prometheus.Registerer) (*Client, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	tlsConfig, err := cfg.TLS.config()
	if err != nil {
		return nil, err
	}
	m, err := newMetrics(reg)
	if err != nil {
		return nil, fmt.Errorf("register the metrics of redis: %w", err)
	}
	c := &Client{cfg: cfg, metrics: m}
	c.batches.New = func() any { return new(batch) }
	o := &goredis.UniversalOptions{
		Addrs:      cfg.addrs(),
		ClientName: "freshet",
		DB:         cfg.DB,
		TLSConfig:  tlsConfig,
		// RESP2 has no pushes that could come between the answers of a pipeline, and every server and proxy speaks it.
		Protocol:                   2,
		CredentialsProviderContext: func(context.Context) (string, string, error) { return cfg.credentials() },
		OnConnect: func(ctx context.Context, cn *goredis.Conn) error {
			m.connections.Inc()
			log.DebugContext(ctx, "connected to redis")
			return nil
		},
		MaxRetries:            -1, // callers retry: only they know what a pipeline meant
		DialerRetries:         1,
		MaxRedirects:          3, // a cluster's MOVED and ASK
		DialTimeout:           cfg.DialTimeout,
		ReadTimeout:           cfg.Timeout,
		WriteTimeout:          cfg.Timeout,
		PoolTimeout:           cfg.Timeout,
		ContextTimeoutEnabled: true,
		PoolSize:              cfg.MaxConnections,
		MaxActiveConns:        cfg.MaxConnections,
		PipelinePoolSize:      -1, // one pool: nearly all we send is pipelines
		ReadBufferSize:        64 << 10,
		WriteBufferSize:       64 << 10,
		DisableIdentity:       true,
		IsClusterMode:         cfg.Cluster,
	}
	if cfg.Cluster {
		c.rdb = goredis.NewClusterClient(o.Cluster())
	} else {
		so := o.Simple()
		if isSocket(so.Addr) {
			so.Network = "unix"
		}
		c.rdb = goredis.NewClient(so)
	}
	return c, nil
}

// Close closes all connections. Calls under way fail.
func (c *Client) Close() error { return c.rdb.Close() }

// Ping connects, or says why that does not work.
func (c *Client) Ping(ctx context.Context) error {
	return c.explain("ping redis", c.rdb.Ping(ctx).Err())
}

// RunIDs returns the run_id of each server that takes writes, by its address. A restarted server, and a replica that took over, has another
// one: data may be lost then, and every entity must be written again. The embedded server has none (empty).
func (c *Client) RunIDs(ctx context.Context) (map[string]string, error) {
	ids := map[string]string{}
	err := c.eachPrimary(ctx, func(ctx context.Context, addr string, info map[string]string, _ *goredis.Client) error {
		ids[addr] = info["run_id"]
		return nil
	})
	if err != nil {
		return nil, c.explain("read redis' run_id", err)
	}
	return ids, nil
}

// eachPrimary calls f, one call at a time, for the server, or for each of a cluster that has slots.
func (c *Client) eachPrimary(ctx context.Context, f func(ctx context.Context, addr string, info map[string]string, node *goredis.Client) error) error {
	var mu sync.Mutex
	one := func(ctx context.Context, node *goredis.Client) error {
		text, err := node.Info(ctx).Result()
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		return f(ctx, node.Options().Addr, parseInfo(text), node)
	}
	if cluster, ok := c.rdb.(*goredis.ClusterClient); ok {
		cluster.ReloadState(ctx) // a failover since the last call
		return cluster.ForEachMaster(ctx, one)
	}
	return one(ctx, c.rdb.(*goredis.Client))
}

func parseInfo(text string) map[string]string {
	info := map[string]string{}
	for line := range strings.Lines(text) {
		if k, v, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			info[k] = v
		}
	}
	return info
}

// Check connects and says what it found: info for the reader's eyes, problems that must be mended before freshet runs, err where the
// server could not be asked. It writes and deletes one key, <prefix>:_check:….
func (c *Client) Check(ctx context.Context) (info, problems []string, err error) {
	found := map[string][2][]string{}
	err = c.eachPrimary(ctx, func(ctx context.Context, addr string, in map[string]string, node *goredis.Client) error {
		i, p := c.judge(in)
		if right, err := node.Eval(ctx, collationScript, nil).Int(); err != nil {
			return err
		} else if right != 1 {
			p = append(p, "its locale does not order versions as their bytes; start it with LC_ALL=C")
		}
		found[addr] = [2][]string{i, p}
		return nil
	})
	if err != nil {
		return nil, nil, c.explain("ask redis", err)
	}
	for _, addr := range slices.Sorted(maps.Keys(found)) {
		info = append(info, addr+": "+strings.Join(found[addr][0], ", "))
		for _, p := range found[addr][1] {
			problems = append(problems, addr+": "+p)
		}
	}
	if err := c.tryWrite(ctx); err != nil {
		problems = append(problems, err.Error())
	}
	return info, problems, nil
}

// judge says what a server's INFO tells.
func (c *Client) judge(in map[string]string) (info, problems []string) {
	version, name := in["redis_version"], "redis"
	if v := in["valkey_version"]; v != "" {
		version, name = v, "valkey"
	}
	switch major, _, _ := strings.Cut(version, "."); {
	case version == "":
		return []string{"embedded or unknown server (INFO names no version)"}, nil
	default:
		if n, err := strconv.Atoi(major); err != nil || n < 7 {
			problems = append(problems, fmt.Sprintf("%s %s is older than 7.0; upgrade it", name, version))
		}
	}
	mode := in["redis_mode"]
	if mode == "" {
		mode = in["server_mode"]
	}
	policy := in["maxmemory_policy"]
	info = []string{name + " " + version, mode, in["role"], "memory " + in["used_memory_human"] + " of " + limit(in), "maxmemory-policy " + policy, persistence(in)}
	if policy != "noeviction" && !c.cfg.AllowEviction {
		problems = append(problems, fmt.Sprintf("maxmemory-policy is %s: features would vanish when memory is full; set it to noeviction (or redis.allow_eviction: true)", policy))
	}
	if in["role"] == "slave" {
		problems = append(problems, "it is a replica and takes no writes; give the primary's address")
	}
	if in["loading"] == "1" {
		problems = append(problems, "it is still loading its data; try again in a while")
	}
	if in["cluster_enabled"] == "1" && !c.cfg.Cluster {
		problems = append(problems, "it is part of a Redis Cluster; set redis.cluster: true")
	}
	return info, problems
}

func limit(in map[string]string) string {
	if in["maxmemory"] == "0" {
		return "no limit"
	}
	return in["maxmemory_human"]
}

func persistence(in map[string]string) string {
	if in["aof_enabled"] == "1" {
		return "append-only file"
	}
	return "no append-only file"
}

// tryWrite makes one guarded write to a key of its own: rights, memory and disk are as a shard needs them.
func (c *Client) tryWrite(ctx context.Context) error {
	key := c.cfg.Prefix + ":_check:" + rand.Text()
	version := "00000000-0000000000000000-000000000000"
	const ttl = 60_000 // ms
	err := writeScript.Run(ctx, c.rdb, []string{key}, "0", ttl, 1, "f", version, "0", "", "", "1").Err()
	if err == nil {
		err = c.rdb.Del(ctx, key).Err()
	}
	return c.explain("try a write", err)
}

// load gives the server, on a cluster each primary, a script.
func (c *Client) load(ctx context.Context, script *goredis.Script) error {
	c.metrics.reloads.Inc()
	if cluster, ok := c.rdb.(*goredis.ClusterClient); ok {
		return cluster.ForEachMaster(ctx, func(ctx context.Context, node *goredis.Client) error { return script.Load(ctx, node).Err() })
	}
	return script.Load(ctx, c.rdb).Err()
}

func isNoScript(err error) bool {
	return errors.Is(err, goredis.ErrNoScript) || goredis.HasErrorPrefix(err, "NOSCRIPT")
}
