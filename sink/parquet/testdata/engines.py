"""Reads a log directory with DuckDB and pyarrow, and prints what each makes of it as JSON."""
import datetime, decimal, glob, json, sys, uuid

import duckdb
import pyarrow.parquet as pq

def plain(v):
    if isinstance(v, decimal.Decimal):
        return str(v)
    if isinstance(v, (bytes, bytearray)):
        return bytes(v).hex()
    if isinstance(v, uuid.UUID):
        return v.hex
    if isinstance(v, datetime.datetime):
        assert v.tzinfo is not None, "a timestamp without a zone"
        return (v - EPOCH) // datetime.timedelta(microseconds=1)
    if isinstance(v, datetime.date):
        return str(v)
    if isinstance(v, (list, tuple)):
        return [plain(x) for x in v]
    return v


EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)

pattern = sys.argv[1]
con = duckdb.connect()
types = {r[0]: r[1] for r in con.execute(f"describe select * from read_parquet('{pattern}', hive_partitioning = true)").fetchall()}
# Python sees DuckDB's zoned timestamps only through pytz.
columns = [f"epoch_us({n}) as {n}" if t == "TIMESTAMP WITH TIME ZONE" else n for n, t in types.items()]
q = con.execute(f"select {', '.join(columns)} from read_parquet('{pattern}', hive_partitioning = true)")
names = [d[0] for d in q.description]
duck = [[plain(v) for v in row] for row in q.fetchall()]
bloom = con.execute(
    f"select count(*) from parquet_metadata('{pattern}') where path_in_schema = 'user_id' and bloom_filter_offset is not null"
).fetchone()[0]
found = con.execute(f"select count(*) from read_parquet('{pattern}') where user_id = ?", [duck[0][0]]).fetchone()[0]

files = sorted(glob.glob(pattern, recursive=True))
arrow, schema = [], None
for f in files:
    table = pq.ParquetFile(f).read()
    schema = {n: str(t) for n, t in zip(table.schema.names, table.schema.types)}
    for row in table.to_pylist():
        arrow.append([plain(v) for v in row.values()])
sorting = [[c.column_index, c.descending] for c in pq.ParquetFile(files[0]).metadata.row_group(0).sorting_columns]
json.dump(
    {"files": len(files), "names": names, "types": types, "duckdb": duck, "arrow": arrow, "schema": schema, "bloom": bloom, "found": found,
     "sorting": sorting},
    sys.stdout,
)
