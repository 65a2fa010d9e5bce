"""Bars of 1 s, 1 min and 1 h with Bytewax, run by its runner in a separate environment:

    python -m bytewax.run "bytewax_bars:flow('TICKS.parquet', 'FOLDER')"

1. Ticks: a Parquet file, read in batches.
2. Seconds: one fold over event-time windows per instrument, which waits a second for late ticks.
3. Minutes from seconds, hours from minutes: the same fold over few rows.
4. Bars: one Parquet file per worker in FOLDER.

It uses the fastest options of Bytewax: large batches, plain tuples, unordered folds (the default sorts every window), a
clock that follows only the events, as a recording requires, and small windows that feed larger ones instead of three
folds over all ticks.
"""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from pathlib import Path
from typing import Any

import bytewax.operators as op
import bytewax.operators.windowing as w
import pyarrow as pa
import pyarrow.parquet as pq
from bytewax.dataflow import Dataflow
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.outputs import DynamicSink, StatelessSinkPartition

BATCH_ROWS = 20_000
_ORIGIN = datetime(2023, 1, 1, tzinfo=UTC)
_NOW = datetime.now(UTC)
_FRAMES = (("1s", 1), ("1m", 60), ("1h", 3_600))
_COLUMNS = ("instrument", "frame", "start_ms", "open", "high", "low", "close", "volume", "vwap", "ticks")

# A tick: time, price, volume.
Tick = tuple[datetime, float, float]
# A partial bar: first time, open, high, low, last time, close, volume, turnover, ticks.
Bar = list[Any]


def flow(ticks: str, folder: str) -> Dataflow:
    """Return the dataflow from a file of ticks to files of bars."""
    dataflow = Dataflow("bars")

    # 1. Ticks
    stream = op.input("ticks", dataflow, _Ticks(Path(ticks)))

    # 2. and 3. Bars of each length
    rows_by_frame = []
    fold: Any = _add_tick
    for name, seconds in _FRAMES:
        clock, windower = _clock(wait_s=1 if fold is _add_tick else 2), _windower(seconds)
        windows = w.fold_window(name, stream, clock, windower, list, fold, _merge, ordered=False)
        stream = op.map_value(f"{name} bars", windows.down, itemgetter(1))
        rows_by_frame.append(op.map(f"{name} rows", windows.down, _Row(name, seconds)))
        fold = _add_bar

    # 4. Files
    op.output("files", op.merge("frames", *rows_by_frame), _Files(Path(folder)))
    return dataflow


def _clock(wait_s: int) -> "w.EventClock[Any]":
    return w.EventClock(itemgetter(0), timedelta(seconds=wait_s), now_getter=lambda: _NOW, to_system_utc=lambda _: None)


def _windower(seconds: int) -> w.TumblingWindower:
    return w.TumblingWindower(length=timedelta(seconds=seconds), align_to=_ORIGIN)


def _add_tick(bar: Bar, tick: Tick) -> Bar:
    tick_time, price, volume = tick
    if not bar:
        return [tick_time, price, price, price, tick_time, price, volume, price * volume, 1]
    if tick_time < bar[0]:
        bar[0], bar[1] = tick_time, price
    if price > bar[2]:
        bar[2] = price
    if price < bar[3]:
        bar[3] = price
    # Of two ticks at the same time, the later to arrive is the close, the earlier the open.
    if tick_time >= bar[4]:
        bar[4], bar[5] = tick_time, price
    bar[6] += volume
    bar[7] += price * volume
    bar[8] += 1
    return bar


def _add_bar(longer: Bar, bar: Bar) -> Bar:
    if not longer:
        return list(bar)
    if bar[0] < longer[0]:
        longer[:2] = bar[:2]
    longer[2] = max(longer[2], bar[2])
    longer[3] = min(longer[3], bar[3])
    if bar[4] >= longer[4]:
        longer[4:6] = bar[4:6]
    for index in (6, 7, 8):
        longer[index] += bar[index]
    return longer


def _merge(bar: Bar, other: Bar) -> Bar:
    return _add_bar(bar, other) if other else bar


class _Row:
    """A function that converts (instrument, (window, bar)) to a row of _COLUMNS."""

    def __init__(self, frame: str, seconds: int) -> None:
        self._frame, self._length_ms = frame, seconds * 1_000
        self._origin_ms = int(_ORIGIN.timestamp() * 1_000)

    def __call__(self, item: tuple[str, tuple[int, Bar]]) -> tuple[Any, ...]:
        instrument, (window, (_, opened, high, low, _, close, volume, turnover, ticks)) = item
        start_ms = self._origin_ms + window * self._length_ms
        vwap = turnover / volume if volume > 0 else None
        return instrument, self._frame, start_ms, opened, high, low, close, volume, vwap, ticks


class _Ticks(FixedPartitionedSource[tuple[str, Tick], None]):
    def __init__(self, path: Path) -> None:
        self._path = path

    def list_parts(self) -> list[str]:
        return ["all"]

    def build_part(self, _step_id: str, _part: str, _resume: None) -> "_TicksPart":
        return _TicksPart(self._path)


class _TicksPart(StatefulSourcePartition[tuple[str, Tick], None]):
    def __init__(self, path: Path) -> None:
        self._batches = self._read(path)

    def next_batch(self) -> list[tuple[str, Tick]]:
        return next(self._batches)  # the end of the iterator is the end of the ticks

    def snapshot(self) -> None:
        return None

    def _read(self, path: Path) -> Iterator[list[tuple[str, Tick]]]:
        print("first tick at", time.time(), flush=True)
        for batch in pq.ParquetFile(path).iter_batches(BATCH_ROWS, columns=["time", "instrument", "price", "volume"]):
            times, instruments, prices, volumes = (column.to_pylist() for column in batch.columns)
            tick_time = [datetime.fromtimestamp(ms / 1_000, UTC) for ms in times]
            yield list(zip(instruments, zip(tick_time, prices, volumes, strict=True), strict=True))


class _Files(DynamicSink[tuple[Any, ...]]):
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def build(self, _step_id: str, worker_index: int, _worker_count: int) -> "_File":
        return _File(self._folder / f"bars-{worker_index}.parquet")


class _File(StatelessSinkPartition[tuple[Any, ...]]):
    def __init__(self, path: Path) -> None:
        self._path = path
        self._rows: list[tuple[Any, ...]] = []

    def write_batch(self, items: list[tuple[Any, ...]]) -> None:
        self._rows += items

    def close(self) -> None:
        columns = zip(*self._rows, strict=True) if self._rows else ([] for _ in _COLUMNS)
        pq.write_table(pa.table(dict(zip(_COLUMNS, map(list, columns), strict=True))), self._path)
        print("last bar at", time.time(), flush=True)
