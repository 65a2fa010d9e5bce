"""The live table of feeds, as the Feeds page and Monitoring show it."""

import streamlit as st

from charts.texts import plain
from control.feeds.views import FeedView, feed_views
from control.home import Home
from control.settings_file import SettingsError
from pages.parts import readings
from pages.parts.feed_tables import color, feed_table

_ROW_PX, _HEAD_PX = 35, 38
_COLUMNS = {
    "Clock, ms": st.column_config.NumberColumn(help="The provider's clock less ours, as measured."),
    "Ticks/s": st.column_config.NumberColumn(format="%.1f", help="Over the last five seconds."),
    "Backfilled": st.column_config.NumberColumn(help="Ticks that were fetched afterwards, for gaps."),
    "Missing": st.column_config.NumberColumn(help="Ticks that are known to be missing and could not be fetched."),
}


@st.cache_data(ttl=0.9, max_entries=4, show_spinner=False)
def looked_at(home: Home) -> list[FeedView]:
    """Look at every feed, at most once a second for all visitors."""
    return feed_views(home)


def views_or_stop(home: Home) -> list[FeedView]:
    """Look at every feed; where feed.json is broken, say so and end the page."""
    try:
        return looked_at(home)
    except SettingsError as error:
        st.error(plain(str(error)))
        st.stop()


def feed_list(views: list[FeedView], key: str) -> None:
    """Show all feeds, and above them those that need somebody."""
    for view in views:
        if view.needs_somebody:
            st.markdown(f":{color(view)}[●] **{plain(view.feed.name)}** {view.phase}: {plain(view.sentence)}")
    st.dataframe(
        feed_table(views, readings.now_ms()),
        key=key,
        hide_index=True,
        column_config=_COLUMNS,
        height=_HEAD_PX + _ROW_PX * len(views),
        placeholder="–",
    )
