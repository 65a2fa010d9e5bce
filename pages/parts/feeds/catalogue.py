"""Parts of pages that show feeds, the catalogue of a feed, and the activity of its instruments.

provider: the name of the feed.
"""

import streamlit as st

from barmill.ingest.feeds.feed import Feed, feeds_of
from barmill.ingest.feeds.instrument_listing import Listing, catalogue_of, catalogue_size, list_instruments
from barmill.ingest.feeds.views import FeedView, feed_views
from barmill.platform.home import Home
from barmill.platform.settings_file import SettingsError
from barmill.platform.texts import escape_markdown
from views import readings
from views.feed_tables import catalogue_line, feed_table, state_color


def all_feeds(home: Home) -> list[Feed]:
    """Return every feed of this home; if feed.json is invalid, show the error and end the page."""
    try:
        return feeds_of(home)
    except SettingsError as error:
        st.error(escape_markdown(str(error)))
        st.stop()


def feed_picker(home: Home) -> str:
    """Let the user choose a feed; the default is the enabled feed with the largest catalogue."""
    feeds = all_feeds(home)
    if len(feeds) == 1:
        return feeds[0].name
    ordered = sorted(feeds, key=lambda feed: (feed.enabled, catalogue_size(home, feed.name)), reverse=True)
    return str(
        st.selectbox(
            "Feed",
            [feed.name for feed in ordered],
            key="instruments_feed",
            bind="query-params",
            format_func=lambda name: f"{name}, {catalogue_size(home, name):,} instruments",
            label_visibility="collapsed",
            width=320,
        )
    )


@st.cache_data(ttl=0.9, max_entries=64, show_spinner=False)
def listings(home: Home, provider: str) -> list[Listing]:
    """Return the activity of every instrument of a feed, cached for all visitors for about a second."""
    return list_instruments(home, provider)


@st.fragment(run_every=2)
def catalogue_age(home: Home, provider: str) -> None:
    """Show the age of the catalogue, refreshed periodically, and why the last fetch failed, if it did."""
    catalogue, state = catalogue_of(home, provider)
    st.caption(escape_markdown(catalogue_line(catalogue, state, readings.now_ms())), width="content")
    if state.problem:
        st.caption(
            f":red[●] The last fetch failed; the previous list is shown: {escape_markdown(state.problem)}",
            width="content",
        )


@st.fragment(run_every=1)
def wait_for_catalogue(home: Home, provider: str) -> None:
    """Explain how to get a catalogue until there is one, then rerun the page."""
    catalogue, state = catalogue_of(home, provider)
    if catalogue:
        st.rerun()
    with st.container(border=True):
        st.subheader("No catalogue yet", anchor=False)
        st.markdown(
            f"When the feed starts, it requests the catalogue from the provider {escape_markdown(provider)}, and this"
            " page shows it. Here you choose the instruments to record: a running feed applies changes within two"
            " seconds, and no job restarts.\n\nIf Barmill is not running, start it in a terminal, in the project's"
            " folder:\n\n```\n./barmill up\n```"
        )
        if state.problem:
            st.error(f"The catalogue could not be fetched: {escape_markdown(state.problem)}")


_ROW_PX, _HEAD_PX = 35, 38
_COLUMNS = {
    "Clock, ms": st.column_config.NumberColumn(help="The provider's clock minus the local clock, as measured."),
    "Ticks/s": st.column_config.NumberColumn(format="%.1f", help="Over the last five seconds."),
    "Backfilled": st.column_config.NumberColumn(help="Ticks fetched later to fill gaps."),
    "Missing": st.column_config.NumberColumn(help="Missing ticks that could not be fetched."),
    "Reused ids": st.column_config.NumberColumn(
        help="Ticks with an id that an earlier tick of their instrument had, for example after the counter restarted."
        " They are in the bars."
    ),
}


@st.cache_data(ttl=0.9, max_entries=4, show_spinner=False)
def read_feed_views(home: Home) -> list[FeedView]:
    """Return every feed with its state, cached for all visitors for about a second."""
    return feed_views(home)


def views_or_stop(home: Home) -> list[FeedView]:
    """Return every feed with its state; if feed.json is invalid, show the error and end the page."""
    try:
        return read_feed_views(home)
    except SettingsError as error:
        st.error(escape_markdown(str(error)))
        st.stop()


def feed_list(views: list[FeedView], key: str) -> None:
    """Show all feeds, and above them those that need attention."""
    for view in views:
        if view.needs_action:
            st.markdown(
                f":{state_color(view)}[●] **{escape_markdown(view.feed.name)}** {view.phase}:"
                f" {escape_markdown(view.sentence)}"
            )
    st.dataframe(
        feed_table(views, readings.now_ms()),
        key=key,
        hide_index=True,
        column_config=_COLUMNS,
        height=_HEAD_PX + _ROW_PX * len(views),
        placeholder="–",
    )
