"""The measurement of the queries of all views: python -m benchmarks.queries BARS REPEATS --home FOLDER.

Half of an instrument's bars are seconds, most others minutes, as in a store that keeps short bars for a shorter time.
One in a hundred was revised. Both the number of instruments and the bars of each grow with the size. Each query opens
the store, as pages do; most read a random instrument, some of them at a random time.
"""

import argparse
import json
import random
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from barmill.charts.watchlist import SPANS_MS
from barmill.model.bar import BAR_SCHEMA
from barmill.model.frames import Frame, parse_frame
from barmill.model.pieces import END_MS, HeldFrame, pieces
from barmill.storage.bar_blocks import insert_block
from barmill.storage.bar_store import BarStore, Progress
from barmill.storage.bar_upkeep import USUAL_SIZES
from barmill.storage.latest import closes, latest_prices
from barmill.storage.query import bars_per_read
from barmill.storage.reader import BarQuery, BarReader
from benchmarks.latency import percentiles

_SHARES = {"1s": 0.5, "1m": 0.455, "1h": 0.045}
_STORED = [parse_frame(text) for text in _SHARES]
_CHARTS = ("1s", "5s", "30s", "1m", "5m", "30m", "1h", "4h")
_DAY_MS = 86_400_000
_END_MS = 20_000 * _DAY_MS
_REVISED_EVERY = 100
_INSTRUMENTS_PER_MILLION = 10
_SEED = 1
_COMPARED_INSTRUMENTS = 5
# The initial size of a chart (views/chart_bars.py); no store has a thousand days.
_INITIAL_BARS = 1_000


def _max_bars(frame: Frame) -> int:
    return bars_per_read(frame, pieces(frame, [HeldFrame(stored, 1, 0) for stored in _STORED]), END_MS)


_SHOWN_BARS = {
    **{text: min(_INITIAL_BARS, _max_bars(parse_frame(text))) for text in _CHARTS},
    "1d": 180,
}
# Bars changed since this time have change number 1, and all others 0.
_LIVE_FROM_MS = _END_MS + 500 - 15_000


def make_store(path: Path, bars: int, *, blocks: bool = False) -> None:
    """Write a store of about this many bars. blocks: all but the newest are in blocks, as they are after some time."""
    names = instruments(bars)
    with BarStore.open(path, durable=False) as store:
        progress = Progress("bars", 0, "1s,1m,1h", 300_000, 1, 1, bars, 0, 0, 0, _END_MS - 1, False, _END_MS)
        store.publish(progress)
        pattern = pl.concat(
            _bars(parse_frame(frame), round(share * bars / len(names))) for frame, share in _SHARES.items()
        )
        columns, other_columns = ", ".join(BAR_SCHEMA), ", ".join(list(BAR_SCHEMA)[1:])
        execute = store.db.conn.execute
        execute(f"CREATE TEMP TABLE pattern AS SELECT {columns} FROM bars LIMIT 0")
        with store.db.atomic():
            row = ", ".join("?" * pattern.width)
            store.db.conn.executemany(f"INSERT INTO pattern VALUES ({row})", pattern.iter_rows())
            execute("CREATE TEMP TABLE revised AS SELECT * FROM pattern WHERE revision = 1")
        is_row = pl.int_range(pl.len()) >= pl.len() - USUAL_SIZES.keep
        in_blocks = pattern.with_columns(change=pl.lit(0, pl.Int64)).filter(~is_row.over("frame"))
        oldest_rows = pattern.filter(is_row.over("frame")).group_by("frame").agg(pl.min("start_ms"))
        if blocks:
            with store.db.atomic():
                store.db.conn.executemany(
                    "DELETE FROM pattern WHERE frame = ? AND start_ms < ?", oldest_rows.iter_rows()
                )
        for name in names:
            with store.db.atomic():
                execute(
                    f"INSERT INTO bars ({columns}, change)"
                    f" SELECT ?, {other_columns}, changed_ms >= {_LIVE_FROM_MS} FROM pattern ORDER BY frame, start_ms",
                    (name,),
                )
                for part in in_blocks.partition_by("frame", maintain_order=True) if blocks else ():
                    for block in part.with_columns(instrument=pl.lit(name)).iter_slices(USUAL_SIZES.block):
                        insert_block(store.db, block)
                # An earlier version differs only in its revision and the time of its change, which is enough here.
                earlier = other_columns.replace("revision, changed_ms", "0, changed_ms - 1000")
                execute(
                    f"INSERT INTO bar_revisions SELECT ?, {earlier}, changed_ms FROM revised WHERE revision = 1",
                    (name,),
                )


