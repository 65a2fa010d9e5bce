"""The visitor's preferences, cached for a few seconds, and the form that changes them."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import get_args
from zoneinfo import available_timezones

import streamlit as st

from barmill.audit.accounts import open_audited_db
from barmill.auth.preferences import ZONES, Kind, Preferences, Scale, StartPage, Theme, preferences, save_preferences
from barmill.platform.home import Home
from barmill.platform.sqlite_file import StoreMissingError, read_control_db
from pages.parts.shared.visitor import Visitor

_THEME = "my_theme"


def preferences_of(visitor: Visitor) -> Preferences:
    """Return the visitor's preferences; a change from another browser appears within a few seconds."""
    return _read(Home.find(), visitor.session.account)


def change_preferences(visitor: Visitor, changes: Mapping[str, object]) -> Preferences:
    """Change some of the visitor's preferences, by name, and return all; raise PreferenceError for invalid values."""
    home, account = Home.find(), visitor.session.account
    with open_audited_db(home) as db:
        saved = save_preferences(db, visitor.actor, account, changes)
    _read.clear(home, account)
    return saved


def theme(visitor: Visitor) -> Theme:
    """Return the theme of this browser page: stored when the page was opened, or chosen on it later.

    A change of theme reloads the page, which must not happen on a page that the user is typing into.
    """
    current: Theme = st.session_state.setdefault(_THEME, preferences_of(visitor).theme)
    return current


def apply_theme(theme_name: Theme) -> None:
    """Set another theme for this browser page."""
    st.session_state[_THEME] = theme_name


@st.cache_data(ttl=5, max_entries=256, show_spinner=False)
def _read(home: Home, account: str) -> Preferences:
    try:
        db = read_control_db(home)
    except StoreMissingError:
        return Preferences()
    with closing(db.conn):
        return preferences(db, account)


_FRAMES = ("1s", "5s", "15s", "1m", "5m", "15m", "30m", "1h", "4h", "1d")
_STUDIES_HELP = "Names and numbers, such as sma:20,ema:50,bb:20:2,vwap,rsi:14,macd:12:26:9,atr:14,volavg:20."
_FILL_HELP = "Show a flat bar, marked as synthetic, where no prices arrived."
_ZONES = {"UTC": "UTC", "local": "Local time of the browser", "exchange": "Time of the exchange"}
_PAGES = {"frames": "Multi-frame view", "study": "Study"}


def preferences_form(current: Preferences, instruments: Sequence[str], save: Callable[[], None]) -> None:
    """Show the form with the stored preferences; `save` is a callback that reads it with `form_values`."""
    with st.form("account_preferences"):
        left, right = st.columns(2, gap="medium")
        with left:
            _segmented_control("Theme", "theme", get_args(Theme), current.theme)
            _segmented_control("Kind of chart", "kind", get_args(Kind), current.kind)
            _segmented_control("Price scale", "scale", get_args(Scale), current.scale)
            st.checkbox("Fill gaps", current.fill, key=_key("fill"), help=_FILL_HELP)
        with right:
            _select_box("Start page", "start_page", get_args(StartPage), current.start_page, _PAGES)
            _select_box("Frame", "frame", _FRAMES, current.frame, {}, accept_new=True)
            _select_box("Time zone", "zone", [*ZONES, *sorted(available_timezones() - {*ZONES})], current.zone, _ZONES)
        st.text_input("Frames side by side", current.frames, key=_key("frames"), placeholder="1s,1m,1h")
        st.text_input("Studies", current.studies, key=_key("studies"), placeholder="none", help=_STUDIES_HELP)
        options_shown = list(dict.fromkeys([*current.favourites, *instruments]))
        st.multiselect("Favourites", options_shown, current.favourites, key=_key("favourites"), placeholder="None yet")
        st.form_submit_button("Save preferences", key="account_save", on_click=save)


def form_values() -> dict[str, object]:
    """Return the values in the form, by the names of preferences."""
    return {name: st.session_state[_key(name)] for name in Preferences.model_fields}


def _key(name: str) -> str:
    return f"account_prefer_{name}"


def _segmented_control(label: str, name: str, options: Sequence[str], current: str) -> None:
    st.segmented_control(label, options, default=current, key=_key(name), required=True, format_func=_value_text)


def _select_box(
    label: str, name: str, options: Sequence[str], current: str, labels: dict[str, str], *, accept_new: bool = False
) -> None:
    options_shown = options if current in options else [current, *options]

    def label_of(value: str) -> str:
        return labels.get(value, value if name in ("frame", "zone") else _value_text(value))

    index = list(options_shown).index(current)
    st.selectbox(label, options_shown, index, key=_key(name), format_func=label_of, accept_new_options=accept_new)


def _value_text(value: str) -> str:
    return {"ohlc": "OHLC", "heikin-ashi": "Heikin-Ashi"}.get(value, value.capitalize())
