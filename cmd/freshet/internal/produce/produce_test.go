package produce

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/freshet-dev/freshet/cmd/freshet/internal/embedded"
	"github.com/freshet-dev/freshet/processor/kafka"
	"github.com/freshet-dev/freshet/schemas/event"
)

const partitions = 3

// bench is a broker, a topic and what writes to it.
type bench struct {
	t   *testing.T
	cfg kafka.Config
	p   *kafka.Producer
	to  Target
}

func newBench(t *testing.T) *bench {
	t.Helper()
	s, err := embedded.Start(t.Context(), t.TempDir(), embedded.Options{Topics: []embedded.Topic{{Name: "purchases", Partitions: partitions}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	b := &bench{t: t, cfg: kafka.Default(), to: Target{Topic: "purchases", Schema: schema(t), ID: 7, Time: "event_time", Key: "user_id"}}
	b.cfg.Brokers = s.Brokers
	if b.p, err = kafka.NewProducer(b.cfg, slog.New(slog.DiscardHandler), nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.p.Close)
	return b
}

func schema(t *testing.T) *event.Schema {
	t.Helper()
	text, err := os.ReadFile("../../../../schemas/catalog/purchase.avsc")
	if err != nil {
		t.Fatal(err)
	}
	s, err := event.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// read returns n records of the topic, by partition.
func (b *bench) read(n int) [partitions][]kafka.Record {
	b.t.Helper()
	r, err := kafka.NewReader(b.cfg, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		b.t.Fatal(err)
	}
	defer r.Close()
	for i := range int32(partitions) {
		r.Add(kafka.TP{Topic: "purchases", Partition: i}, 0)
	}
	ctx, cancel := context.WithTimeout(b.t.Context(), 20*time.Second)
	defer cancel()
	var got [partitions][]kafka.Record
	for ended := 0; ended < partitions; {
		fs, err := r.Poll(ctx)
		if err != nil {
			b.t.Fatal(err)
		}
		for _, f := range fs {
			got[f.TP.Partition] = append(got[f.TP.Partition], f.Records...)
			if f.Next == f.End {
				ended++
			}
		}
	}
	if all := len(got[0]) + len(got[1]) + len(got[2]); all != n {
		b.t.Fatalf("%d records, want %d", all, n)
	}
	return got
}

// history is a CSV in the manner of CDNOW: sorted by customer, dates only.
func history(rows int) string {
	rng := rand.New(rand.NewPCG(5, 6))
	var b strings.Builder
	b.WriteString("customer_id,date,cds,amount_usd\n")
	for i := range rows {
		day := time.Date(1997, 1, 1, 0, 0, 0, 0, time.UTC).AddDate(0, 0, rng.IntN(500))
		fmt.Fprintf(&b, "%d,%s,%d,%d.%02d\n", 1+i/3, day.Format(time.DateOnly), 1+rng.IntN(5), rng.IntN(90), rng.IntN(100))
	}
	return b.String()
}

func cdnow(text string) Input {
	return Input{Name: "cdnow.csv", Reader: strings.NewReader(text), Size: int64(len(text)), RowID: "event_id", TimeFormat: "date",
		Map: map[string]string{"user_id": "customer_id", "event_time": "date", "quantity": "cds", "amount": "amount_usd"},
		Set: map[string]string{"product_id": "cd", "currency": "USD"}}
}

func TestHistoryOfDates(t *testing.T) {
	for name, sortBytes := range map[string]int{"in memory": 1 << 30, "in files": 100_000, "in files of files": 3000} {
		t.Run(name, func(t *testing.T) {
			const rows = 2000
			b := newBench(t)
			opts := Default()
			opts.SortBytes, opts.TempDir, opts.ReportEach = sortBytes, t.TempDir(), time.Nanosecond
			var last Progress
			writing := false
			opts.Progress = func(p Progress) { last, writing = p, writing || p.Writing && p.Done < 1 }
			text := history(rows)
			sum, err := Run(t.Context(), cdnow(text), b.to, b.p, opts)
			if err != nil || sum.Rows != rows || sum.Bad != 0 || sum.Published != rows {
				t.Fatal(sum, err)
			}
			if last.Done != 1 || last.Published != rows || last.Rows != rows || !writing {
				t.Errorf("%+v", last)
			}
			left, err := os.ReadDir(opts.TempDir)
			if err != nil || len(left) != 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
			check(t, b, text, rows)
		})
	}
}

// check compares the topic with the lines of a history, by way of sorting them in memory.
func check(t *testing.T, b *bench, text string, rows int) {
	t.Helper()
	enc := event.NewEncoder(b.to.Schema, b.to.ID)
	var want [partitions][]kafka.Record
	type line struct {
		at    time.Time
		row   int
		cells []string
	}
	var lines []line
	for i, l := range strings.Split(strings.TrimSpace(text), "\n")[1:] {
		cells := strings.Split(l, ",")
		at, err := time.Parse(time.DateOnly, cells[1])
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, line{at, i + 1, cells})
	}
	slices.SortStableFunc(lines, func(a, b line) int { return a.at.Compare(b.at) })
	for _, l := range lines {
		value, err := enc.Encode(nil, map[string]any{"event_id": fmt.Sprint(l.row), "user_id": l.cells[0], "product_id": "cd", "quantity": l.cells[2],
			"amount": l.cells[3], "currency": "USD", "event_time": l.at})
		if err != nil {
			t.Fatal(err)
		}
		p := kafka.Murmur2Partition([]byte(l.cells[0]), partitions)
		want[p] = append(want[p], kafka.Record{Timestamp: l.at.UnixMilli(), Key: []byte(l.cells[0]), Value: value})
	}
	for p, records := range b.read(rows) {
		for i, r := range records {
			if i >= len(want[p]) {
				t.Fatalf("partition %d has %d records, want %d", p, len(records), len(want[p]))
			}
			if w := want[p][i]; r.Timestamp != w.Timestamp || !bytes.Equal(r.Key, w.Key) || !bytes.Equal(r.Value, w.Value) {
				t.Fatalf("partition %d, record %d: %v, want %v", p, i, r, w)
			}
		}
	}
}

func TestJSONLinesAsTheyAre(t *testing.T) {
	b := newBench(t)
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	fmt.Fprintln(w, `{"event_id":"b","user_id":"u1","product_id":"p","amount":2.5,"event_time":"2026-02-01T00:00:00Z","embedding":[1,2]}`)
	fmt.Fprintln(w)
	fmt.Fprintln(w, `{"event_id":"a","user_id":"u1","product_id":"p","amount":3,"when":1767225600000}`)
	w.Close()
	opts := Default()
	opts.AsIs = true
	b.to.Stamp = StampNow
	begun := time.Now().UnixMilli()
	bad := 0
	opts.MaxErrors, opts.Bad = 1, func(error) { bad++ }
	in := Input{Name: "x.jsonl.gz", Reader: &z, Map: map[string]string{"event_time": "when"}}
	z2 := bytes.NewReader(append([]byte(nil), z.Bytes()...))
	if sum, err := Run(t.Context(), in, b.to, b.p, opts); err != nil || sum.Published != 2 || bad != 0 {
		t.Fatal(sum, err)
	}
	enc := event.NewEncoder(b.to.Schema, b.to.ID)
	p := kafka.Murmur2Partition([]byte("u1"), partitions)
	got := b.read(2)[p]
	for i, fields := range []map[string]any{
		{"event_id": "b", "user_id": "u1", "product_id": "p", "amount": 2.5, "event_time": int64(1769904000000), "embedding": []any{1.0, 2.0}},
		{"event_id": "a", "user_id": "u1", "product_id": "p", "amount": 3.0, "event_time": int64(1767225600000)},
	} {
		want, err := enc.Encode(nil, fields)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got[i].Value, want) || got[i].Timestamp < begun {
			t.Errorf("record %d: %x at %d, want %x", i, got[i].Value, got[i].Timestamp, want)
		}
	}
	in.Name, in.Reader = "data", z2
	if _, err := Run(t.Context(), in, b.to, b.p, opts); err == nil || !strings.Contains(err.Error(), "--format csv or --format jsonl") {
		t.Error(err)
	}
}

const someBad = `event_id,user_id,product_id,amount,event_time
1,ann,p,1.5,2026-01-01
2,ann,p,much,2026-01-02
3,,p,1.5,2026-01-02
4,ann,p,1.5,yesterday
5,ann,p
"6
7",ann,p,1.5,2026-01-03
8,ann,p,1.5,
9,ann,p,2,2026-01-01 12:00:00
`

func TestBadRowsAreNamed(t *testing.T) {
	b := newBench(t)
	opts := Default()
	var told []string
	opts.Bad = func(err error) { told = append(told, err.Error()) }
	opts.MaxErrors = 5
	sum, err := Run(t.Context(), Input{Name: "some.csv", Reader: strings.NewReader(someBad)}, b.to, b.p, opts)
	if err != nil || sum.Rows != 8 || sum.Bad != 5 || sum.Published != 3 || sum.First != 1767225600000 || sum.Last != 1767398400000 {
		t.Errorf("%+v %v", sum, err)
	}
	for i, want := range []string{"some.csv:3: ", "some.csv:4: user_id: empty", "some.csv:5: event_time: \"yesterday\" is not written as", "some.csv:6: 3 cells, the header has 5",
		"some.csv:9: event_time: empty"} {
		if i >= len(told) || !strings.HasPrefix(told[i], want) {
			t.Errorf("problem %d: %q", i, told)
		}
	}
	if !strings.Contains(told[0], "amount") || !strings.Contains(told[0], "much") {
		t.Errorf("%q", told[0])
	}
	b.read(3)
	opts.MaxErrors = 4
	sum, err = Run(t.Context(), Input{Name: "some.csv", Reader: strings.NewReader(someBad)}, b.to, b.p, opts)
	if !errors.Is(err, ErrTooManyBad) || sum.Published != 0 {
		t.Errorf("%+v %v", sum, err)
	}
	b.read(3)
}

func TestMistakesInTheCommand(t *testing.T) {
	b := newBench(t)
	for want, change := range map[string]func(*Input, *Target){
		`no column "custmer" for --map user_id=custmer; there are customer_id, date`: func(in *Input, _ *Target) { in.Map["user_id"] = "custmer" },
		`has no field "user"`:                         func(in *Input, _ *Target) { in.Map["user"] = "customer_id" },
		`column "date" is both`:                       func(in *Input, _ *Target) { in.Map["currency"] = "date" },
		`the key: `:                                   func(_ *Input, to *Target) { to.Key = "who" },
		`must be a timestamp or a long`:               func(_ *Input, to *Target) { to.Time = "amount" },
		`--time-format "dmy" is neither one of rfc33`: func(in *Input, _ *Target) { in.TimeFormat = "dmy" },
		`two columns are called "date"`:               func(in *Input, _ *Target) { in.Reader = strings.NewReader("date,date\n") },
		`read the header of cdnow.csv: EOF`:           func(in *Input, _ *Target) { in.Reader = strings.NewReader("") },
	} {
		in, to := cdnow(history(3)), b.to
		change(&in, &to)
		if _, err := Run(t.Context(), in, to, b.p, Default()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v\nwant %s", err, want)
		}
	}
	b.read(0)
}

// endless is a file that never ends; it stops the run after some rows.
type endless struct {
	n      int
	cancel func()
}

func (e *endless) Read(p []byte) (int, error) {
	if e.n++; e.n == 50 {
		e.cancel()
	}
	return copy(p, "ann,2026-01-01,1,1.5\n"), nil
}

func TestCtrlC(t *testing.T) {
	for _, asIs := range []bool{false, true} {
		b := newBench(t)
		ctx, cancel := context.WithCancel(t.Context())
		in := cdnow("")
		in.Reader = io.MultiReader(strings.NewReader("customer_id,date,cds,amount_usd\n"), &endless{cancel: cancel})
		opts := Default()
		opts.AsIs, opts.TempDir, opts.SortBytes = asIs, t.TempDir(), 10_000
		if _, err := Run(ctx, in, b.to, b.p, opts); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if left, err := os.ReadDir(opts.TempDir); err != nil || len(left) != 0 {
			t.Errorf("left behind: %v, %v", left, err)
		}
	}
}

func TestClock(t *testing.T) {
	for _, c := range []struct{ format, text, want string }{
		{"", "2026-01-31T12:00:00.5+02:00", "2026-01-31T10:00:00.5Z"},
		{"", "2026-01-31", "2026-01-31T00:00:00Z"},
		{"", " 2026-01-31 12:00:00 ", "2026-01-31T12:00:00Z"},
		{"", "1767225600001", "2026-01-01T00:00:00.001Z"},
		{"unix", "1767225600.25", "2026-01-01T00:00:00.25Z"},
		{"unix_us", "1767225600000007", "2026-01-01T00:00:00.000007Z"},
		{"unix", "-1", "1969-12-31T23:59:59Z"},
		{"02.01.2006 15:04", "31.01.2026 12:30", "2026-01-31T12:30:00Z"},
		{"unix", "1767225600000", ""}, // ms, by mistake
		{"date", "31.01.2026", ""},
		{"", "", ""},
		{"", "NaN", ""},
	} {
		read, err := clock(c.format)
		if err != nil {
			t.Fatal(err)
		}
		got, err := read(c.text)
		if c.want == "" {
			if err == nil {
				t.Errorf("%q as %q is %s", c.text, c.format, got)
			}
			continue
		}
		if err != nil || got.UTC().Format(time.RFC3339Nano) != c.want {
			t.Errorf("%q as %q: %s, %v", c.text, c.format, got.UTC().Format(time.RFC3339Nano), err)
		}
	}
}
