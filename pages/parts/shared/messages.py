"""Messages of callbacks: the result of an action, kept in the session state until the next run shows it once."""

from collections.abc import Callable

import streamlit as st

from barmill.platform.errors import ControlError
from barmill.platform.texts import escape_markdown


def run_action(key: str, action: Callable[[], str]) -> None:
    """Run the action of a callback, and store its sentence, or the sentence of its error, for `show_message`."""
    try:
        st.session_state[key] = (True, action())
    except ControlError as error:
        st.session_state[key] = (False, str(error))


def show_message(key: str) -> None:
    """Show the sentence kept under this key, once."""
    succeeded, sentence = st.session_state.pop(key, (True, ""))
    if sentence and succeeded:
        st.success(escape_markdown(sentence), icon=":material/check:")
    elif sentence:
        st.error(escape_markdown(sentence), icon=":material/error:")


def show_toast(key: str) -> None:
    """Show the sentence kept under this key, once, as a toast that moves nothing on the page."""
    succeeded, sentence = st.session_state.pop(key, (True, ""))
    if sentence:
        st.toast(escape_markdown(sentence), icon=":material/check:" if succeeded else ":material/error:")
