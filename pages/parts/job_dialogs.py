"""The dialogs of the jobs page: what needs more than a click. Those that could lose something: see job_typed.py."""

from collections.abc import Callable, Mapping
from typing import Literal

import streamlit as st

from control.home import Home
from control.jobs.book import BEGINNING, LAST_CHECKPOINT, JobBook
from control.jobs.operations import StopMode
from control.jobs.states import Desired
from control.jobs.views import JobDetail, job_detail
from control.kafka.settings import KafkaSettings
from pages.parts.job_asking import Asked, Dialog, asked, close, do_in_dialog, show_problem
from pages.parts.job_spec_form import create_form, edit_form
from pages.parts.job_tables import savepoint_name
from pages.parts.job_typed import delete, dispose, show_what_stops, stateless, typed


def show_dialog(home: Home) -> None:
    """Show the dialog that is open, if one is."""
    wanted = asked()
    if wanted is None:
        return
    detail = job_detail(home, wanted.job)
    title, content = _TITLES[wanted.what].format(wanted.job), _CONTENTS.get(wanted.what)
    if content is not None and detail is None:
        close()  # the job was deleted meanwhile
        return

    def dialog() -> None:
        if asked() is None:
            st.rerun()  # it is done: close it, and show what it did
        if content is None or detail is None:
            create_form(with_kafka=KafkaSettings.read(home).used)
        else:
            content(detail, wanted)
        show_problem()

    width: Literal["medium", "small"] = "medium" if wanted.what in (Dialog.CREATE, Dialog.EDIT) else "small"
    st.dialog(title, on_dismiss=close, width=width)(dialog)()


def _edit(detail: JobDetail, _wanted: Asked) -> None:
    edit_form(detail)


def _clone(detail: JobDetail, _wanted: Asked) -> None:
    name = detail.view.name
    st.markdown("The new job is the same but for its name, and stopped. It begins with the tick log when started.")
    with st.form("jobs_clone_form", border=False):
        st.text_input("Name of the new job", f"{name}-2", key="jobs_new_name", autocomplete="off")

        def clone(book: JobBook) -> str:
            return f"Created {book.clone(name, st.session_state['jobs_new_name'].strip()).name}; it is stopped."

        _submit("Clone", clone)


def _rescale(detail: JobDetail, _wanted: Asked) -> None:
    name, spec = detail.view.name, detail.spec
    st.markdown(
        f"The job keeps running while it is spread over more or fewer slots; more than are free are taken as they"
        f" become free. It has {spec.shards} shards, the most slots it can use; a clone can have another number."
    )
    with st.form("jobs_rescale_form", border=False):
        most = max(spec.shards, spec.parallelism)
        st.number_input("Slots", 1, most, spec.parallelism, key="jobs_slots")

        def rescale(book: JobBook) -> str:
            slots = int(st.session_state["jobs_slots"])
            book.rescale(name, slots)
            return f"{name} is being rescaled to {slots}."

        _submit("Rescale", rescale)


def _from(detail: JobDetail, _wanted: Asked) -> None:
    name, stopped = detail.view.name, detail.view.desired == Desired.STOPPED
    names = {one.id: savepoint_name(one) for one in detail.savepoints}
    names |= {LAST_CHECKPOINT: "The last checkpoint", BEGINNING: "The beginning of the tick log"}
    restore = str(st.selectbox("Go on from", names, format_func=lambda one: names[one], key="jobs_from"))
    if not stopped:
        st.markdown("The run there is now is cancelled without a savepoint.")

    def go(book: JobBook) -> str:
        ask_for = book.start if stopped else book.restart
        ask_for(name, restore)
        return f"{name} is being {'started' if stopped else 'restarted'}: {names[restore].lower()}."

    verb = "Start" if stopped else "Restart"
    if restore == BEGINNING:
        typed(
            name,
            "All ticks that the log still holds are read again. What the job has held until now is lost.",
            verb,
            go,
        )
        return
    with st.form("jobs_from_form", border=False):
        _submit(verb, go)


def _cancel(detail: JobDetail, _wanted: Asked) -> None:
    name = detail.view.name
    show_what_stops(name)
    st.markdown(
        "The job ends at once, without a savepoint, and stays stopped; whatever is under way is given up. Started"
        " again, it goes on from its last checkpoint, so nothing is lost."
    )

    def cancel(book: JobBook) -> str:
        book.stop(name, StopMode.LAST_STATE)
        return f"{name} is being cancelled."

    with st.form("jobs_cancel_form", border=False):
        _submit("Cancel the job", cancel)


def _submit(verb: str, change: Callable[[JobBook], str]) -> None:
    st.form_submit_button(verb, key="jobs_submit", type="primary", on_click=do_in_dialog, args=(change,))


_TITLES = {
    Dialog.CREATE: "Create a job",
    Dialog.EDIT: "Edit {}",
    Dialog.CLONE: "Clone {}",
    Dialog.RESCALE: "Rescale {}",
    Dialog.FROM: "Choose where {} goes on from",
    Dialog.CANCEL: "Cancel {}",
    Dialog.STATELESS: "Stop {} without its state",
    Dialog.DELETE: "Delete {}",
    Dialog.DISPOSE: "Dispose of a savepoint of {}",
}
_CONTENTS: Mapping[str, Callable[[JobDetail, Asked], None]] = {
    Dialog.EDIT: _edit,
    Dialog.CLONE: _clone,
    Dialog.RESCALE: _rescale,
    Dialog.FROM: _from,
    Dialog.CANCEL: _cancel,
    Dialog.STATELESS: stateless,
    Dialog.DELETE: delete,
    Dialog.DISPOSE: dispose,
}
