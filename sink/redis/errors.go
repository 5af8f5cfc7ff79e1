package redis

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	goredis "github.com/redis/go-redis/v9"
)

// ErrLost is returned by Writer.WriteProgress when the progress written before is gone: the server has lost data.
var ErrLost = errors.New("the progress hash written before is gone, or an older one is back")

// ErrFenced is returned by Writer.WriteProgress when a later owner of the shard has written its progress: this owner has lost the shard.
var ErrFenced = errors.New("a later owner of the shard has written its progress")

// kinds of errors that Redis answers, by the first word; hint says what helps.
var kinds = []struct{ prefix, kind, hint string }{
	{"READONLY", "readonly", "the server is a replica; give the primary's address, or wait for the failover to end"},
	{"LOADING", "loading", "the server is still loading its data; it will answer in a while"},
	{"OOM", "oom", "the server's memory is full; raise its maxmemory or delete versions that are no longer read"},
	{"MISCONF", "misconf", "the server cannot save to its disk and takes no writes; see its log, free space or fix `dir`"},
	{"NOREPLICAS", "noreplicas", "the server has fewer replicas than its min-replicas-to-write"},
	{"NOAUTH", "auth", "set redis.password_file (and redis.username)"},
	{"WRONGPASS", "auth", "redis.username or the password in redis.password_file is wrong"},
	{"NOPERM", "auth", "the user's ACL must allow on keys " + `"<prefix>:*"` + " +@hash +@read +@scripting +@connection +pexpireat +persist +del +time +info, and +cluster|slots +cluster|shards +command on a cluster"},
	{"MOVED", "cluster", "the server is part of a Redis Cluster; set redis.cluster: true"},
	{"CROSSSLOT", "cluster", "the server is part of a Redis Cluster; set redis.cluster: true"},
	{"CLUSTERDOWN", "clusterdown", "the cluster has slots without a primary; see `redis-cli --cluster check`"},
	{"MASTERDOWN", "masterdown", "the server is a replica whose primary is away"},
	{"BUSY", "busy", "another script blocks the server; see its slow log"},
	{"WRONGTYPE", "wrongtype", "a key under redis.prefix is not a hash; another program uses the same prefix"},
	{"ERR This instance has cluster support disabled", "cluster", "the server is not part of a cluster; remove redis.cluster"},
	{"ERR max number of clients reached", "clients", "raise the server's maxclients or lower redis.max_connections"},
	{"ERR DB index is out of range", "db", "lower redis.db or raise the server's `databases`"},
}

// explain wraps err with what was done, counts it, and says what helps where we know. It returns nil for nil.
func (c *Client) explain(act string, err error) error {
	if err == nil {
		return nil
	}
	kind, hint := classify(err)
	c.metrics.errors.WithLabelValues(kind).Inc()
	if hint != "" {
		return fmt.Errorf("%s: %w (%s)", act, err, hint)
	}
	return fmt.Errorf("%s: %w", act, err)
}

func classify(err error) (kind, hint string) {
	if _, ok := errors.AsType[goredis.Error](err); ok {
		for _, k := range kinds {
			if strings.HasPrefix(err.Error(), k.prefix) {
				return k.kind, k.hint
			}
		}
		return "server", ""
	}
	if errors.Is(err, context.Canceled) {
		return "canceled", ""
	}
	if n, ok := errors.AsType[net.Error](err); ok && n.Timeout() {
		return "timeout", ""
	}
	if _, ok := errors.AsType[*net.OpError](err); ok || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return "network", ""
	}
	return "other", ""
}

// discard silences go-redis' own logger: what goes wrong is returned to our callers, who log it once.
type discard struct{}

func (discard) Printf(context.Context, string, ...any) {}

func init() { goredis.SetLogger(discard{}) }
