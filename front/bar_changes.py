"""What an open chart asks for each second: the bars that changed since it last heard, and how fresh all of it is."""

from collections.abc import Mapping
from dataclasses import replace

import polars as pl

from bar.clock import now_ms
from bar.reader import BarQuery, BarReader
from charts.candles import Candles
from charts.studied import studied
from charts.view import ChartView
from control.freshness.reading import newest_tick_ms
from control.home import Home
from control.monitor.explained import explained_gaps
from front.bar_questions import view_since
from pages.parts import readings
from pages.parts.chart_bars import HISTORY_BARS, Shown, newest_of
from pages.parts.chart_message import chart_message

# A bar says when it was written, and can be read once its transaction is done.
_TRANSACTION_TAKES_MS = 3_000


def changes_message(home: Home, reader: BarReader, asked: Mapping[str, str]) -> Candles:
    """Return the chart's message with the bars that changed at or after `since`, at most HISTORY_BARS from the newest.

    since_ms: from when on nothing is missing in it. from_slot: from where on. Raise QuestionError.
    """
    view, since_ms = view_since(reader, asked)
    read_ms, newest = now_ms(), newest_of(reader.read, view)
    newest_ms = newest["start_ms"][-1] if newest.height else read_ms
    from_ms = newest_ms - HISTORY_BARS * view.frame.length_ms
    shown = _changed(home, reader, view, newest, since_ms - _TRANSACTION_TAKES_MS, from_ms)
    shown = replace(shown, newest_tick_ms=newest_tick_ms(reader, view.instrument))
    message = chart_message(view, shown, read_ms, readings.flow(home))
    return message | {"since_ms": since_ms, "from_slot": view.frame.slot(from_ms)}


def _changed(
    home: Home, reader: BarReader, view: ChartView, newest: pl.DataFrame, since_ms: int, from_ms: int
) -> Shown:
    """Read the bars that changed; with studies also those after, since a study's values lean on the bars before."""
    if view.as_of_ms is not None:
        return Shown(newest.clear(), newest)
    changed = reader.changed_since(view.instrument, view.frame, since_ms, from_ms)
    if not changed.height:
        return Shown(changed, newest)
    first_ms = changed["start_ms"][0]
    before = reader.read(BarQuery(view.instrument, view.frame, to_ms=first_ms, newest=1))
    gaps = explained_gaps(home, pl.concat([before, changed]), view.frame)
    if not view.studies and not (view.fill and gaps):
        return Shown(changed, newest, gaps=gaps)
    start_ms = min([first_ms, *before["end_ms"]]) if view.fill else first_ms
    bars, lines = studied(reader.read, replace(view.query, from_ms=start_ms), view.studies)
    return Shown(bars, newest, lines, gaps)
