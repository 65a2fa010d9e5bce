"""The dialogs in which data or state could be lost: whoever means it types the job's name."""

from collections.abc import Callable

import streamlit as st

from charts.texts import plain
from control.home import Home
from control.jobs.book import JobBook
from control.jobs.dependence import what_stops_with
from control.jobs.operations import StopMode
from control.jobs.views import JobDetail
from pages.parts.job_asking import Asked, do_in_dialog, refuse
from pages.parts.job_tables import savepoint_name


def stateless(detail: JobDetail, _wanted: Asked) -> None:
    """Confirm that a job is stopped and forgets what it holds."""
    name = detail.view.name

    def stop(book: JobBook) -> str:
        book.stop(name, StopMode.STATELESS)
        return f"{name} is being stopped without its state."

    show_what_stops(name)
    lost = "The job ends at once and forgets what it holds. Started again, it begins with the tick log; ticks that the"
    typed(name, f"{lost} log has let go by then are in no bar it makes.", "Stop without state", stop)


def delete(detail: JobDetail, _wanted: Asked) -> None:
    """Confirm that a job is deleted."""
    name = detail.view.name

    def delete(book: JobBook) -> str:
        book.delete(name)
        return f"{name} is being deleted."

    show_what_stops(name)
    lost = "The job is cancelled and gone, with its checkpoints and all versions of its spec."
    typed(name, f"{lost} Its bars and savepoints stay.", "Delete", delete)


def dispose(detail: JobDetail, wanted: Asked) -> None:
    """Confirm that a savepoint is deleted."""
    name, savepoint_id = detail.view.name, wanted.savepoint

    def dispose(book: JobBook) -> str:
        return f"The savepoint {book.dispose_of(savepoint_id).id[:8]} of {name} is gone."

    of = next((savepoint_name(one) for one in detail.savepoints if one.id == savepoint_id), "The savepoint")
    typed(name, f"{of}: its files are deleted, and no job can go on from it any more.", "Dispose", dispose)


def show_what_stops(name: str) -> None:
    """Say which frames stop with a job, if there are any."""
    if note := what_stops_with(Home.find(), name):
        st.info(plain(note), icon=":material/account_tree:")


def typed(name: str, what: str, verb: str, change: Callable[[JobBook], str]) -> None:
    """Do something only for somebody who has typed the job's name."""
    st.warning(plain(what), icon=":material/warning:")
    with st.form("jobs_typed_form", border=False):
        st.text_input(f"Type {plain(name)} to confirm", key="jobs_typed", autocomplete="off")

        def confirmed() -> None:
            if st.session_state["jobs_typed"].strip() == name:
                do_in_dialog(change)
            else:
                refuse(f"Nothing was done; type {name}, exactly, to confirm.")

        st.form_submit_button(verb, key="jobs_confirm", type="primary", on_click=confirmed)
