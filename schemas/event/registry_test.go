package event

import (
	"context"
	"encoding/binary"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/twmb/franz-go/pkg/sr"
	"github.com/twmb/franz-go/pkg/sr/srfake"

	"github.com/freshet-dev/freshet/schemas"
)

// newRegistry returns a client whose clock stands still until moved.
func newRegistry(t *testing.T, c RegistryConfig) (*Registry, *time.Time) {
	t.Helper()
	r, err := NewRegistry(c, prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.CloseIdle)
	now := time.Unix(1e9, 0)
	r.now = func() time.Time { return now }
	return r, &now
}

func metric(t *testing.T, m prometheus.Metric) float64 {
	t.Helper()
	var d dto.Metric
	if err := m.Write(&d); err != nil {
		t.Fatal(err)
	}
	return d.GetCounter().GetValue() + d.GetGauge().GetValue()
}

func framed(id int32, body []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(id)), body...)
}

// TestUnknownIDIsRetried: a record whose schema is registered late is decoded in the end, and the registry is not asked more than the back-off allows.
func TestUnknownIDIsRetried(t *testing.T) {
	fake := srfake.New()
	defer fake.Close()
	requests := 0
	fake.Intercept(func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.HasPrefix(r.URL.Path, "/schemas/ids/") {
			requests++
		}
		return false
	})
	r, now := newRegistry(t, DefaultRegistry(fake.URL()))
	s := mustParse(t, record(`v "long"`))
	d := NewDecoder(s, []string{"v"}, r)
	rec, out, scratch := framed(1, []byte{6}), make([]schemas.Value, 1), &Scratch{}
	var need *NeedSchema
	if err := d.Decode(rec, out, scratch); !errors.As(err, &need) || need.ID != 1 || errors.Is(err, ErrUndecodable) {
		t.Fatalf("got %v, want the need of schema 1", err)
	}
	for i, want := range []int{1, 1, 2, 2, 2, 3} { // requests after attempts at 0 s, 0.5 s, 1 s, 1.5 s, 2 s, 3 s: back-offs of 1 s, 2 s
		if err := d.Prepare(t.Context(), 1); !errors.Is(err, ErrUnknownSchema) || errors.Is(err, ErrUndecodable) {
			t.Fatalf("attempt %d: got %v, want an unknown schema", i, err)
		}
		if requests != want {
			t.Errorf("attempt %d: %d requests, want %d", i, requests, want)
		}
		*now = now.Add(500 * time.Millisecond)
		if i == 4 {
			*now = now.Add(500 * time.Millisecond)
		}
	}
	id, err := r.Register(t.Context(), "topic-value", s)
	if err != nil || id != 1 {
		t.Fatalf("registered as %d: %v", id, err)
	}
	*now = now.Add(4 * time.Second)
	for range 2 {
		if err := d.Prepare(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Decode(rec, out, scratch); err != nil || out[0].Int64() != 3 {
		t.Errorf("got %s, %v", valueText(out[0]), err)
	}
	if _, err := r.Writer(t.Context(), 1); err != nil || requests != 4 {
		t.Errorf("%d requests, want 4; %v", requests, err)
	}
	if f, e, k := metric(t, r.metrics.fetches), metric(t, r.metrics.failures), metric(t, r.metrics.schemas); f != 4 || e != 3 || k != 1 {
		t.Errorf("metrics: %v fetches, %v errors, %v schemas; want 4, 3, 1", f, e, k)
	}
}

// TestRegistryTroubles: whatever keeps the registry from answering is a retry; a schema that is none of ours to read is not.
func TestRegistryTroubles(t *testing.T) {
	fake := srfake.New(srfake.WithAuth("Basic dTpw")) // u:p
	defer fake.Close()
	fake.SeedSchema("json", 1, 7, sr.Schema{Schema: `{"type": "object"}`, Type: sr.TypeJSON})
	fake.SeedSchema("other", 1, 8, sr.Schema{Schema: record(`v "string"`)})
	huge := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"schema": "` + strings.Repeat(" ", 5<<20) + `"}`))
	}))
	defer huge.Close()
	s := mustParse(t, record(`v "long"`))
	config := DefaultRegistry(fake.URL())
	config.User, config.Password = "u", "p"
	wrong := config
	wrong.Password = "wrong"
	for _, c := range []struct {
		name   string
		config RegistryConfig
		id     int32
		retry  bool
		reason string
	}{
		{"wrong password", wrong, 8, true, ""},
		{"nobody there", DefaultRegistry("http://127.0.0.1:1"), 8, true, "connection refused"},
		{"an answer too long", DefaultRegistry(huge.URL), 8, true, "too large"},
		{"not Avro", config, 7, false, "JSON"},
		{"not resolvable", config, 8, false, "R.v: the writer's string cannot be read as long"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, _ := newRegistry(t, c.config)
			d := NewDecoder(s, []string{"v"}, r)
			err := d.Prepare(t.Context(), c.id)
			if c.retry {
				if !errors.Is(err, ErrUnknownSchema) || !strings.Contains(err.Error(), c.reason) {
					t.Errorf("got %v, want a retry because of %q", err, c.reason)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if err := d.Decode(framed(c.id, []byte{2}), make([]schemas.Value, 1), &Scratch{}); !errors.Is(err, ErrUndecodable) || !strings.Contains(err.Error(), c.reason) {
				t.Errorf("got %v, want undecodable because of %q", err, c.reason)
			}
		})
	}
	if r, _ := newRegistry(t, config); r.Ping(t.Context()) != nil {
		t.Error("the registry cannot be reached with the right password")
	}
	if r, _ := newRegistry(t, wrong); r.Ping(t.Context()) == nil {
		t.Error("the registry can be reached with the wrong password")
	}
}

// TestRegistryCanceled: an attempt that we gave up ourselves leaves no back-off behind.
func TestRegistryCanceled(t *testing.T) {
	fake := srfake.New()
	defer fake.Close()
	fake.SeedSchema("s", 1, 3, sr.Schema{Schema: record(`v "string"`)})
	r, _ := newRegistry(t, DefaultRegistry(fake.URL()))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.Writer(ctx, 3); !errors.Is(err, ErrUnknownSchema) || !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if s, err := r.Writer(t.Context(), 3); err != nil || s.Name() != "t.R" {
		t.Errorf("got %v, %v", s, err)
	}
}

// TestRegistryReferences: a schema may name types of other subjects.
func TestRegistryReferences(t *testing.T) {
	fake := srfake.New()
	defer fake.Close()
	fake.SeedSchema("address", 1, 1, sr.Schema{Schema: `{"type": "record", "name": "Address", "namespace": "t", "fields": [{"name": "city", "type": "string"}]}`})
	fake.SeedSchema("order", 1, 2, sr.Schema{Schema: record(`a "t.Address"`, `b "Address"`, `v "int"`),
		References: []sr.SchemaReference{{Name: "t.Address", Subject: "address", Version: 1}}})
	r, _ := newRegistry(t, DefaultRegistry(fake.URL()))
	reader := mustParse(t, record(`b {"type": "record", "name": "Address", "fields": [{"name": "city", "type": "string"}]}`, `v "int"`))
	d := NewDecoder(reader, []string{"b.city", "v"}, r)
	if err := d.Prepare(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	out := make([]schemas.Value, 2)
	if err := d.Decode(framed(2, []byte("\x02A\x02B\x0e")), out, &Scratch{}); err != nil || valueText(out[0]) != `string "B"` || valueText(out[1]) != "int 7" {
		t.Errorf("got %s, %s, %v", valueText(out[0]), valueText(out[1]), err)
	}
}

// TestCachesAreBounded: the schema unused for longest goes first, from the decoder and from the registry.
func TestCachesAreBounded(t *testing.T) {
	fake := srfake.New()
	defer fake.Close()
	for id := 1; id <= 4; id++ {
		fake.SeedSchema("s", id, id, sr.Schema{Schema: record(`v "long"`)})
	}
	config := DefaultRegistry(fake.URL())
	config.MaxSchemas = 3
	r, _ := newRegistry(t, config)
	d := NewDecoder(mustParse(t, record(`v "long"`)), []string{"v"}, r)
	d.MaxSchemas = 3
	decodes := func(id int32) bool {
		return d.Decode(framed(id, []byte{2}), make([]schemas.Value, 1), &Scratch{}) == nil
	}
	for _, id := range []int32{1, 2, 3} {
		if err := d.Prepare(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	if !decodes(1) || !decodes(3) { // so 2 is the one unused
		t.Fatal("a prepared schema is missing")
	}
	if _, err := r.Writer(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if err := d.Prepare(t.Context(), 4); err != nil {
		t.Fatal(err)
	}
	if decodes(2) || !decodes(1) || !decodes(3) || !decodes(4) {
		t.Error("the decoder did not drop schema 2, or not it alone")
	}
	if len(r.known) != 3 || r.known[2] != nil || r.known[1] == nil {
		t.Errorf("the registry keeps %v", r.known)
	}
}

func TestFiles(t *testing.T) {
	f, err := ReadFiles("../catalog/purchase.avsc", "../catalog/session.avsc")
	if err != nil {
		t.Fatal(err)
	}
	if s, err := f.Writer(t.Context(), 2); err != nil || s.Name() != "freshet.Session" {
		t.Errorf("schema 2 is %v, %v", s, err)
	}
	for _, id := range []int32{0, 3, -1} {
		if _, err := f.Writer(t.Context(), id); !errors.Is(err, ErrUnknownSchema) || !strings.Contains(err.Error(), "ids 1 to 2") {
			t.Errorf("schema %d: %v", id, err)
		}
	}
	s := mustParse(t, record(`v "long"`))
	d := NewDecoder(s, []string{"v"}, Fixed{s})
	if err := d.Prepare(t.Context(), -5); err != nil {
		t.Fatal(err)
	}
	if err := d.Decode(framed(-5, []byte{2}), make([]schemas.Value, 1), &Scratch{}); err != nil {
		t.Error(err)
	}
	for _, rec := range [][]byte{nil, {0, 0, 0, 0}, {1, 0, 0, 0, 1, 2}, {2}} {
		if err := d.Decode(rec, make([]schemas.Value, 1), &Scratch{}); !errors.Is(err, ErrUndecodable) {
			t.Errorf("%x: %v", rec, err)
		}
	}
	if _, err := ReadFiles("../catalog/none.avsc"); err == nil {
		t.Error("a file that is not there was read")
	}
}

func TestRegistryConfig(t *testing.T) {
	err := RegistryConfig{URLs: []string{"registry:8081"}}.Validate()
	for _, want := range []string{`"registry:8081"`, "timeout", "limits"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want also %q", err, want)
		}
	}
	if err := (RegistryConfig{}).Validate(); err == nil || !strings.Contains(err.Error(), "no url") {
		t.Errorf("got %v", err)
	}
}

// TestDecoderIsShared: goroutines that decode, prepare and crowd each other out of the cache get their own values (with -race, and no races).
func TestDecoderIsShared(t *testing.T) {
	s := mustParse(t, record(`v "long"`))
	d := NewDecoder(s, []string{"v"}, Fixed{s})
	d.MaxSchemas = 2
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			out, scratch := make([]schemas.Value, 1), &Scratch{}
			for i := range 500 {
				id, v := int32(i%3), int64(g*1000+i)
				rec := framed(id, binary.AppendVarint(nil, v))
				err := d.Decode(rec, out, scratch)
				var need *NeedSchema
				for errors.As(err, &need) {
					if err := d.Prepare(t.Context(), need.ID); err != nil {
						t.Error(err)
						return
					}
					err = d.Decode(rec, out, scratch)
				}
				if err != nil || out[0].Int64() != v {
					t.Errorf("got %s, %v, want %d", valueText(out[0]), err, v)
					return
				}
			}
		})
	}
	wg.Wait()
}
