"""The instruments page: the catalogue of a feed, the enabled instruments, and live activity."""

from collections.abc import Sequence

import streamlit as st

from barmill.audit.roles import Permission
from barmill.ingest.feeds.instrument_listing import catalogue_of, filter_instruments
from barmill.ingest.instruments.store import Instrument, delivered_without_selection
from barmill.platform.home import Home
from pages.parts.feeds.catalogue import catalogue_age, feed_picker, listings, wait_for_catalogue
from pages.parts.feeds.selection import name_list_form, refresh_button, selection_table, show_result, table_height
from pages.parts.shared.page_header import page_header
from pages.parts.shared.visitor import require, rerun_through_app
from views import readings
from views.feed_tables import catalogue_hash, live_table

_MAX_LIVE_ROWS = 1_000
_STATES = {"All": None, "Enabled": True, "Disabled": False}


def page() -> None:
    """Show the instruments next to the live activity, and below them the field for a pasted list."""
    actor = require(Permission.MANAGE_INSTRUMENTS).actor
    home = Home.find()
    page_header("Instruments", readings.flow(home))
    provider = feed_picker(home)
    catalogue, state = catalogue_of(home, provider)
    delivered = delivered_without_selection(provider, state)
    if delivered is not None:
        st.info(
            f"The feed {provider} delivers everything {delivered}; no selection is needed. These are the instruments"
            " received so far."
        )
        _live(home, provider, None, "")
        return
    if not catalogue:
        wait_for_catalogue(home, provider)
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        catalogue_age(home, provider)
        refresh_button(home, actor, provider)
    show_result()
    instruments = _filtered(catalogue)
    selection, activity = st.columns([5, 4], gap="medium")
    with selection:
        selection_table(home, actor, provider, instruments)
    with activity:
        _live(home, provider, tuple(instrument.instrument for instrument in instruments), catalogue_hash(catalogue))
    with st.expander("Paste a list of names", icon=":material/content_paste:"):
        name_list_form(home, actor, provider, catalogue)


def _filtered(catalogue: Sequence[Instrument]) -> list[Instrument]:
    """Let the user filter the list; the address keeps the filter."""
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
    return filter_instruments(catalogue, text, enabled=_STATES[str(state)])


@st.fragment(run_every=2)
def _live(home: Home, provider: str, names: tuple[str, ...] | None, shown_version: str) -> None:
    """Show live activity, refreshed periodically; rerun the page if the catalogue was changed elsewhere."""
    catalogue, _ = catalogue_of(home, provider)
    if names is not None and catalogue_hash(catalogue) != shown_version:
        st.rerun()
    name_set = None if names is None else set(names)
    shown_listings = [
        listing for listing in listings(home, provider) if name_set is None or listing.instrument in name_set
    ]
    decimals = {instrument.instrument: instrument.price_decimals for instrument in catalogue}
    st.dataframe(
        live_table(shown_listings, decimals, readings.now_ms(), _MAX_LIVE_ROWS),
        key="instruments_live",
        hide_index=True,
        height=table_height(len(shown_listings)),
        column_config={
            "Last price": st.column_config.TextColumn(alignment="right"),
            "Ticks/s": st.column_config.NumberColumn(format="%.2f", help="Over the last minute."),
            "Silent for": st.column_config.NumberColumn(format="%.1f s"),
            "Chart": st.column_config.LinkColumn(display_text=":material/candlestick_chart:", width="small"),
        },
        placeholder="–",
    )
    rate = sum(listing.ticks_per_s for listing in shown_listings)
    stale = sum(listing.stale for listing in shown_listings)
    limit_text = (
        f" The {_MAX_LIVE_ROWS:,} busiest of {len(shown_listings):,}." if len(shown_listings) > _MAX_LIVE_ROWS else ""
    )
    st.caption(f"{rate:,.1f} ticks per second over the last minute, {stale:,} stale.{limit_text}")


rerun_through_app()
page()
