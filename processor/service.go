package processor

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/freshet-dev/freshet/processor/kafka"
	"github.com/freshet-dev/freshet/schemas/event"
	"github.com/freshet-dev/freshet/schemas/feature"
	"github.com/freshet-dev/freshet/schemas/registry"
	"github.com/freshet-dev/freshet/sink"
	"github.com/freshet-dev/freshet/sink/redis"
	"github.com/freshet-dev/freshet/state"
	"github.com/freshet-dev/freshet/state/window"
)

// Options are what a Service is made of.
type Options struct {
	Config     Config
	Kafka      kafka.Config
	Plans      []*feature.Plan
	Writers    event.Writers // of the schema ids in records
	Redis      *redis.Client
	Bucket     sink.Bucket
	FS         sink.FS
	Open       func(dir string) (*state.Store, error)
	Entities   *state.Budget
	Log        *slog.Logger
	Registerer prometheus.Registerer
	Now        func() time.Time // nil: time.Now
}

// Service runs the shards of some group versions as a member of a consumer group.
type Service struct {
	o       Options
	metrics *Metrics
	kafka   *kafka.Metrics
	admin   *kafka.Admin
	letters *kafka.Producer
	member  *kafka.Group
	joined  chan struct{} // closed when member is set
	deps    Deps

	mu     sync.Mutex
	groups []*Group // guarded by mu
	fatal  chan error
}

// NewService returns a service that does nothing yet.
func NewService(o Options) (*Service, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if err := errors.Join(o.Config.Validate(), o.Kafka.Validate()); err != nil {
		return nil, err
	}
	return &Service{o: o, metrics: NewMetrics(o.Registerer), kafka: kafka.NewMetrics(o.Registerer), fatal: make(chan error, 1), joined: make(chan struct{})}, nil
}

// Statuses returns where all shards stand.
func (s *Service) Statuses() []Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []Status
	for _, g := range s.groups {
		all = append(all, g.Statuses()...)
	}
	return all
}

// Run joins the consumer group and runs shards until ctx ends. Then it drains, takes last checkpoints and leaves, within Config.DrainLimit.
func (s *Service) Run(ctx context.Context) error {
	life, kill := context.WithCancel(context.WithoutCancel(ctx)) // of the shards, which outlive ctx by their drain
	defer kill()
	readers, err := s.setUp(ctx)
	var wg sync.WaitGroup
	defer func() {
		kill()
		for _, r := range readers {
			r.Close()
		}
		wg.Wait()
		s.tearDown()
	}()
	if err != nil {
		return err
	}
	for i, r := range readers {
		g := s.groups[i]
		wg.Go(func() { // ended by r.Close and kill
			for {
				fetches, err := r.Poll(life)
				if err != nil {
					return
				}
				for _, f := range fetches {
					g.Offer(f)
				}
			}
		})
	}
	if s.member, err = kafka.Join(ctx, s.o.Kafka, s.topics(), s.callbacks(life), s.o.Log); err != nil {
		return fmt.Errorf("join the consumer group %s: %w", s.o.Kafka.Group, err)
	}
	close(s.joined)
	select {
	case <-ctx.Done():
		err = nil
	case err = <-s.fatal:
	}
	drain, cancel := context.WithTimeout(life, s.o.Config.DrainLimit+5*time.Second)
	defer cancel()
	s.each(func(g *Group) { g.Close(drain) })
	return errors.Join(err, s.member.Close(drain))
}

func (s *Service) callbacks(life context.Context) kafka.Callbacks {
	revoke := func(ctx context.Context, tps []kafka.TP) { s.each(func(g *Group) { g.Revoke(ctx, tps) }) }
	return kafka.Callbacks{
		Assigned: func(tps []kafka.TP) {
			for _, g := range s.groups {
				g.Assign(life, tps)
			}
		},
		Revoked: revoke,
		Lost: func(tps []kafka.TP) {
			ctx, cancel := context.WithTimeout(life, s.o.Config.DrainLimit)
			defer cancel()
			revoke(ctx, tps)
		},
		Fatal: func(err error) {
			select {
			case s.fatal <- err:
			default:
			}
		},
	}
}

// each calls fn for all groups at once and waits for all.
func (s *Service) each(fn func(*Group)) {
	var wg sync.WaitGroup
	for _, g := range s.groups {
		wg.Go(func() { fn(g) })
	}
	wg.Wait()
}

func (s *Service) topics() []string {
	var topics []string
	seen := map[string]bool{}
	for _, p := range s.o.Plans {
		if t := p.Source.Topic; !seen[t] {
			seen[t] = true
			topics = append(topics, t)
		}
	}
	return topics
}

