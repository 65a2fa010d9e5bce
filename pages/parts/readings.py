"""What pages read from the stores of the home; a store that nobody has made yet reads as empty."""

import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import TypeVar

import polars as pl

from bar.frames import Frame, parse_frame
from bar.model import BAR_SCHEMA
from bar.reader import BarQuery, BarReader, FrameNotStoredError
from bar.sqlite_file import StoreMissingError
from control.freshness import reading
from control.freshness.flow import Flow
from control.freshness.judge import Freshness, ShownFrame, freshness
from control.home import Home
from feed.ticklog import TickLog

T = TypeVar("T")


def now_ms() -> int:
    """Return the wall clock."""
    return time.time_ns() // 1_000_000


def flow(home: Home) -> Flow:
    """Read how far feeds and jobs are."""
    return reading.read_flow(home)


def newest_tick_ms(home: Home, instrument: str) -> int | None:
    """Return the time of the newest tick of an instrument in bars of any frame."""
    return _from_bars(home, lambda reader: reading.newest_tick_ms(reader, instrument))


def judged(home: Home, flow: Flow, instrument: str, frame: Frame) -> Freshness:
    """Judge how fresh the newest bar of an instrument in this frame is."""

    def judge(reader: BarReader) -> Freshness:
        try:
            return reading.judged(reader, flow, instrument, frame)
        except FrameNotStoredError:
            return freshness(flow.of(instrument), ShownFrame(frame))

    return _from_bars(home, judge) or freshness(flow.of(instrument), ShownFrame(frame))


def instruments(home: Home) -> list[str]:
    """Return every instrument that has bars."""
    return _from_bars(home, BarReader.instruments) or []


def frames(home: Home, instrument: str) -> list[Frame]:
    """Return the frames this instrument has bars of, shortest first."""
    return sorted(map(parse_frame, _from_bars(home, lambda reader: reader.frames(instrument)) or []))


def offered(home: Home, instrument: str) -> list[Frame]:
    """Return the frames this instrument has bars of, and the longer ones that can be made of them, shortest first."""
    return _from_bars(home, lambda reader: reader.offered(instrument)) or []


def at_once(home: Home, instrument: str, frame: Frame) -> int:
    """Return how many bars to read at once, so that nobody waits."""
    return _from_bars(home, lambda reader: reader.at_once(instrument, frame)) or 1


def bars(home: Home, query: BarQuery) -> pl.DataFrame:
    """Return the bars asked for, oldest first; raise FrameNotStoredError for a frame that cannot be made."""
    found = _from_bars(home, lambda reader: reader.read(query))
    return pl.DataFrame(schema=BAR_SCHEMA) if found is None else found


def newest(home: Home, names: Sequence[str], frame: Frame, count: int) -> list[pl.DataFrame]:
    """Return the newest bars of each of these instruments, oldest first; none where the frame cannot be made."""

    def of(reader: BarReader, name: str) -> pl.DataFrame:
        try:
            return reader.read(BarQuery(name, frame, newest=count))
        except FrameNotStoredError:
            return pl.DataFrame(schema=BAR_SCHEMA)

    return _from_bars(home, lambda reader: [of(reader, name) for name in names]) or []


def refused(home: Home) -> dict[str, int]:
    """Return how many ticks were ever refused, by reason: at the door, and by the job as too late."""
    reasons = _from_log(home, TickLog.rejects_by_reason) or {}
    late = _from_bars(home, BarReader.rejected)
    return reasons | {"too_late": late} if late else reasons


def _from_bars(home: Home, read: Callable[[BarReader], T]) -> T | None:
    try:
        with closing(BarReader.open(home.bars_db)) as reader:
            return read(reader)
    except (StoreMissingError, sqlite3.OperationalError):  # the file may exist a moment before its tables do
        return None


def _from_log(home: Home, read: Callable[[TickLog], T]) -> T | None:
    try:
        with TickLog.read_only(home.ticks_db) as log:
            return read(log)
    except (StoreMissingError, sqlite3.OperationalError):
        return None
