package state

import (
	"errors"
	"fmt"
)

// Config holds the limits that all stores of a process share. Zero values are not defaults: start from [Default].
type Config struct {
	// BlockCacheBytes bounds the cache of table blocks. While memtables use less than MemTablesBytes the cache may have the rest.
	BlockCacheBytes int64
	// MemTableBytes is the largest memtable of one store. Each starts with 256 KiB and doubles as it is filled again and again.
	MemTableBytes int64
	// MemTablesBytes bounds the memtables of all stores together: with many stores each one's largest memtable is smaller, though never
	// below 256 KiB (so 1,280 stores may use 640 MiB).
	MemTablesBytes int64
	// Stores is how many stores are expected to be open at once. More may be opened; the block cache then shrinks.
	Stores int
	// MaxOpenFiles bounds the open tables of all stores.
	MaxOpenFiles int
	// CompactionSlots is how many compactions run at once in the process; others wait in turn.
	CompactionSlots int
	// EntityCacheBytes bounds the decoded entities of all shards (see Cache).
	EntityCacheBytes int64
}

const (
	minMemTableBytes = 256 << 10 // Pebble's first memtable
	maxMemTableBytes = 1 << 30
)

// Default returns limits that suit a process with up to 2 GB of memory.
func Default() Config {
	return Config{
		BlockCacheBytes:  256 << 20,
		MemTableBytes:    64 << 20,
		MemTablesBytes:   512 << 20,
		Stores:           4,
		MaxOpenFiles:     8192,
		CompactionSlots:  2,
		EntityCacheBytes: 256 << 20,
	}
}

// Validate reports every limit that cannot be used, joined.
func (c Config) Validate() error {
	var errs []error
	check := func(name string, got, lowest, highest int64) {
		if got < lowest || got > highest {
			errs = append(errs, fmt.Errorf("%s is %d; it must be between %d and %d", name, got, lowest, highest))
		}
	}
	check("BlockCacheBytes", c.BlockCacheBytes, 1<<20, 1<<42)
	check("MemTableBytes", c.MemTableBytes, minMemTableBytes, maxMemTableBytes)
	check("MemTablesBytes", c.MemTablesBytes, minMemTableBytes, 1<<42)
	check("Stores", int64(c.Stores), 1, 1<<20)
	check("MaxOpenFiles", int64(c.MaxOpenFiles), 64, 1<<20)
	check("CompactionSlots", int64(c.CompactionSlots), 1, 1024)
	check("EntityCacheBytes", c.EntityCacheBytes, 0, 1<<42)
	return errors.Join(errs...)
}

// memTableBytes is the largest memtable of a store when so many are open: a store has up to two, one being filled and one being flushed
// or kept to be filled next.
func (c Config) memTableBytes(stores int) int64 {
	share := c.MemTablesBytes / int64(2*max(c.Stores, stores))
	return max(minMemTableBytes, min(c.MemTableBytes, share))
}
