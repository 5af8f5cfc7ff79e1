package state

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

// Batch is a set of changes that become visible, and survive, all or none. One batch of a store is open at a time. Its methods copy what
// they are given.
type Batch struct {
	s      *Store
	b      *pebble.Batch
	chunks bool             // the batch sets chunks
	lowest map[uint8][]byte // by kind: the lowest timer set
	err    error            // the first that a method without an error met; Commit returns it
}

// NewBatch returns an empty batch.
func (s *Store) NewBatch() *Batch {
	return &Batch{s: s, b: s.db.NewBatch(), lowest: map[uint8][]byte{}}
}

// keep remembers an error of the batch, which only Commit can return.
func (b *Batch) keep(err error) {
	if b.err == nil {
		b.err = err
	}
}

// Set writes an entity's record.
func (b *Batch) Set(entity, record []byte) {
	op := b.b.SetDeferred(1+len(entity), len(record))
	op.Key[0] = spaceEntity
	copy(op.Key[1:], entity)
	copy(op.Value, record)
	b.keep(op.Finish())
}

// Delete removes an entity's record and all its chunks.
func (b *Batch) Delete(entity []byte) {
	s := b.s
	s.key = appendEntityKey(s.key[:0], entity)
	b.keep(b.b.Delete(s.key, nil))
	if !s.chunks && !b.chunks {
		return
	}
	s.key = appendChunkPrefix(s.key[:0], entity)
	s.end = appendChunkEnd(s.end[:0], entity)
	if !b.chunks { // each range deletion costs every later read a little: most entities have no chunks
		first, err := s.firstKey(s.key, s.end)
		b.keep(err)
		if first == nil {
			return
		}
	}
	b.keep(b.b.DeleteRange(s.key, s.end, nil))
}

// SetChunk writes one chunk of an entity.
func (b *Batch) SetChunk(entity []byte, no uint32, data []byte) {
	b.chunks = true
	b.s.key = appendChunkKey(b.s.key[:0], entity, no)
	b.keep(b.b.Set(b.s.key, data, nil))
}

// DeleteChunk removes one chunk of an entity.
func (b *Batch) DeleteChunk(entity []byte, no uint32) {
	b.s.key = appendChunkKey(b.s.key[:0], entity, no)
	b.keep(b.b.Delete(b.s.key, nil))
}

// SetTimer sets a timer; setting it again changes nothing.
func (b *Batch) SetTimer(kind uint8, at int64, entity []byte) {
	b.s.key = appendTimerKey(b.s.key[:0], kind, at, entity)
	if low := b.lowest[kind]; low == nil || bytes.Compare(b.s.key, low) < 0 {
		b.lowest[kind] = append(low[:0], b.s.key...)
	}
	b.keep(b.b.Set(b.s.key, nil, nil))
}

// DeleteTimer removes a timer, if it is set.
func (b *Batch) DeleteTimer(kind uint8, at int64, entity []byte) {
	b.s.key = appendTimerKey(b.s.key[:0], kind, at, entity)
	b.keep(b.b.Delete(b.s.key, nil))
}

// SetMeta writes the shard's own record: position, clock and what else belongs to exactly this state.
func (b *Batch) SetMeta(meta []byte) { b.keep(b.b.Set(metaKey, meta, nil)) }

// Len returns the size of the batch in bytes.
func (b *Batch) Len() int { return b.b.Len() }

// Commit makes the changes visible. It waits while flushes and compactions are behind. After it only Reset and Close may be called.
func (b *Batch) Commit() error {
	s := b.s
	if err := s.Err(); err != nil {
		return err
	}
	if b.b.Empty() && b.err == nil {
		return nil
	}
	if !s.formatted {
		b.keep(b.b.Set(formatKey, binary.BigEndian.AppendUint32(nil, FormatVersion), nil))
	}
	if b.err != nil {
		return fmt.Errorf("fill batch: %w", b.err)
	}
	bytes := b.b.Len()
	// What may be in the store from here on must be found by later reads, even if the commit fails half-way.
	s.dirty = true
	s.chunks = s.chunks || b.chunks
	b.lowerFloors()
	if err := b.b.Commit(pebble.NoSync); err != nil {
		return s.failWith(fmt.Errorf("commit state: %w", err))
	}
	s.formatted = true
	return s.throttle(bytes)
}

func (b *Batch) lowerFloors() {
	for kind, low := range b.lowest {
		if floor, ok := b.s.floors[kind]; ok && bytes.Compare(low, floor) < 0 {
			b.s.floors[kind] = append(floor[:0], low...)
		}
	}
}

// Reset empties the batch for use again.
func (b *Batch) Reset() {
	b.b.Reset()
	b.chunks, b.err = false, nil
	clear(b.lowest)
}

// Close releases the batch.
func (b *Batch) Close() {
	if err := b.b.Close(); err != nil {
		b.s.fail(fmt.Errorf("close batch: %w", err))
	}
}
