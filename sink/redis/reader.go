package redis

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/freshet-dev/freshet/schemas"
	"github.com/freshet-dev/freshet/sink"
)

// Reader reads the features of one group version. It may be used by any number of goroutines. It reads from primaries only: a replica may
// lag, and an entity's version would go back from one read to the next.
type Reader struct {
	c         *Client
	name      string // of the group version, in errors
	progress  string // keys of the progress hashes, but for the partition
	keyPrefix string
	keys      []sink.Field // types of the entity's key fields; nil: not known
	columns   *columns     // nil: whatever the entity has
	typed     bool
	freshness time.Duration
}

// columns are the features that a call asked for.
type columns struct {
	names []string
	types []schemas.Type
	index map[string]int
	args  []any // the fields to read: the four of every row, then names
	found bool  // not asked for by name: what the entity has
}

// metaFields are the fields of every entity that are no features.
var metaFields = [...]string{"_v", "_t", "_u", "_p"}

func newColumns(fields []sink.Field) *columns {
	c := &columns{index: make(map[string]int, len(fields))}
	for _, f := range metaFields {
		c.args = append(c.args, f)
	}
	for i, f := range fields {
		c.names, c.types, c.args = append(c.names, f.Name), append(c.types, f.Type), append(c.args, f.Name)
		c.index[f.Name] = i
	}
	return c
}

// Reader returns a reader of spec's features, which knows their types. freshness is the group's freshness SLA: see Vector.Expired.
func (c *Client) Reader(spec sink.Spec, freshness time.Duration) *Reader {
	r := c.ReaderOf(spec.Group, spec.Version)
	r.keys, r.columns, r.typed, r.freshness = spec.Keys, newColumns(spec.Features), true, freshness
	return r
}

// ReaderOf returns a reader that needs no definitions: it reads the features named, or all that an entity has where none is named, and
// knows them as text only.
func (c *Client) ReaderOf(group string, version int, features ...string) *Reader {
	r := &Reader{
		c: c, name: fmt.Sprintf("%s v%d", group, version),
		keyPrefix: keyPrefix(c.cfg.Prefix, group, version), progress: progressPrefix(c.cfg.Prefix, group, version),
	}
	if len(features) > 0 {
		r.columns = newColumns(untyped(features))
	}
	return r
}

func untyped(names []string) []sink.Field {
	fields := make([]sink.Field, len(names))
	for i, n := range names {
		fields[i].Name = n
	}
	return fields
}

// GetFeatures reads all features of the reader for one entity, given by its key fields (see Entity), in one round trip.
func (r *Reader) GetFeatures(ctx context.Context, key ...any) (Vector, error) {
	entity, err := r.Entity(key...)
	if err != nil {
		return Vector{}, err
	}
	v, err := r.GetFeatureVectors(ctx, [][]byte{entity}, nil)
	if err != nil {
		return Vector{}, err
	}
	return v[0], nil
}

// GetFeatureVectors reads the named features, or all of the reader where features is nil, for each entity (its text, see Entity), in one
// round trip; on a cluster one to each node, at the same time. The i-th vector is entities[i]'s. All of a vector is of one version; an
// unknown entity is no error.
func (r *Reader) GetFeatureVectors(ctx context.Context, entities [][]byte, features []string) ([]Vector, error) {
	start := time.Now()
	cols, err := r.choose(features)
	if err != nil || len(entities) == 0 {
		return nil, err
	}
	act := "read " + r.name + " from redis"
	replies, err := r.fetch(ctx, entities, cols)
	if err != nil {
		return nil, r.c.explain(act, err)
	}
	vectors := make([]Vector, len(entities))
	var known int
	for i := range vectors {
		if vectors[i], err = r.vector(entities[i], cols, replies[i]); err != nil {
			return nil, fmt.Errorf("%s: entity %q: %w", act, entities[i], err)
		}
		if vectors[i].Known {
			known++
		}
	}
	r.c.metrics.readSeconds.Observe(time.Since(start).Seconds())
	r.c.metrics.entities[1].Add(float64(known))
	r.c.metrics.entities[0].Add(float64(len(entities) - known))
	return vectors, nil
}

