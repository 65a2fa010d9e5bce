"""Where the picked instruments stand, read once for all visitors: every second, or less often what changes slowly."""

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import TypeVar

import polars as pl
import streamlit as st

from bar.frames import Frame
from bar.model import BAR_SCHEMA
from bar.reader import BarQuery, BarReader
from bar.sqlite_file import StoreMissingError
from bar.standing import CLOSES_SCHEMA, closes, newest_of_all, standing
from charts.watchlist import SPANS_MS, Columns, Lines, lines, watchlist
from control.freshness.flow import Flow
from control.freshness.frames import offered_frames
from control.freshness.judge import stopped_by_feed
from control.home import Home
from control.instruments.listing import catalogue_of, patience_ms
from control.instruments.store import DELIVERS_WHAT_IT_HAS
from pages.parts import readings

MOST_WATCHED = 1_000
_RATE_OVER_MS = 10_000
# The job writes twice a second, so the second before the present one is complete.
_RATE_UNTIL_MS = 1_000
_LINE_MS = 3_600_000
_LINE_POINTS = 120
_MINUTE_MS = 60_000

T = TypeVar("T")


@st.cache_data(ttl=5, max_entries=4, show_spinner=False)
def watched(home: Home) -> list[str]:
    """Return the picked instruments by name; of a provider that has no catalogue, all that have bars."""
    source = readings.flow(home).source
    catalogue = [] if source is None or source.name in DELIVERS_WHAT_IT_HAS else catalogue_of(home, source.name)[0]
    names = [one.instrument for one in catalogue if one.enabled] or readings.instruments(home)
    return names[:MOST_WATCHED]


@st.cache_data(ttl=0.9, max_entries=4, show_spinner=False)
def standings(home: Home) -> Columns:
    """Return where each watched instrument stands; no columns at all while there are no bars."""
    flow, frames = readings.flow(home), _frames(home)
    at_ms = _at_ms(flow)
    if not frames:
        return {}
    names, length_ms = watched(home), frames[0].length_ms
    to_ms = (at_ms - _RATE_UNTIL_MS) // length_ms * length_ms
    over_ms = max(_RATE_OVER_MS // length_ms, 1) * length_ms
    rate_ms = (to_ms - over_ms, to_ms)
    table = _read(home, lambda reader: standing(reader.db, names, frames, at_ms, rate_ms, SPANS_MS))
    if table is None:
        return {}
    columns = watchlist(table, at_ms, over_ms, _patience_ms(home))
    stopped = stopped_by_feed(flow, names, frames[0])
    return columns | {"stale": [one or other for one, other in zip(columns["stale"], stopped, strict=True)]}


@st.cache_data(ttl=15, max_entries=4, show_spinner=False)
def hour_lines(home: Home) -> Lines:
    """Return the line of the last hour of each watched instrument, and how many decimals it has."""
    frames, from_ms = _frames(home), _at_ms(readings.flow(home)) - _LINE_MS
    frame = next((one for one in frames if one.length_ms >= _MINUTE_MS), frames[-1] if frames else None)
    if frame is None:
        return {}

    def of(reader: BarReader) -> pl.DataFrame:
        if frame in reader.made():
            return closes(reader.db, watched(home), frame, from_ms, _LINE_POINTS)
        return _one_by_one(reader, watched(home), frame, _LINE_POINTS, from_ms).select(CLOSES_SCHEMA.keys())

    found = _read(home, of)
    return lines(pl.DataFrame(schema=CLOSES_SCHEMA) if found is None else found)


@st.cache_data(ttl=0.9, max_entries=16, show_spinner=False)
def newest_bars_of_all(home: Home, frame: Frame, count: int) -> pl.DataFrame:
    """Return the newest `count` bars (BAR_SCHEMA) of each watched instrument."""

    def of(reader: BarReader) -> pl.DataFrame:
        if frame in reader.made():
            return newest_of_all(reader.db, watched(home), frame, count)
        return _one_by_one(reader, watched(home), frame, count)

    found = _read(home, of)
    return pl.DataFrame(schema=BAR_SCHEMA) if found is None else found


@st.cache_data(ttl=15, max_entries=4, show_spinner=False)
def offered_frames_of_all(home: Home) -> list[Frame]:
    """Return the frames that people can open, shortest first."""
    return _read(home, offered_frames) or []


def watched_frame(home: Home) -> Frame | None:
    """Return the frame that the watchlist is read from; None without bars."""
    return next(iter(_frames(home)), None)


@st.cache_data(ttl=15, max_entries=4, show_spinner=False)
def _patience_ms(home: Home) -> dict[str, float]:
    """Return after how long a silence each watched instrument is stale, by its own rhythm."""
    names, frames = watched(home), _frames(home)
    activity = _read(home, lambda reader: reader.activity(names, frames[0].text, 2**62)) if frames else None
    if activity is None:
        return {}
    return {name: patience_ms(gap_ms) for name, gap_ms in activity.select("instrument", "usual_gap_ms").iter_rows()}


@st.cache_data(ttl=15, max_entries=4, show_spinner=False)
def _frames(home: Home) -> list[Frame]:
    """Return the stored frames: those that are made at present first, the shortest of each."""

    def of(reader: BarReader) -> list[Frame]:
        return [frame for name in reader.instruments()[:1] for frame in reader.made_first(name)]

    return _read(home, of) or []


def _one_by_one(
    reader: BarReader, names: Sequence[str], frame: Frame, count: int, from_ms: int | None = None
) -> pl.DataFrame:
    """Read the newest bars of a frame that is put together from others; slower than one query for all."""
    found = (reader.read(BarQuery(name, frame, from_ms, newest=count)) for name in names)
    return pl.concat([pl.DataFrame(schema=BAR_SCHEMA), *found])


def _at_ms(flow: Flow) -> int:
    """Return the present time of the source: of a recording, that of its newest tick."""
    live = flow.source is None or flow.source.live
    return flow.read_ms if live else flow.newest_tick_ms or flow.read_ms


def _read(home: Home, read: Callable[[BarReader], T]) -> T | None:
    try:
        with closing(BarReader.open(home.bars_db)) as reader:
            return read(reader)
    except (StoreMissingError, sqlite3.OperationalError):  # the file may exist a moment before its tables do
        return None
