"""The list of jobs, and the page of one job: its live state, its actions, and its history."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import streamlit as st

from barmill.audit.roles import Permission
from barmill.platform.home import Home
from barmill.platform.texts import age, escape_markdown
from control.jobs.model import Desired, Kind, State
from control.jobs.service import JobService
from control.jobs.views import JobDetail, JobView, describe_stopping_frames, job_detail
from pages.parts.jobs.dialog_state import Dialog, dialogs, open_dialog, run_change
from pages.parts.jobs.history import job_history
from pages.parts.shared.browser_code import browser_code, update
from pages.parts.shared.facts import Fact, facts_row
from pages.parts.shared.visitor import Visitor
from views import readings
from views.job_tables import SHORT_ID_LENGTH, operation_text, state_line, steps_line, tone

_HEADERS = ("Job", "State", "Desired state", "Details", "Frames", "Version", "Slots")
_HTML = (
    '<div class="barmill-jobs"><table><thead><tr>'
    + "".join(f'<th scope="col">{head}</th>' for head in _HEADERS)
    + "</tr></thead><tbody></tbody></table></div>"
)

_list = st.components.v2.component(
    "barmill_jobs",
    html=_HTML,
    css=browser_code("jobs/jobs.css"),
    js=browser_code("cleanup.js", "jobs/jobs.js"),
    isolate_styles=False,
)


def job_list(views: Sequence[JobView], read_ms: int) -> str | None:
    """Add the list of jobs to the page; return the job of a clicked row, once."""
    opened = _list(key="jobs", data=_message(views, read_ms), on_opened_change=_rerun).opened
    return None if opened is None else str(opened)


def job_list_update(views: Sequence[JobView], read_ms: int) -> None:
    """Send the list its rows; call this every second, in a fragment."""
    update("jobs", _message(views, read_ms))


def _message(views: Sequence[JobView], read_ms: int) -> dict[str, object]:
    return {"rows": [_row(view, read_ms) for view in views], "read_ms": read_ms}


def _row(view: JobView, read_ms: int) -> dict[str, str]:
    return {
        "name": view.name,
        "tone": tone(view),
        "state": view.state.lower(),
        "desired": view.desired,
        "sentence": view.sentence,
        "operation": operation_text(view.operation, read_ms),
        "frames": view.frames.replace(",", ", "),
        "version": str(view.version),
        "slots": str(view.parallelism),
    }


def _rerun() -> None:
    """Do nothing: the listener itself makes a click rerun the page."""


def _start(service: JobService, name: str) -> str:
    service.start(name)
    return f"{name} is being started."


def _stop(service: JobService, name: str) -> str:
    service.stop(name)
    return f"{name} is being stopped, with a savepoint that it continues from."


def _restart(service: JobService, name: str) -> str:
    service.restart(name)
    return f"{name} is being stopped with a savepoint, and started again from it."


def _savepoint(service: JobService, name: str) -> str:
    service.take_savepoint(name)
    return f"A savepoint of {name} is being taken."


@dataclass(frozen=True)
class ActionButton:
    """A button: the action it runs immediately, or the dialog it opens."""

    label: str
    icon: str
    permission: Permission
    action: Dialog | Callable[[JobService, str], str]


START = ActionButton("Start", ":material/play_arrow:", Permission.OPERATE_JOBS, _start)
STOP = ActionButton("Stop with savepoint", ":material/stop:", Permission.OPERATE_JOBS, _stop)
RESTART = ActionButton("Restart", ":material/restart_alt:", Permission.OPERATE_JOBS, _restart)
SAVEPOINT = ActionButton("Take savepoint", ":material/save:", Permission.OPERATE_JOBS, _savepoint)
RESCALE = ActionButton("Rescale", ":material/swap_vert:", Permission.OPERATE_JOBS, Dialog.RESCALE)
EDIT = ActionButton("Edit", ":material/edit:", Permission.MANAGE_JOBS, Dialog.EDIT)


def action_buttons(view: JobView, may: Callable[[Permission], bool]) -> list[ActionButton]:
    """Return the buttons that a user may click for a job in its current state."""
    stopped = view.desired == Desired.STOPPED
    # A job that the controller gave up on should run, but starts only on request.
    start = [START] if stopped or view.state == State.FAILED else []
    while_running = [] if stopped else [STOP, RESTART, SAVEPOINT]
    return [action for action in (*start, *while_running, RESCALE, EDIT) if may(action.permission)]


def menu_entries(view: JobView, may: Callable[[Permission], bool]) -> Sequence[tuple[Dialog, str]]:
    """Return the entries of the menu next to the buttons: dialogs and their labels; none without MANAGE_JOBS."""
    if not may(Permission.MANAGE_JOBS):
        return ()
    stopped = view.desired == Desired.STOPPED
    end_entries = [(Dialog.CANCEL, "Cancel"), (Dialog.STATELESS, "Stop without state")]
    return [
        (Dialog.FROM, f"{'Start' if stopped else 'Restart'} from …"),
        (Dialog.CLONE, "Clone"),
        *([] if stopped and view.operation is None else end_entries),
        (Dialog.DELETE, "Delete"),
    ]


def action_row(view: JobView, visitor: Visitor) -> None:
    """Show the buttons and the menu; call this outside of any fragment that refreshes."""
    # A rescale may wait for slots that never become free, so any other operation may supersede it.
    busy = view.operation is not None and view.operation.kind is not Kind.RESCALE
    with st.container(horizontal=True):
        for button in action_buttons(view, visitor.may):
            st.button(
                button.label,
                icon=button.icon,
                key=f"jobs_{button.label.lower().replace(' ', '_')}",
                type="primary" if button is START else "secondary",
                disabled=busy,
                on_click=_run_action,
                args=(button, view.name),
            )
        if entries := menu_entries(view, visitor.may):
            st.menu_button(
                "More",
                entries,
                key="jobs_more",
                format_func=lambda item: item[1],
                on_click=_open_chosen_dialog,
                args=(view.name,),
            )
    if STOP in action_buttons(view, visitor.may) and (note := describe_stopping_frames(Home.find(), view.name)):
        st.caption(escape_markdown(note))


def _run_action(button: ActionButton, name: str) -> None:
    action = button.action
    if isinstance(action, Dialog):
        open_dialog(action, name)
    else:
        run_change(lambda service: action(service, name))


def _open_chosen_dialog(name: str) -> None:
    kind, _ = st.session_state["jobs_more"]
    open_dialog(kind, name)


def job_page(home: Home, detail: JobDetail, visitor: Visitor) -> None:
    """Show a job: its live state, its actions, and its history."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button("All jobs", icon=":material/arrow_back:", key="jobs_all", type="tertiary", on_click=_show_list)
        st.header(escape_markdown(detail.view.name), anchor=False)
    _live(home, detail.view.name, _rerun_values(detail))
    action_row(detail.view, visitor)
    if dialogs.current() is None:
        dialogs.show_problem()
    job_history(home, detail, visitor)


