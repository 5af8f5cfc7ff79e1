package redis

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/freshet-dev/freshet/schemas"
	"github.com/freshet-dev/freshet/sink"
)

// wideSpec has n features of the usual kinds.
func wideSpec(n int) sink.Spec {
	spec := sink.Spec{Group: "user_purchases", Version: 1, TTL: 91 * 24 * time.Hour}
	for i := range n {
		f := sink.Field{Name: fmt.Sprintf("total_spend_%d_30d", i), Type: schemas.Type{Kind: schemas.Double}}
		switch i % 4 {
		case 1:
			f.Type = schemas.Type{Kind: schemas.Int}
		case 2:
			f.Type = schemas.Type{Kind: schemas.Decimal, Scale: 2}
		}
		spec.Features = append(spec.Features, f)
	}
	return spec
}

// randomRows returns rows of random entities. Null are: nothing, what windows that are empty leave ("windows": of 1d, 7d, 30d and 90d the
// shortest few), or every fifth feature at random.
func randomRows(spec sink.Spec, rows, entities int, nulls string) []sink.Row {
	r := rand.New(rand.NewPCG(1, uint64(rows)))
	out := make([]sink.Row, rows)
	for i := range out {
		values := make([]schemas.Value, len(spec.Features))
		empty := r.IntN(4)
		for j, f := range spec.Features {
			switch {
			case nulls == "windows" && j%4 < empty || nulls == "random" && r.IntN(5) == 0:
			case f.Type.Kind == schemas.Double:
				values[j] = schemas.DoubleValue(float64(r.IntN(1e7)) / 100)
			case f.Type.Kind == schemas.Int:
				values[j] = schemas.IntValue(r.Int64N(1000))
			default:
				values[j] = schemas.DecimalValue(0, r.Uint64N(1e7))
			}
		}
		out[i] = sink.Row{Entity: fmt.Appendf(nil, "user_%07d", r.IntN(entities)), ValidUntil: 1767925600000 + int64(i), Values: values}
	}
	return out
}

// hsetPairs renders a row for a plain HSET of the same fields.
func hsetPairs(spec sink.Spec, r *sink.Row) []any {
	args := []any{"_v", r.Version.String(), "_t", strconv.FormatInt(r.Version.AsOf, 10), "_u", strconv.FormatInt(r.ValidUntil, 10), "_p", "3"}
	for i, f := range spec.Features {
		if !r.Values[i].IsNull() {
			args = append(args, f.Name, string(sink.AppendText(nil, r.Values[i], f.Type)))
		}
	}
	return args
}

func serverCPU(b *testing.B, c *Client) time.Duration {
	b.Helper()
	info := parseInfo(c.rdb.Info(b.Context(), "cpu").Val())
	var sum float64
	for _, k := range []string{"used_cpu_user", "used_cpu_sys"} {
		f, err := strconv.ParseFloat(info[k], 64)
		if err != nil {
			b.Fatal(err)
		}
		sum += f
	}
	return time.Duration(sum * 1e9)
}

