"""The values and errors of the Flink REST client, and one-line causes from stack traces.

FlinkError
├── ClusterUnreachableError    the JobManager does not respond
├── FlinkResponseError         the JobManager responds with an error
│   └── NoSuchFlinkJobError    the JobManager does not know this job
├── SubmitFailedError          the program did not become a job; its output is in `traceback`
└── SubmitUnknownError         a submission got no response: the job may or may not start, so check before other actions
"""

import io
import zipfile
from dataclasses import dataclass
from enum import Enum


class FlinkError(RuntimeError):
    """A request to the cluster failed."""


class ClusterUnreachableError(FlinkError):
    """The JobManager does not respond; it usually recovers within seconds."""


class FlinkResponseError(FlinkError):
    """The JobManager responded with an error."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class NoSuchFlinkJobError(FlinkResponseError):
    """The JobManager does not know the job: it belongs to an earlier JobManager, or never started."""


class SubmitFailedError(FlinkError):
    """The program failed before it became a job; submitting the same program again fails again."""

    def __init__(self, message: str, traceback: str = "") -> None:
        super().__init__(message)
        self.traceback = traceback


class SubmitUnknownError(FlinkError):
    """The response to a submission was lost: the job may still start under its id."""


class JobState(Enum):
    """Flink's job states, and UNKNOWN for a state that could not be determined."""

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
        """Return the state with this name, or UNKNOWN for any other name."""
        try:
            return cls(text)
        except ValueError:
            return cls.UNKNOWN

    @property
    def is_terminal(self) -> bool:
        """Return whether the job will never run again under this id."""
        return self in (JobState.FAILED, JobState.CANCELED, JobState.FINISHED)

    @property
    def sentence(self) -> str:
        """Return the meaning of the state as a sentence for users."""
        return _SENTENCES[self]


_SENTENCES = {
    JobState.INITIALIZING: "The job is being prepared.",
    JobState.CREATED: "The job waits for free task slots.",
    JobState.RUNNING: "The job is running.",
    JobState.FAILING: "A task of the job failed; the other tasks are being stopped.",
    JobState.FAILED: "The job failed and will not restart automatically.",
    JobState.CANCELLING: "The job is being cancelled.",
    JobState.CANCELED: "The job was cancelled.",
    JobState.FINISHED: "The job has finished.",
    JobState.RESTARTING: "The job is restarting from its last checkpoint.",
    JobState.SUSPENDED: "The job is suspended: its JobManager stopped.",
    JobState.RECONCILING: "The job is being taken over by a new JobManager.",
    JobState.UNKNOWN: "The state of the job could not be determined.",
}


@dataclass(frozen=True)
class ClusterOverview:
    """The TaskManagers and slots of the cluster."""

    taskmanagers: int
    slots_total: int
    slots_available: int


@dataclass(frozen=True)
class Job:
    """One job in the JobManager's list."""

    id: str
    name: str
    state: JobState
    start_ms: int
    end_ms: int | None


class SavepointState(Enum):
    """The progress of a savepoint."""

    IN_PROGRESS = "IN_PROGRESS"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    UNKNOWN = "UNKNOWN"  # this JobManager does not know it


@dataclass(frozen=True)
class SavepointStatus:
    """The result of a requested savepoint: its path, or the cause of its failure."""

    state: SavepointState
    path: str | None = None
    cause: str = ""


@dataclass(frozen=True)
class Vertex:
    """One part of a running job: its current, its requested and its maximum number of subtasks."""

    id: str
    name: str
    parallelism: int
    desired: int
    max_parallelism: int

    @property
    def can_scale(self) -> bool:
        """Return whether it can have more than one subtask."""
        return self.max_parallelism > 1


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint or savepoint of a job: its location, duration and size."""

    id: int
    path: str
    at_ms: int
    duration_ms: int
    size_bytes: int


@dataclass(frozen=True)
class Checkpoints:
    """Checkpoint counts of a job, and its latest completed checkpoint."""

    completed: int
    failed: int
    in_progress: int
    restored: int
    latest: Checkpoint | None


_END_OF_TRACE = "End of exception on server side>"


@dataclass(frozen=True)
class JobFailure:
    """A failure in a job: its time, its task (if known), and its stack trace, redacted."""

    at_ms: int
    task: str
    trace: str

    @property
    def cause(self) -> str:
        """Return the line of the trace that states the cause: the last line that is not a code location."""
        lines = [line for line in self.trace.splitlines() if line and not line[0].isspace()]
        return lines[-1].removeprefix("Caused by: ") if lines else ""


def cause_of(traceback: str) -> str:
    """Return the line that states the cause in a traceback of Java, Python or one nested in the other."""
    lines = [line for line in traceback.splitlines() if line and not line[0].isspace() and line != _END_OF_TRACE]
    deepest = [line.removeprefix("Caused by: ") for line in lines if line.startswith("Caused by: ")]
    return (deepest or lines or [""])[-1]


def reason(trace: str | None) -> str:
    """Return the cause of a failure as a sentence."""
    cause = cause_of(trace or "").strip().rstrip(".")
    return f"{cause}." if cause else "The cause is unknown."


def empty_jar() -> bytes:
    """Return a valid jar without classes."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as jar:
        jar.writestr("META-INF/MANIFEST.MF", "Manifest-Version: 1.0\n\n")
    return content.getvalue()
