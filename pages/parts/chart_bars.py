"""What a chart is given to show: its history, and each second what changed since. Both with studies and gaps."""

from collections.abc import Sequence
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
# An update repeats what changed lately, so that one that gets lost on its way does no harm.
UPDATE_COVERS_MS = 15_000


@dataclass(frozen=True)
class Shown:
    """Bars (BAR_SCHEMA, oldest first) with the lines over them and the gaps among them.

    newest: the newest bars there are, shown or not. live: they reach up to now, and updates follow. whole: there are no
    older ones. at_once: so many more at most are to be asked for at once.
    """

    bars: pl.DataFrame
    newest: pl.DataFrame
    lines: Sequence[StudyLine] = ()
    gaps: Sequence[tuple[int, int, str]] = ()
    live: bool = True
    whole: bool = False
    at_once: int = HISTORY_BARS


def history(home: Home, view: ChartView) -> Shown:
    """Read what a chart begins with: the bars of its range, or the newest ones."""
    at_once = min(_MOST_BARS, readings.at_once(home, view.instrument, view.frame))
    read, query = partial(readings.bars, home), replace(view.query, newest=min(HISTORY_BARS, at_once))
    newest = newest_bars(home, view)
    live = view.as_of_ms is None
    if view.range_ms is not None and newest.height:
        _, to_ms = view.range_ms
        live = live and to_ms > newest["start_ms"][-1]
        to_ms = max(to_ms, newest["end_ms"][-1]) if live else to_ms
        wanted = replace(view, to_ms=to_ms).bars_in_range
        query = replace(query, to_ms=None if live else to_ms, newest=min(max(HISTORY_BARS, wanted), at_once))
    bars, lines = studied(read, query, view.studies)
    whole = query.newest is not None and bars.height < query.newest
    return Shown(bars, newest, lines, explained_gaps(home, bars, view.frame), live, whole, at_once)


def newest_bars(home: Home, view: ChartView) -> pl.DataFrame:
    """Read the newest bars there are, for the line above the chart."""
    return readings.bars(home, replace(view.query, fill=False, newest=BARS_COMPARED))


def changes(home: Home, view: ChartView, newest: pl.DataFrame, read_ms: int, from_ms: int) -> Shown:
    """Read the bars from `from_ms` on that changed since `read_ms` less UPDATE_COVERS_MS.

    With studies also those after the first of them, since a study's values lean on the bars before.
    """
    changed = readings.changed_since(home, view.instrument, view.frame, read_ms - UPDATE_COVERS_MS, from_ms)
    if view.as_of_ms is not None or not changed.height:
        return Shown(changed.clear(), newest)
    first_ms = changed["start_ms"][0]
    before = readings.bars(home, BarQuery(view.instrument, view.frame, to_ms=first_ms, newest=1))
    gaps = explained_gaps(home, pl.concat([before, changed]), view.frame)
    if not view.studies and not (view.fill and gaps):
        return Shown(changed, newest, gaps=gaps)
    since_ms = min([first_ms, *before["end_ms"]]) if view.fill else first_ms
    bars, lines = studied(partial(readings.bars, home), replace(view.query, from_ms=since_ms), view.studies)
    return Shown(bars, newest, lines, gaps)
