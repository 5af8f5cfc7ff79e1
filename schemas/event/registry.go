package event

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/sr"
)

// RegistryConfig says how to reach a Confluent-compatible schema registry.
type RegistryConfig struct {
	URLs       []string      // http:// or https://, tried in order
	User       string        // basic auth; empty: none
	Password   string        //
	TLS        *tls.Config   // nil: the system's roots
	Timeout    time.Duration // of one request
	MinBackoff time.Duration // after a failed fetch of an id; it doubles with each
	MaxBackoff time.Duration //
	MaxBytes   int64         // of one answer
	MaxSchemas int           // kept; the one unused for longest goes first
}

// DefaultRegistry is the configuration of a registry at one address.
func DefaultRegistry(urls ...string) RegistryConfig {
	return RegistryConfig{
		URLs: urls, Timeout: 5 * time.Second, MinBackoff: time.Second, MaxBackoff: 30 * time.Second,
		MaxBytes: 4 << 20, MaxSchemas: DefaultMaxSchemas,
	}
}

// Validate reports everything that is wrong with c.
func (c RegistryConfig) Validate() error {
	var errs []error
	if len(c.URLs) == 0 {
		errs = append(errs, errors.New("the registry has no url; give one, as http://127.0.0.1:8081"))
	}
	for _, u := range c.URLs {
		if p, err := url.Parse(u); err != nil || p.Scheme != "http" && p.Scheme != "https" || p.Host == "" {
			errs = append(errs, fmt.Errorf("the registry's url %q is not one such as http://127.0.0.1:8081", u))
		}
	}
	if c.Timeout <= 0 || c.MinBackoff <= 0 || c.MaxBackoff < c.MinBackoff {
		errs = append(errs, errors.New("the registry's timeout and back-off must be above 0, and the longest back-off no shorter than the first"))
	}
	if c.MaxBytes <= 0 || c.MaxSchemas <= 0 {
		errs = append(errs, errors.New("the registry's limits of bytes and schemas must be above 0"))
	}
	return errors.Join(errs...)
}

// Limits of a schema that refers to others.
const (
	maxReferences     = 64
	maxReferenceDepth = 16
)

// registryMetrics are what a Registry shows.
type registryMetrics struct {
	fetches, failures prometheus.Counter
	schemas           prometheus.Gauge
}

func newRegistryMetrics(r prometheus.Registerer) registryMetrics {
	m := registryMetrics{
		fetches:  prometheus.NewCounter(prometheus.CounterOpts{Name: "freshet_registry_fetches_total", Help: "Schemas asked of the schema registry."}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{Name: "freshet_registry_errors_total", Help: "Schemas asked of the schema registry and not got, unknown ids included."}),
		schemas:  prometheus.NewGauge(prometheus.GaugeOpts{Name: "freshet_registry_schemas", Help: "Schemas kept in memory."}),
	}
	if r != nil {
		r.MustRegister(m.fetches, m.failures, m.schemas)
	}
	return m
}

// Registry is a client of a Confluent-compatible schema registry. It may be shared by goroutines.
type Registry struct {
	config    RegistryConfig
	client    *sr.Client
	transport *http.Transport
	metrics   registryMetrics
	now       func() time.Time

	mu    sync.Mutex // guards all below
	known map[int32]*registered
	waits map[int32]wait
	clock int64 // counts uses
}

// registered is the answer for an id, which never changes: a schema, or why it is none that can be read.
type registered struct {
	schema *Schema
	err    error
	used   int64
}

// wait is how long an id that failed is left alone.
type wait struct {
	until time.Time
	next  time.Duration
	err   error
}

// NewRegistry returns a client. metrics are registered with r unless it is nil. No request is made yet.
func NewRegistry(c RegistryConfig, r prometheus.Registerer) (*Registry, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = c.TLS
	opts := []sr.ClientOpt{
		sr.URLs(c.URLs...), sr.UserAgent("freshet"), sr.LogLevel(sr.LogLevelNone),
		sr.HTTPClient(&http.Client{Timeout: c.Timeout, Transport: boundedTransport{transport, c.MaxBytes}}),
	}
	if c.User != "" {
		opts = append(opts, sr.BasicAuth(c.User, c.Password))
	}
	client, err := sr.NewClient(opts...)
	if err != nil {
		return nil, fmt.Errorf("make registry client: %w", err)
	}
	return &Registry{
		config: c, client: client, transport: transport, metrics: newRegistryMetrics(r), now: time.Now,
		known: map[int32]*registered{}, waits: map[int32]wait{},
	}, nil
}

// boundedTransport refuses answers that are too long.
type boundedTransport struct {
	next     http.RoundTripper
	maxBytes int64
}

func (t boundedTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := t.next.RoundTrip(req)
	if err == nil {
		resp.Body = http.MaxBytesReader(nil, resp.Body, t.maxBytes)
	}
	return resp, err
}

// CloseIdle closes connections that are not in use.
func (r *Registry) CloseIdle() { r.transport.CloseIdleConnections() }