// clientCPU returns the CPU time of this process.
func clientCPU(b *testing.B) time.Duration {
	b.Helper()
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// BenchmarkWrite compares guarded writes with bare pipelined HSETs of the same fields, in turns on one server: rows/s through the whole
// path (text, client, server), rows per second of the server's CPU, and the ratios guarded ÷ bare of rows/s, of rows per CPU second of the
// server, and of rows per CPU second of both, which other load on the machine disturbs least. The bare commands' texts are made beforehand.
func BenchmarkWrite(b *testing.B) {
	for _, nulls := range []string{"none", "windows", "random"} {
		b.Run("features=20/nulls="+nulls, func(b *testing.B) { benchmarkWrite(b, wideSpec(20), nulls) })
	}
}

func benchmarkWrite(b *testing.B, spec sink.Spec, nulls string) {
	const rows, entities, pipeline = 16 << 10, 8000, 1024
	c := open(b, startRedis(b))
	w, data := c.Writer(spec, 3), randomRows(spec, rows, entities, nulls)
	out := make([]Outcome, rows)
	pairs := make([][]any, rows)
	bare := func() {
		for from := 0; from < rows; from += pipeline {
			pipe := c.rdb.Pipeline()
			for i := from; i < from+pipeline; i++ {
				pipe.HSet(b.Context(), "bare:"+string(data[i].Entity), pairs[i]...)
			}
			if _, err := pipe.Exec(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
	}
	guarded := func() {
		if err := w.Write(b.Context(), data, out); err != nil {
			b.Fatal(err)
		}
		if i := slices.IndexFunc(out, func(o Outcome) bool { return o != Written }); i >= 0 {
			b.Fatalf("row %d is %s", i, out[i])
		}
	}
	var wall, cpu, both [2][]float64
	var mallocs uint64
	for round := int64(1); b.Loop(); round++ {
		for i := range data {
			data[i].Version = sink.Version{Generation: 7, Offset: round*rows + int64(i), AsOf: 1767225600000 + round*rows + int64(i)}
			pairs[i] = hsetPairs(spec, &data[i])
		}
		for k, f := range []func(){bare, guarded} {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			c0, b0, t0 := serverCPU(b, c), clientCPU(b), time.Now()
			f()
			wall[k] = append(wall[k], time.Since(t0).Seconds())
			own := clientCPU(b) - b0
			server := serverCPU(b, c) - c0
			cpu[k], both[k] = append(cpu[k], server.Seconds()), append(both[k], (server+own).Seconds())
			runtime.ReadMemStats(&after)
			if k == 1 {
				mallocs += after.Mallocs - before.Mallocs
			}
		}
	}
	b.ReportMetric(rows/median(wall[0]), "bare-rows/s")
	b.ReportMetric(rows/median(wall[1]), "rows/s")
	b.ReportMetric(median(wall[0])/median(wall[1]), "ratio")
	b.ReportMetric(rows/median(cpu[1]), "rows/cpu-s")
	b.ReportMetric(median(cpu[0])/median(cpu[1]), "server-cpu-ratio")
	b.ReportMetric(median(both[0])/median(both[1]), "cpu-ratio")
	b.ReportMetric(float64(mallocs)/float64(rows*len(wall[1])), "allocs/row")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkFill is the client's part of a write but for go-redis: texts and arguments of rows.
func BenchmarkFill(b *testing.B) {
	spec := wideSpec(20)
	c := open(b, &server{addr: "127.0.0.1:1"}) // never connected
	w, rows, batch := c.Writer(spec, 3), randomRows(spec, 1024, 1024, "windows"), new(batch)
	b.ReportAllocs()
	for b.Loop() {
		batch.fill(w, rows)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(rows)), "ns/row")
}

func median(x []float64) float64 {
	x = slices.Sorted(slices.Values(x))
	return x[len(x)/2]
}

// BenchmarkRead reads 50 features of 100 entities a call: what a ranking service does for a request.
func BenchmarkRead(b *testing.B) {
	spec := wideSpec(50)
	c := open(b, startRedis(b))
	const entities = 20_000
	rows := randomRows(spec, entities, 1, "random")
	for i := range rows {
		rows[i].Entity = fmt.Appendf(nil, "user_%07d", i)
	}
	if err := c.Writer(spec, 3).Write(b.Context(), rows, make([]Outcome, entities)); err != nil {
		b.Fatal(err)
	}
	r := c.Reader(spec, 0)
	keys := make([][]byte, 100)
	var took []time.Duration
	var sum float64
	b.ReportAllocs()
	for b.Loop() {
		for i := range keys {
			keys[i] = rows[rand.IntN(entities)].Entity
		}
		start := time.Now()
		vs, err := r.GetFeatureVectors(b.Context(), keys, nil)
		if err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(start))
		if f, ok := vs[99].Float64("total_spend_0_30d"); ok {
			sum += f
		}
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
	if sum == 0 || strings.Contains(fmt.Sprint(sum), "NaN") {
		b.Fatal("nothing was read")
	}
}