// choose returns the columns of a call; nil means all that an entity has.
func (r *Reader) choose(features []string) (*columns, error) {
	if features == nil {
		return r.columns, nil
	}
	if !r.typed {
		return newColumns(untyped(features)), nil
	}
	fields := make([]sink.Field, len(features))
	for i, f := range features {
		j, ok := r.columns.index[f]
		if !ok {
			return nil, fmt.Errorf("%s has no feature %q; it has %s", r.name, f, strings.Join(r.columns.names, ", "))
		}
		fields[i] = sink.Field{Name: f, Type: r.columns.types[j]}
	}
	return newColumns(fields), nil
}

// fetch returns each entity's fields: in the order of cols.args, or names and values in turn where cols is nil. A missing field is nil. The
// answers are taken as they come on the wire: one allocation an entity instead of two a field.
func (r *Reader) fetch(ctx context.Context, entities [][]byte, cols *columns) ([][][]byte, error) {
	command, tail := "hgetall", []any(nil)
	if cols != nil {
		command, tail = "hmget", cols.args
	}
	keys := make([]string, len(entities))
	args := make([]any, 0, len(entities)*(2+len(tail)))
	cmds := make([]goredis.Cmder, len(entities))
	for i, e := range entities {
		keys[i] = r.keyPrefix + string(e)
		from := len(args)
		args = append(append(args, command, &keys[i]), tail...)
		cmd := goredis.NewRawCmd(ctx, args[from:len(args):len(args)]...)
		cmd.SetFirstKeyPos(1)
		cmds[i] = cmd
	}
	if err := r.exec(ctx, cmds); err != nil {
		return nil, err
	}
	replies := make([][][]byte, len(entities))
	var again []int // answered by an error: a slot that moved, or one to report
	for i, cmd := range cmds {
		raw := cmd.(*goredis.RawCmd).Val()
		if len(raw) > 0 && raw[0] == '-' {
			again = append(again, i)
			continue
		}
		var err error
		if replies[i], err = parseArray(raw, len(tail)); err != nil {
			return nil, err
		}
	}
	return replies, r.refetch(ctx, again, cmds, replies)
}

// refetch asks again for the entities that were answered by an error, by commands whose redirections to other nodes go-redis follows and
// whose errors it knows (a RawCmd's answer is never looked at).
func (r *Reader) refetch(ctx context.Context, again []int, first []goredis.Cmder, replies [][][]byte) error {
	if len(again) == 0 {
		return nil
	}
	cmds := make([]goredis.Cmder, len(again))
	for j, i := range again {
		cmd := goredis.NewSliceCmd(ctx, first[i].Args()...)
		cmd.SetFirstKeyPos(1)
		cmds[j] = cmd
	}
	if err := r.exec(ctx, cmds); err != nil {
		return err
	}
	for j, i := range again {
		values := cmds[j].(*goredis.SliceCmd).Val()
		replies[i] = make([][]byte, len(values))
		for k, v := range values {
			if s, ok := v.(string); ok {
				replies[i][k] = []byte(s)
			}
		}
	}
	return nil
}

func (r *Reader) exec(ctx context.Context, cmds []goredis.Cmder) error {
	pipe := r.c.rdb.Pipeline()
	if err := pipe.BatchProcess(ctx, cmds...); err != nil {
		return err
	}
	_, err := pipe.Exec(ctx)
	return err
}

// parseArray splits the wire form of an array of bulk strings (RESP2), of n elements or, where n is 0, any even number. The elements alias
// raw; a missing one is nil.
func parseArray(raw []byte, n int) ([][]byte, error) {
	count, rest, ok := parseLength(raw, '*')
	if !ok || count < 0 || n > 0 && count != n || n == 0 && count%2 != 0 || count > len(rest) {
		return nil, fmt.Errorf("answered %.40q, not an array of %d", raw, n)
	}
	out := make([][]byte, count)
	for i := range out {
		var size int
		if size, rest, ok = parseLength(rest, '$'); !ok || size >= 0 && size > len(rest)-2 {
			return nil, fmt.Errorf("answered %.40q in an array", rest)
		}
		if size >= 0 {
			out[i] = rest[:size:size]
			rest = rest[size+2:]
		}
	}
	return out, nil
}

// parseLength reads the line of a length after its type's byte: "$12\r\n". −1 stands for nil.
func parseLength(b []byte, kind byte) (n int, rest []byte, ok bool) {
	if len(b) == 0 || b[0] != kind {
		return 0, nil, false
	}
	for i := 1; i+1 < len(b); i++ {
		if b[i] == '\r' {
			n, err := strconv.Atoi(string(b[1:i]))
			return n, b[i+2:], err == nil && n >= -1
		}
	}
	return 0, nil, false
}

