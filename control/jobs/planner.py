"""The next step for a job, given an observation. Pure, so that every case can be tested.

The planner decides one step at a time, and each step can be repeated. An open operation has priority over the steady
work of keeping the job in its desired state.
"""

from barmill.platform.clock import backoff
from control.flink.model import JobState, SavepointState, SavepointStatus, reason
from control.jobs.decisions import (
    Advance,
    Cancel,
    Close,
    Decision,
    Finish,
    KeepSavepoint,
    Observation,
    Rescale,
    Submit,
    TakeSavepoint,
    Wait,
)
from control.jobs.model import Desired, JobRun, Kind, Operation, Outcome, Phase, State, StopMode

# For about this long, the JobManager may still process a submission whose response was lost.
SUBMIT_GRACE_MS = 90_000
# A run that fails sooner than this after its submission counts as an early failure.
EARLY_FAILURE_MS = 150_000
MAX_FAILURES = 5
_FIRST_DELAY_MS = 2_000
_MAX_DELAY_MS = 60_000
# A restore point is skipped after this many early failures of runs that started from it.
_MAX_RESTORE_FAILURES = 2
# These texts identify failures of the cluster, which do not count towards giving up on the job.
_CLUSTER_CAUSES = (
    "TaskManager",
    "TaskExecutor",
    "NoResourceAvailable",
    "no longer reachable",
    "Connection unexpectedly",
)
# A new version is stable after this time with a checkpoint and without a restore.
STABLE_AFTER_MS = 20_000
# A version that is not stable after this time counts as failed.
UNSTABLE_AFTER_MS = 300_000
# How long an operation waits for a job that cannot take a savepoint because it is starting or restarting.
_SAVEPOINT_WAIT_MS = 120_000
_RESTARTS_REPEATEDLY = "It kept restarting."


def decide(observation: Observation) -> Decision:
    """Return the next step of the open operation, or towards the job's desired state if no operation is open."""
    if observation.incarnation is None:
        return Wait(State.UNKNOWN, "The Flink cluster does not respond yet.")
    run, operation = observation.open_run, observation.operation
    strays = [run_id for run_id in observation.active_runs if run is None or run_id != run.id]
    if strays:
        return Cancel(strays[0], "An earlier run of the job still exists and is being cancelled.")
    if operation is None:
        return _keep_desired_state(observation)
    match operation.kind:
        case Kind.START:
            return _start(observation, operation)
        case Kind.STOP:
            return _stop_run(observation, operation) or _finish_stop(observation, operation)
        case Kind.RESTART:
            return _restart(observation, operation)
        case Kind.UPGRADE:
            return _upgrade(observation, operation)
        case Kind.RESCALE:
            return _rescale(observation, operation)
        case Kind.SAVEPOINT:
            return _savepoint(observation, operation)
        case Kind.DELETE:
            return _end_run(observation) or Finish(Outcome.DONE, "The job is deleted; its bars stay.", delete_job=True)


def _stop_run(observation: Observation, operation: Operation) -> Decision | None:
    """Return the next step to end the run in the requested stop mode; None if no run is left."""
    if operation.parameters.mode is not StopMode.SAVEPOINT:
        return _end_run(observation)
    run = observation.open_run
    if run is None:
        return None
    if operation.savepoint is None:
        return _advance_savepoint(observation, operation, run, stop=True)
    step = _follow_run(observation, run)
    return step if isinstance(step, Wait) else Close(run.id, State.STOPPED, State.STOPPED.sentence)