@st.fragment(run_every=1)
def _live(home: Home, name: str, shown_values: object) -> None:
    """Show the job's state, refreshed periodically; rerun the page when its actions or its history change."""
    detail = job_detail(home, name)
    # An open dialog must not be disturbed.
    if (detail is None or _rerun_values(detail) != shown_values) and dialogs.current() is None:
        st.rerun()
    if detail is None:
        return
    view, now_ms = detail.view, readings.now_ms()
    facts_row(_facts(detail, now_ms))
    if view.operation is None or view.operation.sentence != view.sentence:
        st.markdown(state_line(view))
    if view.operation is not None:
        st.markdown(f"{escape_markdown(operation_text(view.operation, now_ms))} &emsp; {steps_line(view.operation)}")


def _facts(detail: JobDetail, now_ms: int) -> list[Fact]:
    view, spec, run = detail.view, detail.spec, next(iter(detail.runs), None)
    tones = {"good": "good", "busy": "busy", "bad": "bad"}
    since = age(now_ms - run.created_ms) if run is not None and run.end is None else ""
    return [
        {
            "label": "State",
            "value": view.state.capitalize(),
            "note": "" if view.is_as_desired else f"desired state: {view.desired}",
            "tone": tones.get(tone(view), ""),
        },
        {"label": "Run", "value": run.id[:SHORT_ID_LENGTH] if run and since else "–", "note": since and f"for {since}"},
        {"label": "Version", "value": str(view.version)},
        {"label": "Frames", "value": view.frames.replace(",", ", ")},
        {"label": "Slots", "value": str(view.parallelism), "note": f"of at most {spec.shards}"},
    ]


def _rerun_values(detail: JobDetail) -> object:
    """Return the values whose change requires a rerun of the page."""
    view = detail.view
    return (
        view.desired,
        view.state == "FAILED",
        view.version,
        [version.version for version in detail.versions],
        [(run.id, run.end) for run in detail.runs],
        [(operation.id, operation.outcome) for operation in detail.operations],
        [savepoint.id for savepoint in detail.savepoints],
    )


def _show_list() -> None:
    st.query_params.pop("job", None)
