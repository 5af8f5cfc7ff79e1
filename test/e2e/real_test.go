//go:build unix

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/freshet-dev/freshet/processor/kafka"
	"github.com/freshet-dev/freshet/sink/parquet"
	"github.com/freshet-dev/freshet/test/e2e/servers"
	"github.com/freshet-dev/freshet/test/oracle"
)

// TestRealServers runs all of it with others' software: a real Apache Kafka, schema registry and Redis; events written by confluent-kafka and
// fastavro, first with the partitioner that does not fit; features read by redis-py and redis-cli, the log by DuckDB and pyarrow.
func TestRealServers(t *testing.T) {
	if !full() {
		t.Skip("it starts two Javas: FRESHET_E2E=full runs it")
	}
	python := servers.Python(t, servers.Packages...)
	broker := servers.NewKafka(t, 1)
	schemaRegistry := servers.NewRegistry(t, nil)
	w := &world{t: t, dir: t.TempDir(), brokers: broker.Brokers, redis: servers.NewRedis(t), schemas: `{url: "` + schemaRegistry.URL + `"}`, writers: map[int32][]byte{}}
	w.open()
	w.makeTopics()
	stopReader := w.sights.poll()
	one := w.instance("one")
	w.checkSays("ok   registry", "ok   kafka", "ok   topic        purchases: 4 partitions", "ok   redis", "ok   log", "user_sessions v1: ")

	one.Start()
	w.awaitCaughtUp(one)
	glob := w.pollGlob(python)
	produce := func(partitioner string, seed int) {
		out := w.python(python, "produce.py", broker.Brokers[0], schemaRegistry.URL, partitioner, "150", strconv.Itoa(seed),
			filepath.Join(catalog, schemas[0]), filepath.Join(catalog, schemas[1]))
		for id := range strings.FieldsSeq(out) {
			w.fetchSchema(schemaRegistry.URL, id)
		}
	}
	produce("default", 0)
	w.awaitCaughtUp(one)
	w.misplaced()
	for seed := range 3 {
		produce("murmur2_random", seed+1)
		w.notCommittedNotShown()
	}
	w.awaitCaughtUp(one)
	j := w.admit()
	j.awaitOnline("Redis equal to the oracle")
	w.enginesAgree(python)
	w.redisCLI()
	glob()
	stopReader()
	j = w.verdict([]string{oracle.Accepted, oracle.Late, oracle.KeyMismatch, oracle.Filtered}, one)
	j.judgeSights(nil, 0)
	j.sentence()
}

func (w *world) makeTopics() {
	w.t.Helper()
	cfg := kafka.Default()
	cfg.Brokers = w.brokers
	admin, err := kafka.NewAdmin(cfg, discard)
	if err != nil {
		w.t.Fatal(err)
	}
	defer admin.Close()
	for _, topic := range topics {
		if err := admin.EnsureTopic(context.Background(), topic, partitions, map[string]string{"retention.ms": "-1"}); err != nil {
			w.t.Fatal(err)
		}
	}
}

// checkSays runs `freshet run --check` and looks for what it must say.
func (w *world) checkSays(wanted ...string) {
	w.t.Helper()
	_, file := w.config("one")
	out, err := exec.Command(freshet(w.t), "run", "-c", file, "--check").CombinedOutput()
	if err != nil {
		w.t.Fatalf("run --check: %v\n%s", err, out)
	}
	for _, text := range wanted {
		if !strings.Contains(string(out), text) {
			w.t.Errorf("run --check does not say %q:\n%s", text, out)
		}
	}
}

// python runs a script of testdata to its end and returns what it printed.
func (w *world) python(python, script string, args ...string) string {
	w.t.Helper()
	cmd := exec.Command(python, append([]string{filepath.Join("testdata", script)}, args...)...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		w.t.Fatalf("%s: %v\n%s", script, err, errs.Bytes())
	}
	return out.String()
}

// fetchSchema lets the oracle know a writer's schema.
func (w *world) fetchSchema(url, id string) {
	w.t.Helper()
	answer, err := http.Get(url + "/schemas/ids/" + id)
	if err != nil {
		w.t.Fatal(err)
	}
	defer answer.Body.Close()
	var body struct{ Schema string }
	if err := json.NewDecoder(answer.Body).Decode(&body); err != nil || body.Schema == "" {
		w.t.Fatalf("schema %s: %v", id, err)
	}
	n, err := strconv.Atoi(id)
	if err != nil {
		w.t.Fatal(err)
	}
	w.writers[int32(n)] = []byte(body.Schema)
}

