"""What the visitor prefers, read once for many runs of a page, and changed at once where they change it."""

from collections.abc import Mapping
from contextlib import closing

import streamlit as st

from bar.sqlite_file import StoreMissingError
from control.database import read_control_db
from control.home import Home
from control.people.database import open_people
from control.people.preferences import Preferences, Theme, preferences, save_preferences
from pages.parts.visitor import Visitor

_THEME = "my_theme"


def mine(one: Visitor) -> Preferences:
    """Return what the visitor prefers; a change from elsewhere shows within a few seconds."""
    return _read(Home.find(), one.session.account)


def keep(one: Visitor, changes: Mapping[str, object]) -> Preferences:
    """Change some of the visitor's preferences, by name; raise PreferenceError. The others stay as they are."""
    home, account = Home.find(), one.session.account
    with open_people(home) as db:
        kept = save_preferences(db, one.actor, account, changes)
    _read.clear(home, account)
    return kept


def theme(one: Visitor) -> Theme:
    """Return the look of this browser page: the one it was opened with, or that was chosen in it since.

    To change it the page is loaded anew, which a page that somebody else is typing into must be spared.
    """
    worn: Theme = st.session_state.setdefault(_THEME, mine(one).theme)
    return worn


def wear(chosen: Theme) -> None:
    """Let this browser page have another look."""
    st.session_state[_THEME] = chosen


@st.cache_data(ttl=5, max_entries=256, show_spinner=False)
def _read(home: Home, account: str) -> Preferences:
    try:
        db = read_control_db(home)
    except StoreMissingError:
        return Preferences()
    with closing(db.conn):
        return preferences(db, account)
