"""The overview page: is everything running, how fast do prices come, and where does each instrument stand?"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import streamlit as st

from bar.frames import Frame, parse_frame
from charts.newest import NUMBERS, newest_bars
from control.freshness.flow import Flow
from control.freshness.frames import Unfed, unfed
from control.freshness.judge import Level, ShownFrame, freshness
from control.home import Home
from control.people.roles import Permission
from pages.parts import readings
from pages.parts.facts import facts, facts_row
from pages.parts.flow import with_reading
from pages.parts.head import freshness_line, head, system_status, wait_for_bars
from pages.parts.my_preferences import keep, mine
from pages.parts.routing import through_app
from pages.parts.standings import (
    hour_lines,
    newest_bars_of_all,
    offered_frames_of_all,
    standings,
    watched_frame,
)
from pages.parts.told import attempt, tell
from pages.parts.visitor import Visitor, require
from pages.parts.watchlist import Watchlist, watchlist_table, watchlist_update

_RATE_KEPT_MS = 60_000
_NEWEST_SHOWN = 10
_BARS_EACH = 3
_TOLD, _LINES = "overview_told", "overview_lines"


def page() -> None:
    """Show the head, then the live parts or how to get them going."""
    one = require(Permission.VIEW_PRICES)
    home = Home.find()
    head("Overview", readings.flow(home))
    tell(_TOLD)
    names = readings.instruments(home)
    if not names:
        wait_for_bars()
        return
    _live_facts(home)
    preferred, frames = mine(one), [frame.text for frame in readings.frames(home, names[0])]
    usual = preferred.frame if preferred.frame in frames else frames[0]
    opened = watchlist_table(_watchlist(home), preferred.favourites, usual, partial(_star, one))
    if opened is not None:
        # Only from here: from inside a fragment, the page that opens sometimes stays empty.
        st.switch_page("pages/chart.py", query_params={"instrument": opened, "frame": usual})
    _live_watchlist(home)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.subheader("Last changed bars", anchor=False, width="content")
        picked = st.segmented_control(
            "Frame", frames, default=usual, key="overview_frame", required=True, label_visibility="collapsed"
        )
    _live_bars(home, parse_frame(str(picked)))


@st.fragment(run_every=1)
def _live_facts(home: Home) -> None:
    flow = readings.flow(home)
    kept = with_reading(st.session_state.get("overview_flow", ()), flow, _RATE_KEPT_MS)
    st.session_state["overview_flow"] = kept
    not_fed = unfed(flow, offered_frames_of_all(home))
    facts_row(facts(kept, readings.refused(home), system_status(home), not_fed))
    _say_what_is_not_well(flow, not_fed)


def _say_what_is_not_well(flow: Flow, not_fed: Sequence[Unfed]) -> None:
    """Say why prices do not come, or else which of the frames that people may open do not move, and why."""
    fresh = freshness(flow)
    if fresh.level is not Level.LIVE:
        st.markdown(freshness_line(fresh))
        return
    for one in not_fed:
        st.markdown(freshness_line(replace(one.why, sentence=one.sentence)))


@st.fragment(run_every=1)
def _live_watchlist(home: Home) -> None:
    if not readings.instruments(home):
        st.rerun()  # the store was taken away; the page says what to do
    shown = _watchlist(home)
    # The lines are most of it, and change four times a minute.
    if st.session_state.get(_LINES) == shown.lines:
        shown = replace(shown, lines={})
    else:
        st.session_state[_LINES] = shown.lines
    watchlist_update(shown)


@st.fragment(run_every=1)
def _live_bars(home: Home, frame: Frame) -> None:
    bars = newest_bars_of_all(home, frame, _BARS_EACH)
    if not bars.height:
        return
    right = {name: st.column_config.TextColumn(alignment="right") for name in NUMBERS}
    table = newest_bars(bars, _NEWEST_SHOWN)
    st.dataframe(table, hide_index=True, key="overview_newest", row_height=27, column_config=right, placeholder="–")


def _watchlist(home: Home) -> Watchlist:
    flow, frame = readings.flow(home), watched_frame(home)
    fresh = freshness(flow, ShownFrame(frame) if frame else None)
    return Watchlist(readings.now_ms(), standings(home), hour_lines(home), fresh)


def _star(one: Visitor, added: Sequence[str], removed: Sequence[str]) -> None:
    """Keep the visitor's favourites with their account."""

    def work() -> str:
        favourites = [*mine(one).favourites, *added]
        keep(one, {"favourites": [name for name in favourites if name not in removed]})
        return ""

    attempt(_TOLD, work)


through_app()
page()
