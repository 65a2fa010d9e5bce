"""What pages show of the provider's instruments: its catalogue as a line of text, and what moves."""

import streamlit as st

from charts.texts import plain
from control.feeds.store import feeds_of
from control.home import Home
from control.instruments.listing import Listing, catalogue_of, catalogue_size, look
from control.settings_file import SettingsError
from feed.feeds import Feed
from pages.parts import readings
from pages.parts.instrument_tables import catalogue_line


def all_feeds(home: Home) -> list[Feed]:
    """Return every feed of this home; where feed.json is broken, say so and end the page."""
    try:
        return feeds_of(home)
    except SettingsError as error:
        st.error(plain(str(error)))
        st.stop()


def picked_feed(home: Home) -> str:
    """Let the user choose whose instruments to show; of the feeds that run, the one with most to pick comes first."""
    feeds = all_feeds(home)
    if len(feeds) == 1:
        return feeds[0].name
    order = sorted(feeds, key=lambda feed: (feed.enabled, catalogue_size(home, feed.name)), reverse=True)
    return str(
        st.selectbox(
            "Feed",
            [feed.name for feed in order],
            key="instruments_feed",
            bind="query-params",
            format_func=lambda name: f"{name}, {catalogue_size(home, name):,} instruments",
            label_visibility="collapsed",
            width=320,
        )
    )


@st.cache_data(ttl=0.9, max_entries=64, show_spinner=False)
def listings(home: Home, provider: str) -> list[Listing]:
    """Read when every instrument last moved, at most once a second for all visitors."""
    return look(home, provider)


@st.fragment(run_every=2)
def catalogue_age(home: Home, provider: str) -> None:
    """Keep saying how old the catalogue is, and why there is no newer one."""
    catalogue, state = catalogue_of(home, provider)
    st.caption(plain(catalogue_line(catalogue, state, readings.now_ms())), width="content")
    if state.problem:
        st.caption(f":red[●] The last fetch failed, the old list stays: {plain(state.problem)}", width="content")


@st.fragment(run_every=1)
def wait_for_catalogue(home: Home, provider: str) -> None:
    """Explain how a catalogue comes about until there is one, then run the page again."""
    catalogue, state = catalogue_of(home, provider)
    if catalogue:
        st.rerun()
    with st.container(border=True):
        st.subheader("No catalogue yet", anchor=False)
        st.markdown(
            f"The feed asks the provider {plain(provider)} what it offers as soon as it runs, and this page shows it by"
            " itself. Here you then choose what is recorded: a running feed follows within two seconds, and no job is"
            " restarted.\n\nIf nothing runs yet, start it in a terminal, in the project's folder:\n\n"
            "```\n./barmill up\n```"
        )
        if state.problem:
            st.error(f"The catalogue could not be fetched: {plain(state.problem)}")
