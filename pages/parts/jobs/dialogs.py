"""The dialogs of the jobs page; actions that can lose data or state require the user to type the job's name."""

from collections.abc import Callable, Mapping

import streamlit as st

from barmill.platform.home import Home
from barmill.platform.kafka_settings import KafkaSettings
from barmill.platform.texts import escape_markdown
from control.jobs.model import Desired, StopMode
from control.jobs.service import BEGINNING, LAST_CHECKPOINT, JobService
from control.jobs.views import JobDetail, describe_stopping_frames, job_detail
from pages.parts.jobs.dialog_state import Dialog, OpenDialog, by_visitor, dialogs, run_dialog_change
from pages.parts.jobs.spec_form import create_form, edit_form
from views.job_tables import SHORT_ID_LENGTH, savepoint_name


def confirm_stateless_stop(detail: JobDetail, _dialog: OpenDialog) -> None:
    """Ask for confirmation to stop a job and discard its state."""
    name = detail.view.name

    def stop(service: JobService) -> str:
        service.stop(name, StopMode.STATELESS)
        return f"{name} is being stopped without its state."

    show_what_stops(name)
    warning = (
        "The job ends immediately and discards its state. When started again, it reads the tick log from the start;"
    )
    confirm_by_typing(
        name, f"{warning} its bars do not include ticks that the log has dropped by then.", "Stop without state", stop
    )


def confirm_delete(detail: JobDetail, _dialog: OpenDialog) -> None:
    """Ask for confirmation to delete a job."""
    name = detail.view.name

    def delete(service: JobService) -> str:
        service.delete(name)
        return f"{name} is being deleted."

    show_what_stops(name)
    warning = "The job is cancelled and deleted, with its checkpoints and all versions of its spec."
    confirm_by_typing(name, f"{warning} Its bars and savepoints remain.", "Delete", delete)


def confirm_dispose(detail: JobDetail, dialog: OpenDialog) -> None:
    """Ask for confirmation to delete a savepoint."""
    name, savepoint_id = detail.view.name, dialog.savepoint

    def dispose(service: JobService) -> str:
        return f"The savepoint {service.dispose_savepoint(savepoint_id).id[:SHORT_ID_LENGTH]} of {name} is deleted."

    savepoint_text = next(
        (savepoint_name(savepoint) for savepoint in detail.savepoints if savepoint.id == savepoint_id), "The savepoint"
    )
    confirm_by_typing(
        name, f"{savepoint_text}: its files are deleted, and no job can continue from it.", "Dispose", dispose
    )


def show_what_stops(name: str) -> None:
    """Show which frames stop with a job, if any."""
    if note := describe_stopping_frames(Home.find(), name):
        st.info(escape_markdown(note), icon=":material/account_tree:")


def confirm_by_typing(name: str, warning: str, verb: str, change: Callable[[JobService], str]) -> None:
    """Show a form that makes a change only after the user has typed the job's name."""
    st.warning(escape_markdown(warning), icon=":material/warning:")
    dialogs.confirm_by_name(name, verb, by_visitor(change))


def show_dialog(home: Home) -> None:
    """Show the open dialog, if any."""
    dialog = dialogs.current()
    if dialog is None:
        return
    detail = job_detail(home, dialog.job)
    title, content = _TITLES[dialog.kind].format(dialog.job), _CONTENTS.get(dialog.kind)
    if content is not None and detail is None:
        dialogs.close()  # the job was deleted in the meantime
        return

    def show() -> None:
        if content is None or detail is None:
            create_form(with_kafka=KafkaSettings.read(home).is_used)
        else:
            content(detail, dialog)

    dialogs.show(title, show, "medium" if dialog.kind in (Dialog.CREATE, Dialog.EDIT) else "small")


def _edit(detail: JobDetail, _dialog: OpenDialog) -> None:
    edit_form(detail)


