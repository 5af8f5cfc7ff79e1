package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/freshet-dev/freshet/cmd/freshet/internal/app"
	"github.com/freshet-dev/freshet/cmd/freshet/internal/config"
	"github.com/freshet-dev/freshet/cmd/freshet/internal/produce"
	"github.com/freshet-dev/freshet/cmd/freshet/internal/show"
	"github.com/freshet-dev/freshet/cmd/freshet/internal/tty"
	"github.com/freshet-dev/freshet/processor/kafka"
	"github.com/freshet-dev/freshet/schemas"
	"github.com/freshet-dev/freshet/schemas/event"
	"github.com/freshet-dev/freshet/schemas/feature"
)

// inputFlags say how the columns of a file become the fields of events; produce and demo share them.
type inputFlags struct {
	maps, sets []string
	rowID      string
	timeFormat string
	asIs       bool
}

func (f *inputFlags) add(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.StringArrayVar(&f.maps, "map", nil, "FIELD=COLUMN: the column a field comes from, where the names differ (repeatable)")
	fs.StringArrayVar(&f.sets, "set", nil, "FIELD=VALUE: one value of a field for all rows (repeatable)")
	fs.StringVar(&f.rowID, "row-id", "", "field that gets the number of the row, from 1, as an event's id")
	fs.StringVar(&f.timeFormat, "time-format", "", "how times are written: "+strings.Join(produce.TimeFormats, ", ")+", or a Go layout such as 02.01.2006 15:04 (default: RFC 3339, date, date and time, or ms)")
	fs.BoolVar(&f.asIs, "as-is", false, "keep the file's order instead of sorting by time")
}

func (f *inputFlags) input(name string) (in produce.Input, err error) {
	in = produce.Input{Name: name, RowID: f.rowID, TimeFormat: f.timeFormat}
	if in.Map, err = pairs("--map", "FIELD=COLUMN", f.maps); err != nil {
		return in, err
	}
	in.Set, err = pairs("--set", "FIELD=VALUE", f.sets)
	return in, err
}

// produceOptions are the flags of produce.
type produceOptions struct {
	inputFlags
	topic, schema, subject string
	key, time, timeUnit    string
	format, stamp          string
	config, registry       string
	brokers                []string
	schemaID               int32
	maxErrors              int
}

func newProduce() *cobra.Command {
	var o produceOptions
	cmd := &cobra.Command{
		Use:   "produce FILE|- --topic TOPIC",
		Short: "Publish the events of a CSV or JSON lines file as Avro",
		Long: `Publish the events of a file, or of standard input (-), to a topic: CSV with a header, or a JSON object a line, gzipped or not. Each row is
encoded as Avro by --schema, which is registered as <topic>-value, and written with the text of --key as its key, so that one entity stays on one
partition. Rows are sorted by their time first, in bounded memory, unless --as-is; then nothing is published before all is read.

With -c the brokers, the registry and, from the definition of a group that reads the topic, schema, key and time are those of the service. Where
there is no registry, say with --schema-id which id the service knows the schema by (1 for the only one).

Exit code: 0 all published; 1 an error, or more bad rows than --max-errors.`,
		Example: `  freshet produce purchases.csv --topic purchases -c freshet.yaml --row-id event_id --max-errors 10
  freshet produce orders.csv.gz --topic purchases -c freshet.yaml --row-id event_id --map user_id=customer --map event_time=day --map amount=usd --set product_id=unknown
  freshet produce events.jsonl --topic sessions --schema schemas/catalog/session.avsc --key user_id --brokers 127.0.0.1:9092 --registry http://127.0.0.1:8081
  freshet produce - --format jsonl --topic sessions -c freshet.yaml < events.jsonl`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return publish(cmd, args[0], &o) },
	}
	o.add(cmd)
	f := cmd.Flags()
	f.StringVar(&o.topic, "topic", "", "topic to write to; it must be there")
	f.StringVar(&o.schema, "schema", "", "Avro schema of the events, a file (default: of the group that reads the topic, with -c)")
	f.StringVar(&o.subject, "subject", "", "subject to register the schema under (default <topic>-value)")
	f.Int32Var(&o.schemaID, "schema-id", 0, "id of the schema, where there is no registry")
	f.StringVar(&o.key, "key", "", "field whose text is the record's key (default: of the group that reads the topic, with -c)")
	f.StringVar(&o.time, "time", "", "field that is the event's time (default: of that group; else event_time)")
	f.StringVar(&o.timeUnit, "time-unit", "", "of a time that is a plain long: ms, us or s (default ms)")
	f.StringVar(&o.format, "format", "", "csv or jsonl (default: by the file's name)")
	f.StringVar(&o.stamp, "stamp", string(produce.StampEvent), "timestamp of the records: event (the event's time) or now")
	f.StringVarP(&o.config, "config", "c", "", "configuration of the service")
	f.StringSliceVar(&o.brokers, "brokers", nil, "host:port of brokers (default 127.0.0.1:9092, or what -c says)")
	f.StringVar(&o.registry, "registry", "", "URL of the schema registry (default: what -c says)")
	f.IntVar(&o.maxErrors, "max-errors", 0, "bad rows that are skipped; one more ends the run")
	if err := cmd.MarkFlagRequired("topic"); err != nil {
		panic(err) // the flag is there
	}
	return cmd
}

