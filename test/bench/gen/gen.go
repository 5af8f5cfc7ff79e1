// Package gen makes the event files that freshet and other engines are measured on: the same events, bit for bit, for all of them.
//
// An event is a purchase: 180 days of event time from [T0] on, up to an hour of disorder, [Products] products, amounts of 1.00 to 499.99.
// Users are uniform (U) or follow Zipf's law with exponent 1.1 (Z). Everything comes from splitmix64 (Steele, Lea, Flood: Fast Splittable
// Pseudorandom Number Generators, OOPSLA 2014) over the event's number, so that any part of a file can be made alone.
package gen

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"sort"
)

// What all files have in common.
const (
	T0          int64 = 1_700_000_000_000 // ms: event 0 happens at T0 or up to an hour before
	Span        int64 = 180 * 86_400_000  // ms from the first event to the last
	Disorder    int64 = 3_600_000         // ms: an event happens up to this long before its turn
	Products          = 20_000
	RecordBytes       = 36 // of an event in a file
)

// The distributions of events over users.
const (
	Uniform byte = 'U'
	Zipf    byte = 'Z'
)

// Generate calls fn with n events in the order of a file: the user, from 1 to users; the event time in ms; the amount; the product, from 0
// on; and the quantity, from 1 to 4. An unknown distribution or users < 1 panics.
func Generate(dist byte, n int64, users int, fn func(user, ts int64, amount float64, product int64, quantity int32)) {
	pick := picker(dist, users)
	for i := range n {
		s := mix(uint64(i)*0x9e3779b97f4a7c15 + 12345)
		r4 := mix(s + 4)
		ts := T0 + int64(float64(i)/float64(n)*float64(Span)) - int64(unit(mix(s+2))*float64(Disorder))
		amount := float64(100+int64(unit(mix(s+3))*49_900)) / 100
		p := unit(r4)
		fn(pick(unit(mix(s+1))), ts, amount, int64(p*p*Products), 1+int32(r4&3))
	}
}

// Write writes a file of n events: for each 36 bytes, little endian: user int64, ts int64, amount float64, product int64, quantity int32.
func Write(w io.Writer, dist byte, n int64, users int) error {
	b := bufio.NewWriterSize(w, 1<<20)
	record := make([]byte, 0, RecordBytes)
	var err error
	Generate(dist, n, users, func(user, ts int64, amount float64, product int64, quantity int32) {
		record = binary.LittleEndian.AppendUint64(record[:0], uint64(user))
		record = binary.LittleEndian.AppendUint64(record, uint64(ts))
		record = binary.LittleEndian.AppendUint64(record, math.Float64bits(amount))
		record = binary.LittleEndian.AppendUint64(record, uint64(product))
		record = binary.LittleEndian.AppendUint32(record, uint32(quantity))
		if err == nil {
			_, err = b.Write(record)
		}
	})
	if err != nil {
		return fmt.Errorf("write events: %w", err)
	}
	if err := b.Flush(); err != nil {
		return fmt.Errorf("write events: %w", err)
	}
	return nil
}

// mix is splitmix64's finaliser.
func mix(z uint64) uint64 {
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// unit is a number in [0, 1).
func unit(r uint64) float64 { return float64(r>>11) * 0x1p-53 }

func picker(dist byte, users int) func(u float64) int64 {
	if users < 1 {
		panic("gen: there must be users")
	}
	switch dist {
	case Uniform:
		return func(u float64) int64 { return 1 + int64(u*float64(users)) }
	case Zipf:
		return zipf(users)
	}
	panic(fmt.Sprintf("gen: no distribution %q: it is U or Z", dist))
}

// zipf inverts the cumulated weights k^−1.1. The index says for each of 2^20 equal parts of [0, 1) where its first user is, so that the
// search is over the few users of one part.
func zipf(users int) func(u float64) int64 {
	cdf := make([]float64, users)
	sum := 0.0
	for k := range cdf {
		sum += math.Pow(float64(k+1), -1.1)
		cdf[k] = sum
	}
	for k := range cdf {
		cdf[k] /= sum
	}
	const parts = 1 << 20
	index := make([]int32, parts+1)
	k := 0
	for i := range index {
		for k < users-1 && cdf[k] < float64(i)/parts {
			k++
		}
		index[i] = int32(k)
	}
	return func(u float64) int64 {
		part := int(u * parts)
		from, to := int(index[part]), int(index[part+1])
		return int64(from + sort.Search(to-from, func(i int) bool { return cdf[from+i] >= u }) + 1)
	}
}
