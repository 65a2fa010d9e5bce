"""Why a run ended: what was asked of its job, or what failed in the run itself. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from control.flink.traces import reason
from control.jobs.ledger import JobRun
from control.jobs.operations import Kind, Operation, StopMode
from control.jobs.states import State
from control.texts import moment

_ENDS_A_RUN = (Kind.STOP, Kind.RESTART, Kind.UPGRADE, Kind.DELETE)
# Runs end like this only on request. What such a run recovered from earlier is not why it ended.
ON_REQUEST = (State.STOPPED, State.CANCELED)


@dataclass(frozen=True)
class Ending:
    """Why a run ended, in a sentence; trace: of the exception that ended it, or ''."""

    sentence: str
    trace: str = ""


def why_ended(run: JobRun, operations: Sequence[Operation]) -> Ending | None:
    """Return why a run ended, given the operations on its job; None while it may run."""
    if run.end is None:
        return None
    if run.end in ON_REQUEST:
        return Ending(_who_asked(run, operations))
    if run.cause:
        return Ending(reason(run.cause), run.cause)
    if run.end == State.LOST:
        return Ending(State.LOST.sentence)
    return Ending(f"It ended as {run.end.lower()}; no cause is known.")


def _who_asked(run: JobRun, operations: Sequence[Operation]) -> str:
    ended_ms = run.ended_ms or 0
    during = (
        one
        for one in operations
        if one.kind in _ENDS_A_RUN and one.asked_ms <= ended_ms and (one.ended_ms is None or ended_ms <= one.ended_ms)
    )
    # A cancel takes the place of what is under way, so the last one counts.
    asked = max(during, key=lambda one: one.asked_ms, default=None)
    if asked is None:
        return f"It was {'stopped' if run.end == State.STOPPED else 'cancelled'}; no operation on record says by whom."
    by_whom = f"by {asked.actor}, asked for at {moment(asked.asked_ms)} UTC."
    if asked.kind is Kind.UPGRADE and asked.run == run.id:
        return f"The upgrade {by_whom.removesuffix('.')} was undone: {asked.problem or 'it failed.'}"
    cancelled = asked.kind is Kind.STOP and asked.wanted.mode is not StopMode.SAVEPOINT
    return f"{'Cancelled' if cancelled else asked.kind.done.capitalize()} {by_whom}"
