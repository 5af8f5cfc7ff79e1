//go:build unix

package e2e

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/freshet-dev/freshet/processor"
	"github.com/freshet-dev/freshet/processor/kafka"
	"github.com/freshet-dev/freshet/schemas/event"
	"github.com/freshet-dev/freshet/schemas/feature"
	"github.com/freshet-dev/freshet/sink"
	"github.com/freshet-dev/freshet/test/e2e/servers"
	"github.com/freshet-dev/freshet/test/oracle"
)

const (
	repository = "../.."
	catalog    = repository + "/schemas/catalog"
	partitions = 4
	users      = 240
	hotUsers   = 24 // the reader looks at these all the time
	hang       = time.Minute
)

var (
	topics  = []string{"purchases", "sessions"}
	schemas = []string{"purchase.avsc", "session.avsc"} // of topics; schema ids 1 and 2
)

// full reports whether the long tests are wanted too.
func full() bool { return os.Getenv("FRESHET_E2E") == "full" }

var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "freshet-e2e-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "freshet")
	cmd := exec.Command("go", "build", "-buildvcs=false", "-o", path, "./cmd/freshet")
	cmd.Dir = repository
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build freshet: %w\n%s", err, out)
	}
	return path, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if path, err := binary(); err == nil {
		os.RemoveAll(filepath.Dir(path))
	}
	os.Exit(code)
}

