"""What to do about a job, given what was seen: pure, so that every case can be read and tested here.

One step at a time, and each step may be repeated. An open operation (see operation_steps.py) comes before the steady
work of keeping the job as it should be.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from control.flink.model import JobState, SavepointStatus, Vertex
from control.flink.retained import RestorePoint
from control.flink.traces import reason
from control.jobs.ledger import Job, JobRun
from control.jobs.operations import Operation, Outcome, Phase
from control.jobs.states import Desired, State

# The JobManager may still be working on a submit whose answer got lost for about this long.
SUBMIT_GRACE_MS = 90_000
# A run that ends sooner ended early.
EARLY_MS = 150_000
MAX_FAILURES = 5
_FIRST_DELAY_MS = 2_000
_LONGEST_DELAY_MS = 60_000
# A restore point from which this many runs have failed early is passed over.
_FAILURES_OF_A_RESTORE = 2
# The job is not to blame for these, so they do not count towards giving up.
_CLUSTER_CAUSES = (
    "TaskManager",
    "TaskExecutor",
    "NoResourceAvailable",
    "no longer reachable",
    "Connection unexpectedly",
)


@dataclass(frozen=True)
class Observation:
    """What was seen of one job at one moment.

    incarnation: which JobManager answered, or None if none did. state: the newest run's state there, None if that
    JobManager does not know the run. active: runs of this job there that have not ended, the newest run included.
    runs: what we know ourselves, the newest first. restore_points: what can be gone on from, the newest first.
    savepoint: what became of the open operation's savepoint. vertices: the parts of the newest run, where the open
    operation needs to know them. checkpoints, restores: of the newest run, completed and gone back to.
    """

    at_ms: int
    job: Job
    incarnation: str | None
    taskmanagers: int
    state: JobState | None
    active: Sequence[str]
    runs: Sequence[JobRun]
    restore_points: Sequence[RestorePoint]
    operation: Operation | None = None
    savepoint: SavepointStatus | None = None
    vertices: Sequence[Vertex] = ()
    checkpoints: int = 0
    restores: int = 0

    @property
    def newest_run_number(self) -> int:
        """Return the number of the newest run; 0 before the first."""
        return self.runs[0].number if self.runs else 0

    @property
    def open_run(self) -> JobRun | None:
        """Return the newest run unless it is known to be over."""
        return self.runs[0] if self.runs and self.runs[0].end is None else None


@dataclass(frozen=True)
class Wait:
    """Change nothing; state and sentence say how the job is."""

    state: State
    sentence: str


@dataclass(frozen=True)
class Submit:
    """Start a new run of the job's present version."""

    restore: str | None
    sentence: str


@dataclass(frozen=True)
class Cancel:
    """Cancel a run."""

    run_id: str
    sentence: str


@dataclass(frozen=True)
class Close:
    """Note that the newest run is over, then look again."""

    run_id: str
    end: State
    sentence: str

    @property
    def failed(self) -> bool:
        """Tell whether an exception may be why; what a run recovered from is not why it was stopped later."""
        return self.end not in (State.STOPPED, State.CANCELED, State.FINISHED)


@dataclass(frozen=True)
class TakeSavepoint:
    """Ask for the operation's savepoint; `stop` ends the run with it."""

    run_id: str
    stop: bool
    sentence: str


@dataclass(frozen=True)
class KeepSavepoint:
    """Register the operation's finished savepoint."""

    path: str


@dataclass(frozen=True)
class Rescale:
    """Let each part of the run have so many subtasks."""

    run_id: str
    parallelism: Mapping[str, int]
    sentence: str


@dataclass(frozen=True)
class Advance:
    """Go on to the operation's next phase; `job` is what changes about the job with it."""

    phase: Phase
    sentence: str
    job: Mapping[str, object] = field(default_factory=dict)
    run: str | None = None
    problem: str | None = None


@dataclass(frozen=True)
class Finish:
    """End the operation; `job` is what changes about the job with it, `forget` deletes the job."""

    outcome: Outcome
    sentence: str
    job: Mapping[str, object] = field(default_factory=dict)
    forget: bool = False


Decision = Wait | Submit | Cancel | Close | TakeSavepoint | KeepSavepoint | Rescale | Advance | Finish


def steady(seen: Observation) -> Decision:
    """Return the one next step towards what the job should be: exactly one run of it, or none."""
    if (unsettled := strays_or_silence(seen)) is not None:
        return unsettled
    if seen.job.desired is Desired.STOPPED:
        return towards_no_run(seen) or Wait(State.STOPPED, State.STOPPED.sentence)
    return about_open_run(seen) or _start_when_due(seen)


