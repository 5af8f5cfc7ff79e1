package crash

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/freshet-dev/freshet/processor"
	"github.com/freshet-dev/freshet/processor/kafka"
	"github.com/freshet-dev/freshet/schemas/event"
	"github.com/freshet-dev/freshet/schemas/feature"
	"github.com/freshet-dev/freshet/test/oracle"
)

const schemaText = `{"type":"record","name":"E","fields":[
 {"name":"event_id","type":"string"},{"name":"user_id","type":"string"},{"name":"amount","type":"double"},
 {"name":"product_id","type":"string"},{"name":"event_time","type":{"type":"long","logicalType":"timestamp-millis"}}]}`

// The windows are short, so that changes are due at nearly every tick, and the state of visits is forgotten again and again.
const definitions = `
group: buys
version: 1
entity: {name: user, key: [user_id]}
source: {topic: purchases, schema: e.avsc, time: event_time, id: event_id, history: rows}
freshness: 100ms
windows: [500ms, 2s, 1d]
features:
  - {name: n, agg: count}
  - {name: total, agg: sum, of: amount}
  - {name: products, agg: count_distinct, of: product_id}
  - {name: lifetime, agg: sum, of: amount, window: lifetime}
---
group: buys
version: 2
entity: {name: user, key: [user_id]}
source: {topic: purchases, schema: e.avsc, time: event_time, id: event_id, history: daily}
freshness: 200ms
where: amount > 10.0
windows: [1s, 3h]
features:
  - {name: n, agg: count}
  - {name: spread, agg: stddev, of: amount}
  - {name: last, agg: last, of: product_id}
  - {name: share, derive: "n_3h > 0 ? double(n_1s) / double(n_3h) : 0.0"}
---
group: visits
version: 1
entity: {name: user, key: [user_id]}
source: {topic: sessions, schema: e.avsc, time: event_time, id: event_id, history: none}
freshness: 100ms
windows: [700ms, 2s]
features:
  - {name: n, agg: count}
  - {name: mean, agg: avg, of: amount}
  - {name: least, agg: min, of: amount}
---
group: visits
version: 2
entity: {name: user, key: [user_id]}
source: {topic: sessions, schema: e.avsc, time: event_time, id: event_id, history: rows}
freshness: 150ms
windows: [300ms, 1s]
features:
  - {name: n, agg: count}
  - {name: most, agg: max, of: amount}
  - {name: ever, agg: count, window: lifetime}
`

const partitions = 4

var topics = []string{"purchases", "sessions"}

// world is what goes on while lives end.
type world struct {
	t        testing.TB
	cluster  *kfake.Cluster
	exchange *exchange
	redis    *miniredis.Miniredis
	kafka    kafka.Config
	schema   *event.Schema
	groups   []*group
	out      *kafka.Producer
	lives    sync.WaitGroup
	hiccups
	progress time.Duration // between two writes of a shard's progress hash
	zombies  bool          // owners go on that have lost their partitions

	mu      sync.Mutex
	members map[string]*life // by client id; guarded by mu
	cutOff  map[string]bool  // clients that the group's coordinator does not hear; guarded by mu
	sights  sightings
}

// group is a group version with its judge.
type group struct {
	plan   *feature.Plan
	oracle *oracle.Group
	prefix string // of its keys in Redis
}

// nothing is what a group without lifetime features says of an entity of which nothing is left.
func (g *group) nothing() []oracle.Value {
	values := make([]oracle.Value, len(g.oracle.Features))
	for i, f := range g.oracle.Features {
		if values[i].Null = true; strings.HasPrefix(f.Name, "n_") {
			values[i] = oracle.Value{Text: "0"}
		}
	}
	return values
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, progress: 20 * time.Millisecond, redis: miniredis.RunT(t), members: map[string]*life{}, cutOff: map[string]bool{}}
	w.exchange = newExchange(w.refuses)
	all := append([]string{"purchases.dlq", "sessions.dlq"}, topics...)
	var err error
	w.cluster, err = kfake.NewCluster(kfake.NumBrokers(1), kfake.DataDir(filepath.Join(t.TempDir(), "kafka")), kfake.GroupMinSessionTimeout(time.Second),
		kfake.SeedTopics(partitions, topics...), kfake.SeedTopics(1, all[:2]...), kfake.ListenFn(w.exchange.listen))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.cluster.Close)
	w.kafka = kafka.Default()
	w.kafka.Brokers, w.kafka.FetchMaxWait, w.kafka.ClientID = w.cluster.ListenAddrs(), 20*time.Millisecond, "producer"
	w.kafka.SessionTimeout, w.kafka.RevokeTimeout = 2*time.Second, 2*time.Second
	w.define()
	if w.out, err = kafka.NewProducer(w.kafka, slog.New(slog.DiscardHandler), nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.out.Close)
	w.sights.open(t, w)
	return w
}

func (w *world) define() {
	w.t.Helper()
	var err error
	if w.schema, err = event.Parse([]byte(schemaText)); err != nil {
		w.t.Fatal(err)
	}
	for text := range strings.SplitSeq(definitions, "---\n") {
		plan, problems := feature.Parse("crash.yaml", []byte(text), func(string) ([]byte, error) { return []byte(schemaText), nil })
		if err := problems.Err(); err != nil {
			w.t.Fatal(err)
		}
		judge, err := oracle.Load([]byte(text), []byte(schemaText))
		if err != nil {
			w.t.Fatal(err)
		}
		w.groups = append(w.groups, &group{plan, judge, fmt.Sprintf("features:%s:v%d:", plan.Group, plan.Version)})
	}
}

