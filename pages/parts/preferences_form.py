"""The form for what one prefers: look, how charts open, favourites."""

from collections.abc import Callable, Sequence
from typing import get_args
from zoneinfo import available_timezones

import streamlit as st

from control.people.preferences import ZONES, Kind, Preferences, Scale, StartPage, Theme

_FRAMES = ("1s", "5s", "15s", "1m", "5m", "15m", "30m", "1h", "4h", "1d")
_STUDIES_HELP = "Names and numbers, such as sma:20,ema:50,bb:20:2,vwap,rsi:14,macd:12:26:9,atr:14,volavg:20."
_FILL_HELP = "Where no price came, show a flat bar that is marked as made up."
_ZONES = {"UTC": "UTC", "local": "Local time of the browser", "exchange": "Time of the exchange"}
_PAGES = {"frames": "Multi-frame view", "study": "Study"}


def preferences_form(kept: Preferences, instruments: Sequence[str], save: Callable[[], None]) -> None:
    """Show the form filled with what is kept; `save` is a callback that reads it with `asked_for`."""
    with st.form("account_preferences"):
        left, right = st.columns(2, gap="medium")
        with left:
            _choice("Look", "theme", get_args(Theme), kept.theme)
            _choice("Charts show", "kind", get_args(Kind), kept.kind)
            _choice("Scale of prices", "scale", get_args(Scale), kept.scale)
            st.checkbox("Fill gaps", kept.fill, key=_key("fill"), help=_FILL_HELP)
        with right:
            _pick("Open first", "start_page", get_args(StartPage), kept.start_page, _PAGES)
            _pick("Frame", "frame", _FRAMES, kept.frame, {}, more=True)
            _pick("Times in", "zone", [*ZONES, *sorted(available_timezones() - {*ZONES})], kept.zone, _ZONES)
        st.text_input("Frames side by side", kept.frames, key=_key("frames"), placeholder="1s,1m,1h")
        st.text_input("Studies", kept.studies, key=_key("studies"), placeholder="none", help=_STUDIES_HELP)
        listed = list(dict.fromkeys([*kept.favourites, *instruments]))
        st.multiselect("Favourites", listed, kept.favourites, key=_key("favourites"), placeholder="None yet")
        st.form_submit_button("Save preferences", key="account_save", on_click=save)


def asked_for() -> dict[str, object]:
    """Return what stands in the form, by the names of preferences."""
    return {name: st.session_state[_key(name)] for name in Preferences.model_fields}


def _key(name: str) -> str:
    return f"account_prefer_{name}"


def _choice(label: str, name: str, options: Sequence[str], kept: str) -> None:
    st.segmented_control(label, options, default=kept, key=_key(name), required=True, format_func=_in_words)


def _pick(
    label: str, name: str, options: Sequence[str], kept: str, words: dict[str, str], *, more: bool = False
) -> None:
    listed = options if kept in options else [kept, *options]

    def in_words(value: str) -> str:
        return words.get(value, value if name in ("frame", "zone") else _in_words(value))

    place = list(listed).index(kept)
    st.selectbox(label, listed, place, key=_key(name), format_func=in_words, accept_new_options=more)


def _in_words(value: str) -> str:
    return {"ohlc": "OHLC", "heikin-ashi": "Heikin-Ashi"}.get(value, value.capitalize())
