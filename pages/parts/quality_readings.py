"""What the data quality page reads: bounded, along indexes, and once for all visitors."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import polars as pl
import streamlit as st

from bar import revisions
from bar.lateness import behind_ms, spread
from bar.model import BAR_SCHEMA
from bar.reader import BarReader
from bar.sqlite import Database
from bar.sqlite_file import StoreMissingError, open_for_reading
from control.home import Home
from control.quality.accounting import Account, take_account
from feed import rejects
from feed.ticklog import TickLog
from pages.parts import readings
from pages.parts.quality_tables import Bar

T = TypeVar("T")

SAMPLES = 200
LATE_TICKS = 200_000
_MOST_DELAYS = 100_000
_MOST_TOO_LATE = 20_000
_MOST_INSTRUMENTS = 12
_BUCKETS = 60


@st.cache_data(ttl=4, max_entries=4, show_spinner=False)
def account(home: Home) -> Account:
    """Take the account of all ticks."""
    return take_account(home)


def bucket_ms(window_ms: int) -> int:
    """Return into what stretches a figure over this time is cut."""
    return window_ms // _BUCKETS


@st.cache_data(ttl=4, max_entries=16, show_spinner=False)
def reject_counts(home: Home, window_ms: int) -> pl.DataFrame:
    """Count the rejects of both stores over the last `window_ms` (COUNT_SCHEMA)."""
    from_ms = readings.now_ms() - window_ms
    none = pl.DataFrame(schema=rejects.COUNT_SCHEMA)
    return pl.concat(
        _from(path, lambda db: rejects.counts(db, from_ms, bucket_ms(window_ms)), none)
        for path in (home.ticks_db, home.bars_db)
    )


@st.cache_data(ttl=4, max_entries=32, show_spinner=False)
def reject_samples(home: Home, window_ms: int, reason: str | None, instrument: str | None) -> pl.DataFrame:
    """Return the newest rejects of both stores that fit (SAMPLE_SCHEMA), newest first."""
    wanted = rejects.Wanted(readings.now_ms() - window_ms, reason, instrument)
    none = pl.DataFrame(schema=rejects.SAMPLE_SCHEMA)
    found = [
        _from(path, lambda db: rejects.samples(db, wanted, SAMPLES), none) for path in (home.ticks_db, home.bars_db)
    ]
    return pl.concat(found).sort("rejected_ms", descending=True, maintain_order=True).head(SAMPLES)


@st.cache_data(ttl=4, max_entries=4, show_spinner=False)
def late_ticks(home: Home) -> tuple[int, pl.Series]:
    """Return how many of the newest ticks were looked at, and by how many ms those were late that were."""
    try:
        with TickLog.read_only(home.ticks_db) as log:
            behind = behind_ms(log.newest(LATE_TICKS))
    except (StoreMissingError, sqlite3.OperationalError):
        return 0, pl.Series([], dtype=pl.Float64)
    return behind.len(), behind.filter(behind > 0)


def in_time(late_ms: pl.Series, lateness_ms: int | None) -> pl.DataFrame:
    """Sort into classes (SPREAD_SCHEMA) those of the late that still found their bar."""
    return spread(late_ms if lateness_ms is None else late_ms.filter(late_ms <= lateness_ms))


@st.cache_data(ttl=4, max_entries=16, show_spinner=False)
def too_late(home: Home, window_ms: int) -> pl.DataFrame:
    """Sort into classes (SPREAD_SCHEMA) the ticks that came too late over the last `window_ms`, the newest at most."""
    wanted = rejects.Wanted(readings.now_ms() - window_ms, "too_late")
    none = pl.DataFrame(schema=rejects.SAMPLE_SCHEMA)
    return spread(_from(home.bars_db, lambda db: rejects.samples(db, wanted, _MOST_TOO_LATE), none)["late_ms"])


@st.cache_data(ttl=4, max_entries=16, show_spinner=False)
def revision_figures(home: Home, window_ms: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the most revised instruments, and how long after their end bars changed, over the last `window_ms`."""
    from_ms = readings.now_ms() - window_ms
    empty = pl.DataFrame(schema=revisions.BY_INSTRUMENT_SCHEMA), pl.DataFrame(schema=revisions.DELAY_SCHEMA)
    return _from(
        home.bars_db,
        lambda db: (
            revisions.by_instrument(db, from_ms, _MOST_INSTRUMENTS),
            revisions.delays(db, from_ms, _MOST_DELAYS),
        ),
        empty,
    )


@st.cache_data(ttl=4, max_entries=32, show_spinner=False)
def latest_revisions(home: Home, window_ms: int, instrument: str | None) -> pl.DataFrame:
    """Return the versions superseded last (REVISED_SCHEMA)."""
    from_ms = readings.now_ms() - window_ms
    none = pl.DataFrame(schema=revisions.REVISED_SCHEMA)
    return _from(home.bars_db, lambda db: revisions.latest(db, from_ms, SAMPLES, instrument), none)


def history(home: Home, bar: Bar) -> pl.DataFrame:
    """Return every version of one bar (BAR_SCHEMA), oldest first."""
    none = pl.DataFrame(schema=BAR_SCHEMA)
    return _from(home.bars_db, lambda db: BarReader(db).history(bar.instrument, bar.frame, bar.start_ms), none)


def lateness_ms(home: Home) -> int | None:
    """Return how late a tick may be for the most patient job, or None where none was ever started."""
    return _from(
        home.bars_db, lambda db: max((one.lateness_ms for one in BarReader(db).progress()), default=None), None
    )


def _from(path: Path, read: Callable[[Database], T], otherwise: T) -> T:
    try:
        db = open_for_reading(path)
        with closing(db.conn):
            return read(db)
    except (StoreMissingError, sqlite3.OperationalError):  # the file may exist a moment before its tables do
        return otherwise
