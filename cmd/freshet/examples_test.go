package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/freshet-dev/freshet/cmd/freshet/internal/config"
	"github.com/freshet-dev/freshet/cmd/freshet/internal/embedded"
	"github.com/freshet-dev/freshet/schemas/catalog"
)

// syncBuffer is a bytes.Buffer that may be read while it is written.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// wait waits until the buffer holds text.
func (s *syncBuffer) wait(t *testing.T, text string) {
	t.Helper()
	for end := time.Now().Add(60 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if strings.Contains(s.String(), text) {
			return
		}
	}
	t.Fatalf("never said %q:\n%s", text, s.String())
}

// site is where the examples are run: a directory with the files they name, and servers.
type site struct {
	t       *testing.T
	servers *embedded.Servers
}

func newSite(t *testing.T) *site {
	dir := t.TempDir()
	s, err := embedded.Start(t.Context(), filepath.Join(dir, "servers"), embedded.Options{
		Topics: []embedded.Topic{{Name: "purchases", Partitions: 2}, {Name: "sessions", Partitions: 2}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Chdir(dir)
	if err := catalog.Extract("schemas/catalog"); err != nil {
		t.Fatal(err)
	}
	write := func(name, text string) {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	now := time.Now().UTC()
	at := func(days int) string { return now.AddDate(0, 0, -days).Format(time.RFC3339) }
	write("freshet.yaml", fmt.Sprintf("kafka: {brokers: [%q], group: freshet}\nregistry: {url: %q}\nredis: {addr: %q}\ndefinitions: schemas/catalog\ndata: ./data\nhttp: {listen: \"127.0.0.1:0\"}\n",
		s.Brokers[0], s.RegistryURL, s.RedisAddr))
	write("purchases.csv", "user_id,event_time,amount,product_id\nu000017,"+at(3)+",12.5,p1\nu000018,"+at(2)+",7,p2\nu000018,"+at(2)+",seven,p2\n")
	write("events.jsonl", fmt.Sprintf(`{"event_id":"s1","user_id":"u000017","event_time":%q,"session_start":%q,"duration_seconds":60,"pages":3,"embedding":[1,2,3,4,5,6,7,8]}`+"\n", at(1), at(1)))
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	fmt.Fprintf(w, "customer,day,usd\nu000017,%s,3.25\nu000019,%s,4\nu000017,%s,5\n", now.AddDate(0, 0, -40).Format(time.DateOnly), now.AddDate(0, 0, -9).Format(time.DateOnly), now.AddDate(0, 0, -1).Format(time.DateOnly))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	write("orders.csv.gz", z.String())
	return &site{t, s}
}

// words splits a line of a shell: single quotes, and < and > with a file.
func (s *site) words(line string) (args []string, stdin string) {
	replace := strings.NewReplacer("127.0.0.1:9092", s.servers.Brokers[0], "http://127.0.0.1:8081", s.servers.RegistryURL, "127.0.0.1:6379", s.servers.RedisAddr)
	fields := strings.Fields(strings.TrimSpace(line))
	for i := 0; i < len(fields); i++ {
		switch fields[i] {
		case "<":
			i++
			text, err := os.ReadFile(fields[i])
			if err != nil {
				s.t.Fatal(err)
			}
			stdin = string(text)
		case ">":
			i++
		default:
			args = append(args, strings.ReplaceAll(replace.Replace(fields[i]), "'", ""))
		}
	}
	if args[0] != "freshet" {
		s.t.Fatalf("%s: not a line of freshet", line)
	}
	return args[1:], stdin
}

// run runs one example. Those that would run for ever are ended once they do what they are for; a demo's time is cut short
// and its shoppers are 200; brokers that are not there are
// checked as far as the configuration.
func (s *site) run(line string) {
	s.t.Helper()
	args, stdin := s.words(line)
	switch {
	case args[0] == "run" && slices.Contains(args, "kafka.brokers=[10.0.0.5:9092]"):
		c, err := config.Read("freshet.yaml", []string{"kafka.brokers=[10.0.0.5:9092]", "checkpoint.every=30s"})
		if err != nil || c.Kafka.Brokers[0] != "10.0.0.5:9092" || c.Checkpoint.Every != 30*time.Second {
			s.t.Errorf("%s: %v, %+v", line, err, c)
		}
		return
	case args[0] == "run" && !slices.Contains(args, "--check"):
		s.until("freshet runs", args)
		return
	case args[0] == "demo" && slices.Contains(args, "--for"):
		args[slices.Index(args, "--for")+1] = "3s"
		args = append(args, "--shoppers", "200")
	case args[0] == "demo" && !slices.Contains(args, "--purchases"):
		s.until("Try in a second terminal", append(args, "--shoppers", "200"))
		return
	}
	if r := cli(s.t, stdin, args...); r.code != 0 {
		s.t.Errorf("%s: exit %d\n%s\n%s", line, r.code, r.out, r.err)
	} else if r.out == "" {
		s.t.Errorf("%s: said nothing", line)
	}
}

// until runs a command until it has said text, and ends it as Ctrl-C would.
func (s *site) until(text string, args []string) {
	s.t.Helper()
	ctx, cancel := context.WithCancel(s.t.Context())
	defer cancel()
	out, done := background(ctx, args...)
	out.wait(s.t, text)
	cancel()
	if code := <-done; code != 0 {
		s.t.Errorf("%s: exit %d\n%s", strings.Join(args, " "), code, out)
	}
}

// Every line of every Example does what it says. What run, or wait for, differs from what is written stands at site.run.
func TestExamples(t *testing.T) {
	s := newSite(t)
	examples := map[string][]string{}
	for _, c := range commands() {
		examples[c.Name()] = strings.Split(c.Example, "\n")
	}
	done := map[string]bool{}
	run := func(names ...string) {
		for _, name := range names {
			done[name] = true
			for _, line := range examples[name] {
				s.run(line)
			}
		}
	}
	run("produce", "run")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out, ended := background(ctx, "run", "-c", "freshet.yaml")
	out.wait(t, "freshet runs")
	s.eventually("u000017 and u000018", func() bool {
		return cli(t, "", "get", "user_purchases", "u000017", "u000018", "-c", "freshet.yaml").code == 0 && cli(t, "", "get", "user_sessions", "u000017", "-c", "freshet.yaml").code == 0
	})
	run("get", "lint", "schema", "version", "completion")
	s.gets()
	cancel()
	if code := <-ended; code != 0 {
		t.Errorf("the service ended with %d\n%s", code, out)
	}
	run("demo")
	for name := range examples {
		if !done[name] && name != "freshet" && name != "help" {
			t.Errorf("no example of %s was run", name)
		}
	}
	for _, line := range examples["freshet"] { // those of the verbs, again
		if !slices.ContainsFunc(commands(), func(c *cobra.Command) bool {
			return strings.Contains(c.Example, strings.TrimSpace(line)) && c.HasParent()
		}) {
			t.Errorf("%s is not among the examples of its verb", line)
		}
	}
}

func (s *site) eventually(what string, ok func() bool) {
	s.t.Helper()
	for end := time.Now().Add(60 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if ok() {
			return
		}
	}
	s.t.Fatalf("never: %s", what)
}

// gets looks at what get says of the purchases that the examples of produce published.
func (s *site) gets() {
	typed := cli(s.t, "", "get", "user_purchases", "u000017", "nobody", "-c", "freshet.yaml")
	typed.want(s.t, exitUnknown, "unknown", "")
	for _, line := range []string{"purchase_count_7d       2\n", "total_spend_90d         20.75\n", "last_category           null\n", "pipeline           heard of "} {
		typed.want(s.t, exitUnknown, line, "")
	}
	object := cli(s.t, "", "get", "user_purchases", "u000017", "nobody", "-c", "freshet.yaml", "-o", "json")
	object.want(s.t, exitUnknown, `"known":true,"value_version":"`, "")
	object.want(s.t, exitUnknown, `"total_spend_90d":20.75,`, "")
	object.want(s.t, exitUnknown, `"last_category":null,`, "")
	object.want(s.t, exitUnknown, `{"group":"user_purchases","version":1,"entity":"nobody","known":false,"value_version":null,"as_of":null,"valid_until":null,"features":null}`, "")
	cli(s.t, "", "get", "user_sessions", "u000017", "-c", "freshet.yaml").want(s.t, 0, "last_session_embedding       [1, 2, 3, 4, … 8 in all]", "")
	cli(s.t, "", "get", "user_sessions", "u000017", "-c", "freshet.yaml", "-o", "json").want(s.t, 0, `"last_session_embedding":[1,2,3,4,5,6,7,8]`, "")
	untyped := cli(s.t, "", "get", "user_sessions", "u000017", "--redis", s.servers.RedisAddr, "-o", "json")
	untyped.want(s.t, 0, `"last_session_embedding":"base64:`, "")
	untyped.want(s.t, 0, `"total_sessions":"1"`, "") // the examples published its session twice: a duplicate
	cli(s.t, "", "get", "none", "u", "--redis", s.servers.RedisAddr).want(s.t, 1, "", "no pipeline has told of group none")
	cli(s.t, "", "get", "user_purchases", "a|b", "-c", "freshet.yaml").want(s.t, 1, "", "an entity of user_purchases is user_id")
	cli(s.t, "", "get", "user_purchases", "u000017", "--version", "9", "-c", "freshet.yaml").want(s.t, exitUnknown, "unknown", "user_purchases v9 is not in the definitions")
}
