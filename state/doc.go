// Package state keeps the state of a shard: one Pebble database of entity records, chunks, timers and the shard's own record (meta).
//
// There is no write-ahead log. A [Batch] is atomic, batches become durable in the order in which they were committed, and nothing is
// durable before [Store.Checkpoint]; so whatever survives a crash is some prefix of the batches, whole, and the meta written with each of
// them says which. A store that has met an error of the disk stays failed: each call from then on returns that error, and the shard ends.
//
// Ownership: a Store, its batches and its [Cache] belong to the shard's goroutine. Only [Store.Err] and [Store.DiskBytes] may be called
// from another one, at any time before Close. [Resources] and [Budget] may be shared by all goroutines.
//
// FORMAT.md says what the keys are.
package state