// misplaced shows that what librdkafka's default partitioner put elsewhere than murmur2 does is refused and kept: each record in the
// dead-letter topic as it was, with where it came from and why.
func (w *world) misplaced() {
	w.t.Helper()
	for _, topic := range topics {
		refused := map[string]*kgo.Record{} // by partition and offset
		for _, r := range w.read(topic) {
			if kafka.Murmur2Partition(r.Key, partitions) != r.Partition {
				refused[strconv.Itoa(int(r.Partition))+"/"+strconv.FormatInt(r.Offset, 10)] = r
			}
		}
		if len(refused) < 50 {
			w.t.Errorf("only %d records of %s lie elsewhere: the default partitioner does not show what it should", len(refused), topic)
		}
		var letters []*kgo.Record
		w.eventually("all misplaced records dead letters", func() bool { letters = w.read(topic + ".dlq"); return len(letters) >= len(refused) },
			func() string {
				return strconv.Itoa(len(letters)) + " of " + strconv.Itoa(len(refused)) + " in " + topic
			})
		for _, letter := range letters {
			of := map[string]string{}
			for _, h := range letter.Headers {
				of[h.Key] = string(h.Value)
			}
			at := of["freshet-partition"] + "/" + of["freshet-offset"]
			r := refused[at]
			if r == nil || of["freshet-reason"] != "key_mismatch" || of["freshet-topic"] != topic || of["trace"] != string(r.Headers[0].Value) ||
				!bytes.Equal(r.Key, letter.Key) || !bytes.Equal(r.Value, letter.Value) {
				w.t.Errorf("dead letter %s of %s: %v", at, topic, of)
			}
			delete(refused, at)
		}
		if len(refused) > 0 {
			w.t.Errorf("%d misplaced records of %s are no dead letters", len(refused), topic)
		}
	}
}

// pollGlob has DuckDB read the log all the time. stop ends it, and holds the files it saw against the manifests.
func (w *world) pollGlob(python string) (stop func()) {
	w.t.Helper()
	cmd := exec.Command(python, filepath.Join("testdata", "glob.py"), filepath.Join(w.dir, "data", "log"))
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	in, err := cmd.StdinPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	ended := false
	end := func() error {
		if ended {
			return nil
		}
		ended = true
		_ = in.Close() // it ends by that
		return cmd.Wait()
	}
	w.t.Cleanup(func() { _ = end() }) // stop tells of errors
	return func() {
		w.t.Helper()
		if err := end(); err != nil {
			w.t.Fatalf("glob.py: %v\n%s", err, errs.Bytes())
		}
		committed := map[string]int64{}
		for _, g := range w.groups {
			parts, err := parquet.Parts(context.Background(), w.bucket(), g.name, g.version)
			if err != nil {
				w.t.Fatal(err)
			}
			for _, p := range parts {
				committed[filepath.Join(w.dir, "data", p.Name)] = p.Rows
			}
		}
		seen := 0
		for line := range strings.Lines(out.String()) {
			rows, name, _ := strings.Cut(strings.TrimSpace(line), " ")
			if seen++; rows != strconv.FormatInt(committed[name], 10) {
				w.t.Errorf("DuckDB saw %s rows in %s, %d are committed", rows, name, committed[name])
			}
		}
		if seen < 4 {
			w.t.Errorf("DuckDB saw only %d files", seen)
		}
	}
}

// enginesAgree waits until the log's parts have what Redis has, as DuckDB, pyarrow and redis-py read them.
func (w *world) enginesAgree(python string) {
	w.t.Helper()
	_, port, _ := strings.Cut(w.redis.Addr, ":")
	for _, g := range w.groups {
		var out, errs bytes.Buffer
		w.eventually("the newest rows in parts", func() bool {
			cmd := exec.Command(python, filepath.Join("testdata", "compare.py"), filepath.Join(w.dir, "data", "log"), port, g.name)
			out.Reset()
			errs.Reset()
			cmd.Stdout, cmd.Stderr = &out, &errs
			err := cmd.Run()
			if err != nil && cmd.ProcessState.ExitCode() != 3 {
				w.t.Fatalf("compare.py: %v\n%s", err, errs.Bytes())
			}
			return err == nil
		}, errs.String)
		if n, err := strconv.Atoi(strings.TrimSpace(out.String())); err != nil || n < 1000 {
			w.t.Errorf("%s: %q values were compared", g.name, out.String())
		}
	}
}

// redisCLI reads an entity as an operator would.
func (w *world) redisCLI() {
	w.t.Helper()
	path, err := exec.LookPath("redis-cli")
	if err != nil {
		if os.Getenv("CI") == "true" {
			w.t.Fatal(err)
		}
		w.t.Log("no redis-cli: it is left out")
		return
	}
	_, port, _ := strings.Cut(w.redis.Addr, ":")
	keys, err := w.rdb.Keys(context.Background(), w.groups[0].prefix+"*").Result()
	if err != nil || len(keys) == 0 {
		w.t.Fatalf("keys: %v, %v", keys, err)
	}
	slices.Sort(keys)
	out, err := exec.Command(path, "-p", port, "HMGET", keys[0], "_v", "total_purchases", "lifetime_value").Output()
	if err != nil {
		w.t.Fatal(err)
	}
	hash, err := w.rdb.HGetAll(context.Background(), keys[0]).Result()
	if want := hash["_v"] + "\n" + hash["total_purchases"] + "\n" + hash["lifetime_value"] + "\n"; err != nil || string(out) != want {
		w.t.Errorf("redis-cli reads %q, not %q (%v)", out, want, err)
	}
}
