"""Bars of 1 s, 1 min and 1 h with DuckDB, run in a separate environment:

    python duckdb_bars.py TICKS.parquet BARS.parquet

Makes all bars in memory, writes them, and prints the cost of making them as JSON. Like the batch with Polars, it has no
log, no state and no check for late ticks.
"""

import json
import resource
import sys
import time

import duckdb

_LONGER = (("1m", 60_000, "1s"), ("1h", 3_600_000, "1m"))
# Of ticks at the same time, the earlier row is the open and the later one the close.
_SECONDS = """
CREATE TABLE "1s" AS
SELECT instrument, time - time % 1000 AS start_ms, arg_min(price, position) AS open, max(price) AS high,
       min(price) AS low, arg_max(price, position) AS close, sum(volume) AS volume, sum(price * volume) AS turnover,
       count(*) AS ticks
FROM (SELECT *, time % 1000 * 4294967296 + file_row_number AS position FROM read_parquet(?, file_row_number = true))
GROUP BY ALL
"""
_FROM_SHORTER = """
CREATE TABLE "{frame}" AS
SELECT instrument, start_ms - start_ms % {length_ms} AS longer_ms, arg_min(open, start_ms) AS open, max(high) AS high,
       min(low) AS low, arg_max(close, start_ms) AS close, sum(volume) AS volume, sum(turnover) AS turnover,
       sum(ticks) AS ticks
FROM "{shorter}"
GROUP BY ALL;
ALTER TABLE "{frame}" RENAME longer_ms TO start_ms
"""
_ROWS = """
SELECT instrument, '{frame}' AS frame, start_ms, open, high, low, close, volume,
       CASE WHEN volume > 0 THEN turnover / volume END AS vwap, CAST(ticks AS BIGINT) AS ticks
FROM "{frame}"
"""


def main(ticks: str, out: str) -> None:
    """Make the bars, write them, and print the cost of making them."""
    database = duckdb.connect()
    started, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF)
    database.execute(_SECONDS, [ticks])
    for frame, length_ms, shorter in _LONGER:
        database.execute(_FROM_SHORTER.format(frame=frame, length_ms=length_ms, shorter=shorter))
    wall_s, after = time.monotonic() - started, resource.getrusage(resource.RUSAGE_SELF)
    rows = " UNION ALL ".join(_ROWS.format(frame=frame) for frame in ("1s", *(frame for frame, _, _ in _LONGER)))
    database.sql(rows).write_parquet(out)
    figures = {
        "ticks": database.execute('SELECT CAST(sum(ticks) AS BIGINT) FROM "1s"').fetchone()[0],
        "wall_s": wall_s,
        "cpu_s": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "peak_memory_mb": after.ru_maxrss * 1.024e-3,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main(*sys.argv[1:])
