"""The dialogs of the jobs page, and the actions of its buttons, which share one result."""

from collections.abc import Callable
from enum import StrEnum
from typing import NamedTuple

import streamlit as st

from barmill.audit.roles import Permission
from barmill.platform.home import Home
from barmill.platform.texts import escape_markdown
from control.jobs.service import JobService
from pages.parts.shared.dialogs import Dialogs
from pages.parts.shared.visitor import require


class Dialog(StrEnum):
    """The dialogs of the jobs page."""

    CREATE = "create"
    EDIT = "edit"
    CLONE = "clone"
    RESCALE = "rescale"
    FROM = "from"
    CANCEL = "cancel"
    STATELESS = "stateless"
    DELETE = "delete"
    DISPOSE = "dispose"


class OpenDialog(NamedTuple):
    """The open dialog, with its job and savepoint."""

    kind: Dialog
    job: str = ""
    savepoint: str = ""


dialogs = Dialogs[OpenDialog]("jobs")


def open_dialog(kind: Dialog, job: str = "", savepoint: str = "") -> None:
    """Open a dialog in the next run."""
    dialogs.open(OpenDialog(kind, job, savepoint))


def by_visitor(change: Callable[[JobService], str]) -> Callable[[], str]:
    """Return the action that makes a change on behalf of the visitor."""

    def action() -> str:
        actor = require(Permission.VIEW_OPERATIONS).actor  # with the current role, not the role when the page was shown
        with JobService.open(Home.find().create(), actor) as service:
            return change(service)

    return action


def run_change(change: Callable[[JobService], str]) -> None:
    """Make the change that a button outside dialogs requests."""
    dialogs.act(by_visitor(change))


def run_dialog_change(change: Callable[[JobService], str]) -> None:
    """Make the change that the open dialog requests, unless it has already been made."""
    dialogs.act_once(by_visitor(change))


def show_result() -> None:
    """Show the result of the last action, once."""
    if (result := dialogs.take_result()) is not None:
        st.toast(escape_markdown(result), icon=":material/check:", duration="long")
