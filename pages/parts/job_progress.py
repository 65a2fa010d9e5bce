"""How a job is and how far an operation on it is: the marks and lines of the jobs page. Pure."""

from collections.abc import Sequence

from charts.texts import age, plain
from control.jobs.operations import Kind, Operation, Phase, StopMode
from control.jobs.states import Desired, State
from control.jobs.views import JobView

_BAD = {State.FAILED, State.FAILING, State.REFUSED, State.LOST}
_COLORS = {"good": "green", "busy": "orange", "bad": "red", "idle": "gray"}
_MARKS = {"done": ":green[✓]", "now": ":orange[●]", "later": ":gray[○]"}


def tone(view: JobView) -> str:
    """Return how well a job is: good, busy, bad or idle."""
    if view.as_desired:
        return "good" if view.desired == Desired.RUNNING else "idle"
    return "bad" if view.state in _BAD else "busy"


def state_line(view: JobView) -> str:
    """Return how a job is as one line of Markdown with a coloured mark."""
    return f":{_COLORS[tone(view)]}[●] {plain(view.sentence)}"


def operation_text(operation: Operation | None, now_ms: int) -> str:
    """Say what is under way, for how long, and how it is; nothing for no operation."""
    if operation is None:
        return ""
    return f"{operation.kind.capitalize()} under way for {age(now_ms - operation.asked_ms)}: {operation.sentence}"


def steps(operation: Operation) -> list[tuple[str, str]]:
    """Return the steps of an operation in their order, each with `done`, `now` or `later`."""
    names, phase = _names(operation), operation.phase
    at = {Phase.FIRST: 0, Phase.STARTING: 1, Phase.SETTLING: 2, Phase.GOING_BACK: len(names) - 1}[phase]
    return [(name, "done" if place < at else "now" if place == at else "later") for place, name in enumerate(names)]


def steps_line(operation: Operation) -> str:
    """Return the steps as one line of Markdown."""
    return " &emsp; ".join(f"{_MARKS[mark]} {plain(name)}" for name, mark in steps(operation))


def _names(operation: Operation) -> Sequence[str]:
    wanted = operation.wanted
    stop = "Stop with a savepoint" if wanted.mode is StopMode.SAVEPOINT else "Cancel"
    match operation.kind:
        case Kind.START:
            return ("Start",)
        case Kind.STOP:
            return (stop,)
        case Kind.RESTART:
            return (stop, "Start")
        case Kind.UPGRADE if operation.phase is Phase.GOING_BACK:
            return (stop, f"Start version {wanted.to_version}", f"Go back to version {wanted.from_version}")
        case Kind.UPGRADE:
            return (stop, f"Start version {wanted.to_version}", "See that it is stable")
        case Kind.RESCALE:
            return (f"Take {wanted.parallelism} slots",)
        case Kind.SAVEPOINT:
            return ("Take a savepoint",)
        case Kind.DELETE:
            return ("Cancel and delete",)
