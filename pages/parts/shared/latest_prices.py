"""The latest prices of the enabled instruments, cached for all visitors for a second, or longer for slow data."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import polars as pl
import streamlit as st

from barmill.charts.watchlist import SPANS_MS, Columns, Sparklines, sparklines, watchlist
from barmill.ingest.connection.state import stale_after_ms
from barmill.ingest.feeds.instrument_listing import catalogue_of
from barmill.ingest.instruments.store import WITHOUT_CATALOGUE
from barmill.model.bar import BAR_SCHEMA
from barmill.model.frames import Frame
from barmill.platform.clock import MS_PER_HOUR, MS_PER_MINUTE
from barmill.platform.home import Home
from barmill.platform.sqlite_file import if_ready
from barmill.storage.latest import CLOSES_SCHEMA, closes, latest_prices, newest_bars
from barmill.storage.reader import BarQuery, BarReader
from control.freshness.flow import Flow
from control.freshness.judge import stopped_by_feed
from control.freshness.reading import offered_frames
from views import readings

MAX_WATCHED = 1_000
_RATE_WINDOW_MS = 10_000
# With the usual settings, jobs write at least twice a second, so the second before the current one is complete.
_RATE_DELAY_MS = 1_000
_LINE_MS = MS_PER_HOUR
_LINE_POINTS = 120

T = TypeVar("T")


@st.cache_data(ttl=5, max_entries=4, show_spinner=False)
def watched_instruments(home: Home) -> list[str]:
    """Return at most MAX_WATCHED names: the current source's enabled instruments, or without any, all with bars."""
    source = readings.flow(home).source
    catalogue = [] if source is None or source.name in WITHOUT_CATALOGUE else catalogue_of(home, source.name)[0]
    names = [instrument.instrument for instrument in catalogue if instrument.enabled] or readings.instruments(home)
    return names[:MAX_WATCHED]


@st.cache_data(ttl=0.9, max_entries=4, show_spinner=False)
def watched_prices(home: Home) -> Columns:
    """Return the latest price and changes of each watched instrument; no columns while there are no bars."""
    flow, frames = readings.flow(home), _frames(home)
    at_ms = _source_time_ms(flow)
    if not frames:
        return {}
    names, length_ms = watched_instruments(home), frames[0].length_ms
    to_ms = (at_ms - _RATE_DELAY_MS) // length_ms * length_ms
    over_ms = max(_RATE_WINDOW_MS // length_ms, 1) * length_ms
    rate_ms = (to_ms - over_ms, to_ms)
    table = _read(home, lambda reader: latest_prices(reader.db, names, frames, at_ms, rate_ms, SPANS_MS))
    if table is None:
        return {}
    columns = watchlist(table, at_ms, over_ms, _stale_after_ms(home))
    stopped = stopped_by_feed(flow, names, frames[0])
    return columns | {
        "stale": [stale or feed_stopped for stale, feed_stopped in zip(columns["stale"], stopped, strict=True)]
    }


@st.cache_data(ttl=15, max_entries=4, show_spinner=False)
def hour_lines(home: Home) -> Sparklines:
    """Return the price line of the last hour of each watched instrument, and its number of decimals."""
    frames, from_ms = _frames(home), _source_time_ms(readings.flow(home)) - _LINE_MS
    frame = next(
        (candidate for candidate in frames if candidate.length_ms >= MS_PER_MINUTE), frames[-1] if frames else None
    )
    if frame is None:
        return {}

    def read_bars(reader: BarReader) -> pl.DataFrame:
        if frame in reader.current_frames():
            return closes(reader.db, watched_instruments(home), frame, from_ms, _LINE_POINTS)
        return _newest_per_instrument(reader, watched_instruments(home), frame, _LINE_POINTS, from_ms).select(
            CLOSES_SCHEMA.keys()
        )

    closing_prices = _read(home, read_bars)
    return sparklines(pl.DataFrame(schema=CLOSES_SCHEMA) if closing_prices is None else closing_prices)


@st.cache_data(ttl=0.9, max_entries=16, show_spinner=False)
def newest_bars_of_all(home: Home, frame: Frame, count: int) -> pl.DataFrame:
    """Return the newest `count` bars (BAR_SCHEMA) of each watched instrument."""

    def read_bars(reader: BarReader) -> pl.DataFrame:
        if frame in reader.current_frames():
            return newest_bars(reader.db, watched_instruments(home), frame, count)
        return _newest_per_instrument(reader, watched_instruments(home), frame, count)

    newest = _read(home, read_bars)
    return pl.DataFrame(schema=BAR_SCHEMA) if newest is None else newest


@st.cache_data(ttl=15, max_entries=4, show_spinner=False)
def offered_frames_of_all(home: Home) -> list[Frame]:
    """Return the frames that users can open, shortest first."""
    return _read(home, offered_frames) or []


def watchlist_frame(home: Home) -> Frame | None:
    """Return the frame that the watchlist is read from; None without bars."""
    return next(iter(_frames(home)), None)


@st.cache_data(ttl=15, max_entries=4, show_spinner=False)
def _stale_after_ms(home: Home) -> dict[str, float]:
    """Return the silence in ms after which each watched instrument is stale, from its usual interval."""
    names, frames = watched_instruments(home), _frames(home)
    activity = _read(home, lambda reader: reader.activity(names, frames[0].text, 2**62)) if frames else None
    if activity is None:
        return {}
    return {name: stale_after_ms(gap_ms) for name, gap_ms in activity.select("instrument", "usual_gap_ms").iter_rows()}


@st.cache_data(ttl=15, max_entries=4, show_spinner=False)
def _frames(home: Home) -> list[Frame]:
    """Return the stored frames of the first instrument: first those that a job currently makes, then all others.

    Each group is sorted, shortest first.
    """

    def read_frames(reader: BarReader) -> list[Frame]:
        return [frame for name in reader.instruments()[:1] for frame in reader.current_frames_first(name)]

    return _read(home, read_frames) or []


def _newest_per_instrument(
    reader: BarReader, names: Sequence[str], frame: Frame, count: int, from_ms: int | None = None
) -> pl.DataFrame:
    """Return the newest bars (BAR_SCHEMA) of a frame that is combined from others.

    This is slower than a single query for all instruments.
    """
    bars = (reader.read(BarQuery(name, frame, from_ms, newest=count)) for name in names)
    return pl.concat([pl.DataFrame(schema=BAR_SCHEMA), *bars])


def _source_time_ms(flow: Flow) -> int:
    """Return the current time of the source; for a recording, the time of its newest tick."""
    live = flow.source is None or flow.source.live
    return flow.read_ms if live else flow.newest_tick_ms or flow.read_ms


def _read(home: Home, read: Callable[[BarReader], T]) -> T | None:
    with if_ready(), BarReader.open(home.bars_db) as reader:
        return read(reader)
    return None
