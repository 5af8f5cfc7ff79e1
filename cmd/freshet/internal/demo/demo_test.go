package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/freshet-dev/freshet/cmd/freshet/internal/app"
	"github.com/freshet-dev/freshet/cmd/freshet/internal/produce"
	"github.com/freshet-dev/freshet/processor"
	"github.com/freshet-dev/freshet/processor/kafka"
	"github.com/freshet-dev/freshet/schemas/catalog"
	"github.com/freshet-dev/freshet/schemas/feature"
	"github.com/freshet-dev/freshet/sink"
	"github.com/freshet-dev/freshet/sink/parquet"
	"github.com/freshet-dev/freshet/test/oracle"
)

const demoDir = "FRESHET_TEST_DEMO_DIR"

// TestMain lets a test kill a demo that runs in a process of its own.
func TestMain(m *testing.M) {
	if dir := os.Getenv(demoDir); dir != "" {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
		defer stop()
		o := small(dir)
		o.Out = os.Stdout
		if err := Shop(ctx, o); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// small is a shop whose log brute force can judge within seconds.
func small(dir string) Options {
	return Options{Dir: dir, Seed: 7, Shoppers: 40, Rate: 200, Command: "freshet"}
}

// buffer is a bytes.Buffer that may be read while it is written.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func (b *buffer) wait(t *testing.T, text string) {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if strings.Contains(b.String(), text) {
			return
		}
	}
	t.Fatalf("never said %q:\n%s", text, b.String())
}

// A demo that is killed, twice, and started again over its directory goes on with the same events, none lost, none twice, and every row of its
// log is what the oracle says.
func TestKilledAndStartedAgain(t *testing.T) {
	dir := t.TempDir()
	for _, after := range []string{"published", "first values after"} {
		var out buffer
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), demoDir+"="+dir)
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		out.wait(t, after)
		time.Sleep(700 * time.Millisecond)
		if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // killed
	}
	var out buffer
	ctx, cancel := context.WithCancel(t.Context())
	o := small(dir)
	o.Out = &out
	done := make(chan error, 1)
	go func() { done <- Shop(ctx, o) }() // awaited below
	out.wait(t, "first values after")
	time.Sleep(2 * time.Second)
	cancel()
	if err := <-done; err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	for _, text := range []string{"get user_purchases u", "redis-cli -p ", "duckdb -c ", "refused   ", "kept in   " + dir} {
		if !strings.Contains(out.String(), text) {
			t.Errorf("no %q in\n%s", text, out.String())
		}
	}
	other := small(dir)
	other.Seed, other.Out = 8, &out
	if err := Shop(t.Context(), other); err == nil || !strings.Contains(err.Error(), "--seed 7 --shoppers 40 --rate 200") {
		t.Errorf("another seed over the same directory: %v", err)
	}
	judgeShop(t, dir)
}

