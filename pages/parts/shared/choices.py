"""Choices on pages, which the address keeps so that a link reopens the view.

The session keeps the last choices by page, which apply where the address has none. A value in the address that is not
available causes a message.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import streamlit as st

from barmill.charts.view import zone_names, zone_of
from barmill.platform.feed_settings import FeedSettings
from barmill.platform.home import Home
from barmill.platform.settings_file import SettingsError
from barmill.platform.texts import escape_markdown


class Choices:
    """The choices of one page. defaults: the choices of a visitor who has not chosen yet."""

    def __init__(self, page: str, defaults: Mapping[str, str]) -> None:
        self._page, self._defaults = page, defaults
        kept_key = f"{page}_choices"
        self._kept: dict[str, str] = st.session_state.setdefault(kept_key, {})
        self._chosen: dict[str, str] = {}

    @property
    def chosen(self) -> Mapping[str, str]:
        """Return the choices read so far in this run, by name."""
        return self._chosen

    @property
    def outcome(self) -> str:
        """Return the key under which callbacks store their messages (pages/parts/shared/messages.py)."""
        return self.key("outcome")

    def reject(self, sentence: str) -> None:
        """Store the reason why a choice was rejected; the page shows it as a toast."""
        st.session_state[self.outcome] = (False, sentence)

    def key(self, name: str) -> str:
        """Return the key of the widget for this choice."""
        return f"{self._page}_{name}"

    def text(
        self,
        name: str,
        is_valid: Callable[[str], bool],
        default: str | None = None,
        *,
        always_shown: bool = False,
        invalid_text: str = "There is no",
    ) -> str:
        """Return the choice of this name: the first valid value of address, session and default, or ''.

        always_shown: the address contains it even if it is the default. invalid_text: the start of the message
        about a value in the address that is not available.
        """
        default = self._defaults.get(name, "") if default is None else default
        parameter, stored = st.query_params.get(name), self._kept.get(name, default)
        choice = next((value for value in (parameter, stored, default) if value is not None and is_valid(value)), "")
        if parameter is not None and parameter != choice:
            st.toast(f"{invalid_text} {name} {escape_markdown(parameter)}; using {escape_markdown(choice or 'none')}.")
        self.keep(name, choice, always_shown=always_shown or parameter is not None)
        return choice

    def time_ms(self, name: str) -> int | None:
        """Return a time (epoch ms) from the address, or None; pages do not remember times."""
        parameter = st.query_params.get(name, "")
        if parameter and not parameter.removeprefix("-").isdecimal():
            st.toast(f"{name} is not a time; write milliseconds since 1970.")
            del st.query_params[name]
            return None
        return int(parameter) if parameter else None

    def keep(self, name: str, choice: str, *, always_shown: bool = True) -> None:
        """Remember a choice, and put it into the address.

        always_shown: also if it is the default; otherwise a default is removed from the address.
        """
        default = choice == self._defaults.get(name, "")
        self._chosen[name] = choice
        if default:
            # Not kept, so that a later change of the default applies.
            self._kept.pop(name, None)
        else:
            self._kept[name] = choice
        if always_shown or not default:
            if st.query_params.get(name) != choice:
                st.query_params[name] = choice
        elif name in st.query_params:
            del st.query_params[name]

    def on_change(self, name: str) -> Callable[[], None]:
        """Return the callback of the widget for this choice."""

        def keep() -> None:
            self.keep(name, str(st.session_state[self.key(name)]))

        return keep


def pick_option(name: str, options: Sequence[str], default: str, *, page: str) -> str:
    """Let the user pick one of the options, which the address keeps under this name.

    Without a valid option in the address or the session, `default` applies.
    """
    key, parameter = f"{page}_{name}", st.query_params.get(name)
    if parameter in options:
        st.session_state[key] = parameter
    elif st.session_state.get(key) not in options:
        st.session_state[key] = default

    def keep() -> None:
        st.query_params[name] = st.session_state[key]

    st.segmented_control(
        name.capitalize(),
        options,
        format_func=str.capitalize,
        key=key,
        required=True,
        on_change=keep,
        label_visibility="collapsed",
    )
    choice = str(st.session_state[key])
    if parameter != choice:
        st.query_params[name] = choice
    return choice


_ZONE_LABELS = {"local": "Local, as this browser", "exchange": "Exchange"}


def zone_picker(
    choices: Choices,
    *,
    label_visibility: Literal["visible", "collapsed"] = "visible",
    width: int | Literal["stretch"] = "stretch",
) -> str:
    """Let the user pick a time zone, and return its name in links."""
    key, zone = choices.key("zone"), choices.text("zone", zone_names().__contains__)
    st.session_state[key] = zone
    st.selectbox(
        "Time zone",
        zone_names(),
        key=key,
        format_func=lambda name: _ZONE_LABELS.get(name, name),
        on_change=choices.on_change("zone"),
        label_visibility=label_visibility,
        width=width,
    )
    return zone


def resolve_zone(name: str) -> str:
    """Return the IANA name of a zone, given its name in a link."""
    return zone_of(name, st.context.timezone, _exchange_zone(Home.find()))


@st.cache_data(ttl=10, max_entries=4, show_spinner=False)
def _exchange_zone(home: Home) -> str:
    try:
        return FeedSettings.read(home).exchange_zone
    except SettingsError:  # the feed reports this error
        return "UTC"
