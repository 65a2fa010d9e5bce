"""What the chart in the browser is told: bars with what stands over and above them, and how fresh that is. Pure."""

import polars as pl

from charts.candles import Candles, candles
from charts.texts import moment
from charts.view import ChartView
from pages.parts.chart_bars import Shown
from pages.parts.flow import Flow, feed_state, freshness, job_state
from pages.parts.quote import quote


def chart_message(view: ChartView, shown: Shown, read_ms: int, flow: Flow) -> Candles:
    """Return the candles message (charts/candles.py) with `status` and `quote`."""
    message = candles(shown.bars, view.instrument, view.frame, read_ms, shown.lines, shown.gaps)
    return message | {"status": status(view, shown.newest, flow), "quote": quote(shown.newest, view.frame)}


def status(view: ChartView, newest: pl.DataFrame, flow: Flow) -> dict[str, object]:
    """Return how fresh a chart is, given the newest bars of its instrument (BAR_SCHEMA)."""
    flow = flow.of(view.instrument)
    parts = {"feed": feed_state(flow), "job": job_state(flow)}
    if view.as_of_ms is not None:
        # What was known at a time stays as it is, so there is nothing to wait for.
        level = f"as known at {moment(view.as_of_ms)} UTC"
        return {"stale": False, "sentence": "", "level": level, "tick_ms": None, "changed_ms": None, **parts}
    fresh, tick_ms, changed_ms = freshness(flow), None, None
    if newest.height:
        tick_ms, changed_ms = newest["last_tick_ms"][-1], newest["changed_ms"][-1]
    return {
        "stale": fresh.stale,
        "sentence": fresh.sentence,
        "level": fresh.level.value,
        "tick_ms": tick_ms,
        "changed_ms": changed_ms,
        **parts,
    }
