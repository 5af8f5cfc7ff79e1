// Package produce publishes the events of a file: CSV or JSON lines are read, encoded as Avro, sorted by their time in bounded memory,
// and written to a topic.
package produce

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/freshet-dev/freshet/processor/kafka"
	"github.com/freshet-dev/freshet/schemas"
	"github.com/freshet-dev/freshet/schemas/event"
)

// Input is what to read and how its columns become the fields of events.
type Input struct {
	Name   string // of the file, in messages
	Reader io.Reader
	Size   int64  // bytes of Reader, 0 unknown; with gzip, compressed
	Format string // CSV, JSONLines, or "" to go by the name's end; `.gz` at its end means compressed

	Map        map[string]string         // field → column of the header, or key of the object; left out: the same name
	Set        map[string]string         // field → one value for all rows
	RowID      string                    // field that gets the row's number, from 1; "": none
	Keep       func(map[string]any) bool // of a row's fields; a row that is not kept counts as read and is not published; nil: all
	TimeFormat string                    // of the time field: a Go layout, or one of the names of [TimeFormats]; "": RFC 3339, date, date and time, or ms
}

// Target is where the events go.
type Target struct {
	Topic    string
	Schema   *event.Schema
	ID       int32  // of the schema in the registry
	Time     string // the field that is the event's time: a timestamp, or a long in TimeUnit
	TimeUnit string // of a long: "ms" (default), "us" or "s"
	Key      string // the field whose text is the record's key: the first of the entity's key fields
	Stamp    Stamp
}

// Stamp says what the records' timestamps are.
type Stamp string

// The stamps.
const (
	StampEvent Stamp = "event" // the event's time, as if published at once: so the plan is not fooled by history, and nothing of it is `future`
	StampNow   Stamp = "now"
)

// Options of [Run].
type Options struct {
	AsIs       bool                  // keep the file's order instead of sorting by time
	MaxErrors  int                   // rows that may be skipped for being bad; one more ends the run
	SortBytes  int                   // of encoded events sorted in memory; more goes through files
	TempDir    string                // for those; "": the system's
	Skip       func(key []byte) bool // of the record to be published next: it is there already, from an earlier run over the same file; may be nil
	Bad        func(error)           // told of each bad row, with its file and line and the mend; may be nil
	Progress   func(Progress)        // told some times a second; may be nil
	ReportEach time.Duration         // how often; 0: 200 ms
}

// Default returns the options of a run.
func Default() Options { return Options{SortBytes: 64 << 20, ReportEach: 200 * time.Millisecond} }

// Progress is how far a run is.
type Progress struct {
	Rows      int64         // read, bad ones included
	Bad       int64         // of them
	Published int64         // acknowledged
	Writing   bool          // all is read: Done, PerSecond and Left are about the records to publish
	Done      float64       // share of the reading, or of the writing, 0 to 1; −1 unknown
	PerSecond float64       // rows read, or, once all are, records published
	Left      time.Duration // at this speed; −1 unknown
}

// Summary is what a run did.
type Summary struct {
	Rows, Bad, Published int64
	First, Last          int64 // event times, ms; of what was published
	Took                 time.Duration
}

// ErrTooManyBad ends a run with more bad rows than Options.MaxErrors.
var ErrTooManyBad = errors.New("too many bad rows: mend them, or allow more with --max-errors")

// run is one run. It belongs to one goroutine but for the counters of report.
type run struct {
	in     Input
	to     Target
	opts   Options
	p      *kafka.Producer
	enc    *event.Encoder
	rows   rowReader
	clock  func(any) (time.Time, error)
	column event.Column // of the key
	whole  bool         // the time field is a long

	report reporter
	fail   failure
	sum    Summary
	key    []byte
}

// Run publishes the events of in and returns when all are acknowledged, when one could not be written, or when ctx ends. Sorted, nothing is
// published before all is read, so a run that ends for bad rows has published nothing.
func Run(ctx context.Context, in Input, to Target, p *kafka.Producer, opts Options) (Summary, error) {
	begun := time.Now()
	r := &run{in: in, to: to, opts: opts, p: p, enc: event.NewEncoder(to.Schema, to.ID)}
	if err := r.prepare(); err != nil {
		return Summary{}, err
	}
	r.report.begin(opts, in.Size)
	err := r.run(ctx)
	if flush := p.Flush(ctx); err == nil && flush != nil {
		err = fmt.Errorf("wait for the last records: %w", flush)
	}
	if err == nil {
		err = r.fail.err()
	}
	r.sum.Rows, r.sum.Bad, r.sum.Published, r.sum.Took = r.report.rows, r.report.bad, r.report.published.Load(), time.Since(begun)
	r.report.end()
	return r.sum, err
}

func (r *run) run(ctx context.Context) error {
	if r.opts.AsIs {
		return r.each(ctx, func(it item) error { return r.send(ctx, it) })
	}
	s := &sorter{limit: r.opts.SortBytes, dir: r.opts.TempDir}
	defer s.close()
	if err := r.each(ctx, s.add); err != nil {
		return err
	}
	r.report.writing(s.count)
	return s.each(func(it item) error { return r.send(ctx, it) })
}