def strays_or_silence(seen: Observation) -> Decision | None:
    """Return what comes before anything else: a cluster that does not answer, or runs that nobody wants."""
    if seen.incarnation is None:
        return Wait(State.UNKNOWN, "The Flink cluster does not answer yet.")
    run = seen.open_run
    strays = [run_id for run_id in seen.active if run is None or run_id != run.id]
    if strays:
        return Cancel(strays[0], "An earlier run of the job is still there and is being cancelled.")
    return None


def about_open_run(seen: Observation) -> Decision | None:
    """Return how the newest run is, or that it is over; None when none is open."""
    run = seen.open_run
    if run is None:
        return None
    if seen.state is not None and seen.state.terminal:
        return Close(run.id, State(seen.state.value), seen.state.sentence)
    if seen.state is not None:
        return Wait(State(seen.state.value), seen.state.sentence)
    if run.incarnation != seen.incarnation:
        return Close(run.id, State.LOST, State.LOST.sentence)
    if is_over(SUBMIT_GRACE_MS, run.created_ms, seen.at_ms):
        return Close(run.id, State.LOST, "The job was submitted but never appeared.")
    return Wait(State.SUBMITTING, "The job was submitted; the cluster has not answered yet.")


def towards_no_run(seen: Observation) -> Decision | None:
    """Return the next step towards no run at all, at once and without a savepoint; None when there is none."""
    step = about_open_run(seen)
    if isinstance(step, Wait) and seen.state is not None:
        assert seen.open_run is not None
        if seen.state is JobState.CANCELLING:
            return step
        return Cancel(seen.open_run.id, JobState.CANCELLING.sentence)
    return step


def submit(seen: Observation, restore: str | None = None) -> Decision:
    """Start a run from `restore`, or from the newest point that has not proved unusable."""
    if seen.taskmanagers == 0:
        return Wait(State.WAITING, "The job waits for a TaskManager.")
    point = restore or usable_restore_point(seen)
    how = "from the beginning of the tick log"
    if point is not None:
        how = "from a savepoint" if "/savepoint-" in point else "from its newest checkpoint"
    return Submit(point, f"The job is being started {how}.")


def usable_restore_point(seen: Observation) -> str | None:
    """Return the newest point to go on from, passing over those from which runs kept failing."""
    failed = [run.restored_from for run in seen.runs if _counts_as_failure(run)]
    old = seen.job.fresh_after_run
    fresh = (one.uri for one in seen.restore_points if one.run > old or not old)
    return next((uri for uri in fresh if failed.count(uri) < _FAILURES_OF_A_RESTORE), None)


def failures_in_a_row(seen: Observation) -> list[JobRun]:
    """Return the newest runs that failed early one after the other, the newest first."""
    failures = []
    for run in seen.runs:
        if run.end == State.LOST or run.number <= seen.job.failures_after_run:
            continue
        if not _counts_as_failure(run):
            break
        failures.append(run)
    return failures


def is_over(length_ms: int, since_ms: int, at_ms: int) -> bool:
    """Tell whether more time than this has passed; a time that lies ahead is one of a clock that was set back since."""
    return not 0 <= at_ms - since_ms <= length_ms


def _start_when_due(seen: Observation) -> Decision:
    failures = failures_in_a_row(seen)
    if len(failures) >= MAX_FAILURES:
        return Wait(
            State.FAILED,
            f"It failed {len(failures)} times in a row and is not tried again: {reason(failures[0].cause)}"
            f" Mend what is wrong, then start it again: ./barmill job start {seen.job.name}",
        )
    if failures:
        delay_ms = min(_FIRST_DELAY_MS * 2 ** (len(failures) - 1), _LONGEST_DELAY_MS)
        ended_ms = failures[0].ended_ms or 0
        if not is_over(delay_ms - 1, ended_ms, seen.at_ms):
            left_s = (ended_ms + delay_ms - seen.at_ms) / 1_000
            return Wait(State.WAITING, f"It failed and starts again in {left_s:.0f} s: {reason(failures[0].cause)}")
    return submit(seen)


def _counts_as_failure(run: JobRun) -> bool:
    """Tell whether a run failed early by its own fault."""
    if run.ended_ms is None or run.end not in (State.FAILED, State.REFUSED, State.FINISHED):
        return False
    blameless = any(text in reason(run.cause) for text in _CLUSTER_CAUSES)
    return not is_over(EARLY_MS - 1, run.created_ms, run.ended_ms) and not blameless
