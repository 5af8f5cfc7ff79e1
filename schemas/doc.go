// Package schemas holds what the whole of freshet agrees on: the words below, and the types of the values that features are made of.
//
// # Glossary
//
//   - event: one purchase, session or other fact, published once or more to a topic. Its identity is the xxHash64 of its id's bytes.
//   - entity: what features describe, such as a user. Its text is its key fields joined by '|' (see [AppendEntity]).
//   - feature group: the features of one entity computed from one topic, declared in one YAML file; a group version is immutable once run.
//   - plan: a definition compiled for the loops (package feature).
//   - window: the events with t − W < event time ≤ t. A lifetime window holds all events ever accepted.
//   - reach: how far back a feature looks, window + offset. The horizon is the longest reach of a group, or longer.
//   - shard: one group version × one topic partition: one goroutine, one store, one position, one chain of manifests.
//   - position: the offset of the next record a shard will read.
//   - stream clock: the largest event time a shard has accepted, in ms since the epoch.
//   - tick: a multiple of the group's tick since the epoch, at which changes that are due without a new event are worked off.
//   - as-of: the instant a value is computed for, in ms since the epoch.
//   - decay: the change of a value because time passes (an event leaves its window, an age takes a step).
//   - admission: the decision whether a record counts, and if not the reason.
//   - row: one version of all features of one entity. Rows go to the online store (Redis), then to the log.
//   - value version: generation, offset and as-of of a row; monotone for an entity.
//   - checkpoint: a consistent copy of a shard's state. The manifest that names it is its commit.
//   - segment: the append-only file of log rows that are not in a part yet. A part is one Parquet file of the log.
//   - point-in-time join: for each label, the newest row that was available at the label's time.
package schemas
