package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/freshet-dev/freshet/cmd/freshet/internal/app"
	"github.com/freshet-dev/freshet/cmd/freshet/internal/config"
	"github.com/freshet-dev/freshet/cmd/freshet/internal/embedded"
	"github.com/freshet-dev/freshet/processor"
	"github.com/freshet-dev/freshet/processor/kafka"
	"github.com/freshet-dev/freshet/schemas/catalog"
	"github.com/freshet-dev/freshet/schemas/event"
)

// partitions of each topic of a demo.
const partitions = 2

// stream is one topic of a demo, with the group that reads it.
type stream struct{ topic, group, schema string }

var (
	purchases = stream{"purchases", "user_purchases", "purchase.avsc"}
	sessions  = stream{"sessions", "user_sessions", "session.avsc"}
)

// world is all that a demo runs on: a directory, the servers over it, and the configuration of a service that uses them.
type world struct {
	dir      string
	ours     bool // the directory is temporary
	fresh    bool // nothing of an earlier run is in it
	served   bool // a service has run on it
	servers  *embedded.Servers
	file     string // the configuration's
	config   config.Config
	schemas  map[string]*event.Schema // by topic
	ids      map[string]int32
	producer *kafka.Producer
	there    counts
	log      *slog.Logger
	logFile  *os.File
	release  func()
}

// settings are what the configuration of a demo's service says beside where things are.
type settings struct {
	idle       string
	partMaxAge time.Duration
	checkpoint time.Duration
}

// open starts the servers and writes the configuration. Over a directory of an earlier run it goes on where that ended.
func open(ctx context.Context, dir string, streams []stream, s settings) (_ *world, err error) {
	w := &world{dir: dir, ours: dir == "", schemas: map[string]*event.Schema{}, ids: map[string]int32{}, release: func() {}}
	defer func() {
		if err != nil {
			err = w.close(err)
		}
	}()
	if w.ours {
		if w.dir, err = os.MkdirTemp("", "freshet-"); err != nil {
			return nil, fmt.Errorf("make a directory for the demo: %w", err)
		}
	} else if w.dir, err = filepath.Abs(dir); err != nil {
		return nil, err
	}
	if w.release, err = processor.LockDir(w.dir); err != nil {
		return nil, fmt.Errorf("%s is in use by another demo: end that one, or give another --dir", w.dir)
	}
	if w.logFile, err = os.OpenFile(filepath.Join(w.dir, "freshet.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644); err != nil {
		return nil, fmt.Errorf("open the demo's log: %w", err)
	}
	w.log = slog.New(slog.NewTextHandler(w.logFile, nil))
	_, err = os.Stat(filepath.Join(w.dir, "servers"))
	w.fresh = errors.Is(err, fs.ErrNotExist)
	o := embedded.Options{Log: w.log}
	for _, st := range streams {
		o.Topics = append(o.Topics, embedded.Topic{Name: st.topic, Partitions: partitions})
	}
	if w.servers, err = embedded.Start(ctx, filepath.Join(w.dir, "servers"), o); err != nil {
		return nil, err
	}
	if err = w.configure(streams, s); err != nil {
		return nil, err
	}
	if err = w.register(ctx, streams); err != nil {
		return nil, err
	}
	if w.producer, err = kafka.NewProducer(w.config.Kafka, w.log, nil); err != nil {
		return nil, err
	}
	w.there, err = countRecords(ctx, w.config.Kafka, w.log, streams)
	return w, err
}

// configure writes the configuration of the service, and reads it as `freshet run -c` would.
func (w *world) configure(streams []stream, s settings) error {
	definitions := filepath.Join(w.dir, "definitions")
	var files []string
	for _, st := range streams {
		if err := catalog.Extract(definitions, st.group+".yaml", st.schema); err != nil {
			return err
		}
		files = append(files, filepath.Join(definitions, st.group+".yaml"))
	}
	quoted := func(v any) string {
		b, err := json.Marshal(v)
		if err != nil {
			panic(err) // texts
		}
		return string(b)
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "# Of the running demo; its servers have other addresses at each start.\n")
	fmt.Fprintf(&b, "kafka: {brokers: %s, group: freshet}\n", quoted(w.servers.Brokers))
	fmt.Fprintf(&b, "registry: {url: %s}\nredis: {addr: %s}\n", quoted(w.servers.RegistryURL), quoted(w.servers.RedisAddr))
	fmt.Fprintf(&b, "definitions: %s\ndata: %s\n", quoted(files), quoted(filepath.Join(w.dir, "data")))
	fmt.Fprintf(&b, "log: {part_max_age: %s}\ncheckpoint: {every: %s}\nidle: %s\nhttp: {listen: \"127.0.0.1:0\"}\n", s.partMaxAge, s.checkpoint, s.idle)
	w.file = filepath.Join(w.dir, "freshet.yaml")
	if err := os.WriteFile(w.file, b.Bytes(), 0o644); err != nil {
		return fmt.Errorf("write the demo's configuration: %w", err)
	}
	var err error
	w.config, err = config.Read(w.file, nil)
	return err
}

func (w *world) register(ctx context.Context, streams []stream) error {
	r, err := event.NewRegistry(event.DefaultRegistry(w.servers.RegistryURL), nil)
	if err != nil {
		return err
	}
	defer r.CloseIdle()
	for _, st := range streams {
		text, err := catalog.File(st.schema)
		if err != nil {
			return err
		}
		if w.schemas[st.topic], err = event.Parse(text); err != nil {
			return fmt.Errorf("schema %s: %w", st.schema, err)
		}
		if w.ids[st.topic], err = r.Register(ctx, st.topic+"-value", w.schemas[st.topic]); err != nil {
			return err
		}
	}
	return nil
}

// begun keeps what the events of this directory follow from, so that a later start goes on with the same ones: mine is written at the first
// start, and replaced by what was written then at later ones.
func (w *world) begun(mine any) error {
	name := filepath.Join(w.dir, "demo.json")
	text, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		if text, err = json.Marshal(mine); err != nil {
			return err
		}
		if err := os.WriteFile(name+".tmp", append(text, '\n'), 0o644); err != nil {
			return err
		}
		return os.Rename(name+".tmp", name)
	}
	if err == nil {
		err = json.Unmarshal(text, mine)
	}
	if err != nil {
		return fmt.Errorf("read what the demo in %s began with: %w; give another --dir", w.dir, err)
	}
	return nil
}

