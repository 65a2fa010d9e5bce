"""What somebody is doing on the jobs page: the dialog that is open, and what came of the last thing they asked for.

All of it is in the session, changed by callbacks, which run before the page does: so a second click finds the dialog
closed and does nothing.
"""

from collections.abc import Callable
from enum import StrEnum
from typing import NamedTuple

import streamlit as st

from charts.texts import plain
from control.errors import ControlError
from control.home import Home
from control.jobs.book import JobBook
from control.people.roles import Permission
from pages.parts.visitor import require

_OPEN, _NEWS, _PROBLEM = "jobs_open", "jobs_news", "jobs_problem"


class Dialog(StrEnum):
    """The dialogs there are."""

    CREATE = "create"
    EDIT = "edit"
    CLONE = "clone"
    RESCALE = "rescale"
    FROM = "from"
    CANCEL = "cancel"
    STATELESS = "stateless"
    DELETE = "delete"
    DISPOSE = "dispose"


class Asked(NamedTuple):
    """Which dialog is open: for what, and about which job and savepoint."""

    what: Dialog
    job: str = ""
    savepoint: str = ""


def ask(what: Dialog, job: str = "", savepoint: str = "") -> None:
    """Open a dialog from the next run on."""
    st.session_state[_OPEN] = Asked(what, job, savepoint)
    st.session_state.pop(_PROBLEM, None)


def asked() -> Asked | None:
    """Return which dialog is open."""
    found: Asked | None = st.session_state.get(_OPEN)
    return found


def close() -> None:
    """Close the dialog from the next run on."""
    st.session_state.pop(_OPEN, None)
    st.session_state.pop(_PROBLEM, None)


def do(change: Callable[[JobBook], str]) -> None:
    """Do something on behalf of whoever looks at the page, and keep the sentence that says what came of it."""
    st.session_state.pop(_PROBLEM, None)
    actor = require(Permission.VIEW_OPERATIONS).actor  # as they are now, not as they were when the page was shown
    try:
        with JobBook.open(Home.find().create(), actor) as book:
            st.session_state[_NEWS] = change(book)
    except ControlError as error:
        st.session_state[_PROBLEM] = str(error)
    else:
        close()


def do_in_dialog(change: Callable[[JobBook], str]) -> None:
    """Do what a dialog is for, unless it is done already."""
    if asked() is not None:
        do(change)


def refuse(sentence: str) -> None:
    """Keep a sentence that says why nothing was done."""
    st.session_state[_PROBLEM] = sentence


def show_news() -> None:
    """Show the sentence that the last action left, once."""
    if (news := st.session_state.pop(_NEWS, None)) is not None:
        st.toast(plain(news), icon=":material/check:", duration="long")


def show_problem() -> None:
    """Show why the last action did nothing, until there is another one."""
    if (problem := st.session_state.get(_PROBLEM)) is not None:
        st.error(plain(problem), icon=":material/error:")
