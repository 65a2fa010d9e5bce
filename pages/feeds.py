"""The feeds page: where prices come from, how each connection stands, and all that is changed about it."""

import streamlit as st

from charts.texts import plain
from control.feeds.views import FeedView
from control.home import Home
from control.people.roles import Permission
from feed.feeds import Feed
from pages.parts import readings
from pages.parts.feed_dialogs import ADD, DELETE, EDIT, ask, is_open, show_dialog, switch, take_news
from pages.parts.feed_list import feed_list, views_or_stop
from pages.parts.feed_tables import color
from pages.parts.head import head
from pages.parts.routing import through_app
from pages.parts.visitor import require


def page() -> None:
    """Show all feeds, and for those who may change them, what can be done with each."""
    one, home = require(Permission.VIEW_OPERATIONS), Home.find()
    manages = one.may(Permission.MANAGE_FEEDS)
    with st.container(horizontal=True, vertical_alignment="center"):
        head("Feeds", readings.flow(home))
        if manages:
            st.button("Add a feed", icon=":material/add:", type="primary", key="feeds_add", on_click=ask, args=(ADD,))
    if (news := take_news()) is not None:
        done, sentence = news
        (st.success if done else st.error)(plain(sentence))
    views = views_or_stop(home)
    _live(home, [view.feed for view in views])
    if manages:
        for view in views:
            _row(view)
    if all(view.feed.first for view in views):
        _first_steps(manages)
    if manages:
        show_dialog(home)


@st.fragment(run_every=2)
def _live(home: Home, shown: list[Feed]) -> None:
    """Keep showing how all stand; run the page again when somebody else has changed which there are."""
    views = views_or_stop(home)
    if [view.feed for view in views] != shown and not is_open():
        st.rerun()
    feed_list(views, "feeds_live")


def _row(view: FeedView) -> None:
    feed = view.feed
    with st.container(horizontal=True, vertical_alignment="center", border=True, key=f"feeds_row_{feed.name}"):
        st.markdown(f"**{plain(feed.name)}**", width="content")
        st.badge("enabled" if feed.enabled else "disabled", color="gray" if feed.enabled else color(view))
        said = "named by feed.json" if feed.first else f"key {plain(feed.key)}" if feed.key else "no key"
        st.caption(f"{plain(feed.kind)} · {said}", width="stretch")
        label, icon = ("Disable", ":material/pause:") if feed.enabled else ("Enable", ":material/play_arrow:")
        st.button(label, icon=icon, key=f"feeds_switch_{feed.name}", on_click=switch, args=(feed,))
        if not feed.first:
            for what, picture in ((EDIT, "edit"), (DELETE, "delete")):
                key = f"feeds_{what}_{feed.name}"
                st.button(what.capitalize(), icon=f":material/{picture}:", key=key, on_click=ask, args=(what, feed))


def _first_steps(manages: bool) -> None:
    with st.container(border=True):
        st.subheader("No feed of your own yet", anchor=False)
        who = (
            "Add one with the button above, or in a terminal" if manages else "An admin adds one here, or in a terminal"
        )
        st.markdown(
            f"A feed is a way in for prices: an exchange, a provider's API, a topic of others. {who}:\n\n"
            "```\n./barmill instrument feed add NAME --ready-made READY-MADE --key KEY\n```\n\n"
            "Each runs by itself, so that one that breaks disturbs no other. Its instruments bear its name, such as"
            " `NAME:BTC/USDT`, and are picked on the Instruments page. Once real prices come, the simulated ones of the"
            " demo market can be disabled here."
        )


through_app()
page()
