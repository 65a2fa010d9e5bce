"""The content of a chart: bars, studies, gaps, the quote line, and the message that carries them to the browser."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import polars as pl

from barmill.charts.candles import Candles, bars_with_studies, candles, price_decimals, utc_time
from barmill.charts.studies import StudyLine, study_lines
from barmill.charts.view import ChartView
from barmill.model.bar import BAR_SCHEMA, BarState
from barmill.model.frames import Frame
from barmill.platform.home import Home
from barmill.platform.sqlite_file import if_ready
from barmill.platform.texts import change, moment, number_text
from barmill.storage.changes import Cursor
from barmill.storage.reader import BarQuery, BarReader
from control.freshness import reading
from control.freshness.flow import Flow
from control.freshness.judge import ShownFrame, feed_state, freshness, job_state
from control.monitoring.outages import explained_gaps

HISTORY_BARS = 1_000
_MAX_BARS = 5_000
# The number of newest bars over which the quote line gives the change.
BARS_COMPARED = 60


@dataclass(frozen=True)
class ShownBars:
    """Bars (BAR_SCHEMA, oldest first) with their study lines and the gaps among them.

    newest: the newest existing bars, shown or not. live: the bars reach up to now, and updates follow. has_oldest: no
    older bars exist. max_bars_per_request: the limit of bars per request for older bars. newest_tick_ms: time of the
    instrument's newest tick in bars of any frame, None where it is not needed. cursor: where the changes after these
    bars begin.
    """

    bars: pl.DataFrame
    newest: pl.DataFrame
    lines: Sequence[StudyLine] = ()
    gaps: Sequence[tuple[int, int, str]] = ()
    live: bool = True
    has_oldest: bool = False
    max_bars_per_request: int = HISTORY_BARS
    newest_tick_ms: int | None = None
    cursor: Cursor = field(default_factory=Cursor)


def history(home: Home, view: ChartView) -> ShownBars:
    """Return the initial content of a chart: the bars of its range, or the newest ones; empty without a store."""
    live = view.as_of_ms is None
    with if_ready(), BarReader.open(home.bars_db).snapshot() as reader:
        max_bars_per_request = min(_MAX_BARS, reader.bars_per_read(view.instrument, view.frame))
        query = replace(view.query, newest=min(HISTORY_BARS, max_bars_per_request))
        cursor = reader.cursor(view.instrument, view.frame)
        newest_tick_ms = reading.newest_tick_ms(reader, view.instrument)
        newest = reader.read(newest_query(view))
        if view.range_ms is not None and newest.height:
            _, to_ms = view.range_ms
            live = live and to_ms > newest["start_ms"][-1]
            to_ms = max(to_ms, newest["end_ms"][-1]) if live else to_ms
            bar_count = replace(view, to_ms=to_ms).bars_in_range
            query = replace(
                query, to_ms=None if live else to_ms, newest=min(max(HISTORY_BARS, bar_count), max_bars_per_request)
            )
        bars, lines = bars_with_studies(reader.read, query, view.studies)
        has_oldest = query.newest is not None and bars.height < query.newest
        gaps = explained_gaps(home, bars, view.frame)
        return ShownBars(
            bars, newest, lines, gaps, live, has_oldest, max_bars_per_request, newest_tick_ms, cursor.after(bars)
        )
    empty = pl.DataFrame(schema=BAR_SCHEMA)
    return ShownBars(empty, empty, study_lines(empty, view.studies), live=live, has_oldest=True)


def newest_query(view: ChartView) -> BarQuery:
    """Return the query for the newest existing bars, for the quote line above the chart."""
    return replace(view.query, fill=False, newest=BARS_COMPARED)


def quote(newest: pl.DataFrame, frame: Frame) -> dict[str, str]:
    """Return the parts of the quote line, from the newest bars (BAR_SCHEMA, oldest first).

    price: the last price with all its decimals. direction: up, down or flat, over all these bars. Without bars: empty.
    """
    if not newest.height:
        return {}
    bar = newest.row(-1, named=True)
    change_ratio = bar["close"] / newest["open"][0] - 1
    state = bar["state"] if bar["state"] != BarState.REVISED.value else f"revised {bar['revision']}×"
    return {
        "price": number_text(bar["close"], price_decimals(newest)),
        "change": change(change_ratio),
        "direction": "up" if change_ratio > 0 else "down" if change_ratio < 0 else "flat",
        "over": f"over {newest.height} {'bar' if newest.height == 1 else 'bars'}",
        "bar": f"bar {utc_time(bar['start_ms'], frame)} UTC {state}",
    }


def chart_message(view: ChartView, shown_bars: ShownBars, read_ms: int, flow: Flow) -> Candles:
    """Return the candles message (src/barmill/charts/candles.py) with `cursor`, `status` and `quote`."""
    message = candles(shown_bars.bars, view.instrument, view.frame, read_ms, shown_bars.lines, shown_bars.gaps)
    return message | {
        "cursor": str(shown_bars.cursor),
        "status": status(view, shown_bars.newest, shown_bars.newest_tick_ms, flow),
        "quote": quote(shown_bars.newest, view.frame),
    }


def status(view: ChartView, newest: pl.DataFrame, newest_tick_ms: int | None, flow: Flow) -> dict[str, object]:
    """Return the freshness of a chart, given its newest bars (BAR_SCHEMA) and the newest tick in bars of any frame.

    level, color, sentence, since_ms, by: the judgement (control/freshness). stale: the chart must be marked as stopped.
    tick_ms, changed_ms: of the newest bar. feed, job: their states.
    """
    flow = flow.for_instrument(view.instrument)
    parts = {"feed": feed_state(flow), "job": job_state(flow, view.frame)}
    if view.as_of_ms is not None:
        # A view as of an earlier time does not change.
        level = f"as known at {moment(view.as_of_ms)} UTC"
        unchanging = {"level": level, "color": "gray", "sentence": "", "since_ms": None, "by": None}
        return {"stale": False, "tick_ms": None, "changed_ms": None, **unchanging, **parts}
    tick_ms, changed_ms = None, None
    if newest.height:
        tick_ms, changed_ms = newest["last_tick_ms"][-1], newest["changed_ms"][-1]
    judgement = freshness(flow, ShownFrame(view.frame, tick_ms, newest_tick_ms))
    return {
        "stale": judgement.stale,
        "level": judgement.level.value,
        "color": judgement.level.color,
        "sentence": judgement.sentence,
        "since_ms": judgement.since_ms,
        "by": judgement.actor,
        "tick_ms": tick_ms,
        "changed_ms": changed_ms,
        **parts,
    }
