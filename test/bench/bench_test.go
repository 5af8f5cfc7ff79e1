package main

import (
	"testing"

	"github.com/freshet-dev/freshet/schemas"
	"github.com/freshet-dev/freshet/schemas/catalog"
	"github.com/freshet-dev/freshet/schemas/event"
)

// The purchases are of the shipped schema.
func TestPurchases(t *testing.T) {
	text, err := catalog.File("purchase.avsc")
	if err != nil {
		t.Fatal(err)
	}
	schema, err := event.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	d := event.NewDecoder(schema, []string{"user_id", "status", "event_time", "embedding", "category", "amount"}, event.NewFiles(schema))
	if err := d.Prepare(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	s, out := newShop(1), make([]schemas.Value, 6)
	var scratch event.Scratch
	var dropped, embeddings, categories int
	const n = 2000
	for i := range n {
		scratch.Reset()
		p := s.next(i, 1_700_000_000_000+int64(i))
		if err := d.Decode(s.append(nil, p), out, &scratch); err != nil {
			t.Fatal(err)
		}
		if got := string(out[0].Bytes); got != userID(i) {
			t.Fatalf("user %s", got)
		}
		if got := out[2].Int64(); got != p.time {
			t.Fatalf("time %d, want %d", got, p.time)
		}
		if (string(out[1].Bytes) == "cancelled") != p.cancelled {
			t.Fatalf("status %s of %+v", out[1].Bytes, p)
		}
		if a := out[5].Float64(); a < 1 || a >= 500 {
			t.Fatalf("amount %v", a)
		}
		if p.cancelled {
			dropped++
		}
		if !out[3].IsNull() {
			embeddings++
		}
		if !out[4].IsNull() {
			categories++
		}
	}
	if dropped < n/50 || dropped > n/15 || embeddings < n*4/10 || embeddings > n*6/10 || categories < n*8/10 {
		t.Errorf("of %d: %d cancelled, %d with an embedding, %d with a category", n, dropped, embeddings, categories)
	}
}

// The catalog's expressions can still be taken out of it.
func TestWithoutExpressions(t *testing.T) {
	with, err := catalogPlan(true)
	if err != nil {
		t.Fatal(err)
	}
	without, err := catalogPlan(false)
	if err != nil {
		t.Fatal(err)
	}
	if len(with.Filters) == 0 || len(without.Filters) != 0 {
		t.Errorf("%d filters with, %d without", len(with.Filters), len(without.Filters))
	}
	if len(with.Features) != len(without.Features)+1 {
		t.Errorf("%d features with, %d without: the derived one alone should be gone", len(with.Features), len(without.Features))
	}
}

func TestParseBench(t *testing.T) {
	r := parseBench("goos: linux\nBenchmarkRead-2   \t 10\t 5 ns/op\t 300 p50-µs\nBenchmarkRead-2 20 9 ns/op 100 p50-µs\nBenchmarkRead-2 20 7 ns/op 200 p50-µs\nPASS\n")
	if v, err := r.need("Read", "p50-µs"); err != nil || v != 200 {
		t.Errorf("median %v, %v", v, err)
	}
	if _, err := r.need("Read", "p99-µs"); err == nil {
		t.Error("a metric that is not there is no error")
	}
	if s := thousands(1234567); s != "1,234,567" {
		t.Error(s)
	}
	if s := thousands(123); s != "123" {
		t.Error(s)
	}
}

func TestQuantile(t *testing.T) {
	before := metrics{}
	for _, le := range []string{"0.001", "0.002", "0.004", "+Inf"} {
		before[`freshet_freshness_seconds_bucket{group="g",le="`+le+`"}`] = 5
	}
	after := parseMetrics(`# HELP x
freshet_freshness_seconds_bucket{group="g",le="0.001"} 5
freshet_freshness_seconds_bucket{group="g",le="0.002"} 55
freshet_freshness_seconds_bucket{group="g",le="0.004"} 105
freshet_freshness_seconds_bucket{group="g",le="+Inf"} 105
freshet_lag_records{partition="0"} 3
freshet_lag_records{partition="1"} 4
`)
	if got := after.quantile(before, "freshet_freshness_seconds", 0.75); got < 0.0029 || got > 0.0031 {
		t.Errorf("quantile %v", got)
	}
	if got := after.sum("freshet_lag_records"); got != 7 {
		t.Errorf("sum %v", got)
	}
}

func TestCommandNamesNoDirectories(t *testing.T) {
	if got := command([]string{"-quick", "-cdnow", "/a/b/c.csv.gz", "-o", "test/bench/RESULTS.md"}); got != "go run ./test/bench -quick -cdnow c.csv.gz -o test/bench/RESULTS.md" {
		t.Error(got)
	}
}
