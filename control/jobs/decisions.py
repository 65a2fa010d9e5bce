"""The input and output of the planner: the observation of one job, and the decision on its next step."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from control.flink.model import JobState, SavepointStatus, Vertex
from control.flink.restore_points import RestorePoint
from control.jobs.model import Job, JobRun, Operation, Outcome, Phase, State


@dataclass(frozen=True)
class Observation:
    """The observed state of one job at one moment.

    incarnation: the JobManager that responded, or None. state: the newest run's state there, None if that JobManager
    does not know the run. active_runs: the ids of this job's runs on the cluster that have not ended. runs: the last
    recorded runs, newest first. restore_points: the points that a run can start from, newest first. savepoint: the
    progress of the open operation's savepoint. vertices: the parts of the newest run, if the open operation needs them.
    checkpoints, restores: numbers of completed checkpoints and of restores of the newest run, if the open operation is
    an upgrade.
    """

    at_ms: int
    job: Job
    incarnation: str | None
    taskmanagers: int
    state: JobState | None
    active_runs: Sequence[str]
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
        """Return the newest run unless it is known to have ended."""
        return self.runs[0] if self.runs and self.runs[0].end is None else None


@dataclass(frozen=True)
class Wait:
    """The decision to change nothing; state and sentence describe the job."""

    state: State
    sentence: str


@dataclass(frozen=True)
class Submit:
    """The decision to start a new run of the job's current version. restore: the URI to start from, or None."""

    restore: str | None
    sentence: str


@dataclass(frozen=True)
class Cancel:
    """The decision to cancel a run."""

    run_id: str
    sentence: str


@dataclass(frozen=True)
class Close:
    """The decision to record that the newest run has ended."""

    run_id: str
    end: State
    sentence: str

    @property
    def failed(self) -> bool:
        """Return whether an exception may be the cause; a failure that a run recovered from is not a cause."""
        return self.end not in (State.STOPPED, State.CANCELED, State.FINISHED)


@dataclass(frozen=True)
class TakeSavepoint:
    """The decision to request the operation's savepoint; `stop` also stops the run."""

    run_id: str
    stop: bool
    sentence: str


@dataclass(frozen=True)
class KeepSavepoint:
    """The decision to register the operation's completed savepoint."""

    path: str


@dataclass(frozen=True)
class Rescale:
    """The decision to set the number of subtasks of each part of the run."""

    run_id: str
    parallelism: Mapping[str, int]
    sentence: str


@dataclass(frozen=True)
class Advance:
    """The decision to move the operation to its next phase.

    job: the changes to the job. run: the run that the operation started. problem: why an upgrade is rolled back.
    """

    phase: Phase
    sentence: str
    job: Mapping[str, object] = field(default_factory=dict)
    run: str | None = None
    problem: str | None = None


@dataclass(frozen=True)
class Finish:
    """The decision to end the operation; `job` holds the changes to the job, `delete_job` deletes the job."""

    outcome: Outcome
    sentence: str
    job: Mapping[str, object] = field(default_factory=dict)
    delete_job: bool = False


Decision = Wait | Submit | Cancel | Close | TakeSavepoint | KeepSavepoint | Rescale | Advance | Finish
