"""How feeds are shown, on their own page and on Monitoring. Pure."""

from collections.abc import Sequence
from typing import Literal

import polars as pl

from charts.texts import age
from control.feeds.views import FeedView
from feed.connection.state import Phase

_STALE_NAMED = 3
_GOOD = frozenset({Phase.RECEIVING.value, Phase.IDLE.value})


def feed_table(views: Sequence[FeedView], now_ms: int) -> pl.DataFrame:
    """Return one row for each feed."""
    return pl.DataFrame([_row(view, now_ms) for view in views])


def color(view: FeedView) -> Literal["green", "orange", "red", "gray"]:
    """Return what a feed's state looks like."""
    if not view.feed.enabled:
        return "gray"
    return "red" if view.needs_somebody or view.state is None else "green" if view.phase in _GOOD else "orange"


def _row(view: FeedView, now_ms: int) -> dict[str, object]:
    state = view.state
    return {
        "Feed": view.feed.name,
        "Kind": view.feed.kind,
        "State": view.phase,
        "For": _age(state.since_ms if state else None, now_ms),
        "Heard": _age(state.heard_ms if state else None, now_ms),
        "Ticks/s": round(view.ticks_per_s, 1),
        "Refused": view.source.rejected if view.source else 0,
        "Clock, ms": None if state is None or state.skew_ms is None else round(state.skew_ms),
        "Connections": state.connects if state else None,
        "Gaps": state.gaps if state else None,
        "Backfilled": state.backfilled if state else None,
        "Missing": state.missing if state else None,
        "Stale": _stale(state.stale) if state else "",
        "What is so": view.sentence,
    }


def _age(at_ms: int | None, now_ms: int) -> str:
    return "–" if at_ms is None else age(now_ms - at_ms)


def _stale(names: Sequence[str]) -> str:
    more = f" and {len(names) - _STALE_NAMED:,} more" if len(names) > _STALE_NAMED else ""
    return ", ".join(names[:_STALE_NAMED]) + more