// setUp connects, freezes the versions, and makes one reader for each of s.groups.
func (s *Service) setUp(ctx context.Context) (readers []*kafka.Reader, err error) {
	store, err := s.storeID(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.freeze(ctx); err != nil {
		return nil, err
	}
	if s.admin, err = kafka.NewAdmin(s.o.Kafka, s.o.Log); err != nil {
		return nil, err
	}
	if s.letters, err = kafka.NewProducer(s.o.Kafka, s.o.Log, s.kafka); err != nil {
		return nil, err
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	s.deps = Deps{
		Log: s.o.Log, Metrics: s.metrics, Config: s.o.Config, Bucket: s.o.Bucket, FS: s.o.FS, Open: s.o.Open, Budget: s.o.Entities,
		Broker: broker{s}, RunIDs: s.o.Redis.RunIDs, Now: s.o.Now, StoreID: store, Owner: fmt.Sprintf("%s/%d", host, os.Getpid()),
	}
	for _, p := range s.o.Plans {
		topic, err := s.topic(ctx, p.Source.Topic)
		if err != nil {
			return readers, err
		}
		r, err := kafka.NewReader(s.o.Kafka, s.o.Log, s.kafka)
		if err != nil {
			return readers, err
		}
		readers = append(readers, r)
		g, err := s.group(p, r, topic)
		if err != nil {
			return readers, err
		}
		s.mu.Lock()
		s.groups = append(s.groups, g)
		s.mu.Unlock()
	}
	return readers, nil
}

func (s *Service) group(p *feature.Plan, r *kafka.Reader, topic Topic) (*Group, error) {
	deps := s.deps
	reader, err := event.Parse(p.Source.Schema)
	if err != nil {
		return nil, fmt.Errorf("schema %s of group %s: %w", p.Source.SchemaFile, p.Group, err)
	}
	paths := make([]string, len(p.Columns))
	for i, c := range p.Columns {
		paths[i] = c.Path
	}
	if deps.Layout, err = window.NewLayout(p); err != nil {
		return nil, err
	}
	spec := SpecOf(p)
	deps.Decoder = event.NewDecoder(reader, paths, s.o.Writers)
	deps.Source = source{r}
	deps.Online = func(partition int32) Online { return s.o.Redis.Writer(spec, partition) }
	return NewGroup(deps, p, topic), nil
}

// topic waits until the topic exists.
func (s *Service) topic(ctx context.Context, name string) (Topic, error) {
	wait := newBackoff()
	for {
		n, id, err := s.admin.Partitions(ctx, name)
		if err == nil {
			wait.recovered(s.o.Log, "the topic is there")
			return Topic{ID: id, Partitions: n}, nil
		}
		if err := wait.sleep(ctx, s.o.Log.With("topic", name), "the topic cannot be had; waiting for it", err); err != nil {
			return Topic{}, err
		}
	}
}

const storeName = "store.json"

// storeID names the bucket, so that another's manifests are never taken for ours.
func (s *Service) storeID(ctx context.Context) (string, error) {
	type store struct {
		Format int    `json:"format"`
		ID     string `json:"id"`
	}
	for {
		data, err := s.o.Bucket.Get(ctx, storeName)
		if err == nil {
			var st store
			if err := json.Unmarshal(data, &st); err != nil || st.Format != 1 || st.ID == "" {
				return "", fmt.Errorf("%s in %s is not of a format this binary knows", storeName, s.o.Config.Data)
			}
			return st.ID, nil
		}
		if !errors.Is(err, sink.ErrNotExist) {
			return "", fmt.Errorf("read %s: %w", storeName, err)
		}
		data, err = json.Marshal(store{1, rand.Text()[:12]})
		if err != nil {
			return "", err
		}
		if err := s.o.Bucket.PutIfAbsent(ctx, storeName, data); err != nil && !errors.Is(err, sink.ErrExists) {
			return "", fmt.Errorf("write %s: %w", storeName, err)
		}
	}
}

// freeze records every version that is run for the first time, and refuses those whose definition has changed since.
func (s *Service) freeze(ctx context.Context) error {
	var errs []error
	for _, p := range s.o.Plans {
		name := fmt.Sprintf("versions/%s/v%d.json", p.Group, p.Version)
		record := registry.Freeze(p).Encode()
		err := s.o.Bucket.PutIfAbsent(ctx, name, record)
		if err == nil {
			continue
		}
		if !errors.Is(err, sink.ErrExists) {
			return fmt.Errorf("freeze %s v%d: %w", p.Group, p.Version, err)
		}
		data, err := s.o.Bucket.Get(ctx, name)
		if err != nil {
			return fmt.Errorf("read the frozen %s v%d: %w", p.Group, p.Version, err)
		}
		frozen, err := registry.Decode(data)
		if err == nil {
			err = registry.Check(frozen, p)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (s *Service) tearDown() {
	if s.letters != nil {
		s.letters.Close()
	}
	if s.admin != nil {
		s.admin.Close()
	}
}

// source is a kafka.Reader as a Source.
type source struct{ *kafka.Reader }

// Add implements Source.
func (s source) Add(tp kafka.TP, offset int64) { s.Reader.Add(tp, offset) }

// broker is the Broker of a service's shards.
type broker struct{ s *Service }

// Offsets implements Broker.
func (b broker) Offsets(ctx context.Context, tp kafka.TP) (start, end int64, err error) {
	return b.s.admin.Offsets(ctx, tp)
}

// DeadLetter implements Broker.
func (b broker) DeadLetter(ctx context.Context, topic string, recs []kafka.Record) error {
	name := topic + ".dlq"
	if err := b.s.admin.EnsureTopic(ctx, name, 1, nil); err != nil {
		return err
	}
	return b.s.letters.Produce(ctx, name, recs, 0)
}

// Commit implements Broker.
func (b broker) Commit(ctx context.Context, tp kafka.TP, offset int64, metadata string) error {
	m, err := b.member(ctx)
	if err != nil {
		return err
	}
	return m.Commit(ctx, tp, offset, metadata)
}

// Committed implements Broker.
func (b broker) Committed(ctx context.Context, tp kafka.TP) (metadata string, err error) {
	m, err := b.member(ctx)
	if err != nil {
		return "", err
	}
	all, err := m.Committed(ctx, []kafka.TP{tp})
	return all[tp].Metadata, err
}

// member waits until the group is joined: partitions may be assigned a moment before Join returns.
func (b broker) member(ctx context.Context) (*kafka.Group, error) {
	select {
	case <-b.s.joined:
		return b.s.member, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