// freshet is the binary, built once.
func freshet(t testing.TB) string {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func absolute(t testing.TB, path string) string {
	t.Helper()
	abs, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return abs
}

// group is a group version with its judge.
type group struct {
	name    string
	version int
	topic   string
	spec    sink.Spec
	oracle  *oracle.Group
	prefix  string // of its keys in Redis
}

// loadGroups reads definitions, in the order of topics.
func loadGroups(t testing.TB, dir string) []*group {
	t.Helper()
	plans, problems, err := feature.Load([]string{dir})
	if err == nil {
		err = problems.Err()
	}
	if err != nil {
		t.Fatal(err)
	}
	var groups []*group
	for _, p := range plans {
		text, err := os.ReadFile(filepath.Join(dir, p.Group+".yaml"))
		if err != nil {
			t.Fatal(err)
		}
		judge, err := oracle.Load(text, p.Source.Schema)
		if err != nil {
			t.Fatal(err)
		}
		groups = append(groups, &group{p.Group, p.Version, p.Source.Topic, processor.SpecOf(p), judge, fmt.Sprintf("features:%s:v%d:", p.Group, p.Version)})
	}
	return groups
}

// world is what processes of ours have around them: a broker, a Redis, the shipped catalog, producers and readers.
type world struct {
	t       testing.TB
	dir     string
	brokers []string
	cluster *kfake.Cluster // nil where the broker is a real one
	redis   *servers.Redis
	rdb     *goredis.Client
	groups  []*group
	writers map[int32][]byte // schemas by id
	schemas string           // where they come from: the configuration's registry
	out     *kafka.Producer
	rng     *rand.Rand
	sights  *sightings
}

// newWorld starts a broker in this process, and a real Redis.
func newWorld(t testing.TB, redisOptions ...string) *world {
	t.Helper()
	freshet(t)
	w := &world{t: t, dir: t.TempDir(), redis: servers.NewRedis(t, redisOptions...)}
	var err error
	w.cluster, err = kfake.NewCluster(kfake.NumBrokers(1), kfake.DataDir(filepath.Join(w.dir, "kafka")), kfake.GroupMinSessionTimeout(time.Second),
		kfake.SeedTopics(partitions, topics...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.cluster.Close)
	w.brokers = w.cluster.ListenAddrs()
	w.writers = map[int32][]byte{}
	for i, name := range schemas {
		if w.writers[int32(i+1)], err = os.ReadFile(filepath.Join(catalog, name)); err != nil {
			t.Fatal(err)
		}
	}
	w.schemas = fmt.Sprintf("{files: [%q, %q]}", absolute(t, filepath.Join(catalog, schemas[0])), absolute(t, filepath.Join(catalog, schemas[1])))
	seed, err := strconv.ParseUint(os.Getenv("SEED"), 10, 64)
	if err != nil {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("SEED=%d", seed)
	w.rng = rand.New(rand.NewPCG(seed, 1))
	w.open()
	return w
}

// open makes what the world needs to write and read.
func (w *world) open() {
	w.t.Helper()
	w.groups = loadGroups(w.t, catalog)
	cfg := kafka.Default()
	cfg.Brokers = w.brokers
	var err error
	if w.out, err = kafka.NewProducer(cfg, slog.New(slog.DiscardHandler), nil); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(w.out.Close)
	w.rdb = goredis.NewClient(&goredis.Options{Addr: w.redis.Addr, DisableIdentity: true, Protocol: 2, MaxRetries: -1})
	w.t.Cleanup(func() { w.rdb.Close() })
	w.sights = newSightings(w)
}

// instance is a process of the service, over all its lives.
type instance struct {
	*servers.Program
	w     *world
	dir   string
	began int // where its present life begins in the log
}

// config writes the configuration of an instance: what all share lies in the world's directory, its state in its own.
func (w *world) config(name string) (dir, file string) {
	w.t.Helper()
	dir = filepath.Join(w.dir, name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		w.t.Fatal(err)
	}
	text := fmt.Sprintf(`kafka: {brokers: [%q], group: freshet, session_timeout: 3s}
registry: %s
redis: {addr: %q}
definitions: %q
data: %q
state_dir: %q
checkpoint: {every: 1s}
log: {part_max_age: 2s}
http: {listen: "127.0.0.1:0"}
`, w.brokers[0], w.schemas, w.redis.Addr, absolute(w.t, catalog),
		filepath.Join(w.dir, "data"), filepath.Join(dir, "state"))
	file = filepath.Join(dir, "freshet.yaml")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		w.t.Fatal(err)
	}
	return dir, file
}

func (w *world) instance(name string, args ...string) *instance {
	w.t.Helper()
	dir, file := w.config(name)
	return &instance{Program: servers.NewProgram(w.t, dir, freshet(w.t), append([]string{"run", "-c", file}, args...)...), w: w, dir: dir}
}

var listening = regexp.MustCompile(`msg="freshet runs".* http=(\S+)`)

// Start begins a life.
func (i *instance) Start() {
	i.w.t.Helper()
	i.began = len(i.Program.Log())
	i.Program.Start()
}

// life is what the present life has logged.
func (i *instance) life() string { return i.Log()[i.began:] }

// url is where the present life serves metrics and health; empty while it does not yet.
func (i *instance) url() string {
	if m := listening.FindStringSubmatch(i.life()); m != nil {
		return m[1]
	}
	return ""
}

// get reads a page of the present life, in whatever state it is.
func (i *instance) get(path string) (string, error) {
	url := i.url()
	if url == "" {
		return "", fmt.Errorf("it does not listen yet")
	}
	client := http.Client{Timeout: 5 * time.Second}
	answer, err := client.Get(url + path)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	return string(text), err
}

var shardLine = regexp.MustCompile(`(?m)^\[(.)\] ([^/]+)/v(\d+)/([^/]+)/(\d+) (\w+) position=(\d+) end=(\d+)`)

// caughtUp counts the shards of some instances that are live at the end of their partitions.
func (w *world) caughtUp(ends map[string][]int64, instances ...*instance) (n int, text string) {
	for _, i := range instances {
		page, err := i.get("/readyz?verbose")
		if err != nil {
			text += err.Error() + "\n"
			continue
		}
		text += page
		for _, m := range shardLine.FindAllStringSubmatch(page, -1) {
			partition, _ := strconv.Atoi(m[5])
			position, _ := strconv.ParseInt(m[7], 10, 64)
			if m[1] == "+" && position >= ends[m[4]][partition] {
				n++
			}
		}
	}
	return n, text
}

// awaitCaughtUp waits until all shards are live and have read what is in the topics now.
func (w *world) awaitCaughtUp(instances ...*instance) {
	w.t.Helper()
	ends := w.ends()
	var text string
	w.eventually("all shards live at the end of their partitions", func() bool {
		for _, i := range instances {
			if !i.Running() {
				w.t.Fatalf("freshet has ended by itself")
			}
		}
		var n int
		n, text = w.caughtUp(ends, instances...)
		return n == len(w.groups)*partitions
	}, func() string { return text })
}

// eventually fails the test when something does not come about: a bound on hanging, no measurement.
func (w *world) eventually(what string, ok func() bool, instead func() string) {
	w.t.Helper()
	for end := time.Now().Add(hang); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if ok() {
			return
		}
	}
	w.t.Fatalf("not within %v: %s; instead:\n%s", hang, what, instead())
}

// ends are the end offsets of the topics.
func (w *world) ends() map[string][]int64 {
	w.t.Helper()
	cfg := kafka.Default()
	cfg.Brokers = w.brokers
	admin, err := kafka.NewAdmin(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		w.t.Fatal(err)
	}
	defer admin.Close()
	ends := map[string][]int64{}
	for _, topic := range topics {
		for p := range int32(partitions) {
			_, end, err := admin.Offsets(context.Background(), kafka.TP{Topic: topic, Partition: p})
			if err != nil {
				w.t.Fatal(err)
			}
			ends[topic] = append(ends[topic], end)
		}
	}
	return ends
}

// load is events without end, until it is stopped.
type load struct {
	w        *world
	rng      *rand.Rand
	encoders []*event.Encoder
	n        int
	sent     atomic.Int64
	failed   atomic.Pointer[error]
	old      []kafka.Record // that are sent again, by topic
	quit     chan struct{}
	done     chan struct{}
}

func (w *world) newLoad() *load {
	w.t.Helper()
	l := &load{w: w, rng: rand.New(rand.NewPCG(w.rng.Uint64(), 2)), old: make([]kafka.Record, len(topics)), quit: make(chan struct{}), done: make(chan struct{})}
	for i := range topics {
		s, err := event.Parse(w.writers[int32(i+1)])
		if err != nil {
			w.t.Fatal(err)
		}
		l.encoders = append(l.encoders, event.NewEncoder(s, int32(i+1)))
	}
	return l
}

// past publishes n events on each topic that lie in the past, the newest an hour ago.
func (w *world) past(n int, days int64) {
	w.t.Helper()
	l := w.newLoad()
	close(l.done)
	now := time.Now().UnixMilli()
	for i := range n {
		for topic := range topics {
			l.send(topic, now-3_600_000-int64(n-i)*days*day/int64(n))
		}
	}
	l.stop()
}

// run publishes perSecond events on each topic until stop.
func (w *world) run(perSecond int) *load {
	w.t.Helper()
	l := w.newLoad()
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
				for topic := range topics {
					l.send(topic, time.Now().UnixMilli())
				}
			}
		}
	}()
	return l
}