def _clone(detail: JobDetail, _dialog: OpenDialog) -> None:
    name = detail.view.name
    st.markdown("The new job has the same spec and is stopped. When started, it reads the tick log from the beginning.")
    with st.form("jobs_clone_form", border=False):
        st.text_input("Name of the new job", f"{name}-2", key="jobs_new_name", autocomplete="off")

        def clone(service: JobService) -> str:
            return f"Created {service.clone(name, st.session_state['jobs_new_name'].strip()).name}; it is stopped."

        _submit("Clone", clone)


def _rescale(detail: JobDetail, _dialog: OpenDialog) -> None:
    name, spec = detail.view.name, detail.spec
    st.markdown(
        "The job keeps running while its number of slots changes. If too few slots are free, it takes more as they"
        f" become free. It can use one slot per shard, {spec.shards} at most; a clone can have more shards."
    )
    with st.form("jobs_rescale_form", border=False):
        max_slots = max(spec.shards, spec.parallelism)
        st.number_input("Slots", 1, max_slots, spec.parallelism, key="jobs_slots")

        def rescale(service: JobService) -> str:
            slots = int(st.session_state["jobs_slots"])
            service.rescale(name, slots)
            return f"{name} is being rescaled to {slots}."

        _submit("Rescale", rescale)


def _choose_start_point(detail: JobDetail, _dialog: OpenDialog) -> None:
    name, stopped = detail.view.name, detail.view.desired == Desired.STOPPED
    names = {savepoint.id: savepoint_name(savepoint) for savepoint in detail.savepoints}
    names |= {LAST_CHECKPOINT: "The last checkpoint", BEGINNING: "The beginning of the tick log"}
    restore = str(
        st.selectbox("Continue from", names, format_func=lambda savepoint_id: names[savepoint_id], key="jobs_from")
    )
    if not stopped:
        st.markdown("The current run is cancelled without a savepoint.")

    def apply(service: JobService) -> str:
        request = service.start if stopped else service.restart
        request(name, restore)
        return f"{name} is being {'started' if stopped else 'restarted'}: {names[restore].lower()}."

    verb = "Start" if stopped else "Restart"
    if restore == BEGINNING:
        confirm_by_typing(
            name,
            "The job reads all ticks in the log again. Its current state is lost.",
            verb,
            apply,
        )
        return
    with st.form("jobs_from_form", border=False):
        _submit(verb, apply)


def _cancel(detail: JobDetail, _dialog: OpenDialog) -> None:
    name = detail.view.name
    show_what_stops(name)
    st.markdown(
        "The job ends immediately, without a savepoint, and stays stopped. Any operation in progress is abandoned. When"
        " started again, the job continues from its last checkpoint, so nothing is lost."
    )

    def cancel(service: JobService) -> str:
        service.stop(name, StopMode.LAST_STATE)
        return f"{name} is being cancelled."

    with st.form("jobs_cancel_form", border=False):
        _submit("Cancel the job", cancel)


def _submit(verb: str, change: Callable[[JobService], str]) -> None:
    st.form_submit_button(verb, key="jobs_submit", type="primary", on_click=run_dialog_change, args=(change,))


_TITLES = {
    Dialog.CREATE: "Create a job",
    Dialog.EDIT: "Edit {}",
    Dialog.CLONE: "Clone {}",
    Dialog.RESCALE: "Rescale {}",
    Dialog.FROM: "Choose where {} continues from",
    Dialog.CANCEL: "Cancel {}",
    Dialog.STATELESS: "Stop {} without its state",
    Dialog.DELETE: "Delete {}",
    Dialog.DISPOSE: "Dispose of a savepoint of {}",
}
_CONTENTS: Mapping[str, Callable[[JobDetail, OpenDialog], None]] = {
    Dialog.EDIT: _edit,
    Dialog.CLONE: _clone,
    Dialog.RESCALE: _rescale,
    Dialog.FROM: _choose_start_point,
    Dialog.CANCEL: _cancel,
    Dialog.STATELESS: confirm_stateless_stop,
    Dialog.DELETE: confirm_delete,
    Dialog.DISPOSE: confirm_dispose,
}
