"""The data quality page: is every tick accounted for, what was refused, how late ticks come, and what changed after."""

import streamlit as st

from charts.quality import words
from control.home import Home
from control.people.roles import Permission
from feed.tick import REASONS
from pages.parts import quality_readings as quality
from pages.parts import readings
from pages.parts.catalogue import all_feeds
from pages.parts.head import head
from pages.parts.quality_tables import Bar, read_bar
from pages.parts.quality_views import (
    account_view,
    comparison_view,
    history_view,
    late_view,
    rejects_view,
    revisions_view,
)
from pages.parts.routing import through_app
from pages.parts.visitor import require

_VIEWS = ("Rejects", "Late ticks", "Revisions", "Comparison")
_MIN, _HOUR = 60_000, 3_600_000
_WINDOWS_MS = {"15 min": 15 * _MIN, "1 h": _HOUR, "24 h": 24 * _HOUR, "7 d": 7 * 24 * _HOUR}


def page() -> None:
    """Show the account, then the view that the address names."""
    require(Permission.VIEW_OPERATIONS)
    home = Home.find()
    head("Data quality", readings.flow(home))
    account_view(home, tuple(feed.name for feed in all_feeds(home) if feed.enabled))
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        view = _choice("View", _VIEWS, "Rejects", "quality_view")
        window_ms = (
            0 if view == "Comparison" else _WINDOWS_MS[_choice("Time", tuple(_WINDOWS_MS), "1 h", "quality_time")]
        )
    if view == "Rejects":
        with st.container(horizontal=True):
            reason, instrument = _reason(), _instrument()
        rejects_view(home, window_ms, reason, instrument)
    elif view == "Late ticks":
        late_view(home, window_ms)
    elif view == "Revisions":
        instrument = _instrument()
        revisions_view(home, window_ms, instrument)
        bar = _bar(home, window_ms, instrument)
        if bar is not None:
            history_view(home, bar)
    else:
        comparison_view(home)


def _choice(label: str, options: tuple[str, ...], usual: str, key: str) -> str:
    picked = st.segmented_control(
        label, options, default=usual, key=key, required=True, bind="query-params", label_visibility="collapsed"
    )
    return str(picked)


def _reason() -> str | None:
    picked = st.selectbox(
        "Reason",
        list(REASONS),
        index=None,
        key="quality_reason",
        bind="query-params",
        format_func=words,
        placeholder="Any reason",
        label_visibility="collapsed",
        width=280,
    )
    return None if picked is None else str(picked)


def _instrument() -> str | None:
    text = st.text_input(
        "Instrument",
        key="quality_instrument",
        type="search",
        bind="query-params",
        placeholder="Any instrument",
        label_visibility="collapsed",
        width=280,
    )
    return text.strip() or None


def _bar(home: Home, window_ms: int, instrument: str | None) -> Bar | None:
    """Let the user pick one of the bars that changed last; the address may name any other."""
    revised = quality.latest_revisions(home, window_ms, instrument)
    bars = [
        Bar(*key).text for key in revised.select("instrument", "frame", "start_ms").unique(maintain_order=True).rows()
    ]
    asked = st.session_state.get("quality_bar") or st.query_params.get("bar")
    known = asked is not None and read_bar(asked) is not None
    options = [asked, *(one for one in bars if one != asked)] if known else bars
    picked = st.selectbox(
        "History of one bar",
        options,
        index=0 if known else None,
        key="quality_bar",
        format_func=lambda text: (read_bar(text) or Bar(text, "", 0)).label,
        placeholder="Pick a bar to see every version of it",
    )
    if picked is None:
        st.query_params.pop("bar", None)
        return None
    st.query_params["bar"] = picked
    return read_bar(picked)


through_app()
page()
