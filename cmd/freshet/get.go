package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/freshet-dev/freshet/cmd/freshet/internal/config"
	"github.com/freshet-dev/freshet/cmd/freshet/internal/show"
	"github.com/freshet-dev/freshet/processor"
	"github.com/freshet-dev/freshet/schemas"
	"github.com/freshet-dev/freshet/schemas/feature"
	"github.com/freshet-dev/freshet/sink"
	"github.com/freshet-dev/freshet/sink/redis"
)

// exitUnknown is the exit code of get where an entity is not known.
const exitUnknown = 4

// getOptions are the flags of get.
type getOptions struct {
	version     int
	output      string
	addr        string
	config      string
	definitions []string
}

func newGet() *cobra.Command {
	var o getOptions
	cmd := &cobra.Command{
		Use:   "get GROUP ENTITY...",
		Short: "Read entities' features from Redis",
		Long: `Read the features of entities from Redis, with how old they are and until when they are valid. An entity of several key fields is given as
they stand in Redis, joined by | (with \ before a | or \ within one). Without --version the newest version is read that a pipeline has told of.

Values have their types, and nulls are shown, where the definitions are at hand (-c, or --definitions); else they are the text that Redis holds, and
what is no text, such as an embedding, is shown in base64.

-o json prints an object for each entity, one a line: group, version, entity, known, value_version, as_of, valid_until (null: never) and features.

Exit code: 0; 1 an error; 4 if an entity is not known.`,
		Example: `  freshet get user_purchases u000017 -c freshet.yaml
  freshet get user_purchases u000017 u000018 --version 1 -c freshet.yaml -o json
  freshet get user_sessions u000017 --redis 127.0.0.1:6379
  freshet get user_sessions u000017 --redis 127.0.0.1:6379 --definitions schemas/catalog`,
		Args: cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := oneOf("-o", o.output, "table", "json"); err != nil {
				return err
			}
			if o.version < 0 {
				return fmt.Errorf("--version %d: versions begin at 1", o.version)
			}
			return get(cmd, args[0], args[1:], &o)
		},
	}
	f := cmd.Flags()
	f.IntVar(&o.version, "version", 0, "version of the group; 0: the newest")
	f.StringVar(&o.addr, "redis", "", "address of Redis, host:port (default 127.0.0.1:6379, or what -c says)")
	f.StringVarP(&o.config, "config", "c", "", "configuration of the service: where Redis is, and the definitions")
	f.StringSliceVar(&o.definitions, "definitions", nil, "definitions (files or directories), for the types of values")
	outputFlag(cmd, &o.output, "table", "json")
	return cmd
}

func get(cmd *cobra.Command, group string, entities []string, o *getOptions) error {
	ctx, out := cmd.Context(), cmd.OutOrStdout()
	cfg, plans, err := o.load(cmd.ErrOrStderr())
	if err != nil {
		return err
	}
	client, err := redis.Open(cfg, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		return err
	}
	defer client.Close()
	if o.version == 0 {
		if o.version, err = newest(ctx, client, group, cfg.Addr); err != nil {
			return err
		}
	}
	g := gotten{group: group, version: o.version, now: time.Now(), reader: client.ReaderOf(group, o.version)}
	for _, p := range plans {
		if p.Group == group && p.Version == o.version {
			g.plan = p
			g.reader = client.Reader(processor.SpecOf(p), time.Duration(p.Freshness)*time.Millisecond)
		}
	}
	if plans != nil && g.plan == nil {
		fmt.Fprintf(cmd.ErrOrStderr(), "freshet: %s v%d is not in the definitions: values are shown as text\n", group, o.version)
	}
	keys := make([][]byte, len(entities))
	for i, e := range entities {
		keys[i] = []byte(e)
		if err := g.check(keys[i]); err != nil {
			return err
		}
	}
	vectors, err := g.reader.GetFeatureVectors(ctx, keys, nil)
	if err != nil {
		return err
	}
	unknown := 0
	for i := range vectors {
		if !vectors[i].Known {
			unknown++
		}
		if err := g.tell(ctx, out, o.output, &vectors[i], i == 0); err != nil {
			return err
		}
	}
	if unknown > 0 {
		return exitError{code: exitUnknown}
	}
	return nil
}

// load returns where Redis is, and the definitions if they are at hand.
func (o *getOptions) load(warn io.Writer) (redis.Config, []*feature.Plan, error) {
	cfg := redis.Default()
	cfg.Addr = "127.0.0.1:6379"
	paths := o.definitions
	if o.config != "" {
		c, err := config.Read(o.config, nil)
		if err != nil {
			return cfg, nil, err
		}
		cfg = c.Redis
		if paths == nil {
			paths = c.Definitions
		}
	}
	if o.addr != "" {
		cfg.Addr, cfg.Addrs, cfg.Cluster = o.addr, nil, false
	}
	if paths == nil {
		return cfg, nil, nil
	}
	plans, problems, err := feature.Load(paths)
	if err == nil {
		err = problems.Err()
	}
	if err != nil && o.definitions == nil { // those of the service may not be on this machine
		fmt.Fprintf(warn, "freshet: values are shown as text: %v\n", err)
		return cfg, nil, nil
	}
	return cfg, plans, err
}

