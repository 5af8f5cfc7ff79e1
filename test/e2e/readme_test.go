//go:build unix

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/sr/srfake"

	"github.com/freshet-dev/freshet/test/e2e/servers"
)

// block is a fenced block of the README, or a command in its text, whose kind is then "inline".
type block struct{ kind, text string }

var (
	fenced = regexp.MustCompile("(?ms)^```([^\n]*)\n(.*?)^```$")
	inline = regexp.MustCompile("`(freshet [^`]+)`")
)

// readme is all that the README shows, but for drawings and what it says is not there yet.
func readme(t *testing.T) (blocks []block) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(repository, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range fenced.FindAllSubmatch(text, -1) {
		if kind := string(m[1]); kind != "" {
			blocks = append(blocks, block{kind, strings.TrimSpace(string(m[2]))})
		}
	}
	prose, _, _ := bytes.Cut(fenced.ReplaceAll(text, nil), []byte("## Not there yet"))
	for _, m := range inline.FindAllSubmatch(prose, -1) {
		blocks = append(blocks, block{"inline", string(m[1])})
	}
	return blocks
}

// visitor follows the README: in a directory of their own, with servers at other addresses than the README's.
type visitor struct {
	*world
	one   *instance
	names *strings.Replacer // of servers
}

// TestReadme does all that the README says, in its order. A block that no case below knows fails it.
func TestReadme(t *testing.T) {
	blocks := readme(t)
	v := newVisitor(t)
	count := map[string]int{}
	for _, b := range blocks {
		count[b.kind]++
		t.Run(fmt.Sprintf("%s_%d", strings.ReplaceAll(b.kind, " ", "_"), count[b.kind]), func(t *testing.T) { v.try(t, b) })
	}
	if want := []string{"go", "inline", "python", "sh", "sql", "yaml config", "yaml group"}; !slices.Equal(slices.Sorted(maps.Keys(count)), want) {
		t.Errorf("the README has blocks %v; of each kind of %q one is wanted", count, want)
	}
}

