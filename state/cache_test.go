package state

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
)

type sized struct {
	bytes int
	place Place
}

func (s *sized) Size() int { return s.bytes }

func TestCacheKeepsBudget(t *testing.T) {
	const limit = 100_000
	budget := NewBudget(limit)
	c := NewCache[*sized](budget)
	r := rand.New(rand.NewPCG(1, 1))
	alive := map[string]*sized{}
	for batch := range 200 {
		got := map[string]*sized{}
		for range 50 {
			k := fmt.Sprint(r.IntN(2000))
			v, ok := c.Get([]byte(k))
			if ok && v != alive[k] {
				t.Fatalf("key %s has another's value", k)
			}
			switch {
			case !ok:
				v = &sized{bytes: r.IntN(1000)}
				v.place = c.Put(k, v)
				alive[k] = v
			case r.IntN(3) == 0:
				v.bytes = r.IntN(3000)
				c.Resized(v.place)
			case r.IntN(5) == 0:
				c.Delete([]byte(k))
				delete(got, k)
				continue
			}
			got[k] = v
		}
		for k, v := range got { // whatever was got or put in this batch is still there
			if now, ok := c.Get([]byte(k)); !ok || now != v {
				t.Fatalf("batch %d: key %s was evicted under our hands", batch, k)
			}
		}
		c.Shrink()
		if used := budget.Used(); used > limit {
			t.Fatalf("batch %d: %d bytes after Shrink, the budget is %d", batch, used, limit)
		}
		want := int64(0)
		for i := range c.slots {
			if s := &c.slots[i]; s.inUse {
				want += int64(s.value.bytes) + int64(len(s.key)) + cacheSlotBytes
			}
		}
		if st := c.Stats(); st.Bytes != want || budget.Used() != want {
			t.Fatalf("batch %d: the cache counts %d bytes, the budget %d, there are %d", batch, st.Bytes, budget.Used(), want)
		}
	}
	st := c.Stats()
	if st.Evicted == 0 || st.Hits == 0 || st.Misses == 0 || c.Len() == 0 {
		t.Errorf("nothing was proved: %+v, %d entities", st, c.Len())
	}
	c.Close()
	if budget.Used() != 0 || budget.caches.Load() != 0 {
		t.Errorf("a closed cache holds %d bytes", budget.Used())
	}
}

// TestCacheKeepsWhatIsUsed: an entity used in every batch outlives a stream of others that are used once.
func TestCacheKeepsWhatIsUsed(t *testing.T) {
	c := NewCache[*sized](NewBudget(50_000))
	hot := []byte("hot")
	c.Put(string(hot), &sized{bytes: 100})
	for i := range 5000 {
		if _, ok := c.Get(hot); !ok {
			t.Fatalf("the hot entity was evicted after %d others", i)
		}
		c.Put(fmt.Sprintf("cold %d", i), &sized{bytes: 100})
		c.Shrink()
	}
}

// TestCachesShareABudget: many caches, each with its goroutine, end within the budget once each has been shrunk, whatever one of them took
// while it was alone.
func TestCachesShareABudget(t *testing.T) {
	const limit, shards = 1 << 20, 8
	budget := NewBudget(limit)
	caches := make([]*Cache[*sized], shards)
	for i := range caches {
		caches[i] = NewCache[*sized](budget)
	}
	for i := range 1000 {
		caches[0].Put(fmt.Sprint(i), &sized{bytes: 900})
	}
	caches[0].Shrink()
	if used := caches[0].Stats().Bytes; used < limit*9/10 || used > limit {
		t.Errorf("a cache among idle ones uses %d of %d bytes", used, limit)
	}
	var done sync.WaitGroup
	for _, c := range caches {
		done.Go(func() {
			for i := range 3000 {
				c.Put(fmt.Sprint(i), &sized{bytes: 900})
				if i%10 == 0 {
					c.Shrink()
				}
			}
		})
	}
	done.Wait()
	for _, c := range caches {
		c.Shrink()
		if c.Len() == 0 {
			t.Error("a cache was starved")
		}
	}
	if used := budget.Used(); used > limit {
		t.Errorf("%d bytes are used of %d", used, limit)
	}
}

func TestCacheGetDoesNotAllocate(t *testing.T) {
	c := NewCache[*sized](NewBudget(1 << 20))
	key, absent := []byte("key"), []byte("absent")
	place := c.Put(string(key), &sized{bytes: 1})
	if n := testing.AllocsPerRun(100, func() { c.Get(key); c.Get(absent); c.Resized(place) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
