//go:build unix

package servers

import (
	"bufio"
	"context"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

func TestRedis(t *testing.T) {
	r := NewRedis(t, "--appendonly", "yes", "--appendfsync", "always")
	ctx := context.Background()
	c := redis.NewClient(&redis.Options{Addr: r.Addr, MaxRetries: -1})
	defer c.Close()
	if err := c.Set(ctx, "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	r.Kill()
	if err := c.Get(ctx, "k").Err(); err == nil {
		t.Fatal("it answers after Kill")
	}
	r.Restart()
	if v, err := c.Get(ctx, "k").Result(); err != nil || v != "v" {
		t.Fatalf("after Restart k is %q, %v", v, err)
	}
	r.Pause()
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	impatient := redis.NewClient(&redis.Options{Addr: r.Addr, MaxRetries: -1, ContextTimeoutEnabled: true})
	defer impatient.Close()
	if err := impatient.Get(short, "k").Err(); !errors.Is(err, context.DeadlineExceeded) && !os.IsTimeout(err) {
		t.Errorf("paused it answers: %v", err)
	}
	r.Resume()
	if err := c.Get(ctx, "k").Err(); err != nil {
		t.Error(err)
	}
}

// One cluster of three for all of it: a start takes seconds.
func TestKafkaAndRegistry(t *testing.T) {
	if testing.Short() || !mayFetch() {
		t.Skip("it starts four Javas: set FRESHET_SERVERS=fetch to have it run")
	}
	k := NewKafka(t, 3, "num.partitions=1")
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	client, err := kgo.NewClient(kgo.SeedBrokers(k.Brokers...), kgo.DefaultProduceTopic("t"), kgo.ConsumeTopics("t"))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := kadm.NewClient(client).CreateTopic(ctx, 1, 3, nil, "t"); err != nil {
		t.Fatal(err)
	}
	if err := client.ProduceSync(ctx, kgo.StringRecord("before")).FirstErr(); err != nil {
		t.Fatal(err)
	}
	k.Kill(1)
	if err := client.ProduceSync(ctx, kgo.StringRecord("after")).FirstErr(); err != nil {
		t.Fatalf("two of three nodes do not take a record: %v", err)
	}
	k.Restart(1)
	var got []string
	for len(got) < 2 && ctx.Err() == nil {
		client.PollFetches(ctx).EachRecord(func(r *kgo.Record) { got = append(got, string(r.Value)) })
	}
	if strings.Join(got, " ") != "before after" {
		t.Errorf("the topic holds %q", got)
	}

	r := NewRegistry(t, k)
	body := `{"schema": "\"string\""}`
	answer, err := http.Post(r.URL+"/subjects/t-value/versions", "application/vnd.schemaregistry.v1+json", strings.NewReader(body))
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Fatalf("register a schema: %v, %v", answer, err)
	}
	answer.Body.Close()
	r.Kill()
	r.Restart()
	answer, err = http.Get(r.URL + "/subjects/t-value/versions/1")
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Errorf("after Restart the schema is gone: %v, %v", answer, err)
	}
	answer.Body.Close()
}

func TestPython(t *testing.T) {
	python := Python(t, "fastavro")
	if again := Python(t, "fastavro"); again != python {
		t.Errorf("first %s, then %s", python, again)
	}
	if out, err := exec.Command(python, "-c", "import fastavro; print(fastavro.__name__)").CombinedOutput(); err != nil || string(out) != "fastavro\n" {
		t.Errorf("%s, %v", out, err)
	}
}

func TestCachedIsWholeOrNothing(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	t.Setenv("HOME", t.TempDir()) // of which macOS makes it
	t.Setenv("CI", "")
	t.Setenv("FRESHET_SERVERS", "")
	makes := 0
	make := func(dir string) error { makes++; return os.WriteFile(filepath.Join(dir, "f"), nil, 0o644) }
	if _, err := cached("x", make); !errors.Is(err, errNotFetched) || makes != 0 {
		t.Errorf("it fetches unasked: %v", err)
	}
	t.Setenv("FRESHET_SERVERS", "fetch")
	if _, err := cached("x", func(string) error { return os.ErrPermission }); !errors.Is(err, os.ErrPermission) {
		t.Errorf("a fetch that fails gives %v", err)
	}
	for range 2 {
		dir, err := cached("x", make)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(filepath.Join(dir, "f")); err != nil {
			t.Error(err)
		}
	}
	if makes != 1 {
		t.Errorf("fetched %d times", makes)
	}
	if _, err := cached("x", func(string) error { return os.ErrPermission }); err != nil {
		t.Errorf("what is there is fetched again: %v", err)
	}
}

func TestAServerThatEndsAtOnceIsTold(t *testing.T) {
	p := &process{t: t, name: "false", path: "/bin/sh", args: []string{"-c", "exit 3"}, dir: t.TempDir(), ready: func() error { return errors.New("never") }}
	if err := p.begin(); err != nil {
		t.Fatal(err)
	}
	if err := p.wait(); err == nil || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("got %v", err)
	}
	p.path = "/no/such/server"
	if err := p.begin(); err == nil {
		t.Error("what does not exist was started")
	}
}

// TestAKilledTestLeavesNothing kills a test that holds a server, itself run as a process of its own.
func TestAKilledTestLeavesNothing(t *testing.T) {
	const asChild = "FRESHET_SERVERS_TEST_CHILD"
	if os.Getenv(asChild) != "" {
		p := &process{t: t, name: "sleep", path: "/bin/sleep", args: []string{"600"}, dir: os.Getenv(asChild), quit: syscall.SIGTERM, ready: func() error { return nil }}
		launch(t, p)
		os.Stdout.WriteString("pid " + strconv.Itoa(p.cmd.Process.Pid) + "\n")
		time.Sleep(time.Minute)
		return
	}
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		t.Skip("no /proc")
	}
	child := exec.Command(os.Args[0], "-test.run", "^TestAKilledTestLeavesNothing$")
	child.Env = append(os.Environ(), asChild+"="+t.TempDir())
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	var pid string
	for lines := bufio.NewScanner(out); pid == "" && lines.Scan(); {
		if after, ok := strings.CutPrefix(lines.Text(), "pid "); ok {
			pid = after
		}
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait() // it was killed
	for deadline := time.Now().Add(10 * time.Second); alive(pid); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("process %s outlived its test", pid)
		}
	}
}

// alive reports whether a process runs; one that has ended may stay in the table for a while.
func alive(pid string) bool {
	stat, err := os.ReadFile("/proc/" + pid + "/stat")
	return err == nil && !strings.Contains(string(stat), ") Z ")
}