func newest(ctx context.Context, client *redis.Client, group, addr string) (int, error) {
	versions, err := client.Versions(ctx, group)
	if err != nil {
		return 0, err
	}
	if len(versions) == 0 {
		return 0, fmt.Errorf("no pipeline has told of group %s in the Redis at %s: is the name right, and does `freshet run` write there (see its /readyz?verbose)? Or say which version with --version", group, addr)
	}
	return versions[len(versions)-1], nil
}

// gotten is what get found.
type gotten struct {
	group   string
	version int
	now     time.Time
	reader  *redis.Reader
	plan    *feature.Plan // nil: types are not known
}

// check refuses what cannot be an entity.
func (g *gotten) check(entity []byte) error {
	if g.plan == nil {
		return nil
	}
	types := make([]schemas.Type, len(g.plan.Keys))
	names := make([]string, len(g.plan.Keys))
	for i, k := range g.plan.Keys {
		types[i], names[i] = k.Type, k.Name
	}
	if _, err := schemas.ParseEntity(entity, types); err != nil {
		return fmt.Errorf("%w; an entity of %s is %s", err, g.group, strings.Join(names, "|"))
	}
	return nil
}

func (g *gotten) tell(ctx context.Context, out io.Writer, output string, v *redis.Vector, first bool) error {
	if output == "json" {
		return g.json(out, v)
	}
	if !first {
		fmt.Fprintln(out)
	}
	return g.table(ctx, out, v)
}

func (g *gotten) json(out io.Writer, v *redis.Vector) error {
	o := struct {
		Group        string          `json:"group"`
		Version      int             `json:"version"`
		Entity       string          `json:"entity"`
		Known        bool            `json:"known"`
		ValueVersion *string         `json:"value_version"`
		AsOf         *string         `json:"as_of"`
		ValidUntil   *string         `json:"valid_until"`
		Features     json.RawMessage `json:"features"`
	}{Group: g.group, Version: g.version, Entity: string(v.Entity), Known: v.Known, Features: json.RawMessage("null")}
	if v.Known {
		version, asOf := v.Version.String(), show.Instant(v.AsOf)
		o.ValueVersion, o.AsOf = &version, &asOf
		if v.ValidUntil != sink.Never {
			until := show.Instant(v.ValidUntil)
			o.ValidUntil = &until
		}
		var err error
		if o.Features, err = g.features(v); err != nil {
			return err
		}
	}
	e := json.NewEncoder(out)
	e.SetEscapeHTML(false)
	return e.Encode(o)
}

// features is the object of the features, in definition order.
func (g *gotten) features(v *redis.Vector) (json.RawMessage, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, name := range v.Names() {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "%q:", name)
		if g.plan == nil {
			text, _ := v.Text(name)
			quoted, err := json.Marshal(show.Untyped(text))
			if err != nil {
				return nil, err
			}
			b.Write(quoted)
			continue
		}
		value, err := v.Value(i)
		if err != nil {
			return nil, err
		}
		b.Write(show.JSON(value, g.plan.Features[i].Type))
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

func (g *gotten) table(ctx context.Context, out io.Writer, v *redis.Vector) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "%s v%d\t%s\n", g.group, g.version, show.Printable(string(v.Entity)))
	if !v.Known {
		fmt.Fprintln(w, "unknown\tno events of it within the windows, or none at all")
		return w.Flush()
	}
	fmt.Fprintf(w, "value version\t%s\n", v.Version)
	fmt.Fprintf(w, "as of\t%s (%s ago)\n", show.Instant(v.AsOf), show.Duration(v.Age(g.now)))
	switch until := time.UnixMilli(v.ValidUntil).Sub(g.now); {
	case v.ValidUntil == sink.Never:
		fmt.Fprintln(w, "valid until\ta new event")
	case until > 0:
		fmt.Fprintf(w, "valid until\t%s (in %s), or a new event\n", show.Instant(v.ValidUntil), show.Duration(until))
	default:
		fmt.Fprintf(w, "valid until\t%s (%s ago%s)\n", show.Instant(v.ValidUntil), show.Duration(-until), g.overdue(v))
	}
	if p, ok, err := g.reader.Progress(ctx, v.Partition); err == nil && ok {
		fmt.Fprintf(w, "pipeline\theard of %s ago\n", show.Duration(g.now.Sub(time.UnixMilli(p.Wall))))
	}
	fmt.Fprintln(w)
	for i, name := range v.Names() {
		text, ok := v.Text(name)
		switch {
		case g.plan != nil:
			value, err := v.Value(i)
			if err != nil {
				return err
			}
			text = show.Text(value, g.plan.Features[i].Type)
		case !ok:
			text = show.Null
		default:
			text = show.Untyped(text)
		}
		fmt.Fprintf(w, "%s\t%s\n", name, text)
	}
	return w.Flush()
}

// overdue says what an expired value means; within the freshness it is no news.
func (g *gotten) overdue(v *redis.Vector) string {
	if g.plan == nil || !v.Expired(g.now) {
		return ""
	}
	return "; it should have changed since: the pipeline is late or down"
}