// vector makes sense of an entity's fields.
func (r *Reader) vector(entity []byte, cols *columns, reply [][]byte) (Vector, error) {
	v := Vector{Entity: entity, ValidUntil: sink.Never, columns: cols, freshness: r.freshness}
	if cols == nil {
		cols, reply = foundColumns(reply)
		v.columns = cols
	}
	meta, texts := reply[:len(metaFields)], reply[len(metaFields):]
	if meta[0] == nil {
		v.texts = make([][]byte, len(cols.names))
		return v, nil
	}
	v.Known, v.texts = true, texts
	var err, err2, err3, err4 error
	v.Version, err = sink.ParseVersion(meta[0])
	v.AsOf, err2 = strconv.ParseInt(string(meta[1]), 10, 64)
	if len(meta[2]) > 0 {
		v.ValidUntil, err3 = strconv.ParseInt(string(meta[2]), 10, 64)
	}
	partition, err4 := strconv.ParseInt(string(meta[3]), 10, 32)
	v.Partition = int32(partition)
	return v, errors.Join(err, err2, err3, err4)
}

// Entity returns the text of an entity from its key fields, in the group's order: strings, integers of any type, [16]byte and *[16]byte for
// UUIDs, []byte for Avro bytes and fixed. A reader made from a Spec checks them, and takes the text of a UUID, of an integer or of bytes
// (hexadecimal) too.
func (r *Reader) Entity(key ...any) ([]byte, error) {
	if len(key) == 0 || r.keys != nil && len(key) != len(r.keys) {
		return nil, fmt.Errorf("%s: %d key fields were given, the entity has %d", r.name, len(key), max(len(r.keys), 1))
	}
	values := make([]schemas.Value, len(key))
	for i, k := range key {
		v, err := keyValue(k)
		if err == nil && r.keys != nil && v.Kind != r.keys[i].Type.Kind {
			v, err = convertKey(v, r.keys[i].Type)
		}
		if err != nil {
			name := fmt.Sprintf("key field %d", i+1)
			if r.keys != nil {
				name = r.keys[i].Name
			}
			return nil, fmt.Errorf("%s: %s: %w", r.name, name, err)
		}
		values[i] = v
	}
	text := schemas.AppendEntity(nil, values...)
	if len(text) > schemas.MaxEntityBytes {
		return nil, fmt.Errorf("%s: the entity has %d bytes, at most %d are possible", r.name, len(text), schemas.MaxEntityBytes)
	}
	return text, nil
}

func keyValue(k any) (schemas.Value, error) {
	switch k := k.(type) {
	case string:
		return schemas.StringValue([]byte(k)), nil
	case int:
		return schemas.IntValue(int64(k)), nil
	case int32:
		return schemas.IntValue(int64(k)), nil
	case int64:
		return schemas.IntValue(k), nil
	case uint32:
		return schemas.IntValue(int64(k)), nil
	case [16]byte:
		return schemas.Value{Kind: schemas.UUID, Bytes: k[:]}, nil
	case []byte:
		return schemas.Value{Kind: schemas.Bytes, Bytes: k}, nil
	case schemas.Value:
		return k, nil
	}
	return schemas.Value{}, fmt.Errorf("a %T is not a key field", k)
}

// convertKey reads the text of a key field of another type.
func convertKey(v schemas.Value, t schemas.Type) (schemas.Value, error) {
	switch {
	case v.Kind == schemas.String && t.Kind == schemas.Bytes:
		b, err := hex.DecodeString(string(v.Bytes))
		return schemas.Value{Kind: schemas.Bytes, Bytes: b}, err
	case v.Kind == schemas.String:
		return sink.ParseText([]byte(strings.ToLower(string(v.Bytes))), t)
	case v.Kind == schemas.Bytes && t.Kind == schemas.UUID && len(v.Bytes) == 16:
		return schemas.Value{Kind: schemas.UUID, Bytes: v.Bytes}, nil
	}
	return schemas.Value{}, fmt.Errorf("not of the field's type")
}

// Progress reads how far the shard of a partition is (see Vector.Partition); ok is false where it has not told yet. A Wall that stands still
// while the clock moves on means that the pipeline is down, not that the entity is quiet.
func (r *Reader) Progress(ctx context.Context, partition int32) (p Progress, ok bool, err error) {
	return r.c.readProgress(ctx, r.progress+strconv.Itoa(int(partition)))
}
