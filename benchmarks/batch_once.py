"""The floor: the same bars by one Polars query over the whole file, python -m benchmarks.batch_once TICKS.parquet.

No log, no state, no late ticks, nothing written but with --out: what the arithmetic alone costs. Prints JSON.
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
    """Return the bars of all three frames, in no particular order."""
    made: list[pl.DataFrame] = []
    for frame, length_ms in _FRAMES_MS.items():
        table = _from_shorter(made[-1], length_ms) if made else _from_ticks(ticks, length_ms)
        made.append(table.with_columns(frame=pl.lit(frame)))
    return pl.concat(made).with_columns(vwap=pl.when(pl.col("volume") > 0).then(pl.col("turnover") / pl.col("volume")))


def _from_ticks(path: Path, length_ms: int) -> pl.DataFrame:
    price, volume, time_ms = pl.col("price"), pl.col("volume"), pl.col("time")
    # Of ticks at the same time the earlier row is the open and the later one the close.
    place = time_ms % length_ms * _MAX_ROWS + pl.col("row").cast(pl.Int64)
    return (
        pl.scan_parquet(path)
        .with_row_index("row")
        .with_columns(place=place)
        .group_by("instrument", start_ms=time_ms // length_ms * length_ms)
        .agg(
            open=price.min_by("place"),
            high=price.max(),
            low=price.min(),
            close=price.max_by("place"),
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
    """Read the command line and print the result."""
    parser = argparse.ArgumentParser(description="Make bars by one query and print what it took.")
    parser.add_argument("ticks", type=Path)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    started, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF)
    table = bars(given.ticks)
    wall_s, used = time.monotonic() - started, resource.getrusage(resource.RUSAGE_SELF)
    if given.out:
        table.write_parquet(given.out)
    taken = {
        "ticks": int(table.filter(pl.col("frame") == "1s")["ticks"].sum()),
        "wall_s": wall_s,
        "cpu_s": used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime,
        "peak_memory_mb": used.ru_maxrss * 1.024e-3,
    }
    print(json.dumps(taken))
    return 0


if __name__ == "__main__":
    sys.exit(main())