// each reads and encodes all rows.
func (r *run) each(ctx context.Context, take func(item) error) error {
	for ctx.Err() == nil {
		fields, err := r.rows.next()
		if err == io.EOF {
			return nil
		}
		var bad *rowError
		if err != nil && !errors.As(err, &bad) {
			return fmt.Errorf("read %s: %w", r.in.Name, err)
		}
		r.report.row(r.rows.read())
		if err == nil && r.in.Keep != nil && !r.in.Keep(fields) {
			continue
		}
		if err == nil {
			var it item
			if it, err = r.encode(fields); err == nil {
				if err := take(it); err != nil {
					return err
				}
				continue
			}
		}
		r.report.bad++
		if r.opts.Bad != nil {
			r.opts.Bad(fmt.Errorf("%s:%d: %w", r.in.Name, r.rows.line(), err))
		}
		if r.report.bad > int64(r.opts.MaxErrors) {
			return fmt.Errorf("%s: %d of %d rows: %w", r.in.Name, r.report.bad, r.report.rows, ErrTooManyBad)
		}
	}
	return ctx.Err()
}

// encode makes a record of a row.
func (r *run) encode(fields map[string]any) (item, error) {
	for field, v := range r.in.Set {
		fields[field] = v
	}
	if r.in.RowID != "" {
		fields[r.in.RowID] = fmt.Sprint(r.report.rows)
	}
	t, err := r.clock(fields[r.to.Time])
	if err != nil {
		return item{}, fmt.Errorf("%s: %w", r.to.Time, err)
	}
	fields[r.to.Time] = t
	if r.whole {
		fields[r.to.Time] = inUnit(t, r.to.TimeUnit)
	}
	it := item{time: t.UnixMilli(), row: r.report.rows}
	if it.key, err = r.keyText(fields[r.to.Key]); err != nil {
		return item{}, fmt.Errorf("%s: %w", r.to.Key, err)
	}
	if it.value, err = r.enc.Encode(nil, fields); err != nil {
		return item{}, err
	}
	return it, nil
}

// keyText is the text of a key field as the service will ask for it.
func (r *run) keyText(v any) ([]byte, error) {
	if v == nil || v == "" {
		return nil, errors.New("empty; every event needs its key")
	}
	text := fmt.Sprint(v)
	value := schemas.StringValue([]byte(text))
	if r.column.Type.Kind != schemas.String {
		values, err := schemas.ParseEntity([]byte(text), []schemas.Type{r.column.Type})
		if err != nil {
			return nil, err
		}
		value = values[0]
	}
	r.key = schemas.AppendKey(r.key[:0], value)
	if len(r.key) > schemas.MaxEntityBytes {
		return nil, fmt.Errorf("%d bytes; at most %d", len(r.key), schemas.MaxEntityBytes)
	}
	return append([]byte(nil), r.key...), nil
}

func (r *run) send(ctx context.Context, it item) error {
	if err := errors.Join(ctx.Err(), r.fail.err()); err != nil {
		return err
	}
	if r.opts.Skip != nil && r.opts.Skip(it.key) {
		return nil
	}
	rec := kafka.Record{Key: it.key, Value: it.value}
	if r.to.Stamp != StampNow {
		rec.Timestamp = it.time
	}
	if r.sum.First == 0 && r.sum.Last == 0 {
		r.sum.First, r.sum.Last = it.time, it.time
	}
	r.sum.First, r.sum.Last = min(r.sum.First, it.time), max(r.sum.Last, it.time)
	r.p.Send(ctx, r.to.Topic, rec, kafka.ByKey, func(err error) {
		if err != nil {
			r.fail.set(err)
			return
		}
		r.report.published.Add(1)
	})
	r.report.tick()
	return nil
}

// prepare checks all that can be before the first row.
func (r *run) prepare() error {
	var err error
	if r.column, err = r.to.Schema.Column(r.to.Key); err != nil {
		return fmt.Errorf("the key: %w", err)
	}
	at, err := r.to.Schema.Column(r.to.Time)
	if err != nil {
		return fmt.Errorf("the time: %w", err)
	}
	r.whole = at.Type.Kind == schemas.Int
	if !r.whole && at.Type.Kind != schemas.Time {
		return fmt.Errorf("the time: %s is %s; it must be a timestamp or a long", r.to.Time, at.Avro)
	}
	if r.clock, err = clock(r.in.TimeFormat); err != nil {
		return err
	}
	if r.opts.SortBytes <= 0 {
		r.opts.SortBytes = Default().SortBytes
	}
	fields := map[string]bool{}
	for _, c := range r.to.Schema.Columns() {
		fields[c.Path] = true
	}
	for _, m := range []map[string]string{r.in.Map, r.in.Set} {
		for field := range m {
			if _, err := r.to.Schema.Column(field); err != nil && !fields[field] {
				return err
			}
		}
	}
	r.rows, err = open(r.in, fields)
	return err
}
