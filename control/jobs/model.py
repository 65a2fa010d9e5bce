"""The jobs as data: their desired and observed states, runs, savepoints, and the operations that users request.

Operations take time. An operation's id is also its trace id in the audit log and the trigger id of its savepoint. The
operation is stored before its first step, and each step can be repeated safely, so a crash at any point does no harm.
"""

from dataclasses import dataclass
from enum import StrEnum

from barmill.model.job_spec import BarsJobSpec
from control.flink.model import JobState


class Desired(StrEnum):
    """The desired activity of a job."""

    RUNNING = "running"
    STOPPED = "stopped"


class State(StrEnum):
    """The state of a job: Flink's states, and those that only Barmill has."""

    STOPPED = "STOPPED"
    WAITING = "WAITING"
    SUBMITTING = "SUBMITTING"
    INITIALIZING = "INITIALIZING"
    CREATED = "CREATED"
    RUNNING = "RUNNING"
    RESTARTING = "RESTARTING"
    STOPPING = "STOPPING"
    FAILING = "FAILING"
    FAILED = "FAILED"
    CANCELLING = "CANCELLING"
    CANCELED = "CANCELED"
    FINISHED = "FINISHED"
    SUSPENDED = "SUSPENDED"
    RECONCILING = "RECONCILING"
    LOST = "LOST"
    REFUSED = "REFUSED"
    UNKNOWN = "UNKNOWN"

    @property
    def sentence(self) -> str:
        """Return the meaning of the state as a sentence for users."""
        return _BARMILL_SENTENCES[self] if self in _BARMILL_SENTENCES else JobState.of(self.value).sentence

    @property
    def is_terminal(self) -> bool:
        """Return whether a run in this state has ended for good."""
        return self in (State.LOST, State.REFUSED) or (
            self not in _BARMILL_SENTENCES and JobState.of(self.value).is_terminal
        )


_BARMILL_SENTENCES = {
    State.STOPPED: "The job is stopped.",
    State.WAITING: "The job is waiting for the resources that it needs to start.",
    State.SUBMITTING: "The job is being submitted.",
    State.STOPPING: "The job is being stopped.",
    State.LOST: "The JobManager was restarted and has lost the job.",
    State.REFUSED: "The job's program failed before the job was submitted.",
}


@dataclass(frozen=True)
class Job:
    """The desired state of a job.

    fresh_after_run: a start without a given restore point uses no checkpoint or savepoint of runs up to this number,
    unless it is 0.
    failures_after_run: failures of runs up to this number do not count towards giving up.
    """

    name: str
    version: int
    desired: Desired
    created_ms: int
    fresh_after_run: int = 0
    failures_after_run: int = 0


@dataclass(frozen=True)
class JobVersion:
    """One version of a job's spec, with its time of creation and its author."""

    version: int
    spec: BarsJobSpec
    created_ms: int
    actor: str


@dataclass(frozen=True)
class JobRun:
    """One run of a job.

    id: the Flink job id. incarnation: the JobManager it was submitted to; another JobManager does not know it. end: the
    terminal state that ended it; None while it may run. ended_by: the id of the operation that was open on its job at
    that time, '' without an operation; None if an earlier version recorded the run. number: later runs have larger
    numbers; 0 before it is stored.
    """

    id: str
    job: str
    created_ms: int
    incarnation: str
    restored_from: str | None = None
    version: int = 1
    ended_ms: int | None = None
    end: str | None = None
    cause: str | None = None
    ended_by: str | None = None
    number: int = 0


@dataclass(frozen=True)
class JobStatus:
    """The state of a job at the controller's last observation."""

    job: str
    state: str
    sentence: str
    run: str | None
    observed_ms: int


@dataclass(frozen=True)
class Savepoint:
    """A savepoint: the job's state at one moment, kept until a user disposes of it. path: its URI.

    run_number: the number of its run; 0 if the run is unknown.
    """

    id: str
    job: str
    run: str
    version: int
    path: str
    created_ms: int
    run_number: int = 0


class Kind(StrEnum):
    """The kinds of operations."""

    START = "start"
    STOP = "stop"
    RESTART = "restart"
    UPGRADE = "upgrade"
    RESCALE = "rescale"
    SAVEPOINT = "savepoint"
    DELETE = "delete"

    @property
    def past_participle(self) -> str:
        """Return the past participle for messages, such as "stopped"."""
        return _PAST_PARTICIPLES[self]


_PAST_PARTICIPLES = {
    Kind.START: "started",
    Kind.STOP: "stopped",
    Kind.RESTART: "restarted",
    Kind.UPGRADE: "upgraded",
    Kind.RESCALE: "rescaled",
    Kind.SAVEPOINT: "saved",
    Kind.DELETE: "deleted",
}


class StopMode(StrEnum):
    """The way a job is stopped, and the state from which it starts later."""

    SAVEPOINT = "savepoint"  # the job takes a savepoint and later starts from it
    LAST_STATE = "last-state"  # cancelled immediately; the job later starts from its last checkpoint
    STATELESS = "stateless"  # cancelled immediately; the job later starts at the beginning of the tick log


class Outcome(StrEnum):
    """The result of an operation."""

    DONE = "done"
    FAILED = "failed"
    SUPERSEDED = "superseded"


class Phase(StrEnum):
    """The progress of an operation with several parts."""

    FIRST = "first"
    STARTING = "starting"
    SETTLING = "settling"
    ROLLING_BACK = "going back"


@dataclass(frozen=True)
class OperationParameters:
    """The parameters of an operation; each kind uses some of them.

    restore: the URI of the savepoint or checkpoint to start from; None for the newest. savepoint_dir: a folder other
    than the default. from_version, to_version: the versions of an upgrade.
    """

    mode: StopMode = StopMode.SAVEPOINT
    restore: str | None = None
    parallelism: int | None = None
    savepoint_dir: str | None = None
    from_version: int | None = None
    to_version: int | None = None

    @property
    def non_defaults(self) -> dict[str, object]:
        """Return the values that differ from the defaults, by name."""
        return {name: value for name, value in vars(self).items() if value != getattr(OperationParameters, name)}


@dataclass(frozen=True)
class Operation:
    """One operation.

    run: the run it started, None before. savepoint: the URI of the savepoint it took. problem: why an upgrade is rolled
    back. outcome: None while it is open. sentence: its progress or its result.
    """

    id: str
    job: str
    kind: Kind
    parameters: OperationParameters
    actor: str
    requested_ms: int
    phase: Phase = Phase.FIRST
    run: str | None = None
    savepoint: str | None = None
    problem: str | None = None
    ended_ms: int | None = None
    outcome: Outcome | None = None
    sentence: str = "Waiting for the controller."

    @property
    def open(self) -> bool:
        """Return whether it is still in progress."""
        return self.outcome is None

    @property
    def takes_savepoint(self) -> bool:
        """Return whether it includes a savepoint."""
        kinds = (Kind.STOP, Kind.RESTART, Kind.UPGRADE, Kind.SAVEPOINT)
        return self.kind in kinds and self.parameters.mode is StopMode.SAVEPOINT
