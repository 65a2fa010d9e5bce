"""The states a job can be in, as people see them, each with one sentence."""

from enum import StrEnum

from control.flink.model import JobState


class Desired(StrEnum):
    """What a job should be doing."""

    RUNNING = "running"
    STOPPED = "stopped"


class State(StrEnum):
    """How a job is: Flink's own states, and ours for what Flink knows nothing of."""

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
        """Say what the state means to somebody who waits for bars."""
        return _OURS[self] if self in _OURS else JobState.of(self.value).sentence

    @property
    def terminal(self) -> bool:
        """Tell whether a run in this state has ended for good."""
        return self in (State.LOST, State.REFUSED) or (self not in _OURS and JobState.of(self.value).terminal)


_OURS = {
    State.STOPPED: "The job is stopped.",
    State.WAITING: "The job waits for what it needs to start.",
    State.SUBMITTING: "The job is being submitted.",
    State.STOPPING: "The job is being stopped.",
    State.LOST: "The JobManager was restarted and has lost the job.",
    State.REFUSED: "The job's program failed before it became a job.",
}