def _advance_savepoint(observation: Observation, operation: Operation, run: JobRun, *, stop: bool) -> Decision:
    """Return the next step towards the operation's savepoint; `stop` ends the run with it."""
    savepoint = observation.savepoint or SavepointStatus(SavepointState.UNKNOWN)
    if savepoint.state is SavepointState.COMPLETED and savepoint.path:
        return KeepSavepoint(savepoint.path)
    decision = _follow_run(observation, run)
    if isinstance(decision, Close):
        return decision
    if savepoint.state is SavepointState.IN_PROGRESS:
        state, waited_ms = State.STOPPING if stop else State.RUNNING, observation.at_ms - operation.requested_ms
        return Wait(state, f"A savepoint has been in progress for {waited_ms / 1_000:.0f} s.")
    if savepoint.state is SavepointState.FAILED:
        return Finish(Outcome.FAILED, f"The savepoint failed: {reason(savepoint.cause)} The job keeps running.")
    if observation.state is JobState.RUNNING:
        return TakeSavepoint(run.id, stop, "A savepoint is being taken.")
    if _has_passed(_SAVEPOINT_WAIT_MS, operation.requested_ms, observation.at_ms):
        state_sentence = observation.state.sentence if observation.state else State.SUBMITTING.sentence
        return Finish(
            Outcome.FAILED, f"No savepoint could be taken. {state_sentence} Cancel the job if it must end now."
        )
    return Wait(State.STOPPING if stop else State.WAITING, "The savepoint waits until the job runs.")


def _finish_stop(observation: Observation, operation: Operation) -> Decision:
    changes: dict[str, object] = {"desired": Desired.STOPPED.value}
    if operation.savepoint is not None:
        return Finish(Outcome.DONE, "Stopped with a savepoint.", changes)
    match operation.parameters.mode:
        case StopMode.STATELESS:
            changes["fresh_after_run"] = observation.newest_run_number
            return Finish(Outcome.DONE, "Stopped; the next start reads the tick log from its beginning.", changes)
        case StopMode.LAST_STATE:
            return Finish(Outcome.DONE, "Stopped; the next start continues from the last checkpoint.", changes)
    return Finish(Outcome.DONE, "Stopped without a new savepoint, because the job was no longer running.", changes)


def _start(observation: Observation, operation: Operation) -> Decision:
    run = observation.open_run
    if run is None:
        ended_run = next((known_run for known_run in observation.runs if known_run.id == operation.run), None)
        if ended_run is None or ended_run.end == State.LOST:
            return _submit(observation, operation.parameters.restore or operation.savepoint)
        return Finish(Outcome.FAILED, f"It did not start: {reason(ended_run.cause)}")
    if observation.state is JobState.RUNNING:
        return Finish(
            Outcome.DONE, "The job is running." if operation.run == run.id else "The job was already running."
        )
    return _follow_run(observation, run)


def _restart(observation: Observation, operation: Operation) -> Decision:
    if operation.phase is Phase.FIRST:
        changes = _desired_running()
        if operation.parameters.mode is StopMode.STATELESS:
            changes["fresh_after_run"] = observation.newest_run_number
        return _stop_run(observation, operation) or Advance(Phase.STARTING, "Stopped; starting again.", changes)
    return _start(observation, operation)


def _upgrade(observation: Observation, operation: Operation) -> Decision:
    parameters = operation.parameters
    new_version = {**_desired_running(), "version": parameters.to_version}
    match operation.phase:
        case Phase.FIRST:
            return _stop_run(observation, operation) or Advance(
                Phase.STARTING, f"Stopped; starting version {parameters.to_version}.", new_version
            )
        case Phase.STARTING:
            if _has_restored(observation):
                return _begin_rollback(operation, _RESTARTS_REPEATEDLY)
            step = _start(observation, operation)
            if isinstance(step, Finish) and step.outcome is Outcome.DONE:
                return Advance(Phase.SETTLING, "The job is running; waiting until it is stable.", run=operation.run)
            return _begin_rollback(operation, step.sentence) if isinstance(step, Finish) else step
        case Phase.SETTLING:
            return _settle(observation, operation)
        case Phase.ROLLING_BACK:
            return _continue_rollback(observation, operation)


def _continue_rollback(observation: Observation, operation: Operation) -> Decision:
    """Return the next step from the new version's run, if it still exists, to a run of the old version."""
    run, newest = observation.open_run, observation.runs[0]
    old_version = f"version {operation.parameters.from_version}"
    if run is not None and run.id != operation.run:
        if observation.state is JobState.RUNNING:
            return Finish(Outcome.FAILED, f"{operation.problem} {old_version.capitalize()} runs again.")
        return _follow_run(observation, run)
    if run is None and newest.id != operation.run and newest.end != State.LOST:
        return Finish(
            Outcome.FAILED, f"{operation.problem} {old_version.capitalize()} does not start: {reason(newest.cause)}"
        )
    return _end_run(observation) or _submit(observation, operation.savepoint)


