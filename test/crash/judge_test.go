package crash

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/freshet-dev/freshet/processor"
	"github.com/freshet-dev/freshet/processor/kafka"
	"github.com/freshet-dev/freshet/sink"
	"github.com/freshet-dev/freshet/sink/parquet"
	"github.com/freshet-dev/freshet/test/oracle"
)

// judge holds what a world has come to against the oracle. It keeps the first few of each kind of what is wrong.
type judge struct {
	w         *world
	disk      *disk
	now       int64                        // ms: the instant all values are to be right at
	histories map[string][]*oracle.History // by group version: of each partition
	online    []expected
	log       map[string][]logRow // by key: an entity's rows, in order of available_at
	letters   map[string]bool     // dead letters, by letterName
	rows      int
	compared  int

	mu    sync.Mutex
	wrong map[string][]string // guarded by mu
}

// logRow is one row of the log.
type logRow struct {
	version   sink.Version
	available int64
	values    string
	texts     []oracle.Value
	cause     sink.Cause
}

func (j *judge) blame(what, format string, args ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.wrong[what] = append(j.wrong[what], fmt.Sprintf(format, args...))
}

// verdict is all that is wrong, nil if nothing is.
func (j *judge) verdict() error {
	var errs []error
	for what, list := range j.wrong {
		errs = append(errs, fmt.Errorf("%s: %d times: %s", what, len(list), strings.Join(list[:min(len(list), 3)], "; ")))
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(errs...)
}

// admit reads the topics back and lets the oracle decide on every record.
func (w *world) admit(ctx context.Context) (*judge, error) {
	j := &judge{w: w, histories: map[string][]*oracle.History{}, log: map[string][]logRow{}, wrong: map[string][]string{}}
	records := map[string][][]oracle.Record{}
	for _, topic := range topics {
		records[topic] = make([][]oracle.Record, partitions)
		err := w.read(ctx, topic, func(r *kgo.Record) {
			records[topic][r.Partition] = append(records[topic][r.Partition], oracle.Record{Offset: r.Offset, Timestamp: r.Timestamp.UnixMilli(),
				Key: r.Key, Value: r.Value, Partition: r.Partition, Partitions: partitions})
		})
		if err != nil {
			return nil, err
		}
	}
	for _, g := range w.groups {
		for p := range partitions {
			h, err := g.oracle.Admit(records[g.plan.Source.Topic][p], func(id int32) []byte {
				if id != 1 {
					return nil
				}
				return []byte(schemaText)
			})
			if err != nil {
				return nil, err
			}
			j.histories[g.prefix] = append(j.histories[g.prefix], h)
		}
	}
	return j, nil
}

// read reads a topic to its end as it is now.
func (w *world) read(ctx context.Context, topic string, fn func(*kgo.Record)) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(w.kafka.Brokers...), kgo.ConsumeTopics(topic), kgo.ClientID("judge"),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		return err
	}
	defer cl.Close()
	left, err := w.ends(ctx, topic)
	if err != nil {
		return err
	}
	for len(left) > 0 {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			return err
		}
		fetches.EachRecord(func(r *kgo.Record) {
			fn(r)
			if end, ok := left[r.Partition]; ok && r.Offset+1 >= end {
				delete(left, r.Partition)
			}
		})
	}
	return nil
}

// ends returns the end offsets of a topic's partitions that are not empty.
func (w *world) ends(ctx context.Context, topic string) (map[int32]int64, error) {
	left := map[int32]int64{}
	info := w.cluster.TopicInfo(topic)
	if info == nil {
		return nil, fmt.Errorf("no topic %s", topic)
	}
	for p := range int32(w.partitionsOf(topic)) {
		if pi := w.cluster.PartitionInfo(topic, p); pi != nil && pi.HighWatermark > 0 {
			left[p] = pi.HighWatermark
		}
	}
	return left, ctx.Err()
}

func (w *world) partitionsOf(topic string) int {
	if strings.HasSuffix(topic, ".dlq") {
		return 1
	}
	return partitions
}

// letterOf names a dead letter by the headers that say where it came from.
func letterOf(r *kgo.Record) string {
	of := map[string]string{}
	for _, h := range r.Headers {
		of[h.Key] = string(h.Value)
	}
	return strings.Join([]string{of["freshet-group"], of["freshet-version"], of["freshet-partition"], of["freshet-offset"], of["freshet-reason"]}, "/")
}