def instruments(bars: int) -> list[str]:
    """Return the names of the instruments. A store with 100 times the bars has 10 times the instruments."""
    count = max(_COMPARED_INSTRUMENTS, round(_INSTRUMENTS_PER_MILLION * (bars / 1e6) ** 0.5))
    return [f"I{number:04}/USD" for number in range(count)]


def _bars(frame: Frame, count: int) -> pl.DataFrame:
    rng = np.random.default_rng(_SEED)
    end_ms = pl.Series(np.arange(_END_MS - (count - 1) * frame.length_ms, _END_MS + 1, frame.length_ms))
    close = np.round(100 * np.exp(np.cumsum(rng.normal(0, 1e-4, count))), 2)
    revised = np.arange(count) % _REVISED_EVERY == 0
    columns: dict[str, Any] = {
        "instrument": "",
        "frame": frame.text,
        "start_ms": end_ms - frame.length_ms,
        "end_ms": end_ms,
        "open": np.roll(close, 1),
        "high": np.round(close + 0.05, 2),
        "low": np.round(close - 0.05, 2),
        "close": close,
        "volume": np.round(rng.exponential(10, count), 8),
        "vwap": np.round(close + rng.normal(0, 1e-3, count), 12),
        "ticks": rng.integers(1, 1_000, count),
        "first_tick_ms": end_ms - frame.length_ms,
        "last_tick_ms": end_ms - 1,
        "state": np.where(revised, "revised", "closed"),
        "revision": revised.astype(np.int64),
        "changed_ms": end_ms + 500,
    }
    return pl.DataFrame(columns, BAR_SCHEMA)


Query = Callable[[BarReader, str, int], object]


