package redis

import (
	"context"
	"fmt"
	"strconv"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/freshet-dev/freshet/sink"
)

// Outcome is what became of a row.
type Outcome uint8

// The outcomes. The numbers are what the script answers.
const (
	Written Outcome = 0 // the entity was absent or older
	Equal   Outcome = 1 // the same version was stored: rewritten
	Stale   Outcome = 2 // a strictly newer version is stored: refused
	Split   Outcome = 3 // another partition's version is stored: refused
)

// String returns the outcome as the metrics name it.
func (o Outcome) String() string { return [...]string{"written", "equal", "stale", "split"}[o] }

// Bounds of one script, which blocks the server while it runs: on one core about 13 µs an entity of 20 features.
const (
	scriptRows  = 64
	scriptArgs  = 4096
	scriptBytes = 256 << 10
)

// maxBatchBytes is the largest arena that is kept between calls.
const maxBatchBytes = 4 << 20

// Writer writes the rows of one shard. Its methods may be called by any goroutine.
type Writer struct {
	c         *Client
	spec      sink.Spec
	keyPrefix string // of the entities' keys: features:<group>:v<N>:
	progress  string // key of the progress hash
	head      []any  // the arguments that all scripts share: partition, TTL, features, their names
	rows      int    // a script
}

// Writer returns the writer of one shard: rows of spec's group version that come from partition.
func (c *Client) Writer(spec sink.Spec, partition int32) *Writer {
	w := &Writer{
		c:         c,
		spec:      spec,
		keyPrefix: keyPrefix(c.cfg.Prefix, spec.Group, spec.Version),
		progress:  progressPrefix(c.cfg.Prefix, spec.Group, spec.Version) + strconv.Itoa(int(partition)),
		rows:      min(max(scriptArgs/(len(spec.Features)+4), 1), scriptRows),
	}
	if c.cfg.Cluster {
		w.rows = 1 // the keys of a script must lie on one node
	}
	w.head = []any{strconv.Itoa(int(partition)), strconv.FormatInt(spec.TTL.Milliseconds(), 10), strconv.Itoa(len(spec.Features))}
	for _, f := range spec.Features {
		w.head = append(w.head, f.Name)
	}
	return w
}

func keyPrefix(prefix, group string, version int) string {
	return fmt.Sprintf("%s:%s:v%d:", prefix, group, version)
}

// Write sends rows, in order, and stores in out[i] what became of rows[i]: len(out) ≥ len(rows). More than Config.PipelineRows rows go in
// several pipelines, one after the other. Rows of the same entity keep their order. A row counts as written once Redis has answered; what
// is on its disk or on its replicas is Redis' own matter.
//
// On an error nothing is known about any row: some may be written. The same call may be repeated until it succeeds; rows that an earlier
// attempt wrote are Equal then. A server that has lost the script (restart, SCRIPT FLUSH) is given it again without an error. Nothing else
// is retried, and there is no back-off: callers have them.
func (w *Writer) Write(ctx context.Context, rows []sink.Row, out []Outcome) error {
	start := time.Now()
	b := w.c.batches.Get().(*batch)
	defer w.c.release(b)
	for done := 0; done < len(rows); {
		n := min(len(rows)-done, w.c.cfg.PipelineRows)
		if err := w.pipeline(ctx, b, rows[done:done+n], out[done:done+n]); err != nil {
			return w.c.explain(fmt.Sprintf("write %d rows of %s v%d to redis", len(rows), w.spec.Group, w.spec.Version), err)
		}
		done += n
	}
	w.c.metrics.writeSeconds.Observe(time.Since(start).Seconds())
	w.c.metrics.outcomes(out[:len(rows)])
	return nil
}

// pipeline makes one round trip, or a second one for scripts that the server did not have.
func (w *Writer) pipeline(ctx context.Context, b *batch, rows []sink.Row, out []Outcome) error {
	w.c.metrics.pipelineRows.Observe(float64(len(rows)))
	b.fill(w, rows)
	for attempt := 0; ; attempt++ {
		b.prepare(ctx)
		pipe := w.c.rdb.Pipeline()
		if err := pipe.BatchProcess(ctx, b.cmds...); err != nil {
			return err
		}
		// Exec returns the first command's error, or the connection's, which the commands need not have.
		_, err := pipe.Exec(ctx)
		if err != nil && !isNoScript(err) {
			return err
		}
		missing, otherErr := b.collect(out)
		if missing == 0 || otherErr != nil {
			return otherErr
		}
		if attempt == 3 {
			return fmt.Errorf("the server forgets the script as soon as it is given it: %w", err)
		}
		if err := w.c.load(ctx, writeScript); err != nil {
			return fmt.Errorf("load the script: %w", err)
		}
	}
}

// batch is the memory of one call to Write. Arguments are pointers to strings over one copy of the arena: go-redis takes its arguments as
// interface values, and a pointer is one without an allocation.
type batch struct {
	arena   []byte
	ends    []int    // of each text in arena
	starts  []int    // of each row in ends and texts, and the end of the last
	texts   []string // over a copy of arena
	args    []any    // of all scripts
	scripts []script
	cmds    []goredis.Cmder // of the scripts that are not done
}

// script is one EVALSHA for rows[first:first+rows] with args[from:to].
type script struct {
	first, rows int
	from, to    int
	cmd         *goredis.StringCmd
	done        bool
}

func (c *Client) release(b *batch) {
	if cap(b.arena) > maxBatchBytes {
		return
	}
	clear(b.texts) // so that the copy of the arena can go
	clear(b.scripts)
	clear(b.cmds)
	c.batches.Put(b)
}

