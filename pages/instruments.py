"""The instruments page: what the provider offers, which of it is wanted, and what moves."""

from collections.abc import Sequence

import streamlit as st

from control.home import Home
from control.instruments.listing import catalogue_of, matching
from control.instruments.store import Instrument, what_it_has
from control.people.roles import Permission
from pages.parts import readings
from pages.parts.catalogue import catalogue_age, listings, picked_feed, wait_for_catalogue
from pages.parts.head import head
from pages.parts.instrument_tables import live_table, version
from pages.parts.picking import pasted_list, picks_table, refresh_button, say, table_height
from pages.parts.routing import through_app
from pages.parts.visitor import require

_MOST_LIVE = 1_000
_STATES = {"All": None, "Enabled": True, "Disabled": False}


def page() -> None:
    """Show the picks beside what moves, and below them the place for a pasted list."""
    actor = require(Permission.MANAGE_INSTRUMENTS).actor
    home = Home.find()
    head("Instruments", readings.flow(home))
    provider = picked_feed(home)
    catalogue, state = catalogue_of(home, provider)
    has = what_it_has(provider, state)
    if has is not None:
        st.info(
            f"The feed {provider} delivers everything {has}, so there is nothing to pick. These are the instruments"
            " that have come so far."
        )
        _live(home, provider, None, "")
        return
    if not catalogue:
        wait_for_catalogue(home, provider)
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        catalogue_age(home, provider)
        refresh_button(home, actor, provider)
    say()
    shown = _filtered(catalogue)
    picks, live = st.columns([5, 4], gap="medium")
    with picks:
        picks_table(home, actor, provider, shown)
    with live:
        _live(home, provider, tuple(one.instrument for one in shown), version(catalogue))
    with st.expander("Paste a list of names", icon=":material/content_paste:"):
        pasted_list(home, actor, provider, catalogue)


def _filtered(catalogue: Sequence[Instrument]) -> list[Instrument]:
    """Let the user narrow the list; the address keeps how."""
    with st.container(horizontal=True, vertical_alignment="center"):
        text = st.text_input(
            "Search",
            key="instruments_search",
            type="search",
            live=True,
            bind="query-params",
            placeholder="Search names and descriptions",
            label_visibility="collapsed",
        )
        state = st.segmented_control(
            "State",
            list(_STATES),
            default="All",
            key="instruments_state",
            required=True,
            bind="query-params",
            label_visibility="collapsed",
        )
    return matching(catalogue, text, enabled=_STATES[str(state)])


@st.fragment(run_every=2)
def _live(home: Home, provider: str, names: tuple[str, ...] | None, shown_version: str) -> None:
    """Keep showing what moves; run the page again when somebody else has changed what can be picked."""
    catalogue, _ = catalogue_of(home, provider)
    if names is not None and version(catalogue) != shown_version:
        st.rerun()
    wanted = None if names is None else set(names)
    moving = [one for one in listings(home, provider) if wanted is None or one.instrument in wanted]
    decimals = {one.instrument: one.price_decimals for one in catalogue}
    st.dataframe(
        live_table(moving, decimals, readings.now_ms(), _MOST_LIVE),
        key="instruments_live",
        hide_index=True,
        height=table_height(len(moving)),
        column_config={
            "Last price": st.column_config.TextColumn(alignment="right"),
            "Ticks/s": st.column_config.NumberColumn(format="%.2f", help="Over the last minute."),
            "Silent for": st.column_config.NumberColumn(format="%.1f s"),
            "Chart": st.column_config.LinkColumn(display_text=":material/candlestick_chart:", width="small"),
        },
        placeholder="–",
    )
    rate, stale = sum(one.ticks_per_s for one in moving), sum(one.stale for one in moving)
    beyond = f" The {_MOST_LIVE:,} busiest of {len(moving):,}." if len(moving) > _MOST_LIVE else ""
    st.caption(f"{rate:,.1f} ticks a second over the last minute, {stale:,} stale.{beyond}")


through_app()
page()
