"""What a chart begins with: bars, studies and gaps. What changes later it asks for itself (front/bar_changes.py)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import polars as pl

from bar.reader import BarQuery
from charts.studied import studied
from charts.studies import StudyLine
from charts.view import ChartView
from control.home import Home
from control.monitor.explained import explained_gaps
from pages.parts import readings
from pages.parts.quote import BARS_COMPARED

HISTORY_BARS = 1_000
_MOST_BARS = 5_000


@dataclass(frozen=True)
class Shown:
    """Bars (BAR_SCHEMA, oldest first) with the lines over them and the gaps among them.

    newest: the newest bars there are, shown or not. live: they reach up to now, and updates follow. whole: there are no
    older ones. at_once: so many more at most are to be asked for at once. newest_tick_ms: time of the instrument's
    newest tick in bars of any frame, None where that does not matter.
    """

    bars: pl.DataFrame
    newest: pl.DataFrame
    lines: Sequence[StudyLine] = ()
    gaps: Sequence[tuple[int, int, str]] = ()
    live: bool = True
    whole: bool = False
    at_once: int = HISTORY_BARS
    newest_tick_ms: int | None = None


def history(home: Home, view: ChartView) -> Shown:
    """Read what a chart begins with: the bars of its range, or the newest ones."""
    at_once = min(_MOST_BARS, readings.at_once(home, view.instrument, view.frame))
    read, query = partial(readings.bars, home), replace(view.query, newest=min(HISTORY_BARS, at_once))
    # Before the bars, so that what comes between the two does not make them look old.
    newest_tick_ms = readings.newest_tick_ms(home, view.instrument)
    newest = newest_of(read, view)
    live = view.as_of_ms is None
    if view.range_ms is not None and newest.height:
        _, to_ms = view.range_ms
        live = live and to_ms > newest["start_ms"][-1]
        to_ms = max(to_ms, newest["end_ms"][-1]) if live else to_ms
        wanted = replace(view, to_ms=to_ms).bars_in_range
        query = replace(query, to_ms=None if live else to_ms, newest=min(max(HISTORY_BARS, wanted), at_once))
    bars, lines = studied(read, query, view.studies)
    whole = query.newest is not None and bars.height < query.newest
    gaps = explained_gaps(home, bars, view.frame)
    return Shown(bars, newest, lines, gaps, live, whole, at_once, newest_tick_ms)


def newest_of(read: Callable[[BarQuery], pl.DataFrame], view: ChartView) -> pl.DataFrame:
    """Read the newest bars there are, for the line above the chart."""
    return read(replace(view.query, fill=False, newest=BARS_COMPARED))