// allLetters reads the dead-letter topics.
func (w *world) allLetters(ctx context.Context) (map[string]bool, error) {
	all := map[string]bool{}
	for _, topic := range topics {
		if err := w.read(ctx, topic+".dlq", func(r *kgo.Record) { all[letterOf(r)] = true }); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// judgeLetters holds the dead-letter topics against the verdicts: each refused record is there at least once, with its reason, and no other.
func (j *judge) judgeLetters() {
	want := map[string]bool{}
	for _, g := range j.w.groups {
		for p, h := range j.histories[g.prefix] {
			for i, v := range h.Verdicts {
				if v.Accepted() || v.Reason == oracle.Filtered || v.Reason == oracle.Duplicate {
					continue
				}
				name := fmt.Sprintf("%s/%d/%d/%d/%s", g.plan.Group, g.plan.Version, p, h.Records[i].Offset, v.Reason)
				want[name] = true
				if !j.letters[name] {
					j.blame("a refused record is not in the dead-letter topic", "%s", name)
				}
			}
		}
	}
	for name := range j.letters {
		if !want[name] {
			j.blame("a dead letter that should not be", "%s", name)
		}
	}
}

// expected is what Redis is to hold of an entity at the instant now.
type expected struct {
	key, values, partition string
	ended                  bool // nothing is left of it
}

// expect works out what Redis is to hold at the instant now, over all events.
func (j *judge) expect(now int64) {
	j.now = now
	for _, g := range j.w.groups {
		nothing := j.text(g, g.nothing())
		for p, h := range j.histories[g.prefix] {
			for _, entity := range h.Entities() {
				values := j.text(g, h.Values(entity, now, oracle.Never))
				j.online = append(j.online, expected{g.prefix + entity, values, strconv.Itoa(p), !g.plan.HasLifetime && values == nothing})
			}
		}
	}
}

// judgeOnline returns how Redis differs from what is expected, as far as the first few differences.
func (j *judge) judgeOnline() error {
	var errs []error
	for _, e := range j.online {
		hash := j.hash(e.key)
		if len(hash) == 0 && e.ended {
			continue // it ended before the version was live
		}
		if hashText(hash) != e.values || hash["_p"] != e.partition {
			errs = append(errs, fmt.Errorf("Redis differs from the oracle: %s at %d: %v, not %q", e.key, j.now, hash, e.values))
		}
		if len(errs) == 3 {
			break
		}
	}
	return errors.Join(errs...)
}

func (j *judge) hash(key string) map[string]string {
	hash, err := j.w.sights.rdb.HGetAll(context.Background(), key).Result()
	if err != nil {
		j.blame("Redis cannot be read", "%v", err)
	}
	return hash
}

// text is values as hashText has them.
func (j *judge) text(g *group, values []oracle.Value) string {
	hash := map[string]string{}
	for i, v := range values {
		if !v.Null {
			hash[g.oracle.Features[i].Name] = v.Text
		}
	}
	return hashText(hash)
}

// readLog reads the committed parts and the rows that are in none yet, and checks how the parts tile the offsets.
func (j *judge) readLog(ctx context.Context, d *disk, data []string) error {
	j.disk = d
	bucket := sink.NewDir(d, bucketDir)
	for _, g := range j.w.groups {
		for p := range int32(partitions) {
			m, err := parquet.Latest(ctx, bucket, g.plan.Group, g.plan.Version, g.plan.Source.Topic, p)
			if err != nil {
				return err
			}
			parts, err := parquet.ShardParts(ctx, bucket, m)
			if err != nil {
				return err
			}
			j.tile(m, parts)
			for _, part := range parts {
				if err := j.readPart(g, part); err != nil {
					return err
				}
			}
			if err := j.readSegment(g, m, data); err != nil {
				return err
			}
		}
	}
	for _, rows := range j.log {
		slices.SortFunc(rows, func(a, b logRow) int { return int(a.available - b.available) })
	}
	return nil
}

// tile checks that a shard's parts stand for its offsets without gap or overlap.
func (j *judge) tile(m *parquet.Manifest, parts []parquet.Part) {
	slices.SortFunc(parts, func(a, b parquet.Part) int { return strings.Compare(filepath.Base(a.Name), filepath.Base(b.Name)) })
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
	r, err := parquet.OpenPart(j.disk, filepath.Join(bucketDir, part.Name), part)
	if err != nil {
		return err
	}
	err = r.Rows(func(row *sink.Row) error { j.add(g, row); return nil })
	return errors.Join(err, r.Close())
}

// readSegment reads the rows that the newest manifest has in no part.
func (j *judge) readSegment(g *group, m *parquet.Manifest, data []string) error {
	var path string
	var h parquet.Header
	err := errors.New("no data directory")
	for _, dir := range data {
		path = filepath.Join(dir, "segments", g.plan.Group, fmt.Sprintf("v%d", g.plan.Version), m.Topic, fmt.Sprint(m.Partition), m.Segment.Name)
		if h, err = parquet.ReadHeader(j.disk, path); err == nil {
			break
		}
	}
	if err != nil {
		return err
	}
	seg, rec, err := parquet.OpenSegment(j.disk, path, h)
	if err != nil {
		return err
	}
	if seg.Len() != m.Segment.Length || len(rec.InDoubt) > 0 {
		j.blame("a segment goes on past the last manifest", "%s: %d bytes, not %d, %d rows in doubt", path, seg.Len(), m.Segment.Length, len(rec.InDoubt))
	}
	err = seg.Each(func(row *sink.Row) error { j.add(g, row); return nil })
	return errors.Join(err, seg.Close())
}

func (j *judge) add(g *group, row *sink.Row) {
	spec := processor.SpecOf(g.plan)
	r := logRow{version: row.Version, available: row.AvailableAt, cause: row.Cause, texts: make([]oracle.Value, len(row.Values))}
	for i, v := range row.Values {
		if r.texts[i].Null = v.IsNull(); !v.IsNull() {
			r.texts[i].Text = string(sink.AppendText(nil, v, spec.Features[i].Type))
		}
	}
	r.values = j.text(g, r.texts)
	key := g.prefix + string(row.Entity)
	j.log[key] = append(j.log[key], r)
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
		for _, h := range j.histories[g.prefix] {
			for _, entity := range h.Entities() {
				rows := j.log[g.prefix+entity]
				j.laws(g, entity, rows)
				if f := fnv.New32a(); sample > 1 {
					f.Write([]byte(entity))
					if f.Sum32()%sample != 0 {
						continue
					}
				}
				j.compared += len(rows)
				work <- func() {
					for _, r := range rows {
						if want := j.text(g, h.Values(entity, r.version.AsOf, r.version.Offset)); want != r.values {
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
	if len(rows) == 0 && len(hash) == 0 && !g.plan.HasLifetime && g.plan.Source.History != "rows" {
		return // it ended in history
	}
	if len(rows) == 0 {
		j.blame("an entity has no log row", "%s, in Redis at version %s", key, hash["_v"])
		return
	}
	last := rows[len(rows)-1]
	v := string(last.version.AppendText(nil))
	if j.w.zombies && v < hash["_v"] {
		v = hash["_v"] // a former owner that goes on makes a decay row at another offset, of the same values, which are in no log
	}
	if v != hash["_v"] || last.values != hashText(hash) {
		j.blame("Redis is not the last log row", "%s: %s %q in Redis, %s %q in the log", key, hash["_v"], hashText(hash), v, last.values)
	}
}

// judgeSights looks for each value that a reader saw in the log. What was seen in a life that ended in a loss of power need not be there:
// the segment is synced by checkpoints only. But it must be right.
func (j *judge) judgeSights() (seen, lost int) {
	for _, text := range j.w.sights.found() {
		j.blame("a reader saw what it must not", "%s", text)
	}
	for key, list := range j.w.sights.all {
		logged := make(map[string]string, len(j.log[key]))
		for _, r := range j.log[key] {
			logged[string(r.version.AppendText(nil))] = r.values
		}
		for _, s := range list {
			seen++
			values, ok := logged[s.version]
			if !ok && j.w.lostPower(s.life) {
				lost++
				values, ok = j.recompute(key, s.version), true
			}
			if !ok {
				j.blame("a reader saw what is not in the log", "%s %s %q in %s, which ended at %q", key, s.version, s.values, s.life, j.w.endOf(s.life))
			} else if values != s.values {
				j.blame("a reader saw other values than are right", "%s %s: %q, not %q", key, s.version, s.values, values)
			}
		}
	}
	return seen, lost
}

// recompute works out the values that an entity has at a version.
func (j *judge) recompute(key, version string) string {
	v, err := sink.ParseVersion([]byte(version))
	if err != nil {
		return err.Error()
	}
	for _, g := range j.w.groups {
		if entity, ok := strings.CutPrefix(key, g.prefix); ok {
			p := kafka.Murmur2Partition([]byte(entity), partitions)
			return j.text(g, j.histories[g.prefix][p].Values(entity, v.AsOf, v.Offset))
		}
	}
	return ""
}

// uncommitted returns the parts that a reader's glob finds on a disk and that no manifest has committed.
func uncommitted(ctx context.Context, d *disk, w *world) ([]string, error) {
	bucket := sink.NewDir(d, bucketDir)
	names, err := bucket.List(ctx, "log/", "")
	if err != nil {
		return nil, err
	}
	committed := map[string]bool{}
	for _, g := range w.groups {
		parts, err := parquet.Parts(ctx, bucket, g.plan.Group, g.plan.Version)
		if err != nil {
			return nil, err
		}
		for _, p := range parts {
			committed[p.Name] = true
		}
	}
	return slices.DeleteFunc(names, func(name string) bool { return committed[name] || !strings.HasSuffix(name, ".parquet") }), nil
}

// settle waits until the lives' shards have caught up: Redis is right at an instant after the load has ended and all short windows have passed.
func (w *world) settle(ctx context.Context, j *judge, lives ...*life) error {
	j.expect(time.Now().UnixMilli() + 3000)
	begun := time.Now()
	for {
		for _, l := range lives {
			if err := l.complain(); err != nil {
				return err
			}
		}
		err := j.judgeOnline()
		if err == nil && time.Now().UnixMilli() > j.now+300 { // the next life's clock may be behind
			return nil
		}
		if time.Since(begun) > 15*time.Second {
			var all []processor.Status
			for _, l := range lives {
				all = append(all, l.service.Statuses()...)
			}
			return fmt.Errorf("not settled 15 s after the last event: %w; %s; shards: %+v", err, j.behind(ctx, lives[0]), all)
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// behind tells the story of the first entity that Redis has not right: its last log rows, its events, and how the lives ended.
func (j *judge) behind(ctx context.Context, l *life) string {
	i := slices.IndexFunc(j.online, func(e expected) bool {
		hash := j.hash(e.key)
		return hashText(hash) != e.values && (len(hash) > 0 || !e.ended)
	})
	if i < 0 {
		return "it is right by now"
	}
	key := j.online[i].key
	if err := errors.Join(l.stop(), j.readLog(ctx, newDisk(l.disk.mem, func(operation) {}), []string{dataDir})); err != nil {
		return err.Error()
	}
	text := "log rows of " + key
	rows := j.log[key]
	for _, r := range rows[max(0, len(rows)-4):] {
		text += fmt.Sprintf("\n  %+v available %d %v: %s", r.version, r.available, r.cause, r.values)
	}
	for _, g := range j.w.groups {
		entity, ok := strings.CutPrefix(key, g.prefix)
		if !ok {
			continue
		}
		h := j.histories[g.prefix][kafka.Murmur2Partition([]byte(entity), partitions)]
		for i, v := range h.Verdicts {
			if v.Entity == entity {
				text += fmt.Sprintf("\n  event %d %s time %d clock %d", h.Records[i].Offset, v.Reason, v.Time, v.Clock)
			}
		}
	}
	return text + j.w.story()
}

// story is how the lives ended.
func (w *world) story() (text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, l := range slices.SortedFunc(maps.Values(w.members), func(a, b *life) int { return a.ended.Compare(b.ended) }) {
		text += fmt.Sprintf("\n  %s, clock %v off, kept %d %% of what was not synced, ended at %d: %s", l.name, l.skew, l.percent, l.ended.UnixMilli(), l.at)
	}
	return text
}
