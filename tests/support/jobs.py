"""A job and its observation, for tests of the planner; healthy by default."""

from dataclasses import replace

from control.flink.model import JobState
from control.flink.restore_points import RestorePoint
from control.jobs.decisions import Observation
from control.jobs.model import Desired, Job, JobRun, Kind, Operation, OperationParameters, State
from control.jobs.planner import EARLY_FAILURE_MS

NOW_MS = 10_000_000
JOB = Job("bars", 1, Desired.RUNNING, created_ms=1)
RUN = JobRun("a" * 32, "bars", created_ms=NOW_MS - 60_000, incarnation="jm-1", number=1)
CHECKPOINT = "file:///home/flink/checkpoints/aaa/chk-7"
OLDER = "file:///home/flink/checkpoints/aaa/chk-6"
POINTS = (RestorePoint(1, NOW_MS - 5_000, CHECKPOINT), RestorePoint(1, NOW_MS - 15_000, OLDER))


def ended(
    end: State, *, lived_ms: int = EARLY_FAILURE_MS + 1, ago_ms: int = 0, cause: str = "", **changes: object
) -> JobRun:
    """Return a run that is over."""
    over = replace(
        RUN, created_ms=NOW_MS - ago_ms - lived_ms, ended_ms=NOW_MS - ago_ms, end=end.value, cause=cause or None
    )
    return replace(over, **changes)  # type: ignore[arg-type]


def seen(
    *runs: JobRun, state: JobState | None = None, operation: Operation | None = None, **changes: object
) -> Observation:
    """Return what was seen of the job, its newest run first."""
    active = [runs[0].id] if runs and state and not state.is_terminal else []
    usual = Observation(NOW_MS, JOB, "jm-1", 1, state, active, runs, POINTS, operation)
    return replace(usual, **changes)  # type: ignore[arg-type]


def asked(kind: Kind, *, ago_ms: int = 1_000, **wanted: object) -> Operation:
    """Return an operation that was asked for a moment ago."""
    return Operation("f" * 32, "bars", kind, OperationParameters(**wanted), "ada", NOW_MS - ago_ms)  # type: ignore[arg-type]


def running(operation: Operation, **changes: object) -> Observation:
    """Return what was seen of a running job with an open operation."""
    return seen(RUN, state=JobState.RUNNING, operation=operation, **changes)