def _settle(observation: Observation, operation: Operation) -> Decision:
    run = observation.open_run
    if run is None:
        ended_run = next((known_run for known_run in observation.runs if known_run.id == operation.run), None)
        if ended_run is not None and ended_run.end == State.LOST:
            return _submit(observation)
        return _begin_rollback(operation, f"It ended: {reason(ended_run.cause if ended_run else None)}")
    step = _follow_run(observation, run)
    if isinstance(step, Close):
        return step
    restarted = _has_restored(observation)
    stable = observation.state is JobState.RUNNING and observation.checkpoints > 0
    if restarted or (not stable and _has_passed(UNSTABLE_AFTER_MS, run.created_ms, observation.at_ms)):
        return _begin_rollback(operation, _RESTARTS_REPEATEDLY if restarted else "It made no checkpoint.")
    if stable and _has_passed(STABLE_AFTER_MS, run.created_ms, observation.at_ms):
        return Finish(Outcome.DONE, f"Version {operation.parameters.to_version} runs and is stable.")
    return Wait(step.state, "The new version runs; it counts as stable after its first checkpoint.")


def _has_restored(observation: Observation) -> bool:
    """Return whether the open run restored a checkpoint; a new version may do so before it is seen running."""
    run = observation.open_run
    # The start from the savepoint counts as one restore.
    return run is not None and observation.restores > (1 if run.restored_from else 0)


def _begin_rollback(operation: Operation, sentence: str) -> Advance:
    parameters = operation.parameters
    problem = f"Version {parameters.to_version} did not become stable. {sentence}"
    changes = {"version": parameters.from_version}
    return Advance(Phase.ROLLING_BACK, f"{problem} Rolling back.", changes, run=operation.run, problem=problem)


def _rescale(observation: Observation, operation: Operation) -> Decision:
    run, parallelism = observation.open_run, operation.parameters.parallelism or 1
    if run is None:
        return Finish(Outcome.DONE, f"The job will use {parallelism} slots when it is started.")
    if observation.state is not JobState.RUNNING or not observation.vertices:
        return _follow_run(observation, run)
    # Only the parts keyed by shard can be parallel; the wake-up source and the writer have one subtask each.
    target = {vertex.id: parallelism if vertex.can_scale else 1 for vertex in observation.vertices}
    if any(vertex.desired != target[vertex.id] for vertex in observation.vertices):
        return Rescale(run.id, target, f"The job is being rescaled to {parallelism} slots.")
    current = max((vertex.parallelism for vertex in observation.vertices if vertex.can_scale), default=parallelism)
    if current == parallelism:
        return Finish(Outcome.DONE, f"The job is running on {parallelism} slots.")
    return Wait(
        State.RUNNING, f"Rescaling is pending: the job runs on {current} of {parallelism} slots until more are free."
    )


def _savepoint(observation: Observation, operation: Operation) -> Decision:
    if operation.savepoint is not None:
        return Finish(Outcome.DONE, "The savepoint is taken.")
    if observation.open_run is None:
        return Finish(Outcome.FAILED, "The job is not running, so there is nothing to take a savepoint of.")
    return _advance_savepoint(observation, operation, observation.open_run, stop=False)


def _desired_running() -> dict[str, object]:
    return {"desired": Desired.RUNNING.value}


def _keep_desired_state(observation: Observation) -> Decision:
    """Return the next step towards the job's desired state: exactly one run, or none."""
    if observation.job.desired is Desired.STOPPED:
        return _end_run(observation) or Wait(State.STOPPED, State.STOPPED.sentence)
    run = observation.open_run
    return _start_after_backoff(observation) if run is None else _follow_run(observation, run)


