"""What the chart in the browser is told: bars with what stands over and above them, and how fresh that is. Pure."""

import polars as pl

from charts.candles import Candles, candles
from charts.texts import moment
from charts.view import ChartView
from control.freshness.flow import Flow
from control.freshness.judge import ShownFrame, feed_state, freshness, job_state
from pages.parts.chart_bars import Shown
from pages.parts.quote import quote


def chart_message(view: ChartView, shown: Shown, read_ms: int, flow: Flow) -> Candles:
    """Return the candles message (charts/candles.py) with `status` and `quote`."""
    message = candles(shown.bars, view.instrument, view.frame, read_ms, shown.lines, shown.gaps)
    return message | {
        "status": status(view, shown.newest, shown.newest_tick_ms, flow),
        "quote": quote(shown.newest, view.frame),
    }


def status(view: ChartView, newest: pl.DataFrame, newest_tick_ms: int | None, flow: Flow) -> dict[str, object]:
    """Return how fresh a chart is, given its newest bars (BAR_SCHEMA) and the newest tick in bars of any frame.

    level, color, sentence, since_ms, by: the judgement (control/freshness). stale: it must not look alive.
    """
    flow = flow.of(view.instrument)
    parts = {"feed": feed_state(flow), "job": job_state(flow, view.frame)}
    if view.as_of_ms is not None:
        # What was known at a time stays as it is, so there is nothing to wait for.
        level = f"as known at {moment(view.as_of_ms)} UTC"
        judged = {"level": level, "color": "gray", "sentence": "", "since_ms": None, "by": None}
        return {"stale": False, "tick_ms": None, "changed_ms": None, **judged, **parts}
    tick_ms, changed_ms = None, None
    if newest.height:
        tick_ms, changed_ms = newest["last_tick_ms"][-1], newest["changed_ms"][-1]
    fresh = freshness(flow, ShownFrame(view.frame, tick_ms, newest_tick_ms))
    return {
        "stale": fresh.stale,
        "level": fresh.level.value,
        "color": fresh.level.color,
        "sentence": fresh.sentence,
        "since_ms": fresh.since_ms,
        "by": fresh.by,
        "tick_ms": tick_ms,
        "changed_ms": changed_ms,
        **parts,
    }
