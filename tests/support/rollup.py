"""Helpers of test_rollup.py that other tests use too."""

from dataclasses import replace
from pathlib import Path

import polars as pl

from barmill.model.frames import parse_frame
from barmill.storage.bar_store import BarStore, Progress
from barmill.storage.reader import BarQuery, BarReader
from tests.support.ticks import START_MS, bars_of, ticks

NAME = "A/USD"
BARS = 40
MINUTE_MS = START_MS // 60_000 * 60_000


def progress(newest_tick_ms: int | None = None, *, final: bool = False) -> Progress:
    return Progress("bars", 0, "1s", 0, 1, 1, 0, 0, 0, 0, newest_tick_ms, final, 0)


def stored(path: Path, bars: pl.DataFrame, state: str = "closed", done: Progress | None = None) -> BarReader:
    store = BarStore.open(path, durable=False)
    frames = ",".join(bars["frame"].unique().sort())
    store.publish(replace(done or progress(final=True), frames=frames), bars.with_columns(state=pl.lit(state)))
    store.close()
    return BarReader.open(path)


def read(reader: BarReader, frame: str, **asked: int | bool) -> pl.DataFrame:
    return reader.read(BarQuery(NAME, parse_frame(frame), **asked))  # type: ignore[arg-type]


def seconds(*prices: tuple[float, float]) -> pl.DataFrame:
    """Return one bar of 1s for each (seconds after MINUTE_MS, price)."""
    return bars_of(ticks(*((at * 1_000 + MINUTE_MS - START_MS, NAME, price, 1.0) for at, price in prices)), "1s")


def bars_each_second(count: int = BARS, *, price: float = 1.0, first: int = 0) -> pl.DataFrame:
    """Return a bar of 1s for each of `count` seconds, from `first` seconds after MINUTE_MS on, and their bars of 1m."""
    rows = ((MINUTE_MS - START_MS + at * 1_000, NAME, price + at / 8, 1.5) for at in range(first, first + count))
    return bars_of(ticks(*rows), "1s,1m")
