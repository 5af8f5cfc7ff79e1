//go:build unix

package e2e

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/freshet-dev/freshet/sink"
	"github.com/freshet-dev/freshet/sink/parquet"
	"github.com/freshet-dev/freshet/test/oracle"
)

// judge holds what a world has come to against the oracle. It keeps all that is wrong, by kind.
type judge struct {
	w         *world
	histories map[string][]*oracle.History // by group: of each partition
	log       map[string][]logRow          // by key: an entity's rows, in order of available_at
	manifests []*parquet.Manifest
	rows      int
	compared  int
	values    int

	mu    sync.Mutex
	wrong map[string][]string // guarded by mu
}

// logRow is one row of the log.
type logRow struct {
	version   sink.Version
	available int64 // µs
	values    string
	cause     sink.Cause
}

func (j *judge) blame(what, format string, args ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.wrong[what] = append(j.wrong[what], fmt.Sprintf(format, args...))
}

// sentence fails the test for all that is wrong, with the first few of each kind.
func (j *judge) sentence() {
	j.w.t.Helper()
	for what, list := range j.wrong {
		j.w.t.Errorf("%s: %d times: %s", what, len(list), strings.Join(list[:min(len(list), 3)], "\n  "))
	}
}

// admit reads the topics back and lets the oracle decide on every record.
func (w *world) admit() *judge {
	w.t.Helper()
	j := &judge{w: w, histories: map[string][]*oracle.History{}, log: map[string][]logRow{}, wrong: map[string][]string{}}
	records := map[string][][]oracle.Record{}
	for _, topic := range topics {
		records[topic] = make([][]oracle.Record, partitions)
		for _, r := range w.read(topic) {
			records[topic][r.Partition] = append(records[topic][r.Partition], oracle.Record{Offset: r.Offset, Timestamp: r.Timestamp.UnixMilli(),
				Key: r.Key, Value: r.Value, Partition: r.Partition, Partitions: partitions})
		}
	}
	for _, g := range w.groups {
		for p := range partitions {
			h, err := g.oracle.Admit(records[g.topic][p], func(id int32) []byte { return w.writers[id] })
			if err != nil {
				w.t.Fatal(err)
			}
			j.histories[g.name] = append(j.histories[g.name], h)
		}
	}
	return j
}

// read reads a topic to its end as it is now.
func (w *world) read(topic string) (records []*kgo.Record) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), hang)
	defer cancel()
	cl, err := kgo.NewClient(kgo.SeedBrokers(w.brokers...), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		w.t.Fatal(err)
	}
	defer cl.Close()
	left := w.endsOf(ctx, cl, topic)
	for len(left) > 0 {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			w.t.Fatalf("read %s: %v", topic, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			records = append(records, r)
			if end, ok := left[r.Partition]; ok && r.Offset+1 >= end {
				delete(left, r.Partition)
			}
		})
	}
	return records
}

// judgeOnline reports whether every entity's hash holds the oracle's values at its as-of, over all events, and none is overdue; what is not,
// where it is wanted to.
func (j *judge) judgeOnline(blame bool) (right bool) {
	right = true
	fail := func(what, format string, args ...any) {
		right = false
		if blame {
			j.blame(what, format, args...)
		}
	}
	j.values = 0
	for _, g := range j.w.groups {
		tick := time.Now().UnixMilli() / g.oracle.Tick * g.oracle.Tick
		for p, h := range j.histories[g.name] {
			for _, entity := range h.Entities() {
				hash := j.hash(g.prefix + entity)
				asOf, _ := strconv.ParseInt(hash["_t"], 10, 64) // an entity that is not there differs in its values
				want := text(g, h.Values(entity, asOf, oracle.Never))
				if got := hashText(hash); got != want || hash["_p"] != strconv.Itoa(p) {
					fail("Redis differs from the oracle", "%s%s at %d: %q, not %q (version %s, partition %s)", g.prefix, entity, asOf, got, want, hash["_v"], hash["_p"])
				}
				if until, err := strconv.ParseInt(hash["_u"], 10, 64); err == nil && until <= tick-2000 && time.Now().UnixMilli() > tick+2000 {
					fail("a change was due and did not come", "%s%s: valid until %d, the tick %d has passed", g.prefix, entity, until, tick)
				}
				j.values += len(g.oracle.Features)
				if !right && !blame {
					return false
				}
			}
		}
	}
	return right
}

func (j *judge) hash(key string) map[string]string {
	hash, err := j.w.rdb.HGetAll(context.Background(), key).Result()
	if err != nil {
		j.blame("Redis cannot be read", "%v", err)
	}
	return hash
}

