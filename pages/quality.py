"""The data quality page: the counts of all ticks, rejects, late ticks, revisions, and the comparison."""

import streamlit as st

from barmill.audit.roles import Permission
from barmill.charts.quality import reason_text
from barmill.model.tick import REASONS
from barmill.platform.clock import MS_PER_DAY, MS_PER_HOUR, MS_PER_MINUTE
from barmill.platform.home import Home
from pages.parts.feeds.catalogue import all_feeds
from pages.parts.quality import (
    comparison_view,
    history_view,
    late_view,
    latest_revisions,
    rejects_view,
    revisions_view,
    tick_counts_view,
)
from pages.parts.shared.page_header import page_header
from pages.parts.shared.visitor import require, rerun_through_app
from views import readings
from views.quality_tables import Bar, parse_bar

_VIEWS = ("Rejects", "Late ticks", "Revisions", "Comparison")
_WINDOWS_MS = {"15 min": 15 * MS_PER_MINUTE, "1 h": MS_PER_HOUR, "24 h": MS_PER_DAY, "7 d": 7 * MS_PER_DAY}


def page() -> None:
    """Show the counts, then the view that the address names."""
    require(Permission.VIEW_OPERATIONS)
    home = Home.find()
    page_header("Data quality", readings.flow(home))
    tick_counts_view(home, tuple(feed.name for feed in all_feeds(home) if feed.enabled))
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


def _choice(label: str, options: tuple[str, ...], default: str, key: str) -> str:
    selected = st.segmented_control(
        label, options, default=default, key=key, required=True, bind="query-params", label_visibility="collapsed"
    )
    return str(selected)


def _reason() -> str | None:
    selected = st.selectbox(
        "Reason",
        list(REASONS),
        index=None,
        key="quality_reason",
        bind="query-params",
        format_func=reason_text,
        placeholder="Any reason",
        label_visibility="collapsed",
        width=280,
    )
    return None if selected is None else str(selected)


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
    """Let the user pick one of the bars that changed last; the address may name any other bar."""
    revised = latest_revisions(home, window_ms, instrument)
    bars = [
        Bar(*key).text for key in revised.select("instrument", "frame", "start_ms").unique(maintain_order=True).rows()
    ]
    parameter = st.session_state.get("quality_bar") or st.query_params.get("bar")
    is_valid = parameter is not None and parse_bar(parameter) is not None
    options = [parameter, *(bar for bar in bars if bar != parameter)] if is_valid else bars
    selected = st.selectbox(
        "History of one bar",
        options,
        index=0 if is_valid else None,
        key="quality_bar",
        format_func=lambda text: (parse_bar(text) or Bar(text, "", 0)).label,
        placeholder="Pick a bar to see every version of it",
    )
    if selected is None:
        st.query_params.pop("bar", None)
        return None
    st.query_params["bar"] = selected
    return parse_bar(selected)


rerun_through_app()
page()
