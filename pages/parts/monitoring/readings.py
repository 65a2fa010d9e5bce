"""The data of the Monitoring page, read at most once every few seconds for all visitors, and the lists of alerts."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import TypeVar

import polars as pl
import streamlit as st

from barmill.audit.roles import Actor, Permission
from barmill.charts.history import Span
from barmill.platform.clock import MS_PER_DAY, MS_PER_HOUR
from barmill.platform.home import Home
from barmill.platform.sqlite_file import if_ready
from barmill.platform.texts import age, escape_markdown
from control.monitoring import history
from control.monitoring.alerts import Alert, acknowledge, open_alert_db, open_alerts, past_alerts
from control.monitoring.history import Failure
from control.monitoring.metrics import Metric, Reading, Subject
from control.monitoring.rules import Severity
from pages.parts.shared.messages import run_action, show_message
from pages.parts.shared.visitor import Visitor
from views.plots import SECTIONS
from views.readings import now_ms

T = TypeVar("T")

RANGES_MS = {
    "15m": 900_000,
    "1h": MS_PER_HOUR,
    "6h": 21_600_000,
    "24h": MS_PER_DAY,
    "7d": 604_800_000,
    "90d": 7_776_000_000,
}
_MAX_POINTS = 241
_MAX_PAST_ALERTS = 50
_MAX_FAILURES = 20


@dataclass(frozen=True)
class CurrentReadings:
    """The newest readings and failures. measured_ms: the time of the last measurement, None if there is none."""

    measured_ms: int | None
    readings: list[Reading]
    failures: list[Failure]


@st.cache_data(ttl=2, max_entries=4, show_spinner=False)
def current_readings(home: Home) -> CurrentReadings:
    """Return the newest readings and failures, cached for two seconds."""
    latest = _read(
        home,
        lambda measurements: CurrentReadings(
            measurements.newest_ms(), measurements.latest(now_ms()), measurements.failures(_MAX_FAILURES)
        ),
    )
    return latest or CurrentReadings(None, [], [])


@st.cache_data(ttl=4, max_entries=24, show_spinner=False)
def plot_history(home: Home, section: str, length_ms: int) -> tuple[Span, dict[Metric, dict[Subject, pl.DataFrame]]]:
    """Return the span of the last `length_ms`, and a section's lines (LINE_SCHEMA) in it by metric and subject."""
    to_ms = now_ms()
    span = Span(to_ms - length_ms, to_ms, max(30_000, 4 * length_ms // _MAX_POINTS))
    metrics = [metric for plot in SECTIONS[section] for metric in plot.metrics]
    read = _read(
        home,
        lambda measurements: {
            metric: measurements.lines(metric, span.from_ms, span.to_ms, _MAX_POINTS) for metric in metrics
        },
    )
    return span, read or {}


@st.cache_data(ttl=2, max_entries=4, show_spinner=False)
def alerts(home: Home) -> list[Alert]:
    """Return the open alerts."""
    return open_alerts(home)


@st.cache_data(ttl=4, max_entries=4, show_spinner=False)
def cleared_alerts(home: Home) -> list[Alert]:
    """Return the alerts that were cleared last, newest first."""
    return past_alerts(home, _MAX_PAST_ALERTS)


def _read(home: Home, read: Callable[[history.History], T]) -> T | None:
    with if_ready(), history.History.read_only(home) as measurements:
        return read(measurements)
    return None


_OUTCOME = "monitoring_outcome"
_ICONS = {Severity.CRITICAL: ":material/error:", Severity.WARNING: ":material/warning:"}


def alert_line(visitor: Visitor) -> None:
    """Show the most severe open alert, and to users who may view operations, the number of open alerts as a link."""
    open_alerts = alerts(Home.find())
    if not open_alerts:
        return
    text = f"{len(open_alerts)} open {'alert' if len(open_alerts) == 1 else 'alerts'}"
    if visitor.may(Permission.VIEW_OPERATIONS):
        st.page_link("pages/monitoring.py", label=f":{_color(open_alerts[0])}[{text}]", icon=_icon(open_alerts[0]))
    st.caption(escape_markdown(open_alerts[0].sentence))


def alert_list(home: Home, visitor: Visitor) -> None:
    """List the open alerts, with a button for users who may acknowledge them."""
    show_message(_OUTCOME)
    for alert in alerts(home):
        with st.container(horizontal=True, vertical_alignment="center", key=f"monitoring_alert_{alert.id}"):
            st.badge(alert.severity, icon=_icon(alert), color="red" if _is_critical(alert) else "orange")
            acknowledgement = (
                f", acknowledged by {escape_markdown(alert.acknowledged_by)}" if alert.acknowledged_by else ""
            )
            st.markdown(
                f"{escape_markdown(alert.sentence)} :gray[for {age(now_ms() - alert.raised_ms)}{acknowledgement}]",
                width="stretch",
            )
            if alert.acknowledged_ms is None and visitor.may(Permission.ACKNOWLEDGE_ALERTS):
                key = f"monitoring_acknowledge_{alert.id}"
                st.button("Acknowledge", key=key, on_click=_acknowledge, args=(home, visitor.actor, alert.id))


def _acknowledge(home: Home, actor: Actor, alert_id: int) -> None:
    def action() -> str:
        db = open_alert_db(home)
        with closing(db.conn):
            acknowledge(db, actor, alert_id, now_ms())
        return ""

    run_action(_OUTCOME, action)
    alerts.clear()
    cleared_alerts.clear()


def _is_critical(alert: Alert) -> bool:
    return alert.severity == Severity.CRITICAL


def _color(alert: Alert) -> str:
    return "red" if _is_critical(alert) else "orange"


def _icon(alert: Alert) -> str:
    return _ICONS[Severity.CRITICAL if _is_critical(alert) else Severity.WARNING]