func newVisitor(t *testing.T) *visitor {
	t.Helper()
	w := newWorld(t)
	registry := srfake.New()
	t.Cleanup(registry.Close)
	dir := filepath.Join(w.dir, "home")
	if err := os.CopyFS(filepath.Join(dir, "schemas", "catalog"), os.DirFS(catalog)); err != nil {
		t.Fatal(err)
	}
	var rows strings.Builder
	rows.WriteString("event_id,user_id,product_id,category,amount,quantity,currency,status,event_time\n")
	for i := range 300 {
		at := time.Now().Add(-time.Duration(i) * 4 * time.Hour).UTC().Format(time.RFC3339)
		fmt.Fprintf(&rows, "e%d,u%d,p%d,toys,%d.25,1,EUR,completed,%s\n", i, i%20, i%7, i, at)
	}
	if err := os.WriteFile(filepath.Join(dir, "purchases.csv"), []byte(rows.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	return &visitor{world: w, names: strings.NewReplacer("127.0.0.1:9092", w.brokers[0], "http://127.0.0.1:8081", registry.URL(), "127.0.0.1:6379", w.redis.Addr,
		`host="127.0.0.1", port=6379`, `host="127.0.0.1", port=`+strings.TrimPrefix(w.redis.Addr, "127.0.0.1:"))}
}

func (v *visitor) home() string { return filepath.Join(v.dir, "home") }

func (v *visitor) try(t *testing.T, b block) {
	text := v.names.Replace(b.text)
	switch b.kind {
	case "sh":
		for line := range strings.Lines(text) {
			v.shell(t, strings.TrimSpace(line))
		}
	case "inline":
		v.inline(t, text)
	case "yaml config":
		v.configured(t, text)
	case "yaml group":
		v.lint(t, text)
	case "python":
		v.python(t, text)
	case "go":
		v.golang(t, text)
	case "sql":
		v.sql(t, text)
	default:
		t.Errorf("no test knows what to do with a block of %s:\n%s", b.kind, b.text)
	}
}

// command runs the binary at home and returns what it printed.
func (v *visitor) command(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.Command(freshet(t), args...)
	cmd.Dir = v.home()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("freshet %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func (v *visitor) shell(t *testing.T, line string) {
	t.Helper()
	words := strings.Fields(line)
	switch {
	case line == "go test ./...":
		t.Log("this test is part of it")
	case line == "go run ./cmd/freshet demo":
		v.demo(t)
	case words[0] == "freshet" && words[1] == "produce":
		before := v.ends()["purchases"]
		v.command(t, words[1:]...)
		sent := 0
		for p, end := range v.ends()["purchases"] {
			sent += int(end - before[p])
		}
		if sent != 300 {
			t.Errorf("%d of 300 purchases are in the topic", sent)
		}
		v.awaitServed(t)
	default:
		t.Errorf("no test knows what to do with %q", line)
	}
}

// demo runs the demo until it shows a feature.
func (v *visitor) demo(t *testing.T) {
	t.Helper()
	if !full() {
		t.Skip("FRESHET_E2E=full runs the demo")
	}
	dir := t.TempDir()
	p := servers.NewProgram(t, dir, freshet(t), "demo")
	p.Start()
	for end := time.Now().Add(hang); !strings.Contains(p.Log(), "purchase_count_7d"); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) || !p.Running() {
			t.Fatal("it shows no feature")
		}
	}
	if err := syscall.Kill(p.Pid(), syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(hang); p.Running(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it does not heed an interrupt")
		}
	}
}

// inline runs a command of the README's prose; where it relies on a default address, it is told the servers'.
func (v *visitor) inline(t *testing.T, text string) {
	t.Helper()
	args := strings.Fields(text)[1:]
	switch args[0] {
	case "run":
		if !slices.Contains(args, "--check") {
			t.Errorf("no test knows what to do with %q", text)
			return
		}
		if out := v.command(t, args...); strings.Contains(out, "FAIL") || !strings.Contains(out, "ok   kafka") {
			t.Errorf("%s says\n%s", text, out)
		}
	case "get":
		if out := v.command(t, append(args, "--redis", v.redis.Addr)...); !strings.Contains(out, "total_spend_7d") {
			t.Errorf("%s says\n%s", text, out)
		}
	case "lint":
		v.command(t, args...)
	case "schema":
		if out := v.command(t, args...); !json.Valid([]byte(out)) {
			t.Errorf("%s says\n%s", text, out)
		}
	default:
		t.Errorf("no test knows what to do with %q", text)
	}
}

// configured starts the service with the README's configuration; only what makes it wait for nothing is added.
func (v *visitor) configured(t *testing.T, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(v.home(), "freshet.yaml"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	p := servers.NewProgram(v.t, v.home(), freshet(t), "run", "-c", "freshet.yaml", "--set", `http.listen="127.0.0.1:0"`, "--set", "checkpoint.every=1s", "--set", "log.part_max_age=1s")
	v.one = &instance{Program: p, w: v.world, dir: v.home()}
	v.one.Start()
	v.awaitCaughtUp(v.one)
}

// awaitServed waits until u17 is in Redis as in the parts of the log.
func (v *visitor) awaitServed(t *testing.T) {
	t.Helper()
	if v.one == nil {
		t.Fatal("the README publishes before it has a configuration")
	}
	v.awaitCaughtUp(v.one)
	v.eventually("u17 in Redis with all of its purchases", func() bool {
		return v.served(t, "u17")["total_purchases"] == "15" && v.served(t, "u18")["total_purchases"] == "15"
	}, func() string { return fmt.Sprint(v.served(t, "u17")) })
	v.eventually("parts of the log", func() bool {
		names, err := filepath.Glob(filepath.Join(v.home(), "data", "log", "user_purchases", "v1", "date=*", "*.parquet"))
		return err == nil && len(names) >= partitions
	}, v.one.life)
}

func (v *visitor) served(t *testing.T, user string) map[string]string {
	t.Helper()
	hash, err := v.rdb.HGetAll(context.Background(), "features:user_purchases:v1:"+user).Result()
	if err != nil {
		t.Fatal(err)
	}
	return hash
}

func (v *visitor) lint(t *testing.T, text string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "definitions")
	if err := os.CopyFS(dir, os.DirFS(catalog)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "group.yaml"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	v.command(t, "lint", "--strict", dir)
}

// output runs a program with text as its input.
func output(t *testing.T, dir, input, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	var errs bytes.Buffer
	cmd.Dir, cmd.Stdin, cmd.Stderr = dir, strings.NewReader(input), &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s\nof\n%s", name, strings.Join(args, " "), err, errs.Bytes(), input)
	}
	return strings.TrimSpace(string(out))
}

func (v *visitor) python(t *testing.T, text string) {
	t.Helper()
	python := servers.Python(t, servers.Packages...)
	got := output(t, v.home(), "user = 'u17'\n"+text+"\nprint(known, version.decode(), as_of.decode(), spend.decode(), orders.decode())\n", python, "-")
	hash := v.served(t, "u17")
	if want := strings.Join([]string{"True", hash["_v"], hash["_t"], hash["total_spend_7d"], hash["purchase_count_30d"]}, " "); got != want {
		t.Errorf("it reads %s, not %s", got, want)
	}
}

func (v *visitor) golang(t *testing.T, text string) {
	t.Helper()
	program := `package main

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/freshet-dev/freshet/sink/redis"
)

func main() {
	ctx := context.Background()
	` + strings.Replace(text, "127.0.0.1:6379", v.redis.Addr, 1) + `
	if err != nil || age < 0 || len(vectors) != 2 {
		panic(fmt.Sprint(err, age, len(vectors)))
	}
	fmt.Println(vectors[0].Known, vectors[1].Known, spend, ok)
}
`
	file := filepath.Join(t.TempDir(), "main.go")
	if err := os.WriteFile(file, []byte(program), 0o644); err != nil {
		t.Fatal(err)
	}
	got := output(t, repository, "", "go", "run", file)
	if want := fmt.Sprintf("true true %s true", v.served(t, "u17")["total_spend_7d"]); got != want {
		t.Errorf("it prints %q, not %q", got, want)
	}
}

func (v *visitor) sql(t *testing.T, text string) {
	t.Helper()
	python := servers.Python(t, servers.Packages...)
	script := absolute(t, filepath.Join("testdata", "asof.py"))
	var rows []struct {
		User   string   `json:"user_id"`
		Spend  *float64 `json:"total_spend_7d"`
		Orders *int64   `json:"purchase_count_30d"`
	}
	if err := json.Unmarshal([]byte(output(t, v.home(), text, python, script)), &rows); err != nil {
		t.Fatal(err)
	}
	if len(rows) != 4 || rows[0].Spend != nil || rows[1].Orders != nil {
		t.Fatalf("it gives %+v: four rows, and nothing before the first event", rows)
	}
	for _, r := range rows[2:] {
		hash := v.served(t, r.User)
		if r.Spend == nil || r.Orders == nil || fmt.Sprint(*r.Spend, *r.Orders) != hash["total_spend_7d"]+" "+hash["purchase_count_30d"] {
			t.Errorf("%s: it gives %+v, Redis has %s and %s", r.User, r, hash["total_spend_7d"], hash["purchase_count_30d"])
		}
	}
}