func publish(cmd *cobra.Command, file string, o *produceOptions) error {
	ctx := cmd.Context()
	in, err := o.input(file)
	if err != nil {
		return err
	}
	in.Format = o.format
	if err := errors.Join(oneOf("--format", o.format, "", produce.CSV, produce.JSONLines),
		oneOf("--stamp", o.stamp, string(produce.StampEvent), string(produce.StampNow)), oneOf("--time-unit", o.timeUnit, "", "ms", "us", "s")); err != nil {
		return err
	}
	cfg, to, err := o.target()
	if err != nil {
		return err
	}
	if to.ID, err = o.schemaIn(ctx, &cfg, to.Schema); err != nil {
		return err
	}
	if in.Reader = cmd.InOrStdin(); file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return err
		}
		defer f.Close()
		if info, err := f.Stat(); err == nil {
			in.Size = info.Size()
		}
		in.Reader = f
	}
	if err := topicThere(ctx, cfg.Kafka, o.topic); err != nil {
		return err
	}
	p, err := kafka.NewProducer(cfg.Kafka, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		return err
	}
	defer p.Close()
	opts := produce.Default()
	opts.AsIs, opts.MaxErrors = o.asIs, o.maxErrors
	opts.Bad, opts.Progress = tellProgress(cmd.ErrOrStderr(), file)
	sum, err := produce.Run(ctx, in, to, p, opts)
	tellProduced(cmd.OutOrStdout(), o.topic, sum)
	return err
}

