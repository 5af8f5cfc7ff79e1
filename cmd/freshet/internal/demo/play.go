package demo

import (
	"bufio"
	"compress/gzip"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/freshet-dev/freshet/cmd/freshet/internal/produce"
	"github.com/freshet-dev/freshet/cmd/freshet/internal/show"
	"github.com/freshet-dev/freshet/cmd/freshet/internal/tty"
	"github.com/freshet-dev/freshet/processor"
)

// Purchases are the purchases of a CSV file. Its columns become the fields of schemas/catalog/purchase.avsc.
type Purchases struct {
	produce.Input        // Reader and Size are not needed
	AsIs          bool   // keep the file's order
	Customers     int    // only those of the first so many customers of the file; 0: all
	Command       string // as in Options
}

// ErrMismatch is returned by Play where the log is not what the oracle says.
var ErrMismatch = errors.New("the log is not what the oracle says")

// player plays purchases. It belongs to one goroutine.
type player struct {
	in     Purchases
	begun  time.Time
	screen *tty.Screen
	plain  time.Time // when the last plain line of progress was told
	w      *world
}

// Play publishes purchases, all of them history, has the service work them off, and then every row of the log recomputed by the oracle.
func Play(ctx context.Context, o Options, in Purchases) (err error) {
	p := &player{in: in, begun: time.Now(), screen: tty.New(o.Out), plain: time.Now()}
	if err := p.columns(); err != nil {
		return err
	}
	// Nothing is served, so parts close with every checkpoint, the last one too.
	s := settings{idle: processor.IdleHold, partMaxAge: lastPartAge, checkpoint: 5 * time.Second}
	if p.w, err = open(ctx, o.Dir, []stream{purchases}, s); err != nil {
		return err
	}
	defer func() {
		if ctx.Err() != nil {
			err = errors.Join(errors.New("interrupted: nothing was compared"), p.w.close(nil))
			return
		}
		err = p.w.close(err)
	}()
	if err := p.same(); err != nil {
		return err
	}
	if err := p.publish(ctx); err != nil {
		return err
	}
	svc, err := p.w.start(ctx)
	if err != nil {
		return err
	}
	err = p.workOff(ctx, svc)
	if err = errors.Join(err, svc.end()); err != nil {
		return err
	}
	r, err := read(svc.Metrics, time.Now())
	if err != nil {
		return err
	}
	return p.judge(ctx, svc, &r)
}

// lastPartAge is how old an open part is closed at.
const lastPartAge = 100 * time.Millisecond

// columns sees to it that every field has a column, a value or a default.
func (p *player) columns() error {
	names, err := header(p.in.Name)
	if err != nil {
		return err
	}
	in := &p.in.Input
	if in.Set == nil {
		in.Set = map[string]string{}
	}
	given := func(field string) bool {
		_, mapped := in.Map[field]
		_, set := in.Set[field]
		return mapped || set || in.RowID == field || slices.Contains(names, field)
	}
	if !given("event_id") {
		in.RowID = "event_id"
	}
	if !given("product_id") {
		in.Set["product_id"] = "unknown"
	}
	for _, field := range []string{"user_id", "event_time", "amount"} {
		if !given(field) {
			return fmt.Errorf("%s has no column %s: say which column it is with --map %s=COLUMN; there are %s", in.Name, field, field, strings.Join(names, ", "))
		}
	}
	if p.in.Customers > 0 {
		customers := map[string]bool{}
		in.Keep = func(fields map[string]any) bool {
			c := fmt.Sprint(fields["user_id"])
			if len(customers) < p.in.Customers {
				customers[c] = true
			}
			return customers[c]
		}
	}
	return nil
}

// header reads the names of a CSV file's columns.
func header(name string) ([]string, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("--purchases: %w", err)
	}
	defer f.Close()
	buffered := bufio.NewReader(f)
	var text io.Reader = buffered
	if magic, _ := buffered.Peek(2); string(magic) == "\x1f\x8b" {
		if text, err = gzip.NewReader(buffered); err != nil {
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
	}
	names, err := csv.NewReader(text).Read()
	if err != nil {
		return nil, fmt.Errorf("read the header of %s: %w", name, err)
	}
	names[0] = strings.TrimPrefix(names[0], "\ufeff")
	return names, nil
}

// same refuses to go on in a directory where other purchases, or a shop, were played.
func (p *player) same() error {
	file, err := filepath.Abs(p.in.Name)
	if err != nil {
		return err
	}
	type what struct {
		Purchases, RowID, TimeFormat string
		Map, Set                     map[string]string
		Customers                    int
		AsIs                         bool
	}
	mine := what{file, p.in.RowID, p.in.TimeFormat, p.in.Map, p.in.Set, p.in.Customers, p.in.AsIs}
	theirs := mine
	if err := p.w.begun(&theirs); err != nil {
		return err
	}
	if mine.Purchases != theirs.Purchases || mine.RowID != theirs.RowID || mine.TimeFormat != theirs.TimeFormat || mine.Customers != theirs.Customers ||
		mine.AsIs != theirs.AsIs || !maps.Equal(mine.Map, theirs.Map) || !maps.Equal(mine.Set, theirs.Set) {
		return fmt.Errorf("%s holds another demo: give the same file and flags as then, or another --dir", p.w.dir)
	}
	return nil
}

