"""The bars of a tick file, computed with a single Polars query, for comparison with a replay.

python -m benchmarks.batch TICKS.parquet [--out BARS.parquet] runs the query and prints its cost as JSON. The query
has no log, no state and no check for late ticks: its cost is that of the arithmetic alone, the lower bound.
"""

import argparse
import json
import resource
import sys
import time
from pathlib import Path

import polars as pl

_FRAMES_MS = {"1s": 1_000, "1m": 60_000, "1h": 3_600_000}
_MAX_ROWS = 1 << 32


def bars(ticks: Path) -> pl.DataFrame:
    """Return the bars of all three frames, unordered: BAR_VALUES without end_ms, and turnover.

    ticks: a Parquet file with time (epoch ms), instrument, price and volume.
    """
    tables: list[pl.DataFrame] = []
    for frame, length_ms in _FRAMES_MS.items():
        table = _from_shorter(tables[-1], length_ms) if tables else _from_ticks(ticks, length_ms)
        tables.append(table.with_columns(frame=pl.lit(frame)))
    return pl.concat(tables).with_columns(
        vwap=pl.when(pl.col("volume") > 0).then(pl.col("turnover") / pl.col("volume"))
    )


def _from_ticks(path: Path, length_ms: int) -> pl.DataFrame:
    price, volume, time_ms = pl.col("price"), pl.col("volume"), pl.col("time")
    # Of ticks at the same time, the earlier row is the open and the later one the close.
    order = time_ms % length_ms * _MAX_ROWS + pl.col("row").cast(pl.Int64)
    return (
        pl.scan_parquet(path)
        .with_row_index("row")
        .with_columns(order=order)
        .group_by("instrument", start_ms=time_ms // length_ms * length_ms)
        .agg(
            open=price.min_by("order"),
            high=price.max(),
            low=price.min(),
            close=price.max_by("order"),
            volume=volume.sum(),
            turnover=(price * volume).sum(),
            ticks=pl.len().cast(pl.Int64),
            first_tick_ms=time_ms.min(),
            last_tick_ms=time_ms.max(),
        )
        .collect(engine="streaming")
    )


def _from_shorter(shorter: pl.DataFrame, length_ms: int) -> pl.DataFrame:
    sums = (pl.sum(name) for name in ("volume", "turnover", "ticks"))
    return shorter.group_by("instrument", start_ms=pl.col("start_ms") // length_ms * length_ms).agg(
        pl.col("open").min_by("start_ms"),
        pl.max("high"),
        pl.min("low"),
        pl.col("close").max_by("start_ms"),
        *sums,
        pl.min("first_tick_ms"),
        pl.max("last_tick_ms"),
    )


def main() -> int:
    """Parse the command line and print the result."""
    parser = argparse.ArgumentParser(description="Make bars by one query and print its cost.")
    parser.add_argument("ticks", type=Path)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    started, usage_before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF)
    table = bars(args.ticks)
    wall_s, usage = time.monotonic() - started, resource.getrusage(resource.RUSAGE_SELF)
    if args.out:
        table.write_parquet(args.out)
    figures = {
        "ticks": int(table.filter(pl.col("frame") == "1s")["ticks"].sum()),
        "wall_s": wall_s,
        "cpu_s": usage.ru_utime + usage.ru_stime - usage_before.ru_utime - usage_before.ru_stime,
        "peak_memory_mb": usage.ru_maxrss * 1.024e-3,
    }
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
