"""The next step of an open operation: pure, like reconcile.py."""

from control.flink.model import JobState, SavepointState
from control.flink.traces import reason
from control.jobs.operations import Kind, Operation, Outcome, Phase, StopMode
from control.jobs.reconcile import (
    Advance,
    Close,
    Decision,
    Finish,
    KeepSavepoint,
    Observation,
    Rescale,
    TakeSavepoint,
    Wait,
    about_open_run,
    is_over,
    steady,
    strays_or_silence,
    submit,
    towards_no_run,
)
from control.jobs.states import Desired, State

# A new version that has run for so long, with a checkpoint of its own and without going back to one, is stable.
STABLE_AFTER_MS = 20_000
# One that is not stable by then never will be.
UNSTABLE_AFTER_MS = 300_000
# How long a job that cannot take a savepoint just now, because it is starting or restarting, is waited for.
_SAVEPOINT_PATIENCE_MS = 120_000
_NO_SAVEPOINT = "The job keeps running."
_KEPT_RESTARTING = "It kept restarting."


def decide(seen: Observation) -> Decision:
    """Return the one next step: of the open operation, or of the steady work where none is open."""
    operation = seen.operation
    if operation is None:
        return steady(seen)
    unsettled = strays_or_silence(seen)
    if unsettled is not None:
        return unsettled
    match operation.kind:
        case Kind.START:
            return _start(seen, operation)
        case Kind.STOP:
            return _stop_run(seen, operation) or _stopped(operation, seen)
        case Kind.RESTART:
            return _restart(seen, operation)
        case Kind.UPGRADE:
            return _upgrade(seen, operation)
        case Kind.RESCALE:
            return _rescale(seen, operation)
        case Kind.SAVEPOINT:
            return _savepoint(seen, operation)
        case Kind.DELETE:
            return towards_no_run(seen) or Finish(Outcome.DONE, "The job is deleted; its bars stay.", forget=True)


def _stop_run(seen: Observation, operation: Operation) -> Decision | None:
    """Return the next step towards no run, in the way that was asked for; None when there is none any more."""
    if operation.wanted.mode is not StopMode.SAVEPOINT:
        return towards_no_run(seen)
    run = seen.open_run
    if run is None:
        return None
    if (kept := _finished_savepoint(seen, operation)) is not None:
        return kept
    over = about_open_run(seen)
    if isinstance(over, Close) and operation.savepoint is not None:
        return Close(run.id, State.STOPPED, State.STOPPED.sentence)
    if not isinstance(over, Wait) or operation.savepoint is not None:
        return over
    return _ask_for_savepoint(seen, operation, stop=True)


def _finished_savepoint(seen: Observation, operation: Operation) -> Decision | None:
    done = seen.savepoint is not None and seen.savepoint.state is SavepointState.COMPLETED
    if done and operation.savepoint is None and seen.savepoint and seen.savepoint.path:
        return KeepSavepoint(seen.savepoint.path)
    return None


def _ask_for_savepoint(seen: Observation, operation: Operation, *, stop: bool) -> Decision:
    run, waited_ms = seen.open_run, seen.at_ms - operation.asked_ms
    assert run is not None
    state = seen.savepoint.state if seen.savepoint else SavepointState.UNKNOWN
    if state is SavepointState.IN_PROGRESS:
        shown = State.STOPPING if stop else State.RUNNING
        return Wait(shown, f"A savepoint has been in the making for {waited_ms / 1_000:.0f} s.")
    if state is SavepointState.FAILED and seen.savepoint:
        return Finish(Outcome.FAILED, f"The savepoint failed: {reason(seen.savepoint.cause)} {_NO_SAVEPOINT}")
    if seen.state is JobState.RUNNING:
        return TakeSavepoint(run.id, stop, "A savepoint is being taken.")
    if is_over(_SAVEPOINT_PATIENCE_MS, operation.asked_ms, seen.at_ms):
        why = seen.state.sentence if seen.state else State.SUBMITTING.sentence
        return Finish(Outcome.FAILED, f"No savepoint could be taken. {why} Cancel the job if it must end now.")
    return Wait(State.STOPPING if stop else State.WAITING, "The job is not running yet; the savepoint waits for that.")


def _stopped(operation: Operation, seen: Observation) -> Decision:
    changes: dict[str, object] = {"desired": Desired.STOPPED.value}
    if operation.savepoint is not None:
        return Finish(Outcome.DONE, "Stopped with a savepoint.", changes)
    match operation.wanted.mode:
        case StopMode.STATELESS:
            changes["fresh_after_run"] = seen.newest_run_number
            return Finish(Outcome.DONE, "Stopped; started again, it begins with the tick log.", changes)
        case StopMode.LAST_STATE:
            return Finish(Outcome.DONE, "Stopped; started again, it goes on from its last checkpoint.", changes)
    return Finish(Outcome.DONE, "Stopped without a new savepoint, because no run was left to take it of.", changes)


def _start(seen: Observation, operation: Operation) -> Decision:
    run = seen.open_run
    if run is None:
        ended = next((one for one in seen.runs if one.id == operation.run), None)
        if ended is None or ended.end == State.LOST:
            return submit(seen, operation.wanted.restore or operation.savepoint)
        return Finish(Outcome.FAILED, f"It did not start: {reason(ended.cause)}")
    if seen.state is JobState.RUNNING:
        return Finish(Outcome.DONE, "It runs." if operation.run == run.id else "It was running already.")
    step = about_open_run(seen)
    assert step is not None
    return step