// Ping asks the registry for its schema types, to see that it can be reached and lets us in.
func (r *Registry) Ping(ctx context.Context) error {
	_, err := r.client.SupportedTypes(ctx)
	var answer *sr.ResponseError
	if errors.As(err, &answer) && answer.StatusCode == http.StatusNotFound {
		return nil // not every registry has the list
	}
	if err != nil {
		return fmt.Errorf("reach the schema registry at %s: %w", r.config.URLs[0], err)
	}
	return nil
}

// Writer implements Writers. An id that the registry does not know, or any failure to ask it, is ErrUnknownSchema, and the id is left
// alone for the back-off: until then the same error is given without asking.
func (r *Registry) Writer(ctx context.Context, id int32) (*Schema, error) {
	r.mu.Lock()
	k, w := r.known[id], r.waits[id]
	if k != nil {
		r.clock++
		k.used = r.clock
	}
	r.mu.Unlock()
	if k != nil {
		return k.schema, k.err
	}
	if w.err != nil && r.now().Before(w.until) {
		return nil, w.err
	}
	r.metrics.fetches.Inc()
	schema, final, err := r.fetch(ctx, id)
	if err != nil {
		r.metrics.failures.Inc()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil && !final {
		err = fmt.Errorf("%w %d: %w", ErrUnknownSchema, id, err)
		if ctx.Err() == nil {
			r.putOff(id, err)
		}
		return nil, err
	}
	delete(r.waits, id)
	r.keep(id, &registered{schema: schema, err: err})
	return schema, err
}

// putOff begins or doubles the back-off of id. r.mu is held.
func (r *Registry) putOff(id int32, err error) {
	if len(r.waits) >= r.config.MaxSchemas {
		clear(r.waits) // hostile ids; forgetting them costs a request each
	}
	pause := cmp.Or(r.waits[id].next, r.config.MinBackoff)
	r.waits[id] = wait{until: r.now().Add(pause), next: min(2*pause, r.config.MaxBackoff), err: err}
}

// keep remembers k. r.mu is held.
func (r *Registry) keep(id int32, k *registered) {
	for len(r.known) >= r.config.MaxSchemas && r.known[id] == nil {
		oldest, used := id, int64(0)
		for i, o := range r.known {
			if oldest == id || o.used < used {
				oldest, used = i, o.used
			}
		}
		delete(r.known, oldest)
	}
	r.clock++
	k.used = r.clock
	r.known[id] = k
	r.metrics.schemas.Set(float64(len(r.known)))
}

// fetch asks for a schema and those it refers to. final says that an error will be the same forever.
func (r *Registry) fetch(ctx context.Context, id int32) (s *Schema, final bool, err error) {
	got, err := r.client.SchemaByID(ctx, int(id))
	if err != nil {
		return nil, false, fmt.Errorf("fetch schema: %w", err)
	}
	seen := map[string]*Schema{}
	return r.parse(ctx, got, seen, 0)
}

func (r *Registry) parse(ctx context.Context, got sr.Schema, seen map[string]*Schema, depth int) (s *Schema, final bool, err error) {
	if got.Type != sr.TypeAvro {
		return nil, true, fmt.Errorf("the registry has a %s schema for it; freshet reads Avro", got.Type)
	}
	if depth > maxReferenceDepth {
		return nil, true, fmt.Errorf("its references are nested more than %d deep", maxReferenceDepth)
	}
	if got.Schema == "" { // whoever answered, it was not the registry
		return nil, false, errors.New("fetch schema: the answer has none")
	}
	var refs []*Schema
	for _, ref := range got.References {
		key := fmt.Sprintf("%s/%d", ref.Subject, ref.Version)
		if seen[key] == nil {
			if len(seen) >= maxReferences {
				return nil, true, fmt.Errorf("it has more than %d references", maxReferences)
			}
			inner, err := r.client.SchemaByVersion(ctx, ref.Subject, ref.Version)
			if err != nil {
				return nil, false, fmt.Errorf("fetch the referenced schema %s: %w", key, err)
			}
			parsed, final, err := r.parse(ctx, inner.Schema, seen, depth+1)
			if err != nil {
				return nil, final, fmt.Errorf("the referenced schema %s: %w", key, err)
			}
			seen[key] = parsed
		}
		refs = append(refs, seen[key])
	}
	s, err = parse([]byte(got.Schema), false, refs)
	if err != nil {
		return nil, true, fmt.Errorf("parse the registry's schema: %w", err)
	}
	return s, false, nil
}

// Register registers schema under a subject, usually the topic's name and "-value", and returns its id; if it is there already, that id.
func (r *Registry) Register(ctx context.Context, subject string, schema *Schema) (int32, error) {
	id, err := r.client.RegisterSchema(ctx, subject, sr.Schema{Schema: string(schema.text)}, -1, -1)
	if err != nil {
		return 0, fmt.Errorf("register schema %s as %s: %w", schema.Name(), subject, err)
	}
	return int32(id), nil
}
