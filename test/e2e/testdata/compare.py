"""Compare the newest rows of the log, read by DuckDB and by pyarrow, with what redis-py reads.

usage: compare.py LOG_DIR REDIS_PORT GROUP
Exit code 3: the log lacks a version that Redis has (it may come). Prints how many values were compared.
"""
import datetime, struct, sys
import duckdb, redis
import pyarrow.dataset

log, port, group = sys.argv[1:4]
prefix = f"features:{group}:v1:"
served = {key.decode()[len(prefix):]: hash for key, hash in ((k, client.hgetall(k)) for client in [redis.Redis(port=int(port))] for k in client.scan_iter(prefix + "*"))}
own = ["user_id", "event_timestamp", "computed_at", "available_at", "valid_until", "generation", "source_offset", "definition_hash", "cause"]
epoch = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)


def ms(t):
    t = t if t.tzinfo else t.replace(tzinfo=datetime.timezone.utc)
    return (t - epoch) // datetime.timedelta(milliseconds=1)


def same(value, text):
    if value is None or text is None:
        return value is None and text is None
    if isinstance(value, bool):
        return text == (b"true" if value else b"false")
    if isinstance(value, int):
        return text == b"%d" % value
    if isinstance(value, float):
        return float(text) == value
    if isinstance(value, str):
        return text == value.encode()
    if isinstance(value, datetime.datetime):
        return text == b"%d" % ms(value)
    return text == struct.pack("<%df" % len(value), *value)


def compare(engine, rows):
    newest = {}
    for row in rows:
        if row["user_id"] not in newest or newest[row["user_id"]]["available_at"] < row["available_at"]:
            newest[row["user_id"]] = row
    compared = 0
    for user, hash in served.items():
        row = newest.get(user)
        version = row and b"%08x-%016x-%012x" % (row["generation"], row["source_offset"], ms(row["event_timestamp"]))
        if version is None or version < hash[b"_v"]:
            sys.exit(3)
        assert version == hash[b"_v"], (engine, user, version, hash[b"_v"])
        for name, value in row.items():
            if name not in own and name != "date":
                assert same(value, hash.get(name.encode())), (engine, user, name, value, hash.get(name.encode()))
                compared += 1
    assert newest.keys() == served.keys(), (engine, newest.keys() ^ served.keys())
    return compared


duckdb.sql("SET TimeZone = 'UTC'")
result = duckdb.sql(f"SELECT * FROM read_parquet('{log}/{group}/v1/date=*/*.parquet', hive_partitioning=false)")
assert result.columns[:len(own)] == own, result.columns
n = compare("DuckDB", [dict(zip(result.columns, r)) for r in result.fetchall()])
n += compare("pyarrow", pyarrow.dataset.dataset(f"{log}/{group}/v1", format="parquet", partitioning="hive").to_table().to_pylist())
print(n)
