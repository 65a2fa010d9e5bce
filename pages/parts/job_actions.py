"""What can be done to a job on its page: offered to whoever may, in the state the job is in."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import streamlit as st

from charts.texts import plain
from control.home import Home
from control.jobs.book import JobBook
from control.jobs.dependence import what_stops_with
from control.jobs.operations import Kind
from control.jobs.states import Desired, State
from control.jobs.views import JobView
from control.people.roles import Permission
from pages.parts.job_asking import Dialog, ask, do
from pages.parts.visitor import Visitor


def _start(book: JobBook, name: str) -> str:
    book.start(name)
    return f"{name} is being started."


def _stop(book: JobBook, name: str) -> str:
    book.stop(name)
    return f"{name} is being stopped, with a savepoint that it goes on from."


def _restart(book: JobBook, name: str) -> str:
    book.restart(name)
    return f"{name} is being stopped with a savepoint, and started again from it."


def _savepoint(book: JobBook, name: str) -> str:
    book.take_savepoint(name)
    return f"A savepoint of {name} is being taken."


@dataclass(frozen=True)
class Offer:
    """A button: what it does at once, or which dialog it opens."""

    label: str
    icon: str
    needs: Permission
    does: Dialog | Callable[[JobBook, str], str]


START = Offer("Start", ":material/play_arrow:", Permission.OPERATE_JOBS, _start)
STOP = Offer("Stop with savepoint", ":material/stop:", Permission.OPERATE_JOBS, _stop)
RESTART = Offer("Restart", ":material/restart_alt:", Permission.OPERATE_JOBS, _restart)
SAVEPOINT = Offer("Take savepoint", ":material/save:", Permission.OPERATE_JOBS, _savepoint)
RESCALE = Offer("Rescale", ":material/swap_vert:", Permission.OPERATE_JOBS, Dialog.RESCALE)
EDIT = Offer("Edit", ":material/edit:", Permission.MANAGE_JOBS, Dialog.EDIT)


def offers(view: JobView, may: Callable[[Permission], bool]) -> list[Offer]:
    """Return the buttons for a job as it is."""
    stopped = view.desired == Desired.STOPPED
    # One that was given up on should run, but starts only when somebody says so.
    start = [START] if stopped or view.state == State.FAILED else []
    while_running = [] if stopped else [STOP, RESTART, SAVEPOINT]
    return [one for one in (*start, *while_running, RESCALE, EDIT) if may(one.needs)]


def menu(view: JobView, may: Callable[[Permission], bool]) -> Sequence[tuple[Dialog, str]]:
    """Return what the menu beside the buttons offers: dialogs and their labels."""
    if not may(Permission.MANAGE_JOBS):
        return ()
    stopped = view.desired == Desired.STOPPED
    ends = [(Dialog.CANCEL, "Cancel"), (Dialog.STATELESS, "Stop without state")]
    return [
        (Dialog.FROM, f"{'Start' if stopped else 'Restart'} from …"),
        (Dialog.CLONE, "Clone"),
        *([] if stopped and view.operation is None else ends),
        (Dialog.DELETE, "Delete"),
    ]


def action_row(view: JobView, visitor: Visitor) -> None:
    """Show the buttons and the menu; call this outside of whatever refreshes."""
    # Rescaling may wait for slots that never come, so anything else may take its place.
    busy = view.operation is not None and view.operation.kind is not Kind.RESCALE
    with st.container(horizontal=True):
        for one in offers(view, visitor.may):
            st.button(
                one.label,
                icon=one.icon,
                key=f"jobs_{one.label.lower().replace(' ', '_')}",
                type="primary" if one is START else "secondary",
                disabled=busy,
                on_click=_clicked,
                args=(one, view.name),
            )
        if more := menu(view, visitor.may):
            st.menu_button(
                "More", more, key="jobs_more", format_func=lambda item: item[1], on_click=_picked, args=(view.name,)
            )
    if STOP in offers(view, visitor.may) and (note := what_stops_with(Home.find(), view.name)):
        st.caption(plain(note))


def _clicked(offer: Offer, name: str) -> None:
    does = offer.does
    if isinstance(does, Dialog):
        ask(does, name)
    else:
        do(lambda book: does(book, name))


def _picked(name: str) -> None:
    what, _ = st.session_state["jobs_more"]
    ask(what, name)