def _start_after_backoff(observation: Observation) -> Decision:
    failures = _failures_in_a_row(observation)
    if len(failures) >= MAX_FAILURES:
        return Wait(
            State.FAILED,
            f"The job failed {len(failures)} times in a row and is not restarted: {reason(failures[0].cause)}"
            f" Fix the cause, then start it again: ./barmill job start {observation.job.name}",
        )
    if failures:
        delay_ms = backoff(len(failures), _FIRST_DELAY_MS, _MAX_DELAY_MS)
        ended_ms = failures[0].ended_ms or 0
        if not _has_passed(delay_ms - 1, ended_ms, observation.at_ms):
            remaining_s = (ended_ms + delay_ms - observation.at_ms) / 1_000
            return Wait(
                State.WAITING, f"The job failed and restarts in {remaining_s:.0f} s: {reason(failures[0].cause)}"
            )
    return _submit(observation)


def _failures_in_a_row(observation: Observation) -> list[JobRun]:
    """Return the newest runs that failed early in a row, newest first."""
    failures = []
    for run in observation.runs:
        if run.end == State.LOST or run.number <= observation.job.failures_after_run:
            continue
        if not _counts_as_failure(run):
            break
        failures.append(run)
    return failures


def _follow_run(observation: Observation, run: JobRun) -> Wait | Close:
    """Return the state of the newest run, or that it has ended."""
    if observation.state is not None and observation.state.is_terminal:
        return Close(run.id, State(observation.state.value), observation.state.sentence)
    if observation.state is not None:
        return Wait(State(observation.state.value), observation.state.sentence)
    if run.incarnation != observation.incarnation:
        return Close(run.id, State.LOST, State.LOST.sentence)
    if _has_passed(SUBMIT_GRACE_MS, run.created_ms, observation.at_ms):
        return Close(run.id, State.LOST, "The job was submitted, but did not appear on the cluster.")
    return Wait(State.SUBMITTING, "The job was submitted; the cluster has not responded yet.")


def _end_run(observation: Observation) -> Decision | None:
    """Return the next step to end the run immediately, without a savepoint; None if no run is left."""
    run = observation.open_run
    if run is None:
        return None
    step = _follow_run(observation, run)
    if isinstance(step, Close) or observation.state in (None, JobState.CANCELLING):
        return step
    return Cancel(run.id, JobState.CANCELLING.sentence)


def _submit(observation: Observation, restore: str | None = None) -> Decision:
    """Return the step that starts a run from `restore`, or from the newest usable restore point."""
    if observation.taskmanagers == 0:
        return Wait(State.WAITING, "The job waits for a TaskManager.")
    point = restore or _usable_restore_point(observation)
    origin = "from the beginning of the tick log"
    if point is not None:
        origin = "from a savepoint" if "/savepoint-" in point else "from a checkpoint"
    return Submit(point, f"The job is being started {origin}.")


def _usable_restore_point(observation: Observation) -> str | None:
    """Return the newest usable restore point: not excluded by a stateless start, and runs from it did not keep failing.

    None if there is none.
    """
    failed = [run.restored_from for run in observation.runs if _counts_as_failure(run)]
    excluded_to_run = observation.job.fresh_after_run
    allowed = (point.uri for point in observation.restore_points if point.run > excluded_to_run or not excluded_to_run)
    return next((uri for uri in allowed if failed.count(uri) < _MAX_RESTORE_FAILURES), None)


def _has_passed(length_ms: int, since_ms: int, at_ms: int) -> bool:
    """Return whether more than this time has passed, or the clock was set back since the start."""
    return not 0 <= at_ms - since_ms <= length_ms


def _counts_as_failure(run: JobRun) -> bool:
    """Return whether a run failed early, not because of the cluster."""
    if run.ended_ms is None or run.end not in (State.FAILED, State.REFUSED, State.FINISHED):
        return False
    is_cluster_failure = any(text in reason(run.cause) for text in _CLUSTER_CAUSES)
    return not _has_passed(EARLY_FAILURE_MS - 1, run.created_ms, run.ended_ms) and not is_cluster_failure