// stop ends the load; all of it is acknowledged then.
func (l *load) stop() {
	l.w.t.Helper()
	close(l.quit)
	<-l.done
	ctx, cancel := context.WithTimeout(context.Background(), hang)
	defer cancel()
	if err := l.w.out.Flush(ctx); err != nil {
		l.w.t.Fatal(err)
	}
	if err := l.failed.Load(); err != nil {
		l.w.t.Fatal(*err)
	}
}

const day = 86_400_000 // ms

// send publishes one event as of now: most are fresh, some late, some so old that they leave a window within seconds, or have left all of
// them; some come twice, some cannot be decoded, some lie on the wrong partition.
func (l *load) send(topic int, now int64) {
	l.n++
	user := userName(l.rng.IntN(users))
	if l.rng.IntN(3) == 0 {
		user = userName(l.rng.IntN(hotUsers))
	}
	at := now - l.rng.Int64N(2000)
	switch k := l.rng.IntN(100); {
	case k < 10:
		at = now - []int64{1, 7, 30, 90}[l.rng.IntN(4)]*day + l.rng.Int64N(40_000)
	case k < 15:
		at = now - l.rng.Int64N(5*day)
	case k < 17:
		at = now - 91*day
	case k < 18:
		at = now + 3_600_000
	}
	value, err := l.encoders[topic].Encode(nil, l.fields(topic, user, at))
	if err != nil {
		l.failed.Store(&err)
		return
	}
	rec := kafka.Record{Timestamp: now, Key: []byte(user), Value: value}
	partition := kafka.ByKey
	switch k := l.rng.IntN(100); {
	case k < 3 && l.old[topic].Value != nil:
		rec.Key, rec.Value = l.old[topic].Key, l.old[topic].Value
	case k < 5:
		rec.Value = rec.Value[:7]
	case k < 7:
		partition = l.rng.Int32N(partitions)
	case k < 30:
		l.old[topic] = rec
	}
	l.w.out.Send(context.Background(), topics[topic], rec, partition, func(err error) {
		if err != nil {
			l.failed.Store(&err)
		}
		l.sent.Add(1)
	})
}

func userName(n int) string { return fmt.Sprintf("u%04d", n) }

func (l *load) fields(topic int, user string, at int64) map[string]any {
	embedding := make([]float32, 8)
	for i := range embedding {
		embedding[i] = float32(l.rng.IntN(1000)) / 8
	}
	id := fmt.Sprintf("%x-%d", l.rng.Uint32(), l.n)
	if topics[topic] == "sessions" {
		return map[string]any{"event_id": id, "user_id": user, "event_time": at, "session_start": at - 60_000, "duration_seconds": float64(l.rng.IntN(6000)) / 10,
			"pages": int32(l.rng.IntN(40)), "device": []string{"mobile", "desktop", "tablet"}[l.rng.IntN(3)], "embedding": embedding}
	}
	fields := map[string]any{"event_id": id, "user_id": user, "event_time": at, "product_id": fmt.Sprint("p", l.rng.IntN(50)), "amount": float64(l.rng.IntN(20000)) / 100,
		"quantity": int32(1), "currency": "EUR", "status": []string{"completed", "completed", "completed", "cancelled"}[l.rng.IntN(4)], "category": "toys", "embedding": embedding}
	if l.rng.IntN(10) == 0 {
		fields["category"], fields["embedding"] = nil, nil
	}
	return fields
}
