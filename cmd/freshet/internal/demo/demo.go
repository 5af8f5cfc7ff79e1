// Package demo shows freshet at work on this machine: embedded servers, made-up shoppers or the purchases of a CSV file, and the service
// itself on them, through the same code and protocols as with real servers.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"github.com/freshet-dev/freshet/cmd/freshet/internal/shop"
	"github.com/freshet-dev/freshet/cmd/freshet/internal/show"
	"github.com/freshet-dev/freshet/cmd/freshet/internal/tty"
	"github.com/freshet-dev/freshet/schemas/event"
	"github.com/freshet-dev/freshet/sink/redis"
)

// lookEvery is how often everything is looked at and shown.
const lookEvery = 250 * time.Millisecond

// Options of a demo.
type Options struct {
	Dir     string        // kept, and gone on with by a later demo; "": a temporary one
	For     time.Duration // 0: until ctx ends
	Command string        // how the user calls freshet, in what is said to type next
	Out     io.Writer

	// Of the shop. An earlier demo over the same directory has settled them.
	Seed     uint64
	Shoppers int
	Rate     float64 // live records a second
}

// Shop is the demo of a shop whose shoppers come and go. It returns nil when ctx ends, or when Options.For has passed.
func Shop(ctx context.Context, o Options) (err error) {
	d := &shopDemo{o: o, begun: time.Now(), screen: tty.New(o.Out)}
	if o.For > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, o.For)
		defer cancel()
	}
	d.screen.Draw("starting a broker, a schema registry and a Redis …")
	d.w, err = open(ctx, o.Dir, []stream{purchases, sessions}, settings{idle: "wall", partMaxAge: 5 * time.Second, checkpoint: 2 * time.Second})
	if err != nil {
		return ended(ctx, err)
	}
	defer func() { err = d.w.close(err) }()
	d.screen.Print(fmt.Sprintf("kafka %s   registry %s   redis %s", d.w.servers.Brokers[0], d.w.servers.RegistryURL, d.w.servers.RedisAddr))
	if err := d.publisher(); err != nil {
		return err
	}
	return ended(ctx, d.run(ctx))
}

// ended is err, but where ctx has ended the demo was told to.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)) {
		return nil
	}
	return err
}

// shopDemo is a running demo of the shop. It belongs to one goroutine.
type shopDemo struct {
	o      Options
	begun  time.Time
	screen *tty.Screen
	w      *world
	pub    *shop.Publisher
	caught chan struct{} // closed when history is published
	svc    *service
	redis  *redis.Client
	view   view
	first  time.Duration // from the start of the demo to the first values
	atLive *reading      // when all shards had become live and there was no lag; nil before
	told   time.Time
}

// publisher prepares the events: those that an earlier run over the directory began with, if there was one.
func (d *shopDemo) publisher() error {
	c := shop.Default(time.Now())
	c.Seed, c.Shoppers, c.LiveRate = d.o.Seed, d.o.Shoppers, d.o.Rate
	c.Staged = staged(c.History)
	if err := d.w.begun(&c); err != nil {
		return err
	}
	if c.Seed != d.o.Seed || c.Shoppers != d.o.Shoppers || c.LiveRate != d.o.Rate {
		return fmt.Errorf("%s holds a demo with --seed %d --shoppers %d --rate %g: give the same, or another --dir", d.w.dir, c.Seed, c.Shoppers, c.LiveRate)
	}
	s, err := shop.New(c)
	if err != nil {
		return err
	}
	d.caught = make(chan struct{})
	d.pub = &shop.Publisher{Shop: s, Producer: d.w.producer, Encoders: map[string]*event.Encoder{}, Live: func() { close(d.caught) },
		Skip: func(e shop.Event) bool { return d.w.there.skip(e.Topic, e.Key) }}
	for topic, schema := range d.w.schemas {
		d.pub.Encoders[topic] = event.NewEncoder(schema, d.w.ids[topic])
	}
	return nil
}

