"""The feeds page: the feeds that deliver prices, the state of each connection, and all changes to feeds."""

import streamlit as st

from barmill.audit.roles import Permission
from barmill.ingest.feeds.feed import Feed
from barmill.ingest.feeds.views import FeedView
from barmill.platform.home import Home
from barmill.platform.texts import escape_markdown
from pages.parts.feeds.catalogue import feed_list, views_or_stop
from pages.parts.feeds.dialogs import ADD, DELETE, EDIT, SWITCH_OUTCOME, dialogs, open_dialog, show_dialog, switch
from pages.parts.shared.messages import show_message
from pages.parts.shared.page_header import page_header
from pages.parts.shared.visitor import require, rerun_through_app
from views import readings
from views.feed_tables import state_color


def page() -> None:
    """Show all feeds and, for users who may change them, the actions on each."""
    visitor, home = require(Permission.VIEW_OPERATIONS), Home.find()
    may_manage = visitor.may(Permission.MANAGE_FEEDS)
    with st.container(horizontal=True, vertical_alignment="center"):
        page_header("Feeds", readings.flow(home))
        if may_manage:
            st.button(
                "Add a feed", icon=":material/add:", type="primary", key="feeds_add", on_click=open_dialog, args=(ADD,)
            )
    if result := dialogs.take_result():
        st.success(escape_markdown(result), icon=":material/check:")
    show_message(SWITCH_OUTCOME)
    views = views_or_stop(home)
    _live(home, [view.feed for view in views])
    if may_manage:
        for view in views:
            _feed_row(view)
    if all(view.feed.is_first for view in views):
        _first_steps(may_manage)
    if may_manage:
        show_dialog(home)


@st.fragment(run_every=2)
def _live(home: Home, feeds: list[Feed]) -> None:
    """Show the states, refreshed periodically; rerun the page if the list of feeds was changed elsewhere."""
    views = views_or_stop(home)
    if [view.feed for view in views] != feeds and dialogs.current() is None:
        st.rerun()
    feed_list(views, "feeds_live")


def _feed_row(view: FeedView) -> None:
    feed = view.feed
    with st.container(horizontal=True, vertical_alignment="center", border=True, key=f"feeds_row_{feed.name}"):
        st.markdown(f"**{escape_markdown(feed.name)}**", width="content")
        st.badge("enabled" if feed.enabled else "disabled", color="gray" if feed.enabled else state_color(view))
        key_text = "set in feed.json" if feed.is_first else f"key {escape_markdown(feed.key)}" if feed.key else "no key"
        st.caption(f"{escape_markdown(feed.kind)} · {key_text}", width="stretch")
        label, icon = ("Disable", ":material/pause:") if feed.enabled else ("Enable", ":material/play_arrow:")
        st.button(label, icon=icon, key=f"feeds_switch_{feed.name}", on_click=switch, args=(feed,))
        if not feed.is_first:
            for action, icon_name in ((EDIT, "edit"), (DELETE, "delete")):
                key = f"feeds_{action}_{feed.name}"
                st.button(
                    action.capitalize(),
                    icon=f":material/{icon_name}:",
                    key=key,
                    on_click=open_dialog,
                    args=(action, feed),
                )


def _first_steps(may_manage: bool) -> None:
    with st.container(border=True):
        st.subheader("No feeds added yet", anchor=False)
        invitation, actor = (
            ("Add one with the button above, or in a terminal", "you")
            if may_manage
            else ("An admin can add one here, or in a terminal", "an admin")
        )
        st.markdown(
            f"A feed is a source of prices: an exchange, a provider's API or a Kafka topic. {invitation}:\n\n"
            "```\n./barmill instrument feed add NAME --ready-made READY-MADE --key KEY\n```\n\n"
            "Each feed runs separately, so the failure of one does not affect the others. The names of its instruments"
            " start with its name, such as `NAME:BTC/USDT`; enable them on the Instruments page. When real prices"
            f" arrive, {actor} can disable the simulated prices of the demo market here."
        )


rerun_through_app()
page()
