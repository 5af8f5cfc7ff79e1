package redis

import (
	"context"
	"fmt"
	"log/slog"
	"os/exec"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/freshet-dev/freshet/sink"
)

// startCluster starts three primaries, each with a third of the slots.
func startCluster(t *testing.T) []*server {
	t.Helper()
	cli := findRedis(t, "redis-cli")
	args := []string{"--cluster", "create"}
	var nodes []*server
	for range 3 {
		// The cluster bus takes another port, which must be free too.
		n := startRedis(t, "--cluster-enabled", "yes", "--cluster-node-timeout", "2000", "--cluster-port", fmt.Sprint(freePort(t)))
		nodes = append(nodes, n)
		args = append(args, n.addr)
	}
	if out, err := exec.Command(cli, append(args, "--cluster-yes")...).CombinedOutput(); err != nil {
		t.Fatalf("create a cluster: %v\n%s", err, out)
	}
	for _, n := range nodes { // each takes a moment to see that all slots are served
		node := goredis.NewClient(&goredis.Options{Addr: n.addr})
		defer node.Close()
		for deadline := time.Now().Add(20 * time.Second); !strings.Contains(node.ClusterInfo(t.Context()).Val(), "cluster_state:ok"); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s does not see the cluster after 20 s", n.addr)
			}
		}
	}
	return nodes
}

func TestCluster(t *testing.T) {
	nodes := startCluster(t)
	cfg := Default()
	cfg.Addrs, cfg.Cluster = []string{nodes[0].addr}, true
	c, err := Open(cfg, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx := testContext(t)

	info, problems, err := c.Check(ctx)
	if err != nil || len(problems) > 0 || len(info) != 3 || !strings.Contains(info[1], "cluster, master") {
		t.Fatalf("%q, %q, %v", info, problems, err)
	}
	ids, err := c.RunIDs(ctx)
	if err != nil || len(ids) != 3 || len(ids[nodes[2].addr]) != 40 {
		t.Errorf("run ids are %v, %v", ids, err)
	}

	w, r := c.Writer(purchases, 3), c.Reader(purchases, 0)
	var keys [][]byte
	for n := range clusterEntities {
		keys = append(keys, fmt.Appendf(nil, "{%d", n)) // no hash tag, whatever the entity holds
	}
	n := int64(0)
	round := func(what string) {
		t.Helper()
		n += 3
		if err := writeAndRead(ctx, w, r, keys, n); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	round("new cluster")
	for i, s := range nodes {
		node := goredis.NewClient(&goredis.Options{Addr: s.addr})
		if keys := node.DBSize(ctx).Val(); keys < clusterEntities/6 {
			t.Errorf("%s holds %d of %d entities", s.addr, keys, clusterEntities)
		}
		if i == 1 { // what the other nodes have written is not sent again: it would be Equal
			if err := node.ScriptFlush(ctx).Err(); err != nil {
				t.Error(err)
			}
		}
		node.Close()
	}
	round("after SCRIPT FLUSH on one node")
	moveSlot(t, ctx, c, r.keyPrefix+string(keys[7]), func() { round("while a slot moves") })
	round("after a slot moved")

	// A client that does not know it talks to a cluster is told.
	plain := open(t, nodes[0])
	var told error
	for i := range int64(20) {
		if err := plain.Writer(purchases, 3).Write(ctx, []sink.Row{purchase(fmt.Sprint(i), 1)}, make([]Outcome, 1)); err != nil {
			told = err
		}
	}
	failsWith(t, told, "MOVED", "redis.cluster: true")
	if _, problems, err := plain.Check(ctx); err != nil || !strings.Contains(strings.Join(problems, "\n"), "redis.cluster: true") {
		t.Errorf("%q, %v", problems, err)
	}

	// A primary that is away may have lost its data: that is not passed over.
	nodes[2].stop()
	if ids, err := c.RunIDs(ctx); err == nil {
		t.Errorf("with a node down, run ids are %v", ids)
	}
}

const clusterEntities = 300

// writeAndRead writes versions n−1, n−2 and n of each entity, and reads them back.
func writeAndRead(ctx context.Context, w *Writer, r *Reader, keys [][]byte, n int64) error {
	var rows []sink.Row
	for _, k := range keys {
		rows = append(rows, purchase(string(k), n-1), purchase(string(k), n-2), purchase(string(k), n))
	}
	out := make([]Outcome, len(rows))
	if err := w.Write(ctx, rows, out); err != nil {
		return err
	}
	for i, o := range out {
		if want := [...]Outcome{Written, Stale, Written}[i%3]; o != want {
			return fmt.Errorf("row %d is %s, want %s", i, o, want)
		}
	}
	vs, err := r.GetFeatureVectors(ctx, keys, nil)
	if err != nil {
		return err
	}
	for i := range vs {
		if count, ok := vs[i].Int64("count_7d"); !ok || count != n || vs[i].Version.Offset != n {
			return fmt.Errorf("entity %s is at %s, want %d", keys[i], vs[i].Version, n)
		}
	}
	versions, ok, err := w.Versions(ctx, keys)
	if err != nil {
		return err
	}
	if last := len(keys) - 1; !ok[0] || !ok[last] || versions[last].Offset != n {
		return fmt.Errorf("the last entity's version is %s, want %d", versions[last], n)
	}
	return w.WriteProgress(ctx, Progress{Position: n})
}

// moveSlot moves key's slot to another primary; during is called while its keys lie on both.
func moveSlot(t *testing.T, ctx context.Context, c *Client, key string, during func()) {
	t.Helper()
	cluster := c.rdb.(*goredis.ClusterClient)
	slot := int(cluster.ClusterKeySlot(ctx, key).Val())
	source, err := cluster.MasterForKey(ctx, key)
	if err != nil {
		t.Fatal(err)
	}
	var target *goredis.Client
	for n := 0; target == nil || target.Options().Addr == source.Options().Addr; n++ {
		if target, err = cluster.MasterForKey(ctx, fmt.Sprint(n)); err != nil {
			t.Fatal(err)
		}
	}
	id := func(node *goredis.Client) string { return node.Do(ctx, "cluster", "myid").Val().(string) }
	do := func(node *goredis.Client, args ...any) {
		t.Helper()
		if err := node.Do(ctx, args...).Err(); err != nil {
			t.Fatal(args, err)
		}
	}
	do(target, "cluster", "setslot", slot, "importing", id(source))
	do(source, "cluster", "setslot", slot, "migrating", id(target))
	host, port, _ := strings.Cut(target.Options().Addr, ":")
	do(source, "migrate", host, port, key, 0, 5000)
	during()
	do(target, "cluster", "setslot", slot, "node", id(target))
	do(source, "cluster", "setslot", slot, "node", id(target))
	for deadline := time.Now().Add(5 * time.Second); target.Exists(ctx, key).Val() != 1; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the slot does not arrive")
		}
	}
}