// judgeShop opens a directory again, has a service close all parts, and the whole log judged.
func judgeShop(t *testing.T, dir string) {
	t.Helper()
	streams := []stream{purchases, sessions}
	w, err := open(t.Context(), dir, streams, settings{idle: "wall", partMaxAge: lastPartAge, checkpoint: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer w.close(nil)
	svc, err := w.start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		ready := 0
		for _, s := range svc.Service.Statuses() {
			if s.Ready() && s.Position == s.End {
				ready++
			}
		}
		if ready == 2*partitions {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("never live: %+v", svc.Service.Statuses())
		}
	}
	time.Sleep(2 * lastPartAge)
	if err := svc.end(); err != nil {
		t.Fatal(err)
	}
	plans, err := app.Definitions(w.config.Definitions, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for i, st := range streams {
		for p := range int32(partitions) {
			judgePartition(t, w, st, plans[i], p)
		}
	}
}

func judgePartition(t *testing.T, w *world, st stream, plan *feature.Plan, partition int32) {
	t.Helper()
	definition, err := catalog.File(st.group + ".yaml")
	if err != nil {
		t.Fatal(err)
	}
	schema, err := catalog.File(st.schema)
	if err != nil {
		t.Fatal(err)
	}
	group, err := oracle.Load(definition, schema)
	if err != nil {
		t.Fatal(err)
	}
	records, err := w.records(t.Context(), kafka.TP{Topic: st.topic, Partition: partition})
	if err != nil {
		t.Fatal(err)
	}
	h, err := group.Admit(records, func(int32) []byte { return schema })
	if err != nil {
		t.Fatal(err)
	}
	parts, err := parquet.Parts(t.Context(), app.Bucket(&w.config), plan.Group, plan.Version)
	if err != nil {
		t.Fatal(err)
	}
	newest, rows := map[string]int64{}, 0
	for _, part := range ofPartition(parts, partition) {
		r, err := parquet.OpenPart(sink.OS, filepath.Join(w.config.LogDir(), strings.TrimPrefix(part.Name, "log/")), part)
		if err != nil {
			t.Fatal(err)
		}
		err = r.Rows(func(row *sink.Row) error {
			rows++
			entity := string(row.Entity)
			newest[entity] = max(newest[entity], row.Version.Offset)
			for i, want := range h.Values(entity, row.Version.AsOf, row.Version.Offset) {
				got := ""
				if !row.Values[i].IsNull() {
					got = string(sink.AppendText(nil, row.Values[i], plan.Features[i].Type))
				}
				if row.Values[i].IsNull() != want.Null || got != want.Text {
					t.Errorf("%s %s at %s: %s is %q; the oracle says %q", st.topic, entity, row.Version, plan.Features[i].Name, got, want.Text)
				}
			}
			return nil
		})
		if err := errors.Join(err, r.Close()); err != nil {
			t.Fatal(err)
		}
	}
	for i, v := range h.Verdicts {
		if v.Accepted() && newest[v.Entity] < records[i].Offset {
			t.Errorf("%s: the event of %s at offset %d is in no row of the log", st.topic, v.Entity, records[i].Offset)
			break
		}
	}
	t.Logf("%s/%d: %d records, %d rows", st.topic, partition, len(records), rows)
}

// purchasesFile writes the purchases of a few customers within some days, unsorted, and returns its name and how many there are.
func purchasesFile(t *testing.T, days int) (name string, rows int) {
	t.Helper()
	var b strings.Builder
	b.WriteString("customer,day,usd,category\n")
	start := time.Date(1997, 1, 1, 0, 0, 0, 0, time.UTC)
	for c := range 7 {
		for k := range 9 {
			fmt.Fprintf(&b, "c%d,%s,%d.%02d,%s\n", c, start.AddDate(0, 0, (k*k*c*5+k*11)%days).Format(time.DateOnly), k*c, (37*k)%100, []string{"", "books"}[k%2])
			rows++
		}
	}
	name = filepath.Join(t.TempDir(), "orders.csv")
	if err := os.WriteFile(name, []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	return name, rows
}

func play(t *testing.T, dir, file string, customers int) (string, error) {
	t.Helper()
	var out buffer
	err := Play(t.Context(), Options{Dir: dir, Out: &out}, Purchases{Input: produce.Input{Name: file, Map: map[string]string{"user_id": "customer", "event_time": "day", "amount": "usd"}}, Customers: customers})
	return out.String(), err
}

func TestPlayComparesEveryRow(t *testing.T) {
	file, rows := purchasesFile(t, 200)
	dir := t.TempDir()
	out, err := play(t, dir, file, 0)
	if err != nil || !strings.Contains(out, fmt.Sprintf("accepted %d, refused 0; compared with the oracle: ", rows)) || !strings.Contains(out, ", 0 mismatches") {
		t.Fatalf("%v\n%s", err, out)
	}
	// Over the same directory nothing is published again, and all is compared again.
	again, err := play(t, dir, file, 0)
	closing := out[strings.Index(out, "accepted "):]
	if err != nil || !strings.Contains(again, "published 0 purchases") || !strings.Contains(again, closing) {
		t.Errorf("%v\n%s\nwanted %s", err, again, closing)
	}
	if _, err := play(t, dir, file, 3); err == nil || !strings.Contains(err.Error(), "holds another demo") {
		t.Errorf("other purchases over the same directory: %v", err)
	}
	if out, err := play(t, "", file, 3); err != nil || !strings.Contains(out, "accepted 27, refused 0;") {
		t.Errorf("three customers: %v\n%s", err, out)
	}
}

// A log that is wrong in one value, or lacks a row, or has one too many, does not go unnoticed.
func TestComparisonNotices(t *testing.T) {
	file, _ := purchasesFile(t, 12)
	dir := t.TempDir()
	if out, err := play(t, dir, file, 0); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	w, err := open(t.Context(), dir, []stream{purchases}, settings{idle: processor.IdleHold, partMaxAge: time.Second, checkpoint: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer w.close(nil)
	plans, err := app.Definitions(w.config.Definitions, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(m *matcher, row *sink.Row) error{
		"value": func(m *matcher, row *sink.Row) error { row.Values[0].Bits++; return m.row(row) },
		"null":  func(m *matcher, row *sink.Row) error { row.Values[0].Kind = 0; return m.row(row) },
		"as of": func(m *matcher, row *sink.Row) error { row.Version.AsOf++; return m.row(row) },
		"until": func(m *matcher, row *sink.Row) error { row.ValidUntil--; return m.row(row) },
		"lacks": func(*matcher, *sink.Row) error { return nil },
		"twice": func(m *matcher, row *sink.Row) error { return errors.Join(m.row(row), m.row(row)) },
		"nobody": func(m *matcher, row *sink.Row) error {
			n := *row
			n.Entity = []byte("nobody")
			return errors.Join(m.row(&n), m.row(row))
		},
	} {
		c := &comparison{spoil: spoilFirst(spoil)}
		if err := w.compare(t.Context(), purchases, plans[0], c); err != nil {
			t.Fatal(err)
		}
		if c.mismatches.Load() == 0 || len(c.first) == 0 {
			t.Errorf("%s: nothing was noticed", name)
		}
	}
	c := &comparison{}
	if err := w.compare(t.Context(), purchases, plans[0], c); err != nil || c.mismatches.Load() != 0 || c.rows.Load() == 0 {
		t.Errorf("unspoilt: %v, %d mismatches of %d rows: %v", err, c.mismatches.Load(), c.rows.Load(), c.first)
	}
}

// spoilFirst spoils the first row only.
func spoilFirst(spoil func(*matcher, *sink.Row) error) func(*matcher, *sink.Row) error {
	var once sync.Once
	return func(m *matcher, row *sink.Row) (err error) {
		first := false
		once.Do(func() { first = true })
		if first {
			return spoil(m, row)
		}
		return m.row(row)
	}
}