// awaitOnline waits until Redis is right.
func (j *judge) awaitOnline(what string) {
	j.w.t.Helper()
	j.w.eventually(what, func() bool { return j.judgeOnline(false) }, func() string {
		j.judgeOnline(true)
		j.sentence()
		return "see above"
	})
}

// text is values as hashText has them.
func text(g *group, values []oracle.Value) string {
	hash := map[string]string{}
	for i, v := range values {
		if !v.Null {
			hash[g.oracle.Features[i].Name] = v.Text
		}
	}
	return hashText(hash)
}

func (w *world) bucket() sink.Bucket {
	return sink.Places{Log: sink.NewDir(sink.OS, filepath.Join(w.dir, "data", "log")), Rest: sink.NewDir(sink.OS, filepath.Join(w.dir, "data", "checkpoints"))}
}

// readLog reads the committed parts, and the rows that are in none yet, of a service that has left.
func (j *judge) readLog() {
	j.w.t.Helper()
	ctx := context.Background()
	for _, g := range j.w.groups {
		for p := range int32(partitions) {
			m, err := parquet.Latest(ctx, j.w.bucket(), g.name, g.version, g.topic, p)
			if err != nil {
				j.w.t.Fatal(err)
			}
			parts, err := parquet.ShardParts(ctx, j.w.bucket(), m)
			if err != nil {
				j.w.t.Fatal(err)
			}
			j.manifests = append(j.manifests, m)
			j.tile(m, parts)
			for _, part := range parts {
				if err := j.readPart(g, part); err != nil {
					j.w.t.Fatal(err)
				}
			}
			if err := j.readSegment(g, m); err != nil {
				j.w.t.Fatal(err)
			}
		}
	}
	for _, rows := range j.log {
		slices.SortFunc(rows, func(a, b logRow) int { return int(a.available - b.available) })
	}
}

// tile checks that a shard's parts stand for its offsets without gap or overlap.
func (j *judge) tile(m *parquet.Manifest, parts []parquet.Part) {
	slices.SortFunc(parts, func(a, b parquet.Part) int { return strings.Compare(path.Base(a.Name), path.Base(b.Name)) })
	at := int64(0)
	for _, p := range parts {
		if p.OffsetStart != at {
			j.blame("parts do not tile the offsets", "%s begins at %d, the one before ends at %d", p.Name, p.OffsetStart, at)
		}
		at = p.OffsetEnd
	}
	if at != m.OffsetsTiled || at > m.Position {
		j.blame("parts do not tile the offsets", "%s/%d: they end at %d, manifest %d says %d, its position is %d", m.Topic, m.Partition, at, m.Seq, m.OffsetsTiled, m.Position)
	}
}

func (j *judge) readPart(g *group, part parquet.Part) error {
	r, err := parquet.OpenPart(sink.OS, filepath.Join(j.w.dir, "data", part.Name), part)
	if err != nil {
		return err
	}
	err = r.Rows(func(row *sink.Row) error { j.add(g, row); return nil })
	return errors.Join(err, r.Close())
}

// readSegment reads the rows that the newest manifest has in no part, from the copy that lies with the checkpoints.
func (j *judge) readSegment(g *group, m *parquet.Manifest) error {
	name := filepath.Join(j.w.dir, "data", "checkpoints", "state", g.name, fmt.Sprintf("v%d", g.version), m.Topic, fmt.Sprint(m.Partition), "segments",
		fmt.Sprintf("%s-%d", strings.TrimSuffix(m.Segment.Name, ".seg"), m.Segment.Length))
	data, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	if int64(len(data)) != m.Segment.Length {
		j.blame("a segment goes on past the last manifest", "%s: %d bytes, not %d", name, len(data), m.Segment.Length)
	}
	mine := filepath.Join(j.w.t.TempDir(), "segment") // it may be a link
	if err := os.WriteFile(mine, data, 0o644); err != nil {
		return err
	}
	h, err := parquet.ReadHeader(sink.OS, mine)
	if err != nil {
		return err
	}
	seg, rec, err := parquet.OpenSegment(sink.OS, mine, h)
	if err != nil {
		return err
	}
	if len(rec.InDoubt) > 0 {
		j.blame("a segment has rows in doubt", "%s: %d", name, len(rec.InDoubt))
	}
	err = seg.Each(func(row *sink.Row) error { j.add(g, row); return nil })
	return errors.Join(err, seg.Close())
}

func (j *judge) add(g *group, row *sink.Row) {
	values := make([]oracle.Value, len(row.Values))
	for i, v := range row.Values {
		if values[i].Null = v.IsNull(); !v.IsNull() {
			values[i].Text = string(sink.AppendText(nil, v, g.spec.Features[i].Type))
		}
	}
	key := g.prefix + string(row.Entity)
	j.log[key] = append(j.log[key], logRow{row.Version, row.AvailableAt, text(g, values), row.Cause})
	j.rows++
}