def view_queries() -> Mapping[str, Query]:
    """Return the queries of all views: each takes a reader, an instrument and a time in its history."""

    def newest(frame: str, **options: Any) -> Query:
        return lambda reader, name, _: reader.read(
            BarQuery(name, parse_frame(frame), newest=_SHOWN_BARS[frame], **options)
        )

    def older(frame: str) -> Query:
        return lambda reader, name, at_ms: reader.read(BarQuery(name, parse_frame(frame), to_ms=at_ms, newest=1_000))

    def as_of(frame: str) -> Query:
        return lambda reader, name, at_ms: reader.read(
            BarQuery(name, parse_frame(frame), as_of_ms=at_ms, newest=_SHOWN_BARS[frame])
        )

    def changed(frame: str) -> Query:
        parsed_frame = parse_frame(frame)
        from_ms = _END_MS - _SHOWN_BARS[frame] * parsed_frame.length_ms
        return lambda reader, name, _: reader.changed_since(
            name, parsed_frame, replace(reader.cursor(name, parsed_frame), change=0), from_ms
        )

    def compared(reader: BarReader, _: str, at_ms: int) -> object:
        return [reader.read(BarQuery(name, Frame(60_000), to_ms=at_ms, newest=1_000)) for name in instruments(0)]

    def watchlist(count: int | None) -> Query:
        def query(reader: BarReader, *_: object) -> object:
            names = reader.instruments()[:count]
            frames = sorted(map(parse_frame, reader.frames(names[0])))
            return latest_prices(reader.db, names, frames, _END_MS, (_END_MS - 10_000, _END_MS), SPANS_MS)

        return query

    def lines(count: int | None) -> Query:
        minutes, from_ms = Frame(60_000), _END_MS - 3_600_000
        return lambda reader, *_: closes(reader.db, reader.instruments()[:count], minutes, from_ms, 120)

    return {
        **{f"chart {frame}": newest(frame) for frame in _SHOWN_BARS},
        **{f"update {frame}": changed(frame) for frame in ("1s", "1m", "30m")},
        **{f"older {frame}": older(frame) for frame in ("1s", "1m", "5m")},
        **{f"as of {frame}": as_of(frame) for frame in ("1s", "1m", "5m")},
        "gaps filled 1m": newest("1m", fill=True),
        "compare five": compared,
        "versions of a bar": lambda reader, name, at_ms: reader.history(name, "1m", at_ms // 60_000 * 60_000),
        "pickers": lambda reader, name, _: (reader.instruments(), reader.offered_frames(name)),
        "freshness": lambda reader, *_: reader.progress(),
        "watchlist of ten": watchlist(10),
        "watchlist of all": watchlist(None),
        "lines of ten": lines(10),
        "lines of all": lines(None),
    }


def measure_queries(path: Path, bars: int, repeats: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Run all queries in turn, `repeats` times; return the wall and the CPU times in ms, a column per query."""
    rng, names = random.Random(_SEED), instruments(bars)
    span_s = bars // len(names) // 4
    wall_ms, cpu_ms = dict[str, list[float]](), dict[str, list[float]]()
    for _ in range(repeats):
        for title, query in view_queries().items():
            name, at_ms = rng.choice(names), _END_MS - rng.randrange(span_s) * 1_000
            started_s, used_s = time.perf_counter(), time.process_time()
            with BarReader.open(path) as reader:
                query(reader, name, at_ms)
            wall_ms.setdefault(title, []).append((time.perf_counter() - started_s) * 1_000)
            cpu_ms.setdefault(title, []).append((time.process_time() - used_s) * 1_000)
    return pl.DataFrame(wall_ms), pl.DataFrame(cpu_ms)


def bulk_bars_per_cpu_s(path: Path) -> int:
    """Read all bars and hand them over as Arrow tables. Return how many bars a CPU second reads."""
    used_s, bars = time.process_time(), 0
    with BarReader.open(path) as reader:
        for chunk in reader.all_bars():
            bars += chunk.to_arrow().num_rows
    return round(bars / (time.process_time() - used_s))


def main() -> int:
    """Parse the command line and print the result."""
    parser = argparse.ArgumentParser(description="Create a bar store and measure the queries of all views on it.")
    parser.add_argument("bars", type=int)
    parser.add_argument("repeats", type=int)
    parser.add_argument("--home", type=Path, required=True, help="the folder of the store")
    parser.add_argument("--blocks", action="store_true", help="store all but the newest bars in blocks")
    parser.add_argument("--existing", action="store_true", help="measure the store that an earlier run created")
    args = parser.parse_args()
    path = args.home / "bars.sqlite"
    started = time.monotonic()
    if not args.existing:
        make_store(path, args.bars, blocks=args.blocks)
    created_s = time.monotonic() - started
    wall_ms, cpu_ms = measure_queries(path, args.bars, args.repeats)
    size_bytes = sum(file.stat().st_size for file in args.home.iterdir())
    result = {
        "bars": args.bars,
        "instruments": len(instruments(args.bars)),
        "size_mb": round(size_bytes / 1e6, 1),
        "bytes_per_bar": round(size_bytes / args.bars, 1),
        "made_s": round(created_s, 1),
        "query_ms": percentiles(wall_ms),
        "query_cpu_ms": percentiles(cpu_ms),
        "bulk_bars_per_cpu_s": bulk_bars_per_cpu_s(path),
    }
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
