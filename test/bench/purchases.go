package main

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"strconv"
)

// purchase is an event of schemas/catalog/purchase.avsc.
type purchase struct {
	id        uint64
	user      int
	time      int64 // ms
	cancelled bool
}

// shop makes purchases: prices of 1.00 to 499.99, 20,000 products in 12 categories, an embedding for every second one. One goroutine uses it.
type shop struct {
	rng *rand.Rand
	n   uint64
}

func newShop(seed uint64) *shop { return &shop{rng: rand.New(rand.NewPCG(seed, 1))} }

const cancelled = 0.04 // of purchases: the definition's where drops them

// next is a purchase of a user at a time.
func (s *shop) next(user int, time int64) purchase {
	s.n++
	return purchase{id: s.n, user: user, time: time, cancelled: s.rng.Float64() < cancelled}
}

func userID(user int) string { return "user-" + strconv.Itoa(10_000_000+user) }

// append appends p as a record with the id 1 of its schema.
func (s *shop) append(b []byte, p purchase) []byte {
	text := func(t string) { b = append(binary.AppendVarint(b, int64(len(t))), t...) }
	product := s.rng.IntN(20_000)
	b = append(b, 0, 0, 0, 0, 1)
	text("evt-" + strconv.FormatUint(1_000_000_000+p.id, 10))
	text(userID(p.user))
	text("sku-" + strconv.Itoa(100_000+product))
	if product%10 == 0 {
		b = append(b, 0) // no category
	} else {
		b = append(b, 2)
		text("category-" + strconv.Itoa(product%12))
	}
	b = binary.LittleEndian.AppendUint64(b, math.Float64bits(float64(100+s.rng.IntN(49_900))/100))
	b = binary.AppendVarint(b, int64(1+s.rng.IntN(4)))
	text("EUR")
	if p.cancelled {
		text("cancelled")
	} else {
		text("completed")
	}
	b = binary.AppendVarint(b, p.time)
	if product%2 == 0 {
		return append(b, 0) // no embedding
	}
	b = append(b, 2, 16) // a block of 8
	for range 8 {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(s.rng.Float32()))
	}
	return append(b, 0)
}