def _restart(seen: Observation, operation: Operation) -> Decision:
    if operation.phase is Phase.FIRST:
        changes = _running()
        if operation.wanted.mode is StopMode.STATELESS:
            changes["fresh_after_run"] = seen.newest_run_number
        return _stop_run(seen, operation) or Advance(Phase.STARTING, "Stopped; starting again.", changes)
    return _start(seen, operation)


def _upgrade(seen: Observation, operation: Operation) -> Decision:
    wanted = operation.wanted
    new_version = {**_running(), "version": wanted.to_version}
    match operation.phase:
        case Phase.FIRST:
            return _stop_run(seen, operation) or Advance(
                Phase.STARTING, f"Stopped; starting version {wanted.to_version}.", new_version
            )
        case Phase.STARTING:
            if _restarted(seen):
                return _go_back(operation, _KEPT_RESTARTING)
            step = _start(seen, operation)
            if isinstance(step, Finish) and step.outcome is Outcome.DONE:
                return Advance(Phase.SETTLING, "It runs; waiting until it is stable.", run=operation.run)
            return _go_back(operation, step.sentence) if isinstance(step, Finish) else step
        case Phase.SETTLING:
            return _settle(seen, operation)
        case Phase.GOING_BACK:
            return _going_back(seen, operation)


def _going_back(seen: Observation, operation: Operation) -> Decision:
    """Return the next step from the new version's run, if it is still there, to one of the old version."""
    run, newest = seen.open_run, seen.runs[0]
    old = f"version {operation.wanted.from_version}"
    if run is not None and run.id != operation.run:
        if seen.state is JobState.RUNNING:
            return Finish(Outcome.FAILED, f"{operation.problem} {old.capitalize()} runs again.")
        return about_open_run(seen) or submit(seen, operation.savepoint)
    if run is None and newest.id != operation.run and newest.end != State.LOST:
        return Finish(Outcome.FAILED, f"{operation.problem} {old.capitalize()} does not start: {reason(newest.cause)}")
    return towards_no_run(seen) or submit(seen, operation.savepoint)


def _settle(seen: Observation, operation: Operation) -> Decision:
    run = seen.open_run
    if run is None:
        ended = next((one for one in seen.runs if one.id == operation.run), None)
        if ended is not None and ended.end == State.LOST:
            return submit(seen)
        return _go_back(operation, f"It ended: {reason(ended.cause if ended else None)}")
    step = about_open_run(seen)
    if not isinstance(step, Wait):
        return step or steady(seen)
    restarted = _restarted(seen)
    stable = seen.state is JobState.RUNNING and seen.checkpoints > 0
    if restarted or (not stable and is_over(UNSTABLE_AFTER_MS, run.created_ms, seen.at_ms)):
        return _go_back(operation, _KEPT_RESTARTING if restarted else "It made no checkpoint.")
    if stable and is_over(STABLE_AFTER_MS, run.created_ms, seen.at_ms):
        return Finish(Outcome.DONE, f"Version {operation.wanted.to_version} runs and is stable.")
    return Wait(step.state, "The new version runs; it counts as stable after its first checkpoint.")


def _restarted(seen: Observation) -> bool:
    """Return whether the open run went back to a checkpoint; a new version may do so before it is seen running."""
    run = seen.open_run
    # Going on from the savepoint counts as one restore.
    return run is not None and seen.restores > (1 if run.restored_from else 0)


def _go_back(operation: Operation, why: str) -> Advance:
    wanted = operation.wanted
    problem = f"Version {wanted.to_version} did not become stable. {why}"
    changes = {"version": wanted.from_version}
    return Advance(Phase.GOING_BACK, f"{problem} Going back.", changes, run=operation.run, problem=problem)


def _rescale(seen: Observation, operation: Operation) -> Decision:
    run, wanted = seen.open_run, operation.wanted.parallelism or 1
    if run is None:
        return Finish(Outcome.DONE, f"It takes {wanted} slots when it is started.")
    if seen.state is not JobState.RUNNING or not seen.vertices:
        step = about_open_run(seen)
        assert step is not None
        return step
    # Only the parts keyed by shard can be spread; what wakes them and what writes stays one.
    asked = {one.id: wanted if one.scales else 1 for one in seen.vertices}
    if any(one.wanted != asked[one.id] for one in seen.vertices):
        return Rescale(run.id, asked, f"The job is being rescaled to {wanted}.")
    have = max((one.parallelism for one in seen.vertices if one.scales), default=wanted)
    if have == wanted:
        return Finish(Outcome.DONE, f"It runs on {wanted} slots.")
    return Wait(State.RUNNING, f"Rescaling is pending: it runs on {have} of {wanted} slots, until more are free.")


def _savepoint(seen: Observation, operation: Operation) -> Decision:
    if operation.savepoint is not None:
        return Finish(Outcome.DONE, "The savepoint is taken.")
    if seen.open_run is None:
        return Finish(Outcome.FAILED, "The job is not running, so there is nothing to take a savepoint of.")
    if (kept := _finished_savepoint(seen, operation)) is not None:
        return kept
    over = about_open_run(seen)
    return _ask_for_savepoint(seen, operation, stop=False) if isinstance(over, Wait) else over or steady(seen)


def _running() -> dict[str, object]:
    return {"desired": Desired.RUNNING.value}
