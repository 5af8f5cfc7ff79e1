package event

import (
	"encoding/binary"
	"math"

	"github.com/freshet-dev/freshet/schemas"
)

// block reads the head of a block of an array or a map: how many elements it has, and where it ends if it says so (else −1). No elements:
// the array is over. next is −1 after fail.
func (s *Scratch) block(pc, p int) (count int64, end, next int) {
	n, q := varint(s.b, p)
	if q < 0 {
		return 0, 0, s.fail(pc, p, badVarint)
	}
	end = -1
	if n < 0 {
		size, after := length(s.b, q)
		if after < 0 {
			return 0, 0, s.fail(pc, q, badLength)
		}
		n, q, end = -n, after, after+size
	}
	// The most negative number stays negative.
	if n < 0 || n > int64(maxItems-s.items) {
		return 0, 0, s.fail(pc, p, tooMany)
	}
	s.items += int(n)
	return n, end, q
}

// skipBlocks passes over an array or a map. A block that gives its size is not looked into.
func (s *Scratch) skipBlocks(pc, p int) int {
	o := &s.p.ops[pc]
	if s.depth++; s.depth > maxDepth {
		return s.fail(pc, p, tooDeep)
	}
	for {
		n, end, q := s.block(pc, p)
		if q < 0 {
			return -1
		}
		p = q
		switch {
		case n == 0 && end < 0:
			s.depth--
			return p
		case end >= 0:
			p = end
		case o.code == opSkipArray && o.n >= 0:
			if o.n > 0 && n > int64(len(s.b)-p)/o.n {
				return s.fail(pc, p, truncated)
			}
			p += int(n * o.n)
		default:
			for range n {
				if o.code == opSkipMap {
					size, q := length(s.b, p)
					if q < 0 {
						return s.fail(pc, p, badLength)
					}
					p = q + size
				}
				if p = s.run(int(s.p.subs[o.a]), p); p < 0 {
					return -1
				}
			}
		}
	}
}

// floats reads an array into a column of floats. A sized block whose elements do not fill it exactly is a fault of the column, not of the
// record, since one who skips the array cannot see it.
func (s *Scratch) floats(pc, p int) int {
	o := &s.p.ops[pc]
	if s.depth++; s.depth > maxDepth {
		return s.fail(pc, p, tooDeep)
	}
	whole := []byte{} // the only block so far, in the record; nil once elements are gathered
	s.gather = s.gather[:0]
	fits := true
	for {
		n, end, q := s.block(pc, p)
		if q < 0 {
			return -1
		}
		p = q
		if n == 0 && end < 0 {
			break
		}
		if o.code == opFloatsEach {
			whole = nil
			if p, fits = s.each(pc, p, end, n, fits); p < 0 {
				return -1
			}
			continue
		}
		next := end
		if end < 0 {
			if n > int64(len(s.b)-p)/4 {
				return s.fail(pc, p, truncated)
			}
			next = p + int(n)*4
		} else if int64(end-p) != n*4 {
			fits = false
			p = end
			continue
		}
		if whole != nil && len(whole) == 0 {
			whole = s.b[p:next:next]
		} else {
			s.gather = append(append(s.gather, whole...), s.b[p:next]...)
			whole = nil
		}
		p = next
	}
	s.depth--
	if !fits {
		s.fault(pc, ErrUndecodable, "a block of the array does not have the size it gives")
		return p
	}
	s.setFloats(pc, whole)
	return p
}

// each gathers n elements that are not written as floats. end is the end of a block that gives its size, else −1.
func (s *Scratch) each(pc, p, end int, n int64, fits bool) (int, bool) {
	o := &s.p.ops[pc]
	body, items, depth := s.b, s.items, s.depth
	if end >= 0 {
		s.b = body[:end]
	}
	for range n {
		if p = s.run(int(s.p.subs[o.a]), p); p < 0 {
			break
		}
		s.gather = binary.LittleEndian.AppendUint32(s.gather, math.Float32bits(float32(s.out[o.col].Float64())))
	}
	if end < 0 {
		return p, fits
	}
	s.b, s.items, s.depth, s.whole = body, items, depth, nil
	return end, fits && p == end
}

// setFloats stores the elements whole, or those gathered if whole is nil.
func (s *Scratch) setFloats(pc int, whole []byte) {
	o := &s.p.ops[pc]
	own := whole == nil // the record must not be changed
	if own {
		whole = s.take(len(s.gather))
		copy(whole, s.gather)
	}
	s.out[o.col] = schemas.Value{Kind: schemas.Floats, Bytes: whole}
	for i := 0; i+4 <= len(whole); i += 4 {
		switch u := binary.LittleEndian.Uint32(whole[i:]); {
		case u&0x7f800000 == 0x7f800000:
			s.fault(pc, ErrInvalid, notFinite)
			return
		case u == 0x80000000:
			if !own {
				whole, own = append(s.take(len(whole))[:0], whole...), true
				s.out[o.col].Bytes = whole
			}
			whole[i+3] = 0
		}
	}
}