// staged are purchases whose windows end soon after the start of the live part, one each 15 s at first.
func staged(history time.Duration) (at []time.Duration) {
	const day = 24 * time.Hour
	for i, window := range []time.Duration{day, 7 * day, 30 * day, 90 * day} {
		at = append(at, history-window+time.Duration(i+1)*15*time.Second)
	}
	for i := range 10 {
		at = append(at, history-day+time.Duration(i+3)*30*time.Second)
	}
	return at
}

func (d *shopDemo) run(ctx context.Context) (err error) {
	life, stop := context.WithCancel(ctx)
	published := make(chan error, 1)
	go func() { published <- d.pub.Run(life) }() // awaited below
	defer func() {
		stop()
		if published != nil {
			err = errors.Join(err, <-published)
		}
		err = errors.Join(err, d.finish(err == nil || ctx.Err() != nil))
	}()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			d.screen.Print("stopping: the service drains and takes a last checkpoint, within " + show.Duration(d.w.config.Limits.DrainLimit))
			return nil
		case err := <-published:
			published = nil
			return err
		case <-d.caught:
			d.caught = nil
			if err := d.serve(ctx); err != nil {
				return err
			}
		case err := <-d.serviceDone():
			d.svc.done <- nil // for end
			return fmt.Errorf("the service ended by itself: %w", err)
		case <-tick.C:
		}
		if err := d.look(ctx, time.Now()); err != nil && ctx.Err() == nil {
			return err
		}
	}
}

func (d *shopDemo) serviceDone() chan error {
	if d.svc == nil {
		return nil
	}
	return d.svc.done
}

// serve starts the service: all there is so far is its history.
func (d *shopDemo) serve(ctx context.Context) (err error) {
	d.screen.Print(fmt.Sprintf("published %s events of 120 days in %s; from now on about %.0f a second",
		show.Count(d.pub.Published()), show.Duration(time.Since(d.begun)), d.o.Rate))
	if d.svc, err = d.w.start(ctx); err != nil {
		return err
	}
	if d.redis, err = redis.Open(d.w.config.Redis, d.w.log, nil); err != nil {
		return err
	}
	d.told = time.Now()
	d.view = view{begun: d.begun, recent: &recent{}, style: d.screen.Style}
	for _, p := range d.svc.Plans {
		if p.Group == purchases.group {
			d.view.watch = newWatcher(d.redis, p, d.pub.Shop.Favourite())
		}
	}
	return nil
}

// look reads everything and shows it.
func (d *shopDemo) look(ctx context.Context, now time.Time) error {
	if d.svc == nil {
		d.screen.Draw(fmt.Sprintf("publishing 120 days of %s shoppers … %s events", show.Count(int64(d.o.Shoppers)), show.Count(d.pub.Published())))
		return nil
	}
	r, err := read(d.svc.Metrics, now)
	if err != nil {
		return err
	}
	d.view.recent.add(r)
	c, failed := d.view.watch.look(ctx, now)
	d.view.phase, d.view.trouble = d.phase()
	if failed != nil && d.view.trouble == "" { // a machine may be too busy for an answer in time; the next look may have one
		d.view.trouble = failed.Error()
	}
	if d.atLive == nil && d.view.phase == "live" && r.lag == 0 {
		d.atLive = &r
	}
	if d.first == 0 && d.view.watch.last.Known {
		d.first = now.Sub(d.begun)
		d.screen.Print(d.next()...)
	}
	if !d.screen.Live() {
		d.lines(now, c)
		return nil
	}
	columns, rows := d.screen.Size()
	if now.Sub(d.told) >= time.Second {
		d.told = now
		if d.view.parts, d.view.bytes, err = logSize(d.w.config.LogDir()); err != nil {
			return err
		}
	}
	d.screen.Draw(d.view.page(columns, max(rows-1-nextLines, 12))...)
	return nil
}

// lines are what is told where there is no terminal: changes as they come, the rest every five seconds.
func (d *shopDemo) lines(now time.Time, c *change) {
	if c != nil {
		d.screen.Print(fmt.Sprintf("  %s of %s: %s", c.why(), d.view.watch.user, c.text))
	}
	if now.Sub(d.told) < 5*time.Second {
		return
	}
	d.told = now
	var err error
	if d.view.parts, d.view.bytes, err = logSize(d.w.config.LogDir()); err != nil {
		d.w.log.Warn("look at the log", "err", err)
	}
	d.screen.Print(d.view.plain()...)
}