// target finds out where the events go, from the flags and from the service's configuration.
func (o *produceOptions) target() (config.Config, produce.Target, error) {
	c := config.Default()
	c.Kafka.Brokers = []string{"127.0.0.1:9092"}
	var own *feature.Plan
	if o.config != "" {
		var err error
		if c, err = config.Read(o.config, nil); err != nil {
			return c, produce.Target{}, err
		}
		plans, err := app.Definitions(c.Definitions, slog.New(slog.DiscardHandler))
		if err != nil && (o.schema == "" || o.key == "") {
			return c, produce.Target{}, err
		}
		for _, p := range plans {
			if p.Source.Topic == o.topic {
				own = p
			}
		}
	}
	if o.brokers != nil {
		c.Kafka.Brokers = o.brokers
	}
	if o.registry != "" {
		c.Registry = config.Registry{URL: o.registry}
	}
	to := produce.Target{Topic: o.topic, Time: o.time, TimeUnit: o.timeUnit, Key: o.key, Stamp: produce.Stamp(o.stamp)}
	text, name := []byte(nil), o.schema
	if own != nil {
		text = own.Source.Schema
		to.Time, to.TimeUnit = or(to.Time, own.Columns[own.Source.TimeColumn].Path), or(to.TimeUnit, own.Source.TimeUnit)
		to.Key = or(to.Key, own.Columns[own.Source.PartitionedBy].Path)
	}
	if o.schema != "" {
		var err error
		if text, err = os.ReadFile(o.schema); err != nil {
			return c, to, fmt.Errorf("--schema: %w", err)
		}
	}
	if text == nil {
		return c, to, fmt.Errorf("the schema of topic %s is not known: give --schema FILE.avsc, or -c with definitions of a group that reads it", o.topic)
	}
	if to.Key == "" {
		return c, to, errors.New("the key is not known: say with --key which field is the record's key, such as --key user_id")
	}
	to.Time = or(to.Time, "event_time")
	var err error
	if to.Schema, err = event.Parse(text); err != nil {
		return c, to, fmt.Errorf("schema %s: %w", or(name, "of topic "+o.topic), err)
	}
	if col, err := to.Schema.Column(to.Time); err == nil && col.Type.Kind == schemas.Int {
		to.TimeUnit = or(to.TimeUnit, "ms")
	}
	return c, to, nil
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// schemaIn returns the id of the schema: the registry's, or --schema-id.
func (o *produceOptions) schemaIn(ctx context.Context, c *config.Config, s *event.Schema) (int32, error) {
	if c.Registry.URL == "" {
		if o.schemaID == 0 {
			return 0, errors.New("no schema registry: give --registry URL, or --schema-id where the service reads schemas from files (1 for the first)")
		}
		return o.schemaID, nil
	}
	writers, err := app.Writers(&c.Registry, nil, nil)
	if err != nil {
		return 0, err
	}
	r, ok := writers.(*event.Registry)
	if !ok {
		return 0, fmt.Errorf("registry.url %q is not a registry", c.Registry.URL)
	}
	defer r.CloseIdle()
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	return r.Register(ctx, or(o.subject, o.topic+"-value"), s)
}

// topicThere fails early, with the mend, where the producer would wait for ever.
func topicThere(ctx context.Context, c kafka.Config, topic string) error {
	admin, err := kafka.NewAdmin(c, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer admin.Close()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	_, _, err = admin.Partitions(ctx, topic)
	switch {
	case errors.Is(err, kafka.ErrUnknownTopic):
		return fmt.Errorf("there is no topic %s at %s: make it first, such as with kafka-topics.sh --create --topic %s --partitions 16 --config retention.ms=-1", topic, strings.Join(c.Brokers, ", "), topic)
	case err != nil:
		return fmt.Errorf("brokers %s: %w", strings.Join(c.Brokers, ", "), err)
	}
	return nil
}

const shownBadRows = 10

// tellProgress returns what tells of bad rows, the first of them, and of how far a run is: one line that is refreshed, or without a terminal one every five seconds.
func tellProgress(w io.Writer, file string) (bad func(error), progress func(produce.Progress)) {
	screen := tty.New(w)
	told, next := 0, time.Now().Add(5*time.Second)
	bad = func(err error) {
		switch told++; {
		case told <= shownBadRows:
			screen.Print(err.Error())
		case told == shownBadRows+1:
			screen.Print("… further bad rows are counted only")
		}
	}
	return bad, func(p produce.Progress) {
		line := progressLine(file, p)
		if screen.Live() {
			screen.Draw(line)
		} else if now := time.Now(); now.After(next) {
			next = now.Add(5 * time.Second)
			screen.Print(line)
		}
	}
}

func progressLine(file string, p produce.Progress) string {
	act, n := "read", p.Rows
	if p.Writing {
		act, n = "published", p.Published
	}
	line := fmt.Sprintf("%s: %s %s", file, act, show.Plural(n, "row", "rows"))
	if p.Done >= 0 {
		line += fmt.Sprintf("  %3.0f %%", 100*p.Done)
	}
	line += fmt.Sprintf("  %s/s", show.Count(int64(p.PerSecond)))
	if p.Left >= 0 {
		line += fmt.Sprintf("  %s left", show.Duration(p.Left))
	}
	if p.Bad > 0 {
		line += fmt.Sprintf("  %s bad", show.Count(p.Bad))
	}
	return line
}

func tellProduced(w io.Writer, topic string, s produce.Summary) {
	line := fmt.Sprintf("%s published to %s in %s; %s read, %s bad", show.Plural(s.Published, "event", "events"), topic, show.Duration(s.Took),
		show.Plural(s.Rows, "row", "rows"), show.Count(s.Bad))
	if s.Published > 0 {
		line += fmt.Sprintf("; events of %s to %s", show.Instant(s.First), show.Instant(s.Last))
	}
	fmt.Fprintln(w, line)
}
