"""Run a query over a log and a table of labels with DuckDB, and print the rows as JSON, ordered by label time.

usage: asof.py < QUERY
Each user u17 and u18 has a label long before any event, and one now.
"""
import json, sys
import duckdb

duckdb.sql("SET TimeZone = 'UTC'")
duckdb.sql("""CREATE TABLE labels AS SELECT user_id, label_time, clicked FROM (VALUES
    ('u17', TIMESTAMPTZ '2001-01-01 00:00:00+00', false), ('u18', TIMESTAMPTZ '2001-01-01 00:00:01+00', true),
    ('u17', now() + INTERVAL 1 MINUTE, true), ('u18', now() + INTERVAL 2 MINUTE, false)) AS t(user_id, label_time, clicked)""")
result = duckdb.sql(sys.stdin.read())
rows = [dict(zip(result.columns, r)) for r in result.fetchall()]
print(json.dumps(sorted(rows, key=lambda r: r["label_time"]), default=str))
