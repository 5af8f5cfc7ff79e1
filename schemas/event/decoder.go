package event

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/freshet-dev/freshet/schemas"
)

// headerBytes is the length of the Confluent header: 0x00 and a big-endian schema id of 4 bytes.
const headerBytes = 5

// DefaultMaxSchemas is how many writers' schemas a Decoder or a Registry keeps.
const DefaultMaxSchemas = 1000

// ErrUnknownSchema: nobody knows the schema id (yet), or who would know does not answer. It is never the record's fault: try again.
var ErrUnknownSchema = errors.New("unknown schema id")

// Writers knows the schemas that records were written with.
type Writers interface {
	// Writer returns the schema of an id. An error that wraps ErrUnknownSchema is to be tried again, with back-off. Any other is final: what
	// the id stands for is no Avro schema that could be read.
	Writer(ctx context.Context, id int32) (*Schema, error)
}

// NeedSchema is Decode's error for a record whose writer's schema has not been prepared: call Prepare with its ID and decode again.
type NeedSchema struct{ ID int32 }

// Error says which id is needed.
func (e *NeedSchema) Error() string {
	return fmt.Sprintf("the projection of schema id %d is not prepared", e.ID)
}

// WireID returns the schema id of a record in the Confluent wire format; ok is false if it has no such header.
func WireID(record []byte) (id int32, ok bool) {
	if len(record) < headerBytes || record[0] != 0 {
		return 0, false
	}
	return int32(binary.BigEndian.Uint32(record[1:])), true
}

// Decoder decodes records in the Confluent wire format into columns of one reader's schema. It may be shared by goroutines, each with its
// own Scratch.
type Decoder struct {
	reader  *Schema
	paths   []string
	writers Writers

	// MaxSchemas bounds the projections kept; the one unused for longest goes first. It must be set before the first Prepare.
	MaxSchemas int

	mu      sync.Mutex                        // held by who changes cached
	cached  atomic.Pointer[map[int32]*cached] // replaced, never changed
	prepare atomic.Int64                      // how many projections were made: the clock of cached.used
}

type cached struct {
	p    *Projection
	err  error // why there is none, and never will be
	used atomic.Int64
}

// NewDecoder returns a decoder of the columns of reader at paths. Records' schemas come from w, when Prepare asks.
func NewDecoder(reader *Schema, paths []string, w Writers) *Decoder {
	d := &Decoder{reader: reader, paths: append([]string{}, paths...), writers: w, MaxSchemas: DefaultMaxSchemas}
	d.cached.Store(&map[int32]*cached{})
	return d
}

// Decode reads a record into out as Projection.Decode does, with the same errors, and *NeedSchema where Prepare must come first.
func (d *Decoder) Decode(record []byte, out []schemas.Value, scratch *Scratch) error {
	id, ok := WireID(record)
	if !ok {
		scratch.whole = fmt.Errorf("%w: no Confluent header (0x00 and a schema id of 4 bytes); produce with a schema registry's serializer", ErrUndecodable)
		return scratch.whole
	}
	c := (*d.cached.Load())[id]
	if c == nil {
		scratch.whole = &NeedSchema{ID: id}
		return scratch.whole
	}
	if now := d.prepare.Load(); c.used.Load() != now {
		c.used.Store(now)
	}
	if c.err != nil {
		scratch.whole = c.err
		return c.err
	}
	return c.p.Decode(record[headerBytes:], out, scratch)
}

// Prepare fetches the schema of id and compiles its projection; where that is done already it does nothing. An error wraps
// ErrUnknownSchema and is to be tried again, with back-off; nothing is remembered of it. A schema that can be had but not read as the
// reader's is no error here: its records are ErrUndecodable, for that reason.
func (d *Decoder) Prepare(ctx context.Context, id int32) error {
	if (*d.cached.Load())[id] != nil {
		return nil
	}
	c := &cached{}
	writer, err := d.writers.Writer(ctx, id)
	if errors.Is(err, ErrUnknownSchema) {
		return err
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%w %d: %w", ErrUnknownSchema, id, ctx.Err())
	}
	if err == nil {
		c.p, err = Project(writer, d.reader, d.paths)
	}
	if err != nil {
		c.err = fmt.Errorf("%w: schema id %d: %w", ErrUndecodable, id, err)
	}
	d.add(id, c)
	return nil
}

func (d *Decoder) add(id int32, c *cached) {
	d.mu.Lock()
	defer d.mu.Unlock()
	old := *d.cached.Load()
	next := make(map[int32]*cached, len(old)+1)
	for k, v := range old {
		next[k] = v
	}
	for len(next) >= max(d.MaxSchemas, 1) && next[id] == nil {
		oldest := id
		for k, v := range next {
			if oldest == id || v.used.Load() < next[oldest].used.Load() {
				oldest = k
			}
		}
		delete(next, oldest)
	}
	c.used.Store(d.prepare.Add(1))
	next[id] = c
	d.cached.Store(&next)
}
