"""Open alerts: a line beside every page, and the list on top of the Monitoring page."""

from contextlib import closing

import streamlit as st

from charts.texts import age, plain
from control.home import Home
from control.monitor.alerts import Alert, acknowledge, open_alert_db
from control.monitor.rules import Severity
from control.people.roles import Actor, Permission
from pages.parts import monitor
from pages.parts.readings import now_ms
from pages.parts.told import attempt, tell
from pages.parts.visitor import Visitor

_TOLD = "monitoring_told"
_ICONS = {Severity.CRITICAL: ":material/error:", Severity.WARNING: ":material/warning:"}


def alert_line(one: Visitor) -> None:
    """Say how many alerts are open, with a link for those who may look."""
    alerts = monitor.alerts(Home.find())
    if not alerts:
        return
    text = f"{len(alerts)} open {'alert' if len(alerts) == 1 else 'alerts'}"
    if one.may(Permission.VIEW_OPERATIONS):
        st.page_link("pages/monitoring.py", label=f":{_color(alerts[0])}[{text}]", icon=_icon(alerts[0]))
    st.caption(plain(alerts[0].sentence))


def alert_list(home: Home, one: Visitor) -> None:
    """List the open alerts, with a button for those who may acknowledge them."""
    tell(_TOLD)
    for alert in monitor.alerts(home):
        with st.container(horizontal=True, vertical_alignment="center", key=f"monitoring_alert_{alert.id}"):
            st.badge(alert.severity, icon=_icon(alert), color="red" if _grave(alert) else "orange")
            seen = f", seen by {plain(alert.acknowledged_by)}" if alert.acknowledged_by else ""
            st.markdown(f"{plain(alert.sentence)} :gray[for {age(now_ms() - alert.raised_ms)}{seen}]", width="stretch")
            if alert.acknowledged_ms is None and one.may(Permission.ACKNOWLEDGE_ALERTS):
                key = f"monitoring_acknowledge_{alert.id}"
                st.button("Acknowledge", key=key, on_click=_acknowledge, args=(home, one.actor, alert.id))


def _acknowledge(home: Home, actor: Actor, number: int) -> None:
    def work() -> str:
        db = open_alert_db(home)
        with closing(db.conn):
            acknowledge(db, actor, number, now_ms())
        return ""

    attempt(_TOLD, work)
    monitor.alerts.clear()
    monitor.alerts_that_are_over.clear()


def _grave(alert: Alert) -> bool:
    return alert.severity == Severity.CRITICAL


def _color(alert: Alert) -> str:
    return "red" if _grave(alert) else "orange"


def _icon(alert: Alert) -> str:
    return _ICONS[Severity.CRITICAL if _grave(alert) else Severity.WARNING]
