package processor

import (
	"encoding/binary"
	"errors"
)

// Meta is where a shard stands. It is written with every batch of state, so that any prefix of the store's writes is consistent.
type Meta struct {
	Position   int64  // offset of the next record
	Clock      int64  // the stream clock, ms; −1 before the first accepted event
	LastTick   int64  // the last tick that was begun, ms
	Available  int64  // the last available_at given, µs: it rises strictly within a shard
	Generation uint32 // of value versions
}

const metaFormat = 1

func (m Meta) append(dst []byte) []byte {
	dst = append(dst, metaFormat)
	for _, v := range [...]int64{m.Position, m.Clock, m.LastTick, m.Available, int64(m.Generation)} {
		dst = binary.BigEndian.AppendUint64(dst, uint64(v))
	}
	return dst
}

func decodeMeta(b []byte) (Meta, error) {
	if len(b) != 41 || b[0] != metaFormat {
		return Meta{}, errors.New("state: the shard's position is of an unknown format")
	}
	at := func(i int) int64 { return int64(binary.BigEndian.Uint64(b[1+8*i:])) }
	return Meta{at(0), at(1), at(2), at(3), uint32(at(4))}, nil
}
