package state

import (
	"bytes"
	"math"
)

// Timers that are worked off leave tombstones at the low end of their kind until compactions remove them. floors keep scans from walking
// over them again and again: a scan notes the first timer it meets, and a commit that sets a lower one takes the note back. They are a
// matter of speed only and are not stored.

// Timers calls fn for the timers of the kind that are due at or before upTo, in order of (instant, entity), for at most limit of them.
// The entity is valid during the call only.
func (s *Store) Timers(kind uint8, upTo int64, limit int, fn func(at int64, entity []byte) error) error {
	if limit <= 0 {
		return s.Err()
	}
	end := appendTimerEnd(nil, kind)
	if upTo < math.MaxInt64 {
		end = appendTimerKey(nil, kind, upTo+1, nil)
	}
	from := s.floor(kind)
	if bytes.Compare(from, end) >= 0 {
		return s.Err()
	}
	n := 0
	err := s.scan(s.db, from, end, func(k, _ []byte) error {
		at, entity, err := parseTimerKey(k)
		if err != nil {
			return err
		}
		if n++; n == 1 {
			s.floors[kind] = append(s.floors[kind][:0], k...)
		}
		if err := fn(at, entity); err != nil {
			return err
		}
		if n == limit {
			return errStop
		}
		return nil
	})
	if err == nil && n == 0 {
		s.floors[kind] = end
	}
	return err
}

// NextTimer returns the instant of the kind's first timer; ok is false where there is none.
func (s *Store) NextTimer(kind uint8) (at int64, ok bool, err error) {
	err = s.Timers(kind, math.MaxInt64, 1, func(t int64, _ []byte) error {
		at, ok = t, true
		return nil
	})
	return at, ok, err
}

// floor returns a copy of the key below which the kind has no timer.
func (s *Store) floor(kind uint8) []byte {
	if f, ok := s.floors[kind]; ok {
		return bytes.Clone(f)
	}
	return appendTimerKey(nil, kind, math.MinInt64, nil)
}
