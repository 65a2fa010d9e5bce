"""What came of an action somebody took on a page: kept by the callback, shown once by the page."""

from collections.abc import Callable

import streamlit as st

from charts.texts import plain
from control.errors import ControlError


def attempt(key: str, work: Callable[[], str]) -> None:
    """Do the work of a callback and keep its sentence, or the sentence that says why not, for `tell`."""
    try:
        st.session_state[key] = (True, work())
    except ControlError as error:
        st.session_state[key] = (False, str(error))


def tell(key: str) -> None:
    """Show what was kept under this key, once."""
    done, sentence = st.session_state.pop(key, (True, ""))
    if sentence and done:
        st.success(plain(sentence), icon=":material/check:")
    elif sentence:
        st.error(plain(sentence), icon=":material/error:")


def tell_in_passing(key: str) -> None:
    """Show what was kept under this key, once, at the edge of the page, where it moves nothing."""
    done, sentence = st.session_state.pop(key, (True, ""))
    if sentence:
        st.toast(plain(sentence), icon=":material/check:" if done else ":material/error:")
