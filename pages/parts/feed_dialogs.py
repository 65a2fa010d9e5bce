"""The dialogs of the feeds page, and what came of the last one. Which one is open is in the session."""

from collections.abc import Callable
from typing import NamedTuple

import streamlit as st

from charts.texts import plain
from control.errors import ControlError
from control.feeds.changes import add, delete, edit, enable
from control.feeds.store import Feeds
from control.home import Home
from control.keys.store import KeyStore
from control.people.roles import Actor, Permission
from feed.feeds import KINDS, Feed, FeedError, Settings, settings_of
from feed.ready_made import READY_MADE
from feed.trial_on_behalf import Triable
from pages.parts.feed_list import looked_at
from pages.parts.feed_trial import feed_trial
from pages.parts.visitor import require

ADD, EDIT, DELETE = "add", "edit", "delete"
_OWN = "own"
_NAME = "feeds_name"
_OPEN, _NEWS, _PROBLEM = "feeds_open", "feeds_news", "feeds_problem"
_LINES_PX = 220

Change = Callable[[Feeds, Actor], str]


class _Asked(NamedTuple):
    what: str
    feed: Feed | None


class _Written(NamedTuple):
    """What stands in a dialog at the moment it is asked for.

    A callback must ask for it then: who clicks right after typing clicks in a run that has not seen the last words.
    """

    kind: str
    settings_place: str
    key_place: str

    @property
    def settings(self) -> str:
        return str(st.session_state[self.settings_place])

    @property
    def key(self) -> str | None:
        chosen = st.session_state[self.key_place]
        return None if chosen is None else str(chosen)

    def parsed(self) -> Settings:
        """Read the settings; raise FeedError with what is wrong."""
        return settings_of(self.kind, self.settings)


def ask(what: str, feed: Feed | None = None) -> None:
    """Open a dialog in the next run."""
    st.session_state[_OPEN] = _Asked(what, feed)
    st.session_state.pop(_PROBLEM, None)


def is_open() -> bool:
    """Tell whether a dialog is open."""
    return _OPEN in st.session_state


def take_news() -> tuple[bool, str] | None:
    """Return what the last change did, or why it was not done, once."""
    news: tuple[bool, str] | None = st.session_state.pop(_NEWS, None)
    return news


def switch(feed: Feed) -> None:
    """Enable a feed that is disabled, and the other way round."""

    def change(feeds: Feeds, actor: Actor) -> str:
        now = enable(feeds, actor, feed.name, enabled=not feed.enabled)
        return f"The feed {now.name} is {'enabled' if now.enabled else 'disabled'}."

    _do(change, _told)


def show_dialog(home: Home) -> None:
    """Show the dialog that is open, if one is."""
    asked: _Asked | None = st.session_state.get(_OPEN)
    if asked is None:
        return
    title = "Add a feed" if asked.feed is None else f"{asked.what.capitalize()} {asked.feed.name}"

    def dialog() -> None:
        if not is_open():
            st.rerun()  # it is done: close it, and show what it did
        if asked.feed is None:
            _add(home)
        elif asked.what == EDIT:
            _edit(home, asked.feed)
        else:
            _delete(asked.feed)
        if problem := st.session_state.get(_PROBLEM):
            st.error(plain(problem))

    st.dialog(title, on_dismiss=_close, width="large" if asked.what != DELETE else "small")(dialog)()


def _close() -> None:
    st.session_state.pop(_OPEN, None)


def _add(home: Home) -> None:
    labels = {name: one.label for name, one in READY_MADE.items()} | {_OWN: "Settings of my own"}
    choice = str(st.selectbox("What", list(labels), key="feeds_ready", format_func=labels.__getitem__))
    ready = READY_MADE.get(choice)
    if ready is not None and ready.note:
        st.caption(plain(ready.note))
    kind = ready.kind if ready else str(st.selectbox("Kind", list(KINDS), key="feeds_kind", format_func=_kind_label))
    st.text_input("Name", key=_NAME, help="Small letters, digits and dashes; its instruments bear it.")
    written = _Written(kind, f"feeds_settings_{choice}", _key_place(None))
    st.text_area("Settings", ready.settings if ready else "{}", _LINES_PX, key=written.settings_place)
    _choose_key(home, None)
    _trial(home, written)

    def change(feeds: Feeds, actor: Actor) -> str:
        if ready is not None and ready.needs_key and written.key is None:
            raise FeedError(f"{ready.label} wants a key; store one on the page API keys, and choose it here.")
        feed = add(feeds, actor, str(st.session_state[_NAME]).strip(), kind, written.settings, written.key)
        return f"The feed {feed.name} is added; a running Barmill reads it from now on."

    st.button("Add", type="primary", key="feeds_submit", on_click=_do, args=(change, _in_dialog))


def _edit(home: Home, feed: Feed) -> None:
    st.caption("It connects anew with what is written here, and goes on where it stood.")
    written = _Written(feed.kind, f"feeds_edited_{feed.name}", _key_place(feed.key))
    st.text_area("Settings", feed.settings, _LINES_PX, key=written.settings_place)
    _choose_key(home, feed.key)
    _trial(home, written)

    def change(feeds: Feeds, actor: Actor) -> str:
        return f"The feed {edit(feeds, actor, feed.name, written.settings, written.key).name} is changed."

    st.button("Save", type="primary", key="feeds_submit", on_click=_do, args=(change, _in_dialog))


def _delete(feed: Feed) -> None:
    st.markdown("It is read no more, and what was picked of it is forgotten. Its ticks and bars stay.")

    def change(feeds: Feeds, actor: Actor) -> str:
        delete(feeds, actor, feed.name)
        return f"The feed {feed.name} is deleted."

    st.button("Delete", type="primary", key="feeds_submit", on_click=_do, args=(change, _in_dialog))


def _choose_key(home: Home, present: str | None) -> None:
    with KeyStore.open(home, require(Permission.MANAGE_FEEDS).actor) as store:
        names = [info.name for info in store.list()]
    place = names.index(present) if present in names else None
    st.selectbox("Key", names, place, key=_key_place(present), placeholder="None")


def _key_place(present: str | None) -> str:
    return f"feeds_key_{present or ''}"


def _kind_label(kind: str) -> str:
    return f"{kind}: {KINDS[kind]}"


def _trial(home: Home, written: _Written) -> None:
    """Say what is wrong with the settings while they are typed; where nothing is, let them be tried."""
    try:
        settings = written.parsed()
    except FeedError as error:
        st.caption(f":orange[●] {plain(str(error))}")
        return
    if isinstance(settings, Triable):
        feed_trial(home, lambda: (written.parsed(), written.key))


def _told(done: bool, sentence: str) -> None:
    st.session_state[_NEWS] = (done, sentence)


def _in_dialog(done: bool, sentence: str) -> None:
    if done:
        _told(done, sentence)
        _close()
    else:
        st.session_state[_PROBLEM] = sentence


def _do(change: Change, say: Callable[[bool, str], None]) -> None:
    st.session_state.pop(_PROBLEM, None)
    actor = require(Permission.MANAGE_FEEDS).actor  # as they are now, not as they were when the dialog opened
    try:
        with Feeds.open(Home.find()) as feeds:
            say(True, change(feeds, actor))
    except ControlError as error:
        say(False, str(error))
    looked_at.clear()
