"""Publish purchases and sessions with confluent-kafka and fastavro.

usage: produce.py BROKERS REGISTRY_URL PARTITIONER COUNT SEED SCHEMA.avsc...
Topics are the schemas' names in lower case with an s. Prints the id of each schema, a line each.
"""
import io, json, random, sys, time, urllib.request
import fastavro
from confluent_kafka import Producer

brokers, registry, partitioner, count, seed = sys.argv[1:6]
rng = random.Random(int(seed))


def register(subject, schema):
    request = urllib.request.Request(f"{registry}/subjects/{subject}/versions", json.dumps({"schema": json.dumps(schema)}).encode(),
                                     {"Content-Type": "application/vnd.schemaregistry.v1+json"})
    return json.load(urllib.request.urlopen(request))["id"]


topics = {}
for path in sys.argv[6:]:
    schema = json.load(open(path))
    # A writer's schema of its own: a field that the reader does not know, in the midst of the others.
    schema["fields"].insert(3, {"name": "channel", "type": ["null", {"type": "enum", "name": "Channel", "symbols": ["WEB", "APP"]}], "default": None})
    topic = schema["name"].lower() + "s"
    topics[topic] = (register(topic + "-value", schema), fastavro.parse_schema(schema))
    print(topics[topic][0])

config = {"bootstrap.servers": brokers, "enable.idempotence": True}
if partitioner != "default":
    config["partitioner"] = partitioner
failed = []
producer = Producer(config)
for i in range(int(count)):
    for topic, (schema_id, schema) in topics.items():
        user = "u%04d" % rng.randrange(60)
        now = int(time.time() * 1000)
        at = now - rng.randrange(40 * 86_400_000) if rng.random() < 0.3 else now - rng.randrange(2000)
        event = {"event_id": "%s-%d" % (seed, i), "user_id": user, "event_time": at, "embedding": [rng.randrange(1000) / 8 for _ in range(8)],
                 "channel": rng.choice([None, "WEB", "APP"])}
        if topic == "sessions":
            event |= {"session_start": at - 60_000, "duration_seconds": rng.random() * 600, "pages": rng.randrange(40), "device": rng.choice(["mobile", "desktop"])}
        else:
            event |= {"product_id": "p%d" % rng.randrange(50), "category": rng.choice([None, "toys", "bücher"]), "amount": rng.random() * 200, "quantity": 1,
                      "currency": "EUR", "status": rng.choice(["completed", "cancelled", "completed"])}
        body = io.BytesIO()
        body.write(b"\0" + schema_id.to_bytes(4, "big"))
        fastavro.schemaless_writer(body, schema, event)
        producer.produce(topic, body.getvalue(), user, headers={"trace": "%s-%d" % (seed, i)}, on_delivery=lambda err, _: err and failed.append(err))
        producer.poll(0)
producer.flush(30)
if failed:
    sys.exit("%d records were not delivered: %s" % (len(failed), failed[0]))