// phase is that of the shard that is furthest behind, and what is wrong with one, if anything is.
func (d *shopDemo) phase() (phase, trouble string) {
	statuses := d.svc.Service.Statuses()
	live := 0
	for _, s := range statuses {
		switch {
		case s.Err != "":
			trouble = s.Shard + ": " + s.Err
		case s.Ready():
			live++
		default:
			phase = s.Phase
		}
	}
	switch {
	case trouble != "":
		return "trouble", trouble
	case live == 2*partitions:
		return "live", ""
	case phase == "":
		return "starting", ""
	}
	return phase, ""
}

// nextLines is the room that next takes in a terminal of 80 columns, about.
const nextLines = 8

// next says what to type in a second terminal.
func (d *shopDemo) next() []string {
	user, dir := d.view.watch.user, d.w.config.LogDir()
	port := d.w.servers.RedisAddr[strings.LastIndexByte(d.w.servers.RedisAddr, ':')+1:]
	return []string{
		fmt.Sprintf("first values after %s. Try in a second terminal (Ctrl-C here ends it all):", show.Duration(d.first)),
		fmt.Sprintf("  %s get user_purchases %s -c %s", d.o.Command, user, d.w.file),
		fmt.Sprintf("  redis-cli -p %s HMGET features:user_purchases:v1:%s purchase_count_7d total_spend_7d _v", port, user),
		fmt.Sprintf("  duckdb -c \"SELECT cause, count(*) FROM '%s' GROUP BY cause\"", filepath.Join(dir, "user_purchases", "**", "*.parquet")),
		fmt.Sprintf("  curl %s/metrics", d.svc.URL()),
	}
}

// finish stops the service and tells what it did.
func (d *shopDemo) finish(tell bool) error {
	if d.redis != nil {
		defer d.redis.Close()
	}
	if d.svc == nil {
		d.screen.Print(fmt.Sprintf("ended after %s, before the service began", show.Duration(time.Since(d.begun))))
		return nil
	}
	d.screen.Draw("draining …")
	err := d.svc.end()
	r, failed := read(d.svc.Metrics, time.Now())
	if err = errors.Join(err, failed); err != nil || !tell {
		return err
	}
	parts, bytes, err := logSize(d.w.config.LogDir())
	if err != nil {
		return err
	}
	all, accepted := r.records()
	d.screen.Print(
		fmt.Sprintf("ran for %s; %s", show.Duration(time.Since(d.begun)), d.firstText()),
		fmt.Sprintf("in        %s records: %s accepted (%s of them late)", show.Count(all), show.Count(accepted), show.Count(r.reasons["late"])),
		fmt.Sprintf("refused   %s", refusedText(&r)),
		fmt.Sprintf("out       %s rows, %s parts of the log with %s", show.Count(r.rows), show.Count(int64(parts)), bytesText(bytes)),
	)
	if d.atLive != nil {
		fresh := r.freshness.since(d.atLive.freshness)
		if p50, ok := fresh.quantile(0.5); ok {
			p99, _ := fresh.quantile(0.99)
			d.screen.Print(fmt.Sprintf("freshness p50 %s, p99 %s over %s live rows", show.Duration(p50), show.Duration(p99), show.Count(int64(fresh.total))))
		}
	}
	if !d.w.ours {
		d.screen.Print("kept in   " + d.w.dir)
	}
	return nil
}

func (d *shopDemo) firstText() string {
	if d.first == 0 {
		return "no values yet: history was still being worked off"
	}
	return "first values after " + show.Duration(d.first)
}

// logSize counts the parts that a reader's glob finds.
func logSize(dir string) (parts int, bytes int64, err error) {
	err = filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || filepath.Ext(name) != ".parquet" {
			return err
		}
		info, err := e.Info()
		if err == nil {
			parts, bytes = parts+1, bytes+info.Size()
		}
		return err
	})
	return parts, bytes, err
}
