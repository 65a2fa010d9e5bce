"""The questions of every view to one store: python -m benchmarks.queries_once FOLDER BARS REPEATS.

Half of an instrument's bars are seconds, most others minutes, as in a store that keeps short bars for a shorter time.
One in a hundred was revised. Both the instruments and the bars of each grow with the size. Each question opens the
store anew, as pages do, and asks for a random instrument and time.
"""

import argparse
import json
import random
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from bar.frames import Frame, parse_frame
from bar.model import BAR_SCHEMA
from bar.pieces import END_MS, Held, pieces
from bar.query import at_once
from bar.reader import BarQuery, BarReader
from bar.standing import closes, standing
from bar.store import BarStore, Progress
from benchmarks.latency import percentiles
from charts.watchlist import SPANS_MS

_SHARES = {"1s": 0.5, "1m": 0.455, "1h": 0.045}
_STORED = [parse_frame(text) for text in _SHARES]
_CHARTS = ("1s", "5s", "30s", "1m", "5m", "30m", "1h", "4h")
_DAY_MS = 86_400_000
_END_MS = 20_000 * _DAY_MS
_REVISED_EVERY = 100
_INSTRUMENTS_PER_MILLION = 10
_SEED = 1
_COMPARED = 5
# As charts begin (pages/parts/chart_bars.py); no store has a thousand days.
_BEGINS_WITH = 1_000


def _at_once(frame: Frame) -> int:
    return at_once(frame, pieces(frame, [Held(one, 1, 0) for one in _STORED]), END_MS)


_SHOWN = {
    **{text: min(_BEGINS_WITH, _at_once(parse_frame(text))) for text in _CHARTS},
    "1d": 180,
}
_LIVE_MS = 15_000


def make_store(path: Path, bars: int) -> None:
    """Write a store of about so many bars."""
    names = instruments(bars)
    with closing(BarStore.open(path, durable=False)) as store:
        progress = Progress("bars", 0, "1s,1m,1h", 300_000, 1, 1, bars, 0, 0, 0, _END_MS - 1, False, _END_MS)
        store.publish(progress)
        pattern = pl.concat(
            _bars(parse_frame(frame), round(share * bars / len(names))) for frame, share in _SHARES.items()
        )
        columns, others = ", ".join(BAR_SCHEMA), ", ".join(list(BAR_SCHEMA)[1:])
        execute = store.db.conn.execute
        execute(f"CREATE TEMP TABLE pattern AS SELECT {columns} FROM bars LIMIT 0")
        with store.db.atomic():
            row = ", ".join("?" * pattern.width)
            store.db.conn.executemany(f"INSERT INTO pattern VALUES ({row})", pattern.iter_rows())
        for name in names:
            with store.db.atomic():
                execute(f"INSERT INTO bars SELECT ?, {others} FROM pattern ORDER BY frame, start_ms", (name,))
                # What a revised bar was before differs in what counts here: its revision and when it was superseded.
                earlier = others.replace("revision, changed_ms", "0, changed_ms - 1000")
                execute(
                    f"INSERT INTO bar_revisions SELECT ?, {earlier}, changed_ms FROM pattern WHERE revision = 1",
                    (name,),
                )


def instruments(bars: int) -> list[str]:
    """Return the names: a hundred times as many bars in all are ten times as many of each of ten times as many."""
    count = max(_COMPARED, round(_INSTRUMENTS_PER_MILLION * (bars / 1e6) ** 0.5))
    return [f"I{number:04}/USD" for number in range(count)]


def _bars(frame: Frame, count: int) -> pl.DataFrame:
    values = np.random.default_rng(_SEED)
    end_ms = pl.Series(np.arange(_END_MS - (count - 1) * frame.length_ms, _END_MS + 1, frame.length_ms))
    close = np.round(100 * np.exp(np.cumsum(values.normal(0, 1e-4, count))), 2)
    revised = np.arange(count) % _REVISED_EVERY == 0
    columns: dict[str, Any] = {
        "instrument": "",
        "frame": frame.text,
        "start_ms": end_ms - frame.length_ms,
        "end_ms": end_ms,
        "open": np.roll(close, 1),
        "high": close + 0.05,
        "low": close - 0.05,
        "close": close,
        "volume": np.round(values.exponential(10, count), 8),
        "vwap": close + values.normal(0, 1e-3, count),
        "ticks": values.integers(1, 1_000, count),
        "first_tick_ms": end_ms - frame.length_ms,
        "last_tick_ms": end_ms - 1,
        "state": np.where(revised, "revised", "closed"),
        "revision": revised.astype(np.int64),
        "changed_ms": end_ms + 500,
    }
    return pl.DataFrame(columns, BAR_SCHEMA)


