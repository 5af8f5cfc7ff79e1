package state

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// FormatVersion is the version of the keys and values below. It is kept in every store, and a store of another version is refused.
const FormatVersion = 1

// The first byte of a key is its space. FORMAT.md is the description; the golden test pins the bytes.
const (
	spaceShard  = 0x00 // the format version and meta
	spaceEntity = 0x01 // entity → record
	spaceChunk  = 0x02 // escaped entity, chunk number → data
	spaceTimer  = 0x03 // kind, instant, entity → nothing
)

var (
	formatKey = []byte{spaceShard, 0x00}
	metaKey   = []byte{spaceShard, 0x01}
)

func appendEntityKey(dst, entity []byte) []byte {
	return append(append(dst, spaceEntity), entity...)
}

// appendChunkPrefix appends what all chunks of one entity begin with and nothing else does: 0x00 in the entity is written 0x00 0xff and
// its end is 0x00 0x01, which keeps the order of entities for any bytes.
func appendChunkPrefix(dst, entity []byte) []byte {
	dst = append(dst, spaceChunk)
	for _, c := range entity {
		dst = append(dst, c)
		if c == 0 {
			dst = append(dst, 0xff)
		}
	}
	return append(dst, 0x00, 0x01)
}

// appendChunkEnd appends the first key after the chunks of the entity.
func appendChunkEnd(dst, entity []byte) []byte {
	dst = appendChunkPrefix(dst, entity)
	dst[len(dst)-1]++
	return dst
}

func appendChunkKey(dst, entity []byte, no uint32) []byte {
	return binary.BigEndian.AppendUint32(appendChunkPrefix(dst, entity), no)
}

const timerHead = 1 + 1 + 8 // space, kind, instant

func appendTimerKey(dst []byte, kind uint8, at int64, entity []byte) []byte {
	dst = append(dst, spaceTimer, kind)
	dst = binary.BigEndian.AppendUint64(dst, uint64(at)^1<<63) // the sign turned, so that negative instants come first
	return append(dst, entity...)
}

// appendTimerEnd appends the first key after all timers of the kind.
func appendTimerEnd(dst []byte, kind uint8) []byte {
	if kind == 0xff {
		return append(dst, spaceTimer+1)
	}
	return append(dst, spaceTimer, kind+1)
}

func parseTimerKey(key []byte) (at int64, entity []byte, err error) {
	if len(key) < timerHead {
		return 0, nil, fmt.Errorf("timer key %x: %w", key, errCorrupt)
	}
	return int64(binary.BigEndian.Uint64(key[2:]) ^ 1<<63), key[timerHead:], nil
}

var errCorrupt = errors.New("state is corrupt; remove the directory, it is restored from the last checkpoint")
