// Package redis serves feature values online: a [Writer] per shard, guarded by versions, and a [Reader] for ranking services. The read side
// pulls in neither Kafka nor the state store. The same code serves Redis ≥ 7.0, Redis Cluster, Valkey, and the embedded server of tests.
//
// # What is stored
//
// One hash for each entity of a group version, under
//
//	features:<group>:v<N>:<entity>        e.g. features:user_purchases:v1:alice
//
// with one field a feature. The entity is its key fields joined by '|'; a '|' or '\' in one of them is written '\|' or '\\'; UUIDs in lower
// case with dashes, Avro bytes and fixed in lower-case hex. Any client in any language reads it with HMGET:
//
//   - numbers as JSON writes them (RFC 8785), decimals with all digits of their scale (12.30); true, false; strings as they are; bytes in
//     hex; timestamps in ms since the epoch; embeddings as little-endian float32s
//   - a null feature has no field: HMGET answers nil
//   - _v the version of the values: the entity is known if it is there. _t the instant the values are computed for (ms), _u the instant at
//     which they change if nothing new arrives (ms; empty: never), _p the partition of the topic that they come from
//
// All fields of one HMGET are of one version, and the version an entity shows never goes back: ask primaries, not replicas, which may lag.
// An entity disappears one day after its longest window has emptied, unless the group has a feature over the lifetime.
//
// features:_progress:<group>:v<N>:<partition> tells how far the pipeline is. Its field wall (ms) moves at least at every checkpoint: where it
// stands still the pipeline is down; where it moves, an old _t only means that the entity is quiet.
//
// # From Python
//
//	import struct, time, redis
//	r = redis.Redis(host="127.0.0.1", port=6379)
//	wanted = ["_v", "_t", "_u", "total_spend_7d", "avg_order_value_7d", "basket_embedding"]
//	with r.pipeline(transaction=False) as p:                 # one round trip for all candidates
//	    for user in users:
//	        p.hmget(f"features:user_purchases:v1:{user}", wanted)
//	    rows = p.execute()
//	for user, (version, as_of, until, spend, average, embedding) in zip(users, rows):
//	    if version is None:
//	        continue                                         # no such entity
//	    spend = float(spend)                                 # a sum is never null
//	    average = None if average is None else float(average)
//	    embedding = None if embedding is None else struct.unpack(f"<{len(embedding)//4}f", embedding)
//	    expired = until and time.time() * 1000 > int(until) + 10_000   # 10 s: the group's freshness
//
// (decode_responses=True would break embeddings: they are not text.)
//
// # From Go
//
// See the example of [Reader.GetFeatureVectors]. With the definition at hand [Client.Reader] knows the features' types; without,
// [Client.ReaderOf] reads what is named, or all that an entity has. A [Vector] says for each feature whether it is null, how old the values
// are and whether they should have been replaced by now ([Vector.Expired]).
//
// # How it is written
//
// One script, atomic in Redis, compares the stored version, sets the features, removes those that turned null, and sets the time to live.
// A row is refused only where a strictly newer version is stored ([Stale]) or where the entity belongs to another partition ([Split]); the
// same version is written again ([Equal]), which repairs what a failover lost. So writes may be repeated, and an owner of a shard that does
// not know it has been replaced can do no harm. On a single server a script writes up to 64 entities, on a cluster one, since all keys of
// a script must lie on one node.
//
// Nothing is retried here but a script that the server has forgotten: callers have the back-off.
package redis