// fill lays out the arguments of rows. The texts of a row are, in this order: key, version, as-of, valid-until, places of nulls, values.
func (b *batch) fill(w *Writer, rows []sink.Row) {
	b.arena, b.ends, b.starts, b.scripts = b.arena[:0], b.ends[:0], b.starts[:0], b.scripts[:0]
	for first := 0; first < len(rows); {
		s := script{first: first}
		for start := len(b.arena); s.rows < w.rows && first < len(rows) && (s.rows == 0 || len(b.arena)-start < scriptBytes); first++ {
			b.row(w, &rows[first])
			s.rows++
		}
		b.scripts = append(b.scripts, s)
	}
	b.starts = append(b.starts, len(b.ends))
	all := string(b.arena)
	if cap(b.texts) < len(b.ends) {
		b.texts = make([]string, len(b.ends)+len(b.ends)/4)
	}
	b.texts = b.texts[:len(b.ends)]
	start := 0
	for i, end := range b.ends {
		b.texts[i] = all[start:end]
		start = end
	}
	b.layout(w)
}

func (b *batch) row(w *Writer, r *sink.Row) {
	b.starts = append(b.starts, len(b.ends))
	a := append(append(b.arena, w.keyPrefix...), r.Entity...)
	ends := append(b.ends, len(a))
	a = r.Version.AppendText(a)
	ends = append(ends, len(a))
	a = strconv.AppendInt(a, r.Version.AsOf, 10)
	ends = append(ends, len(a))
	if r.ValidUntil != sink.Never {
		a = strconv.AppendInt(a, r.ValidUntil, 10)
	}
	ends = append(ends, len(a))
	for i, first := 0, true; i < len(r.Values); i++ {
		if r.Values[i].IsNull() {
			if !first {
				a = append(a, ',')
			}
			a, first = strconv.AppendInt(a, int64(i+1), 10), false
		}
	}
	ends = append(ends, len(a))
	for i := range r.Values {
		if !r.Values[i].IsNull() {
			a = sink.AppendText(a, r.Values[i], w.spec.Features[i].Type)
			ends = append(ends, len(a))
		}
	}
	b.arena, b.ends = a, ends
}

// layout builds each script's arguments: EVALSHA sha keys… head… rows…
func (b *batch) layout(w *Writer) {
	b.args = b.args[:0]
	for i := range b.scripts {
		s := &b.scripts[i]
		s.from = len(b.args)
		b.args = append(b.args, "evalsha", writeScript.Hash(), s.rows)
		for r := s.first; r < s.first+s.rows; r++ {
			b.args = append(b.args, &b.texts[b.starts[r]])
		}
		b.args = append(b.args, w.head...)
		for r := s.first; r < s.first+s.rows; r++ {
			for j := b.starts[r] + 1; j < b.starts[r+1]; j++ {
				b.args = append(b.args, &b.texts[j])
			}
		}
		s.to = len(b.args)
	}
}

// prepare makes the commands of the scripts that are not done.
func (b *batch) prepare(ctx context.Context) {
	b.cmds = b.cmds[:0]
	for i := range b.scripts {
		if s := &b.scripts[i]; !s.done {
			s.cmd = goredis.NewStringCmd(ctx, b.args[s.from:s.to:s.to]...)
			s.cmd.SetFirstKeyPos(3)
			b.cmds = append(b.cmds, s.cmd)
		}
	}
}

// collect reads the answers. missing counts the scripts that the server did not have; any other error comes first.
func (b *batch) collect(out []Outcome) (missing int, err error) {
	for i := range b.scripts {
		s := &b.scripts[i]
		if s.done {
			continue
		}
		answer, e := s.cmd.Result()
		switch {
		case isNoScript(e):
			missing++
			continue
		case e != nil && err == nil:
			err = e
		case e == nil && len(answer) != s.rows:
			err = fmt.Errorf("the script answered %d outcomes for %d rows", len(answer), s.rows)
		}
		if err != nil {
			continue
		}
		for j := range s.rows {
			if out[s.first+j] = Outcome(answer[j] - '0'); out[s.first+j] > Split {
				return 0, fmt.Errorf("the script answered %q", answer)
			}
		}
		s.done = true
	}
	return missing, err
}

// Versions reads the stored version of each entity, in one pipeline: ok[i] is false where entities[i] is absent.
func (w *Writer) Versions(ctx context.Context, entities [][]byte) (versions []sink.Version, ok []bool, err error) {
	pipe := w.c.rdb.Pipeline()
	cmds := make([]*goredis.StringCmd, len(entities))
	for i, e := range entities {
		cmds[i] = pipe.HGet(ctx, w.keyPrefix+string(e), "_v")
	}
	if _, err := pipe.Exec(ctx); err != nil && err != goredis.Nil {
		return nil, nil, w.c.explain(fmt.Sprintf("read %d versions of %s v%d from redis", len(entities), w.spec.Group, w.spec.Version), err)
	}
	versions, ok = make([]sink.Version, len(entities)), make([]bool, len(entities))
	for i, cmd := range cmds {
		text, err := cmd.Bytes()
		if err == goredis.Nil {
			continue
		}
		if err != nil {
			return nil, nil, w.c.explain(fmt.Sprintf("read the version of entity %q from redis", entities[i]), err)
		}
		if versions[i], err = sink.ParseVersion(text); err != nil {
			return nil, nil, fmt.Errorf("entity %q in redis: %w", entities[i], err)
		}
		ok[i] = true
	}
	return versions, ok, nil
}