// service is a running service.
type service struct {
	*app.Server
	stop context.CancelFunc
	done chan error
}

func (w *world) start(ctx context.Context) (*service, error) {
	server, err := app.New(w.config, nil, w.log)
	if err != nil {
		return nil, err
	}
	w.served = true
	ctx, stop := context.WithCancel(context.WithoutCancel(ctx)) // it drains after everything else has ended
	s := &service{Server: server, stop: stop, done: make(chan error, 1)}
	go func() { s.done <- server.Run(ctx) }() // awaited by end
	return s, nil
}

// end drains the service, as SIGTERM would.
func (s *service) end() error {
	s.stop()
	return <-s.done
}

// close ends the servers, and returns what went wrong, failure included. A directory that nobody asked for is removed, unless there is a
// failure to look into.
func (w *world) close(failure error) error {
	errs := []error{failure}
	if w.producer != nil {
		w.producer.Close()
	}
	if w.servers != nil {
		errs = append(errs, w.servers.Close())
	}
	if w.logFile != nil {
		errs = append(errs, w.logFile.Close())
	}
	w.release()
	switch {
	case !w.ours || w.dir == "":
	case failure != nil && w.served:
		errs = append(errs, fmt.Errorf("all of it is kept in %s; the service's log is freshet.log there", w.dir))
	default:
		errs = append(errs, os.RemoveAll(w.dir))
	}
	return errors.Join(errs...)
}

// counts tell how many records of each partition are there already. A demo publishes the same records in the same order to a partition each
// time it is started over a directory, so those are the first ones, and are left out.
type counts map[kafka.TP]int64

func countRecords(ctx context.Context, c kafka.Config, log *slog.Logger, streams []stream) (counts, error) {
	admin, err := kafka.NewAdmin(c, log)
	if err != nil {
		return nil, err
	}
	defer admin.Close()
	there := counts{}
	for _, st := range streams {
		for p := range int32(partitions) {
			tp := kafka.TP{Topic: st.topic, Partition: p}
			if _, there[tp], err = admin.Offsets(ctx, tp); err != nil {
				return nil, fmt.Errorf("count the records of %s/%d: %w", tp.Topic, tp.Partition, err)
			}
		}
	}
	return there, nil
}

// skip reports whether the next record with a key is there.
func (c counts) skip(topic string, key []byte) bool {
	tp := kafka.TP{Topic: topic, Partition: kafka.Murmur2Partition(key, partitions)}
	if c[tp] == 0 {
		return false
	}
	c[tp]--
	return true
}

func (c counts) total() (n int64) {
	for _, k := range c {
		n += k
	}
	return n
}
