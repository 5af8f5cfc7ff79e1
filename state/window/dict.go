package window

import (
	"bytes"
	"encoding/binary"

	"github.com/cespare/xxhash/v2"
)

// dictLinear is the number of values up to which a dict has no index and is searched from its beginning.
const dictLinear = 24

// dict holds each distinct text of an entity's events once: equal texts have equal references, so that events compare by words. A reference
// is the place of an entry ÷ 4. An entry is a mark (4 bytes, scratch of whoever walks the events), 4 bytes of hash, the length as a
// uvarint, the bytes, and padding to 4. Texts of dropped events stay until [Entity.sweep].
type dict struct {
	heap  []byte
	index []uint32 // open addressing by hash: reference + 1, 0 for none; a power of two long, nil up to dictLinear entries
	n     int      // entries
}

func (d *dict) memBytes() int { return cap(d.heap) + 4*cap(d.index) + 64 }

// entryBytes is the room that a text takes at most.
func entryBytes(b []byte) int { return 8 + 5 + len(b) + 3 }

// text returns the bytes of a reference; they belong to d.
func (d *dict) text(ref uint64) []byte {
	at := ref*4 + 8
	if n := d.heap[at]; n < 0x80 {
		return d.heap[at+1 : at+1+uint64(n) : at+1+uint64(n)]
	}
	n, k := binary.Uvarint(d.heap[at:])
	at += uint64(k)
	return d.heap[at : at+n : at+n]
}

func (d *dict) mark(ref uint64) uint32       { return binary.LittleEndian.Uint32(d.heap[ref*4:]) }
func (d *dict) setMark(ref uint64, m uint32) { binary.LittleEndian.PutUint32(d.heap[ref*4:], m) }
func (d *dict) hash(ref uint64) uint32       { return binary.LittleEndian.Uint32(d.heap[ref*4+4:]) }

// intern returns the reference of b, which it copies where it is new.
func (d *dict) intern(b []byte) uint64 {
	h := uint32(xxhash.Sum64(b))
	if d.index != nil {
		return d.internIndexed(b, h)
	}
	for at := 0; at < len(d.heap); {
		ref := uint64(at / 4)
		if v := d.text(ref); d.hash(ref) == h && bytes.Equal(v, b) {
			return ref
		}
		at = d.next(at)
	}
	ref := d.add(b, h)
	if d.n > dictLinear {
		d.reindex(4 * dictLinear)
	}
	return ref
}

// next returns the place of the entry after the one at place at.
func (d *dict) next(at int) int {
	n, k := binary.Uvarint(d.heap[at+8:])
	return (at + 8 + k + int(n) + 3) &^ 3
}

func (d *dict) internIndexed(b []byte, h uint32) uint64 {
	slot := d.slot(b, h)
	if r := d.index[slot]; r != 0 {
		return uint64(r - 1)
	}
	ref := d.add(b, h)
	d.index[slot] = uint32(ref) + 1
	if d.n*4 > len(d.index)*3 {
		d.reindex(d.n)
	}
	return ref
}

func (d *dict) slot(b []byte, h uint32) int {
	mask := len(d.index) - 1
	for slot := int(h) & mask; ; slot = (slot + 1) & mask {
		r := d.index[slot]
		if r == 0 || d.hash(uint64(r-1)) == h && bytes.Equal(d.text(uint64(r-1)), b) {
			return slot
		}
	}
}

func (d *dict) add(b []byte, h uint32) uint64 {
	at := len(d.heap)
	var head [8]byte
	binary.LittleEndian.PutUint32(head[4:], h)
	d.heap = append(d.heap, head[:]...)
	d.heap = append(binary.AppendUvarint(d.heap, uint64(len(b))), b...)
	for len(d.heap)&3 != 0 {
		d.heap = append(d.heap, 0)
	}
	d.n++
	return uint64(at / 4)
}

// reindex makes an index for at least n entries.
func (d *dict) reindex(n int) {
	slots := 64
	for slots < 2*n {
		slots *= 2
	}
	d.index = make([]uint32, slots)
	for at := 0; at < len(d.heap); at = d.next(at) {
		h := d.hash(uint64(at / 4))
		slot := int(h) & (slots - 1)
		for d.index[slot] != 0 {
			slot = (slot + 1) & (slots - 1)
		}
		d.index[slot] = uint32(at/4) + 1
	}
}
