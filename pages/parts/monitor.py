"""What the Monitoring page reads, at most once every few seconds for all visitors."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import TypeVar

import polars as pl
import streamlit as st

from bar.sqlite_file import StoreMissingError
from charts.history import Span
from control.home import Home
from control.monitor import history
from control.monitor.alerts import Alert, open_alerts, past_alerts
from control.monitor.history import Failure
from control.monitor.metrics import Metric, Reading, Subject
from pages.parts.plots import SECTIONS
from pages.parts.readings import now_ms

T = TypeVar("T")

RANGES_MS = {
    "15m": 900_000,
    "1h": 3_600_000,
    "6h": 21_600_000,
    "24h": 86_400_000,
    "7d": 604_800_000,
    "90d": 7_776_000_000,
}
_POINTS = 241
_PAST_ALERTS = 50
_FAILURES = 20


@dataclass(frozen=True)
class Now:
    """How everything is. measured_ms: when anything was measured last, None if nothing ever was."""

    measured_ms: int | None
    readings: list[Reading]
    failures: list[Failure]


@st.cache_data(ttl=2, max_entries=4, show_spinner=False)
def now(home: Home) -> Now:
    """Read how everything is."""
    found = _read(home, lambda one: Now(one.newest_ms(), one.latest(now_ms()), one.failures(_FAILURES)))
    return found or Now(None, [], [])


@st.cache_data(ttl=4, max_entries=24, show_spinner=False)
def past(home: Home, section: str, length_ms: int) -> tuple[Span, dict[Metric, dict[Subject, pl.DataFrame]]]:
    """Read how everything that a section shows went in this time up to now."""
    to_ms = now_ms()
    span = Span(to_ms - length_ms, to_ms, max(30_000, 4 * length_ms // _POINTS))
    metrics = [metric for plot in SECTIONS[section] for metric in plot.metrics]
    read = _read(home, lambda one: {metric: one.lines(metric, span.from_ms, span.to_ms, _POINTS) for metric in metrics})
    return span, read or {}


@st.cache_data(ttl=2, max_entries=4, show_spinner=False)
def alerts(home: Home) -> list[Alert]:
    """Read the open alerts."""
    return open_alerts(home)


@st.cache_data(ttl=4, max_entries=4, show_spinner=False)
def alerts_that_are_over(home: Home) -> list[Alert]:
    """Read the alerts that were cleared last."""
    return past_alerts(home, _PAST_ALERTS)


def _read(home: Home, read: Callable[[history.History], T]) -> T | None:
    try:
        with closing(history.History.read_only(home)) as one:
            return read(one)
    except (StoreMissingError, sqlite3.OperationalError):  # nothing was ever measured
        return None
