"""The Monitoring page: alerts, and current and past measurements of price flow, jobs, cluster and processes.

It has no form, so it refreshes as a whole every five seconds. The alert rules are on the Alerts page.
"""

import polars as pl
import streamlit as st
from streamlit_autorefresh import st_autorefresh

from barmill.audit.roles import Permission
from barmill.charts.history import Span, describe_history, history_figure, newest_values_text
from barmill.platform.home import Home
from barmill.platform.texts import age, escape_markdown, moment
from control.jobs.views import job_views
from control.monitoring.history import CURRENT_MS, Failure
from control.retention import read_history_move
from pages.parts.feeds.catalogue import feed_list, views_or_stop
from pages.parts.monitoring import readings as monitor
from pages.parts.monitoring.facts import Latest, monitor_facts, process_rows, taskmanager_rows
from pages.parts.monitoring.readings import alert_list
from pages.parts.shared.browser_code import LiveFigures
from pages.parts.shared.choices import pick_option
from pages.parts.shared.facts import facts_row
from pages.parts.shared.page_header import page_header
from pages.parts.shared.visitor import Visitor, require, rerun_through_app
from views import readings
from views.plots import SECTIONS, History, Plot, lines_of, past_alert_rows

_REFRESH_MS = 5_000
_COLUMNS = 3
_MAX_CAUSE_LENGTH = 120


def page() -> None:
    """Show alerts, facts, plots, failures and tables."""
    visitor, home = require(Permission.VIEW_OPERATIONS), Home.find()
    with st.container(horizontal=True, vertical_alignment="center"):
        page_header("Monitoring", readings.flow(home))
        section = pick_option("section", list(SECTIONS), "flow", page="monitoring")
        range_name = pick_option("range", list(monitor.RANGES_MS), "1h", page="monitoring")
        if visitor.may(Permission.MANAGE_ALERTS):
            st.page_link("pages/alerts.py", label="Rules and webhook", icon=":material/tune:")
    current = monitor.current_readings(home)
    # Elements that come and go have a separate container; otherwise the browser would treat every figure below as new.
    with st.container():
        _alerts(home, visitor)
        _history_move(home)
        if current.measured_ms is not None:
            _warn_if_silent(readings.now_ms() - current.measured_ms)
    if current.measured_ms is None:
        _show_explanation()
    else:
        latest = Latest.of(current.readings)
        facts_row(monitor_facts(latest, job_views(home)))
        _plots(home, section, range_name)
        if section == "flow":
            st.subheader("Feeds", anchor=False)
            feed_list(views_or_stop(home), "monitoring_feeds")
        if section == "jobs":
            _failures(current.failures)
        if section == "machine":
            _tables(latest)
    st_autorefresh(interval=_REFRESH_MS, key="monitoring_refresh")


def _alerts(home: Home, visitor: Visitor) -> None:
    alert_list(home, visitor)
    past_alerts = monitor.cleared_alerts(home)
    if past_alerts:
        with st.expander(f"Cleared alerts ({len(past_alerts)})", key="monitoring_cleared"):
            st.dataframe(
                pl.DataFrame(past_alert_rows(past_alerts)), hide_index=True, key="monitoring_past", placeholder="–"
            )


def _history_move(home: Home) -> None:
    move = read_history_move(home)
    if move and move.sentence:
        st.caption(move.sentence)


def _show_explanation() -> None:
    with st.container(border=True):
        st.subheader("Nothing measured yet", anchor=False)
        st.markdown(
            "The controller measures the flow of prices, the jobs, the Flink cluster, the processes and the disk every"
            " five seconds, whether a page is open or not, and raises alerts by rules that admins can change. Start it"
            " in a terminal, in the project's folder:\n\n```\n./barmill up\n```\n\nThe first measurements appear"
            " here within a few seconds."
        )


def _warn_if_silent(silent_ms: int) -> None:
    if silent_ms > CURRENT_MS:
        st.warning(
            f"No measurements for {age(silent_ms)}: the controller is not running, or cannot write. This page shows"
            " older values; see ./barmill status and log/controller.log.",
            icon=":material/visibility_off:",
        )


def _plots(home: Home, section: str, range_name: str) -> None:
    span, history = monitor.plot_history(home, section, monitor.RANGES_MS[range_name])
    plots, figures = SECTIONS[section], LiveFigures("monitoring", f"{section} {range_name}")
    # Row by row, so that the order remains on a narrow screen, where columns are stacked.
    for start in range(0, len(plots), _COLUMNS):
        for column, plot in zip(st.columns(_COLUMNS), plots[start : start + _COLUMNS], strict=False):
            with column:
                _plot(figures, plot, history, span)
    figures.update()
    st.caption("All times are UTC. Drag across a figure to zoom in; double-click to zoom out.")


def _plot(figures: LiveFigures, plot: Plot, history: History, span: Span) -> None:
    lines = lines_of(plot, history)
    st.markdown(f"**{plot.title}** &ensp; :gray[{escape_markdown(newest_values_text(lines, plot.unit))}]")
    if not lines:
        st.caption("No measurements in this range.")
        return
    alt_text = describe_history(plot.title, lines, plot.unit)
    figures.show(plot.key, history_figure(lines, plot.unit, span), alt_text)


def _failures(failures: list[Failure]) -> None:
    st.subheader("Exceptions", anchor=False)
    if not failures:
        st.caption("No job failures on record.")
    for failure in failures:
        time_text = moment(failure.failure.at_ms)
        key = f"monitoring_failure_{failure.run}_{failure.failure.at_ms}"
        with st.expander(
            f"{time_text} UTC, job {failure.job}: {escape_markdown(failure.failure.cause[:_MAX_CAUSE_LENGTH])}", key=key
        ):
            st.caption(f"{escape_markdown(failure.failure.task or 'the job as a whole')}, run {failure.run}")
            st.code(failure.failure.trace, language=None, height=320)


def _tables(latest: Latest) -> None:
    for title, rows in (
        ("Processes", process_rows(latest, readings.now_ms())),
        ("TaskManagers", taskmanager_rows(latest)),
    ):
        if rows:
            st.subheader(title, anchor=False)
            st.dataframe(pl.DataFrame(rows), hide_index=True, key=f"monitoring_{title}", placeholder="–")


rerun_through_app()
page()
