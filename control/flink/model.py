"""What the Flink REST client answers with, and how it fails.

FlinkError
├── ClusterUnreachable    no answer from the JobManager
├── FlinkRefused          an answer that says no
│   └── NoSuchJob         the JobManager does not know this job
├── SubmitFailed          the program did not become a job; its own words are in `traceback`
└── SubmitUnknown         no answer to a submit: the job may or may not start, look again before anything else
"""

from dataclasses import dataclass
from enum import Enum


class FlinkError(RuntimeError):
    """Something between us and the cluster went wrong."""


class ClusterUnreachable(FlinkError):
    """The JobManager does not answer; it usually comes back by itself within seconds."""


class FlinkRefused(FlinkError):
    """The JobManager answered with an error."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class NoSuchJob(FlinkRefused):
    """The JobManager does not know the job: it is from an earlier JobManager, or never started."""


class SubmitFailed(FlinkError):
    """The program failed before it became a job; submitting the same again fails again."""

    def __init__(self, message: str, traceback: str = "") -> None:
        super().__init__(message)
        self.traceback = traceback


class SubmitUnknown(FlinkError):
    """The answer to a submit got lost: the job may still start under its id."""


class JobState(Enum):
    """Flink's own job states, and one for what we could not find out."""

    INITIALIZING = "INITIALIZING"
    CREATED = "CREATED"
    RUNNING = "RUNNING"
    FAILING = "FAILING"
    FAILED = "FAILED"
    CANCELLING = "CANCELLING"
    CANCELED = "CANCELED"
    FINISHED = "FINISHED"
    RESTARTING = "RESTARTING"
    SUSPENDED = "SUSPENDED"
    RECONCILING = "RECONCILING"
    UNKNOWN = "UNKNOWN"

    @classmethod
    def of(cls, text: str) -> "JobState":
        """Return the state of that name; a name we do not know is UNKNOWN."""
        try:
            return cls(text)
        except ValueError:
            return cls.UNKNOWN

    @property
    def terminal(self) -> bool:
        """Tell whether the job will never run again under this id."""
        return self in (JobState.FAILED, JobState.CANCELED, JobState.FINISHED)

    @property
    def sentence(self) -> str:
        """Say what the state means to somebody who waits for bars."""
        return _SENTENCES[self]


_SENTENCES = {
    JobState.INITIALIZING: "The job is being prepared.",
    JobState.CREATED: "The job waits for free task slots.",
    JobState.RUNNING: "The job is running.",
    JobState.FAILING: "A part of the job failed; the rest is being stopped.",
    JobState.FAILED: "The job failed and will not restart by itself.",
    JobState.CANCELLING: "The job is being cancelled.",
    JobState.CANCELED: "The job was cancelled.",
    JobState.FINISHED: "The job is done.",
    JobState.RESTARTING: "The job is restarting from its last checkpoint.",
    JobState.SUSPENDED: "The job is suspended: its JobManager stopped.",
    JobState.RECONCILING: "The job is being taken over by a new JobManager.",
    JobState.UNKNOWN: "The state of the job could not be found out.",
}


@dataclass(frozen=True)
class ClusterOverview:
    """What the cluster has."""

    taskmanagers: int
    slots_total: int
    slots_available: int


@dataclass(frozen=True)
class Job:
    """One job as the JobManager lists it."""

    id: str
    name: str
    state: JobState
    start_ms: int
    end_ms: int | None


class SavepointState(Enum):
    """How far a savepoint is."""

    IN_PROGRESS = "IN_PROGRESS"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    UNKNOWN = "UNKNOWN"  # this JobManager has never heard of it


@dataclass(frozen=True)
class SavepointStatus:
    """What became of a savepoint that was asked for: its path, or the cause of its failure."""

    state: SavepointState
    path: str | None = None
    cause: str = ""


@dataclass(frozen=True)
class Vertex:
    """One part of a running job: how many subtasks it has, may have, and could ever have."""

    id: str
    name: str
    parallelism: int
    wanted: int
    max_parallelism: int

    @property
    def scales(self) -> bool:
        """Tell whether it can have more than one subtask."""
        return self.max_parallelism > 1


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint or savepoint of a job: where it is and what it cost."""

    id: int
    path: str
    at_ms: int
    duration_ms: int
    size_bytes: int


@dataclass(frozen=True)
class Checkpoints:
    """How the checkpoints of a job are going."""

    completed: int
    failed: int
    in_progress: int
    restored: int
    latest: Checkpoint | None
