"""Read the log by a plain glob with DuckDB, again and again, until standard input ends.

usage: glob.py LOG_DIR
Prints each file that a query saw and how many rows it had, a line each.
"""
import sys, threading
import duckdb

stopped = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), stopped.set()), daemon=True).start()
seen = {}
while not stopped.wait(0.05):
    for group in ("user_purchases", "user_sessions"):
        try:
            rows = duckdb.sql(f"SELECT filename, count(*), count(available_at) FROM read_parquet('{sys.argv[1]}/{group}/v1/date=*/*.parquet', filename=true) GROUP BY ALL").fetchall()
        except duckdb.IOException as e:
            if "No files found" in str(e):
                continue
            raise
        for name, n, available in rows:
            assert n == available, (name, n, available)
            assert seen.setdefault(name, n) == n, ("a file has changed", name, seen[name], n)
for name, n in seen.items():
    print(n, name)
