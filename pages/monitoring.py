"""The Monitoring page: alerts, and how flow, jobs, cluster and processes are and were. It only shows.

It refreshes as a whole, every few seconds: there is no form on it that this could disturb. The rules are on a page of
their own.
"""

from datetime import UTC, datetime

import polars as pl
import streamlit as st
from streamlit_autorefresh import st_autorefresh

from charts.history import Span, history_figure, history_in_words, newest_in_words
from charts.texts import age, plain
from control.home import Home
from control.monitor.history import CURRENT_MS, Failure
from control.people.roles import Permission
from pages.parts import monitor, readings
from pages.parts.address import picked
from pages.parts.alert_list import alert_list
from pages.parts.alert_tables import past_alert_rows
from pages.parts.facts import facts_row
from pages.parts.feed_list import feed_list, views_or_stop
from pages.parts.head import head
from pages.parts.live_figures import LiveFigures
from pages.parts.monitor_facts import Latest, monitor_facts, process_rows, taskmanager_rows
from pages.parts.plots import SECTIONS, History, Plot, lines_of
from pages.parts.routing import through_app
from pages.parts.visitor import Visitor, require

_REFRESH_MS = 5_000
_COLUMNS = 3
_CAUSE_CHARACTERS = 120


def page() -> None:
    """Show alerts, facts, plots, failures and tables."""
    one, home = require(Permission.VIEW_OPERATIONS), Home.find()
    with st.container(horizontal=True, vertical_alignment="center"):
        head("Monitoring", readings.flow(home))
        section = picked("section", list(SECTIONS), "flow", page="monitoring")
        range_name = picked("range", list(monitor.RANGES_MS), "1h", page="monitoring")
        if one.may(Permission.MANAGE_ALERTS):
            st.page_link("pages/alerts.py", label="Rules and webhook", icon=":material/tune:")
    now = monitor.now(home)
    # What comes and goes has a place of its own, or the browser would take every figure below for a new one.
    with st.container():
        _alerts(home, one)
        if now.measured_ms is not None:
            _silence(readings.now_ms() - now.measured_ms)
    if now.measured_ms is None:
        _teach()
    else:
        latest = Latest.of(now.readings)
        facts_row(monitor_facts(latest))
        _plots(home, section, range_name)
        if section == "flow":
            st.subheader("Feeds", anchor=False)
            feed_list(views_or_stop(home), "monitoring_feeds")
        if section == "jobs":
            _failures(now.failures)
        if section == "machine":
            _tables(latest)
    st_autorefresh(interval=_REFRESH_MS, key="monitoring_refresh")


def _alerts(home: Home, one: Visitor) -> None:
    alert_list(home, one)
    over = monitor.alerts_that_are_over(home)
    if over:
        with st.expander(f"Alerts that are over ({len(over)})", key="monitoring_over"):
            st.dataframe(pl.DataFrame(past_alert_rows(over)), hide_index=True, key="monitoring_past", placeholder="–")


def _teach() -> None:
    with st.container(border=True):
        st.subheader("Nothing measured yet", anchor=False)
        st.markdown(
            "The controller measures the flow of prices, the jobs, the Flink cluster, the processes and the disk every"
            " five seconds, whether a page is open or not, and raises alerts by rules that admins can change. Start it"
            " in a terminal, in the project's folder:\n\n```\n./barmill up\n```\n\nThe first figures show up here by"
            " themselves a few seconds later."
        )


def _silence(silent_ms: int) -> None:
    if silent_ms > CURRENT_MS:
        st.warning(
            f"Nothing was measured for {age(silent_ms)}: the controller does not run, or cannot write. What is shown is"
            " from before; ./barmill status says more, and so does log/controller.log.",
            icon=":material/visibility_off:",
        )


def _plots(home: Home, section: str, range_name: str) -> None:
    span, history = monitor.past(home, section, monitor.RANGES_MS[range_name])
    plots, figures = SECTIONS[section], LiveFigures("monitoring", f"{section} {range_name}")
    # Row by row, so that on a narrow screen, where columns follow one another, the order stays.
    for start in range(0, len(plots), _COLUMNS):
        for column, plot in zip(st.columns(_COLUMNS), plots[start : start + _COLUMNS], strict=False):
            with column:
                _plot(figures, plot, history, span)
    figures.update()
    st.caption("All times are UTC. Drag over a figure to look closer, double-click to see all of it again.")


def _plot(figures: LiveFigures, plot: Plot, history: History, span: Span) -> None:
    lines = lines_of(plot, history)
    st.markdown(f"**{plot.title}** &ensp; :gray[{plain(newest_in_words(lines, plot.unit))}]")
    if not lines:
        st.caption("Not measured in this time.")
        return
    words = history_in_words(plot.title, lines, plot.unit)
    figures.show(plot.key, history_figure(lines, plot.unit, span), words)


def _failures(failures: list[Failure]) -> None:
    st.subheader("Exceptions", anchor=False)
    if not failures:
        st.caption("No job has failed, as far back as is known.")
    for one in failures:
        at = datetime.fromtimestamp(one.failure.at_ms / 1_000, UTC).strftime("%Y-%m-%d %H:%M:%S")
        key = f"monitoring_failure_{one.run}_{one.failure.at_ms}"
        with st.expander(f"{at} UTC, job {one.job}: {plain(one.failure.cause[:_CAUSE_CHARACTERS])}", key=key):
            st.caption(f"{plain(one.failure.task or 'the job as a whole')}, run {one.run}")
            st.code(one.failure.trace, language=None, height=320)


def _tables(latest: Latest) -> None:
    for title, rows in (
        ("Processes", process_rows(latest, readings.now_ms())),
        ("TaskManagers", taskmanager_rows(latest)),
    ):
        if rows:
            st.subheader(title, anchor=False)
            st.dataframe(pl.DataFrame(rows), hide_index=True, key=f"monitoring_{title}", placeholder="–")


through_app()
page()
