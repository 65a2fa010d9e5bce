"""The overview page: the state of the system, the rate of ticks, and the latest price of each instrument."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import streamlit as st

from barmill.audit.roles import Permission
from barmill.charts.watchlist import NUMBERS, newest_bars_table
from barmill.model.frames import Frame, parse_frame
from barmill.platform.home import Home
from control.freshness.flow import Flow
from control.freshness.judge import Level, ShownFrame, freshness
from control.freshness.reading import UnfedFrames, unfed_frames
from pages.parts.accounts.my_preferences import change_preferences, preferences_of
from pages.parts.chart.watchlist import Watchlist, watchlist_table, watchlist_update
from pages.parts.shared.facts import facts, facts_row
from pages.parts.shared.latest_prices import (
    hour_lines,
    newest_bars_of_all,
    offered_frames_of_all,
    watched_prices,
    watchlist_frame,
)
from pages.parts.shared.messages import run_action, show_message
from pages.parts.shared.page_header import backfill_progress, freshness_line, page_header, system_status, wait_for_bars
from pages.parts.shared.visitor import Visitor, require, rerun_through_app
from views import readings
from views.readings import with_reading

_RATE_PERIOD_MS = 60_000
_MAX_NEWEST_BARS = 10
_BARS_PER_INSTRUMENT = 3
_OUTCOME, _LINES = "overview_outcome", "overview_lines"


def page() -> None:
    """Show the header, then the live parts, or instructions to start Barmill."""
    visitor = require(Permission.VIEW_PRICES)
    home = Home.find()
    page_header("Overview", readings.flow(home))
    show_message(_OUTCOME)
    names = readings.instruments(home)
    if not names:
        wait_for_bars()
        return
    _live_facts(home)
    preferred, frames = preferences_of(visitor), [frame.text for frame in readings.frames(home, names[0])]
    frame_text = preferred.frame if preferred.frame in frames else frames[0]
    opened = watchlist_table(_watchlist(home), preferred.favourites, frame_text, partial(_save_favourites, visitor))
    if opened is not None:
        # Only outside of fragments: from inside one, the opened page sometimes stays empty.
        st.switch_page("pages/chart.py", query_params={"instrument": opened, "frame": frame_text})
    _live_watchlist(home)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.subheader("Recently changed bars", anchor=False, width="content")
        selected = st.segmented_control(
            "Frame", frames, default=frame_text, key="overview_frame", required=True, label_visibility="collapsed"
        )
    _live_bars(home, parse_frame(str(selected)))


@st.fragment(run_every=1)
def _live_facts(home: Home) -> None:
    flow = readings.flow(home)
    flow_readings = with_reading(st.session_state.get("overview_flow", ()), flow, _RATE_PERIOD_MS)
    st.session_state["overview_flow"] = flow_readings
    unfed = unfed_frames(flow, offered_frames_of_all(home))
    facts_row(facts(flow_readings, readings.rejects_by_reason(home), system_status(home), unfed))
    _show_problems(flow, unfed)
    # Shown last, so that nothing moves when it disappears.
    backfill_progress(flow)


def _show_problems(flow: Flow, unfed: Sequence[UnfedFrames]) -> None:
    """Show why prices are late; otherwise which of the offered frames are not updated, and why."""
    judgement = freshness(flow)
    if judgement.stale:
        return  # the watchlist says why
    if judgement.level is not Level.LIVE:
        st.markdown(freshness_line(judgement))
        return
    for unfed_frame in unfed:
        st.markdown(freshness_line(replace(unfed_frame.reason, sentence=unfed_frame.sentence)))


@st.fragment(run_every=1)
def _live_watchlist(home: Home) -> None:
    if not readings.instruments(home):
        st.rerun()  # the store was removed; the page says what to do
    watchlist = _watchlist(home)
    # The lines are most of the message, and change only four times a minute.
    if st.session_state.get(_LINES) == watchlist.lines:
        watchlist = replace(watchlist, lines={})
    else:
        st.session_state[_LINES] = watchlist.lines
    watchlist_update(watchlist)


@st.fragment(run_every=1)
def _live_bars(home: Home, frame: Frame) -> None:
    bars = newest_bars_of_all(home, frame, _BARS_PER_INSTRUMENT)
    if not bars.height:
        return
    column_config = {name: st.column_config.TextColumn(alignment="right") for name in NUMBERS}
    table = newest_bars_table(bars, _MAX_NEWEST_BARS)
    st.dataframe(
        table, hide_index=True, key="overview_newest", row_height=27, column_config=column_config, placeholder="–"
    )


def _watchlist(home: Home) -> Watchlist:
    flow, frame = readings.flow(home), watchlist_frame(home)
    judgement = freshness(flow, ShownFrame(frame) if frame else None)
    return Watchlist(readings.now_ms(), watched_prices(home), hour_lines(home), judgement)


def _save_favourites(visitor: Visitor, added: Sequence[str], removed: Sequence[str]) -> None:
    """Store the visitor's favourites in their account."""

    def action() -> str:
        favourites = [*preferences_of(visitor).favourites, *added]
        change_preferences(visitor, {"favourites": [name for name in favourites if name not in removed]})
        return ""

    run_action(_OUTCOME, action)


rerun_through_app()
page()
