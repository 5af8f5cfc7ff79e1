package agg

import (
	"bytes"
	"encoding/binary"

	"github.com/cespare/xxhash/v2"
)

// setLinear is the number of values up to which a Set has no index and is searched from its beginning.
const setLinear = 16

// Set is an exact set of byte strings, kept in the order in which they came. Its zero value is empty. It only grows: which values are in it
// does not depend on order, its bytes do, so that they can be stored in pieces that never change.
type Set struct {
	data  []byte   // uvarint length and bytes of each value
	index []uint32 // open addressing by xxHash64: place in data + 1, 0 for none; a power of two long
	n     int
}

// Len is the number of values.
func (s *Set) Len() int { return s.n }

// Bytes are the values in order, each as a uvarint length and the bytes. They belong to s.
func (s *Set) Bytes() []byte { return s.data }

// MemBytes is the memory s holds beside itself.
func (s *Set) MemBytes() int { return cap(s.data) + 4*cap(s.index) }

// Add adds v and reports whether it is new.
func (s *Set) Add(v []byte) bool {
	if s.index == nil {
		for rest := s.data; len(rest) > 0; {
			n, k := binary.Uvarint(rest)
			if bytes.Equal(rest[k:k+int(n)], v) {
				return false
			}
			rest = rest[k+int(n):]
		}
		if s.n == setLinear {
			s.grow(4 * setLinear)
		}
	}
	if s.index != nil {
		slot := s.find(v)
		if s.index[slot] != 0 {
			return false
		}
		s.index[slot] = uint32(len(s.data)) + 1
	}
	s.data = append(binary.AppendUvarint(s.data, uint64(len(v))), v...)
	if s.n++; s.n*4 > len(s.index)*3 && s.index != nil {
		s.grow(2 * len(s.index))
	}
	return true
}

func (s *Set) grow(slots int) {
	s.index = make([]uint32, slots)
	for at := 0; at < len(s.data); {
		n, k := binary.Uvarint(s.data[at:])
		v := s.data[at+k : at+k+int(n)]
		s.index[s.find(v)] = uint32(at) + 1
		at += k + int(n)
	}
}

// find returns the slot of v, or the free one where it belongs.
func (s *Set) find(v []byte) int {
	mask := len(s.index) - 1
	for slot := int(xxhash.Sum64(v)) & mask; ; slot = (slot + 1) & mask {
		at := s.index[slot]
		if at == 0 {
			return slot
		}
		n, k := binary.Uvarint(s.data[at-1:])
		if bytes.Equal(s.data[int(at)-1+k:int(at)-1+k+int(n)], v) {
			return slot
		}
	}
}

// Load adds the count values that src begins with, as Bytes has them, and returns the rest. A value that is there already is an error.
func (s *Set) Load(src []byte, count int) (rest []byte, err error) {
	for range count {
		n, k := binary.Uvarint(src)
		if k <= 0 || n > uint64(len(src)-k) || !s.Add(src[k:k+int(n)]) {
			return nil, errCorrupt
		}
		src = src[k+int(n):]
	}
	return src, nil
}
