// Package kafka is all that the service does with Kafka: membership of a consumer group ([Group]), reading partitions from exact offsets
// ([Reader]), questions to the cluster ([Admin]) and writing ([Producer]).
//
// Membership and data flow are apart. The group says which partitions this instance should own, and nothing else: its client never fetches.
// What is read, and from where, is the shards' affair (their position comes from a manifest, never from a committed offset), and each
// partition of a Reader stands where its shard put it.
//
// A Reader sends its own Fetch requests and keeps its own positions, for three reasons. A position must move past what has no record to show
// for it (transaction markers, aborted records, offsets that compaction removed), or a shard would wait forever for the last offset of a
// partition. No policy may ever move a position by itself: out of range is an error to report, not an occasion to reset. And buffers,
// pauses and back-off are per partition, so that one shard that is slow or broken costs the others nothing.
package kafka