// tell shows how far it is.
func (p *player) tell(line string) {
	if p.screen.Live() {
		p.screen.Draw(line)
	} else if time.Since(p.plain) >= 5*time.Second {
		p.plain = time.Now()
		p.screen.Print(line)
	}
}

func (p *player) publish(ctx context.Context) error {
	f, err := os.Open(p.in.Name)
	if err != nil {
		return err
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil {
		p.in.Size = info.Size()
	}
	p.in.Reader, p.in.Format = f, produce.CSV
	opts := produce.Default()
	opts.AsIs, opts.TempDir = p.in.AsIs, p.w.dir
	opts.Bad = func(err error) { p.screen.Print(err.Error()) }
	opts.Skip = func(key []byte) bool { return p.w.there.skip(purchases.topic, key) }
	opts.Progress = func(g produce.Progress) {
		p.tell(fmt.Sprintf("publishing: %s of %s", show.Plural(g.Published, "purchase", "purchases"), show.Plural(g.Rows, "row", "rows")))
	}
	sum, err := produce.Run(ctx, p.in.Input, produce.Target{Topic: purchases.topic, Schema: p.w.schemas[purchases.topic], ID: p.w.ids[purchases.topic],
		Time: "event_time", Key: "user_id", Stamp: produce.StampEvent}, p.w.producer, opts)
	if err != nil {
		return err
	}
	if p.w.there, err = countRecords(ctx, p.w.config.Kafka, p.w.log, []stream{purchases}); err != nil {
		return err
	}
	line := fmt.Sprintf("published %s in %s", show.Plural(sum.Published, "purchase", "purchases"), show.Duration(sum.Took))
	if sum.Published > 0 {
		line += fmt.Sprintf(", of %s to %s", show.Instant(sum.First), show.Instant(sum.Last))
	}
	p.screen.Print(line)
	return nil
}

// workOff waits until the service has worked off all records.
func (p *player) workOff(ctx context.Context, svc *service) error {
	begun, total := time.Now(), p.w.there.total()
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	var trouble time.Time
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-svc.done:
			svc.done <- nil // for end
			return fmt.Errorf("the service ended by itself: %w", err)
		case now := <-tick.C:
			done, at, failure := progress(svc, total)
			if failure == "" {
				trouble = now
			} else if now.Sub(trouble) > 10*time.Second {
				return errors.New(failure)
			}
			r, err := read(svc.Metrics, now)
			if err != nil {
				return err
			}
			if done {
				p.screen.Print(fmt.Sprintf("worked off %s records into %s rows in %s", show.Count(total), show.Count(r.rows), show.Duration(now.Sub(begun))))
				return wait(ctx, 2*lastPartAge)
			}
			p.tell(fmt.Sprintf("computing: %s of %s records, %s rows", show.Count(at), show.Count(total), show.Count(r.rows)))
		}
	}
}

// progress says whether all shards are live and at the end, and how many records they have worked off.
func progress(svc *service, total int64) (done bool, at int64, failure string) {
	statuses := svc.Service.Statuses()
	live := 0
	for _, s := range statuses {
		at += s.Position
		if s.Err != "" {
			failure = s.Shard + ": " + s.Err
		}
		if s.Ready() {
			live++
		}
	}
	return live == partitions && at >= total, at, failure
}

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// judge compares and tells the result.
func (p *player) judge(ctx context.Context, svc *service, r *reading) error {
	begun := time.Now()
	c := &comparison{}
	done := make(chan error, 1)
	go func() { done <- p.w.compare(ctx, purchases, svc.Plans[0], c) }() // awaited below
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for running := true; running; {
		select {
		case err := <-done:
			if err != nil {
				return err
			}
			running = false
		case <-tick.C:
			p.tell(fmt.Sprintf("comparing with the oracle: %s of %s rows", show.Count(c.rows.Load()), show.Count(r.rows)))
		}
	}
	all, accepted := r.records()
	refused := all - accepted
	if p.w.fresh {
		for _, reason := range slices.Sorted(maps.Keys(r.reasons)) {
			if r.reasons[reason] != c.reasons[reason] {
				c.mismatch(1, "%d records are %s; the oracle says %d", r.reasons[reason], reason, c.reasons[reason])
			}
		}
	} else { // the service counts since its start
		accepted, refused = 0, 0
		for reason, n := range c.reasons {
			if counted(reason) {
				accepted += n
			} else {
				refused += n
			}
		}
	}
	for _, line := range c.first {
		p.screen.Print("mismatch: " + line)
	}
	if refused > 0 && p.w.fresh {
		p.screen.Print("refused: " + refusedText(r))
	}
	p.screen.Print(
		fmt.Sprintf("compared in %s; %s in all", show.Duration(time.Since(begun)), show.Duration(time.Since(p.begun))),
		fmt.Sprintf("accepted %s, refused %s; compared with the oracle: %s rows, %s values, %s mismatches", show.Count(accepted), show.Count(refused),
			show.Count(c.rows.Load()), show.Count(c.values.Load()), show.Count(c.mismatches.Load())))
	if !p.w.ours {
		p.screen.Print("the log is in " + p.w.config.LogDir())
	}
	if c.mismatches.Load() > 0 {
		return ErrMismatch
	}
	return nil
}