Ask = Callable[[BarReader, str, int], object]


def questions() -> Mapping[str, Ask]:
    """Return what views ask: of a reader, about an instrument, at a moment in its history."""

    def newest(frame: str, **more: Any) -> Ask:
        return lambda reader, name, _: reader.read(BarQuery(name, parse_frame(frame), newest=_SHOWN[frame], **more))

    def older(frame: str) -> Ask:
        return lambda reader, name, at_ms: reader.read(BarQuery(name, parse_frame(frame), to_ms=at_ms, newest=1_000))

    def as_of(frame: str) -> Ask:
        return lambda reader, name, at_ms: reader.read(
            BarQuery(name, parse_frame(frame), as_of_ms=at_ms, newest=_SHOWN[frame])
        )

    def changed(frame: str) -> Ask:
        length = parse_frame(frame)
        from_ms = _END_MS - _SHOWN[frame] * length.length_ms
        return lambda reader, name, _: reader.changed_since(name, length, _END_MS + 500 - _LIVE_MS, from_ms)

    def compared(reader: BarReader, _: str, at_ms: int) -> object:
        return [reader.read(BarQuery(name, Frame(60_000), to_ms=at_ms, newest=1_000)) for name in instruments(0)]

    def watchlist(count: int | None) -> Ask:
        def ask(reader: BarReader, *_: object) -> object:
            names = reader.instruments()[:count]
            frames = sorted(map(parse_frame, reader.frames(names[0])))
            return standing(reader.db, names, frames, _END_MS, (_END_MS - 10_000, _END_MS), SPANS_MS)

        return ask

    def lines(count: int | None) -> Ask:
        minutes, from_ms = Frame(60_000), _END_MS - 3_600_000
        return lambda reader, *_: closes(reader.db, reader.instruments()[:count], minutes, from_ms, 120)

    return {
        **{f"chart {frame}": newest(frame) for frame in _SHOWN},
        **{f"update {frame}": changed(frame) for frame in ("1s", "1m", "30m")},
        **{f"older {frame}": older(frame) for frame in ("1s", "1m", "5m")},
        **{f"as of {frame}": as_of(frame) for frame in ("1s", "1m", "5m")},
        "gaps filled 1m": newest("1m", fill=True),
        "compare five": compared,
        "versions of a bar": lambda reader, name, at_ms: reader.history(name, "1m", at_ms // 60_000 * 60_000),
        "pickers": lambda reader, name, _: (reader.instruments(), reader.offered(name)),
        "freshness": lambda reader, *_: reader.progress(),
        "watchlist of ten": watchlist(10),
        "watchlist of all": watchlist(None),
        "lines of ten": lines(10),
        "lines of all": lines(None),
    }


def measured(path: Path, bars: int, repeats: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Ask everything so many times by turns; return the time each question took, and the CPU time of it, in ms."""
    choose, names = random.Random(_SEED), instruments(bars)
    span_s = bars // len(names) // 4
    wall_ms, cpu_ms = dict[str, list[float]](), dict[str, list[float]]()
    for _ in range(repeats):
        for question, ask in questions().items():
            name, at_ms = choose.choice(names), _END_MS - choose.randrange(span_s) * 1_000
            started_s, used_s = time.perf_counter(), time.process_time()
            with closing(BarReader.open(path)) as reader:
                ask(reader, name, at_ms)
            wall_ms.setdefault(question, []).append((time.perf_counter() - started_s) * 1_000)
            cpu_ms.setdefault(question, []).append((time.process_time() - used_s) * 1_000)
    return pl.DataFrame(wall_ms), pl.DataFrame(cpu_ms)


def main() -> int:
    """Read the command line and print the result."""
    parser = argparse.ArgumentParser(description="Make a bar store and measure the questions of every view to it.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("bars", type=int)
    parser.add_argument("repeats", type=int)
    given = parser.parse_args()
    path = given.folder / "bars.sqlite"
    started = time.monotonic()
    make_store(path, given.bars)
    made_s = time.monotonic() - started
    wall_ms, cpu_ms = measured(path, given.bars, given.repeats)
    size_mb = round(sum(one.stat().st_size for one in given.folder.iterdir()) / 1e6)
    result = {
        "bars": given.bars,
        "instruments": len(instruments(given.bars)),
        "size_mb": size_mb,
        "made_s": round(made_s, 1),
        "query_ms": percentiles(wall_ms),
        "query_cpu_ms": percentiles(cpu_ms),
    }
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
