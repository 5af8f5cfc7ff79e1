// Package props tries laws of the whole spine on random worlds: whatever the batches, caches, checkpoints and restarts, a shard makes exactly
// the rows that the oracle works out, leaves the same bytes of state, and says the same in the end in whatever order events came.
//
// A failure names its seed; SEED=n go test ./test/props replays that world alone, WORLDS=n tries so many, LARGE=n gives the large entity so many events.
package props
