"""Whose clocks a page goes by: the picker, and which zone a choice means to this browser and in this home."""

from typing import Literal

import streamlit as st

from charts.zones import zone_names, zone_of
from control.home import Home
from control.settings_file import SettingsError
from feed.settings import FeedSettings
from pages.parts.choices import Choices

_NAMES = {"local": "Local, as this browser", "exchange": "Exchange"}


def zone_picker(
    choices: Choices,
    *,
    label_visibility: Literal["visible", "collapsed"] = "visible",
    width: int | Literal["stretch"] = "stretch",
) -> str:
    """Let the user pick a zone, and return it as a link names it."""
    key, zone = choices.key("zone"), choices.text("zone", zone_names().__contains__)
    st.session_state[key] = zone
    st.selectbox(
        "Time zone",
        zone_names(),
        key=key,
        format_func=lambda name: _NAMES.get(name, name),
        on_change=choices.follow("zone"),
        label_visibility=label_visibility,
        width=width,
    )
    return zone


def zone_here(name: str) -> str:
    """Return the IANA name of a zone by its name in a link."""
    return zone_of(name, st.context.timezone, _exchange_zone(Home.find()))


@st.cache_data(ttl=10, max_entries=4, show_spinner=False)
def _exchange_zone(home: Home) -> str:
    try:
        return FeedSettings.read(home).exchange_zone
    except SettingsError:  # the feed says so itself
        return "UTC"