// judgeLog holds each entity's rows against the laws and, for one entity in sample, every row against the oracle.
func (j *judge) judgeLog(sample uint32) {
	var wg sync.WaitGroup
	work := make(chan func())
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() { // ended by close of work
			for do := range work {
				do()
			}
		})
	}
	for _, g := range j.w.groups {
		for _, h := range j.histories[g.name] {
			for _, entity := range h.Entities() {
				rows := j.log[g.prefix+entity]
				j.laws(g, entity, rows)
				f := fnv.New32a()
				f.Write([]byte(entity))
				if f.Sum32()%sample != 0 {
					continue
				}
				j.compared += len(rows)
				work <- func() {
					for _, r := range rows {
						if want := text(g, h.Values(entity, r.version.AsOf, r.version.Offset)); want != r.values {
							j.blame("a log row differs from the oracle", "%s%s %+v: %q, not %q", g.prefix, entity, r.version, r.values, want)
						}
					}
				}
			}
		}
	}
	close(work)
	wg.Wait()
}

// laws checks what holds between an entity's rows: available_at and version rise together, as-of never goes back, and the last is what Redis holds.
func (j *judge) laws(g *group, entity string, rows []logRow) {
	key := g.prefix + entity
	for i := 1; i < len(rows); i++ {
		a, b := rows[i-1], rows[i]
		switch {
		case a.version == b.version:
			j.blame("one version has two log rows", "%s %+v, available at %d and %d (%v, %v)", key, a.version, a.available, b.available, a.cause, b.cause)
		case b.available <= a.available:
			j.blame("available_at does not rise", "%s: %+v at %d, %+v at %d", key, a.version, a.available, b.version, b.available)
		case a.version.Compare(b.version) > 0:
			j.blame("a later available_at has an older version", "%s: %+v at %d, %+v at %d", key, a.version, a.available, b.version, b.available)
		case b.version.AsOf < a.version.AsOf:
			j.blame("as-of goes back", "%s: %+v, then %+v", key, a.version, b.version)
		}
	}
	hash := j.hash(key)
	if len(rows) == 0 {
		j.blame("an entity has no log row", "%s, in Redis at version %s", key, hash["_v"])
		return
	}
	last := rows[len(rows)-1]
	if v := string(last.version.AppendText(nil)); v != hash["_v"] || last.values != hashText(hash) {
		j.blame("Redis is not the last log row", "%s: %s %q in Redis, %s %q in the log", key, hash["_v"], hashText(hash), v, last.values)
	}
}

// judgeLetters holds the dead-letter topics against the verdicts: each refused record is there at least once, with its reason, and no other.
func (j *judge) judgeLetters() {
	got, want := map[string]bool{}, map[string]bool{}
	for _, topic := range topics {
		for _, r := range j.w.read(topic + ".dlq") {
			got[letterName(r)] = true
		}
	}
	for _, g := range j.w.groups {
		for p, h := range j.histories[g.name] {
			for i, v := range h.Verdicts {
				if v.Accepted() || v.Reason == oracle.Filtered || v.Reason == oracle.Duplicate {
					continue
				}
				name := fmt.Sprintf("%s/%d/%s/%d/%d/%s", g.name, g.version, g.topic, p, h.Records[i].Offset, v.Reason)
				want[name] = true
				if !got[name] {
					j.blame("a refused record is not in the dead-letter topic", "%s", name)
				}
			}
		}
	}
	for name := range got {
		if !want[name] {
			j.blame("a dead letter that should not be", "%s", name)
		}
	}
}

// letterName names a dead letter by the headers that say where it came from.
func letterName(r *kgo.Record) string {
	of := map[string]string{}
	for _, h := range r.Headers {
		of[h.Key] = string(h.Value)
	}
	var parts []string
	for _, key := range []string{"group", "version", "topic", "partition", "offset", "reason"} {
		parts = append(parts, of["freshet-"+key])
	}
	return strings.Join(parts, "/")
}

// uncommitted returns the parts that a reader's glob finds and that no manifest has committed.
func (w *world) uncommitted() (found []string) {
	w.t.Helper()
	names, err := filepath.Glob(filepath.Join(w.dir, "data", "log", "*", "v*", "date=*", "*.parquet"))
	if err != nil {
		w.t.Fatal(err)
	}
	committed := map[string]bool{} // listed after the glob: what it found was committed before
	for _, g := range w.groups {
		parts, err := parquet.Parts(context.Background(), w.bucket(), g.name, g.version)
		if err != nil {
			w.t.Fatal(err)
		}
		for _, p := range parts {
			committed[filepath.Join(w.dir, "data", p.Name)] = true
		}
	}
	for _, name := range names {
		if !committed[name] {
			found = append(found, name)
		}
	}
	return found
}
