package event

import (
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	hamba "github.com/hamba/avro/v2"

	"github.com/freshet-dev/freshet/schemas"
)

// purchases returns n encoded bodies of the shipped purchase.
func purchases(t testing.TB, s *Schema, n int) [][]byte {
	r := rand.New(rand.NewPCG(1, 2))
	bodies := make([][]byte, n)
	for i := range bodies {
		fields := map[string]any{
			"event_id": "evt-" + strconv.Itoa(1e8+i), "user_id": "user-" + strconv.Itoa(r.IntN(1e6)), "product_id": "sku-" + strconv.Itoa(r.IntN(1e5)),
			"amount": float64(r.IntN(1e5)) / 100, "quantity": 1 + r.IntN(4), "event_time": time.UnixMilli(1767225600000 + int64(i)),
		}
		if r.IntN(4) > 0 {
			fields["category"] = "category-" + strconv.Itoa(r.IntN(30))
		}
		if r.IntN(2) > 0 {
			e := make([]float32, 8)
			for j := range e {
				e[j] = r.Float32()
			}
			fields["embedding"] = e
		}
		bodies[i] = encodeBody(t, s, fields)
	}
	return bodies
}

// BenchmarkEncode writes a purchase with all of its fields.
func BenchmarkEncode(b *testing.B) {
	e := NewEncoder(mustRead(b, "../catalog/purchase.avsc"), 1)
	fields := map[string]any{"event_id": "evt-100000000", "user_id": "user-123456", "product_id": "sku-12345", "category": "category-12", "amount": 12.5,
		"quantity": 2, "currency": "EUR", "status": "completed", "event_time": time.UnixMilli(1767225600000), "embedding": make([]float32, 8)}
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		var err error
		if buf, err = e.Encode(buf[:0], fields); err != nil {
			b.Fatal(err)
		}
	}
}

type hambaPurchase struct {
	EventID   string    `avro:"event_id"`
	UserID    string    `avro:"user_id"`
	ProductID string    `avro:"product_id"`
	Category  *string   `avro:"category"`
	Amount    float64   `avro:"amount"`
	Quantity  int       `avro:"quantity"`
	Currency  string    `avro:"currency"`
	Status    string    `avro:"status"`
	EventTime time.Time `avro:"event_time"`
	Embedding []float32 `avro:"embedding"`
}

// hambaColumns are the 4 columns alone; hamba skips the others.
type hambaColumns struct {
	EventID   string    `avro:"event_id"`
	UserID    string    `avro:"user_id"`
	Amount    float64   `avro:"amount"`
	EventTime time.Time `avro:"event_time"`
}

// BenchmarkDecode compares reading 4 of a purchase's 10 fields, and all, with hamba's structs.
func BenchmarkDecode(b *testing.B) {
	s := mustRead(b, "../catalog/purchase.avsc")
	bodies := purchases(b, s, 4096)
	project := func(name string, paths ...string) {
		p := mustProject(b, s, s, paths...)
		b.Run(name, func(b *testing.B) {
			out := make([]schemas.Value, len(paths))
			var scratch Scratch
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if err := p.Decode(bodies[i&4095], out, &scratch); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds()/1e6, "M/s")
		})
	}
	project("columns=4", "event_id", "user_id", "amount", "event_time")
	var all []string
	for _, c := range s.Columns() {
		all = append(all, c.Path)
	}
	project("columns=10", all...)
	hs := hamba.MustParse(string(s.Text()))
	b.Run("hamba=4", func(b *testing.B) { benchmarkHamba[hambaColumns](b, hs, bodies) })
	b.Run("hamba=10", func(b *testing.B) { benchmarkHamba[hambaPurchase](b, hs, bodies) })
}

func benchmarkHamba[T any](b *testing.B, s hamba.Schema, bodies [][]byte) {
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		var v T
		if err := hamba.Unmarshal(s, bodies[i&4095], &v); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds()/1e6, "M/s")
}

// TestDecodeAllocates nothing, embeddings that must be moved and UUIDs in text included.
func TestDecodeAllocates(t *testing.T) {
	s := mustParse(t, record(`a "string"`, `d {"type": "bytes", "logicalType": "decimal", "precision": 20, "scale": 2}`,
		`u {"type": "string", "logicalType": "uuid"}`, `f {"type": "array", "items": "float"}`, `n ["null", "long"]`, `skip {"type": "map", "values": "string"}`))
	body := encodeBody(t, s, map[string]any{"a": "x", "d": "-12.34", "u": "123e4567-e89b-12d3-a456-426614174000",
		"f": []any{1.5, "-0", 2}, "skip": map[string]any{"k": "v", "l": "w"}})
	record := append([]byte{0, 0, 0, 0, 1}, body...)
	d := NewDecoder(s, []string{"a", "d", "u", "f", "n"}, NewFiles(s))
	if err := d.Prepare(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	out, scratch := make([]schemas.Value, 5), &Scratch{}
	if allocs := testing.AllocsPerRun(200, func() {
		scratch.Reset()
		if err := d.Decode(record, out, scratch); err != nil {
			t.Fatal(err)
		}
	}); allocs != 0 {
		t.Errorf("%v allocations a record, want 0", allocs)
	}
	if got := valueText(out[3]); got != "kind 9 0000c03f0000000000000040" {
		t.Errorf("embedding is %s", got)
	}
}
