package state

import "sync/atomic"

// Budget bounds the bytes of several caches together. It may be shared by goroutines.
type Budget struct {
	limit        int64
	used         atomic.Int64
	caches       atomic.Int64
	hits, misses atomic.Int64
}

// NewBudget returns a budget of so many bytes; 0 keeps nothing beyond the batch at hand.
func NewBudget(bytes int64) *Budget { return &Budget{limit: bytes} }

// Used returns the bytes that all caches of the budget hold now.
func (b *Budget) Used() int64 { return b.used.Load() }

// Cache keeps decoded entities by key. It belongs to one goroutine; many draw on one [Budget].
//
// Nothing is evicted but in Shrink, so a value got or put during a batch stays until the batch is done. After every cache's Shrink the
// budget is kept; in between it is exceeded by what was put since, and by what a cache holds that has not been shrunk since others grew:
// at most twice the budget plus one batch of each shard.
type Cache[V interface{ Size() int }] struct {
	budget *Budget
	index  map[string]int32
	slots  []cacheSlot[V]
	free   []int32 // slots not in use
	hand   int     // the next slot that Shrink looks at: CLOCK, second chance
	bytes  int64
	stats  CacheStats // hits and misses that are not in the budget's yet
	total  CacheStats
}

type cacheSlot[V any] struct {
	key   string
	value V
	bytes int32
	inUse bool
	used  bool // since the hand passed last
}

// CacheStats are counts since the cache was made, and the bytes it holds now.
type CacheStats struct {
	Hits, Misses, Evicted int64
	Bytes                 int64
}

// cacheSlotBytes is what an entity costs beyond its key and value: the slot, its place in the map and the map's slack.
const cacheSlotBytes = 112

// NewCache returns an empty cache that draws on the budget until it is closed.
func NewCache[V interface{ Size() int }](budget *Budget) *Cache[V] {
	budget.caches.Add(1)
	return &Cache[V]{budget: budget, index: map[string]int32{}}
}

// Get returns the value of the key, which is valid until the next Shrink. It does not allocate.
func (c *Cache[V]) Get(key []byte) (V, bool) {
	i, ok := c.index[string(key)]
	if !ok {
		c.stats.Misses++
		var none V
		return none, false
	}
	c.stats.Hits++
	s := &c.slots[i]
	s.used = true
	return s.value, true
}

// Place is where a cache keeps a value, for as long as it does.
type Place int32

// Put keeps v, replacing what was there, and returns its place.
func (c *Cache[V]) Put(key string, v V) Place {
	i, ok := c.index[key]
	if !ok {
		i = c.slot()
		s := &c.slots[i]
		s.key, s.inUse = key, true
		c.index[key] = i
	}
	s := &c.slots[i]
	s.value, s.used = v, ok // what is used once only goes before what is used again
	c.weigh(s)
	return Place(i)
}

func (c *Cache[V]) slot() int32 {
	if n := len(c.free); n > 0 {
		i := c.free[n-1]
		c.free = c.free[:n-1]
		return i
	}
	c.slots = append(c.slots, cacheSlot[V]{})
	return int32(len(c.slots) - 1)
}

// Resized takes note that the value at a place, which must have been got or put since the last Shrink, has grown or shrunk. It is asked for
// each value that a batch changes, and looks nothing up.
func (c *Cache[V]) Resized(at Place) { c.weigh(&c.slots[at]) }

func (c *Cache[V]) weigh(s *cacheSlot[V]) {
	bytes := int32(min(int64(s.value.Size())+int64(len(s.key))+cacheSlotBytes, 1<<31-1))
	c.add(int64(bytes) - int64(s.bytes))
	s.bytes = bytes
}

func (c *Cache[V]) add(bytes int64) {
	c.bytes += bytes
	c.budget.used.Add(bytes)
}

// Delete forgets the key.
func (c *Cache[V]) Delete(key []byte) {
	if i, ok := c.index[string(key)]; ok {
		c.drop(i)
	}
}

func (c *Cache[V]) drop(i int32) {
	s := &c.slots[i]
	c.add(-int64(s.bytes))
	delete(c.index, s.key)
	*s = cacheSlot[V]{}
	c.free = append(c.free, i)
}

// Len returns the number of entities.
func (c *Cache[V]) Len() int { return len(c.index) }

// Stats returns the cache's counts.
func (c *Cache[V]) Stats() CacheStats {
	t := c.total
	t.Hits += c.stats.Hits
	t.Misses += c.stats.Misses
	t.Bytes = c.bytes
	return t
}

// Shrink is called between batches. While the budget is exceeded and the cache holds more than its share of it (the budget divided by the
// number of caches), it evicts what has not been used since the hand passed last. Every value got before is invalid after it.
func (c *Cache[V]) Shrink() {
	c.publish()
	share := c.budget.limit / max(1, c.budget.caches.Load())
	for len(c.index) > 0 && c.bytes > share && c.budget.used.Load() > c.budget.limit {
		if c.hand >= len(c.slots) {
			c.hand = 0
		}
		if s := &c.slots[c.hand]; s.used {
			s.used = false
		} else if s.inUse {
			c.drop(int32(c.hand))
			c.total.Evicted++
		}
		c.hand++
	}
	if len(c.index) == 0 { // give back the slots of a crowd that is gone
		c.slots, c.free, c.hand = nil, nil, 0
	}
}

func (c *Cache[V]) publish() {
	c.budget.hits.Add(c.stats.Hits)
	c.budget.misses.Add(c.stats.Misses)
	c.total.Hits += c.stats.Hits
	c.total.Misses += c.stats.Misses
	c.stats = CacheStats{}
}

// Close empties the cache and leaves the budget to the others. The cache must not be used after it.
func (c *Cache[V]) Close() {
	c.publish()
	c.add(-c.bytes)
	c.budget.caches.Add(-1)
	c.index, c.slots, c.free = nil, nil, nil
}