func (w *world) plans() []*feature.Plan {
	var plans []*feature.Plan
	for _, g := range w.groups {
		plans = append(plans, g.plan)
	}
	return plans
}

// config makes all that takes its time take little of it.
func (w *world) config(data string) processor.Config {
	c := processor.Default()
	c.Data, c.CheckpointEvery, c.PartMaxAge, c.ProgressEvery = data, 100*time.Millisecond, 250*time.Millisecond, w.progress
	c.QueueBytes, c.PipelineRows, c.DrainLimit, c.SweepEvery = 64<<10, 64, 3*time.Second, 5*time.Second
	return c
}

func (w *world) enlist(l *life) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.members[l.name] = l
}

// end takes down what still lives, and waits until all goroutines of all lives have ended.
func (w *world) end() {
	w.mu.Lock()
	members := maps.Clone(w.members)
	w.mu.Unlock()
	for _, l := range members {
		l.crash(anyInstant)
	}
	w.lives.Wait()
}

// lostPower reports whether a life ended in a loss of power, and not by being killed or stopped.
func (w *world) lostPower(name string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	l := w.members[name]
	return l != nil && l.percent < 100
}

// endOf is the step at which a life ended.
func (w *world) endOf(name string) step {
	w.mu.Lock()
	defer w.mu.Unlock()
	if l := w.members[name]; l != nil {
		return l.at
	}
	return ""
}

// refuses decides on a request to the broker. One of a group's that its coordinator is not to hear is kept back: an error would tell the
// client at once what it is not to know.
func (w *world) refuses(client string, key int16) bool {
	w.mu.Lock()
	l := w.members[client]
	w.mu.Unlock()
	if l == nil {
		return false
	}
	if key == offsetCommit && l.reach(tellOffset) {
		return true
	}
	for key >= 8 && key <= 14 && w.isCut(client) && !l.disk.dead.Load() {
		time.Sleep(10 * time.Millisecond)
	}
	return false
}

// cut says whether the group's coordinator hears a client.
func (w *world) cut(client string, off bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cutOff[client] = off
}

func (w *world) isCut(client string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.cutOff[client]
}

// load is events without end, until it is stopped.
type load struct {
	w    *world
	rng  *rand.Rand
	n    int
	sent atomic.Int64
	fail atomic.Pointer[error]
	old  [][]byte // bodies that are sent again
	keys []string
	quit chan struct{}
	done chan struct{}
}

const (
	users    = 320
	hotUsers = 16
)

// run publishes perSecond events on each topic until stop.
func (w *world) run(rng *rand.Rand, perSecond int) *load {
	l := &load{w: w, rng: rng, quit: make(chan struct{}), done: make(chan struct{})}
	go func() { // ended by stop
		defer close(l.done)
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for owed := 0; ; {
			select {
			case <-l.quit:
				return
			case <-tick.C:
			}
			for owed += perSecond; owed >= 100; owed -= 100 {
				for _, topic := range topics {
					l.send(topic, time.Now().UnixMilli())
				}
			}
		}
	}()
	return l
}

func (l *load) stop() error {
	close(l.quit)
	<-l.done
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := l.w.out.Flush(ctx); err != nil {
		return err
	}
	if err := l.fail.Load(); err != nil {
		return *err
	}
	return nil
}

// send publishes one event as of now: most are a little late, some very, some twice, some not decodable, some on the wrong partition.
func (l *load) send(topic string, now int64) {
	l.n++
	user := fmt.Sprintf("u%03d", l.rng.IntN(users))
	if l.rng.IntN(4) == 0 {
		user = fmt.Sprintf("u%03d", l.rng.IntN(hotUsers))
	}
	at := now - l.rng.Int64N(60)
	switch l.rng.IntN(40) {
	case 0:
		at -= l.rng.Int64N(3000)
	case 1:
		at -= 100_000_000 // more than a day
	}
	rec := kafka.Record{Timestamp: now, Key: []byte(user), Value: body(fmt.Sprint(l.n), user, fmt.Sprint("p", l.rng.IntN(9)), float64(l.rng.IntN(5000))/100, at)}
	partition := kafka.ByKey
	switch k := l.rng.IntN(100); {
	case k < 3 && len(l.old) > 0:
		i := l.rng.IntN(len(l.old))
		rec.Key, rec.Value = []byte(l.keys[i]), l.old[i]
	case k == 3:
		rec.Value = rec.Value[:7]
	case k == 4:
		partition = l.rng.Int32N(partitions)
	case len(l.old) < 64:
		l.old, l.keys = append(l.old, rec.Value), append(l.keys, user)
	case k < 20:
		i := l.rng.IntN(len(l.old))
		l.old[i], l.keys[i] = rec.Value, user
	}
	l.w.out.Send(context.Background(), topic, rec, partition, func(err error) {
		if err != nil {
			l.fail.Store(&err)
		}
		l.sent.Add(1)
	})
}

// body is an event in the registry's wire format, schema 1.
func body(id, user, product string, amount float64, at int64) []byte {
	b := []byte{0, 0, 0, 0, 1}
	text := func(s string) { b = append(binary.AppendVarint(b, int64(len(s))), s...) }
	text(id)
	text(user)
	b = binary.LittleEndian.AppendUint64(b, math.Float64bits(amount))
	text(product)
	return binary.AppendVarint(b, at)
}

// past publishes n events on each topic that lie in the past when the service first starts.
func (w *world) past(rng *rand.Rand, n int) error {
	l := &load{w: w, rng: rng, quit: make(chan struct{}), done: make(chan struct{})}
	close(l.done)
	now := time.Now().UnixMilli()
	for i := range n {
		for _, topic := range topics {
			l.send(topic, now-int64(n-i)*20)
		}
	}
	return l.stop()
}
