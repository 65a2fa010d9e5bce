"""The jobs as users see them: desired and observed state, the operation in progress, and what depends on each job."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from barmill.model.frames import USUAL_FRAMES, Frame, parse_frames
from barmill.model.job_spec import BarsJobSpec
from barmill.platform.clock import now_ms
from barmill.platform.home import Home
from barmill.platform.sqlite_file import if_ready
from barmill.platform.texts import moment
from barmill.storage.bar_store import ReadAgain
from barmill.storage.coverage import KnownJob
from barmill.storage.reader import BarReader
from control.flink.model import reason
from control.jobs.model import Desired, Job, JobRun, JobStatus, JobVersion, Kind, Operation, Savepoint, State, StopMode
from control.jobs.repository import JobRepository
from control.jobs.specs import NoSuchJobError

_RUN_ENDING_KINDS = (Kind.STOP, Kind.RESTART, Kind.UPGRADE, Kind.DELETE)
# Runs reach these states only on request. A failure that such a run recovered from earlier is not the cause.
REQUESTED_ENDS = (State.STOPPED, State.CANCELED)


@dataclass(frozen=True)
class RunEnd:
    """The reason for the end of a run, as a sentence; trace: the stack trace of the exception that ended it, or ''."""

    sentence: str
    trace: str = ""


def explain_end(run: JobRun, operations: Sequence[Operation]) -> RunEnd | None:
    """Return why a run ended, given the operations on its job; None while it may still run."""
    if run.end is None:
        return None
    if run.end in REQUESTED_ENDS:
        return RunEnd(_request_sentence(run, operations))
    if run.cause:
        return RunEnd(reason(run.cause), run.cause)
    if run.end == State.LOST:
        return RunEnd(State.LOST.sentence)
    return RunEnd(f"It ended in the state {run.end.lower()}; the cause is unknown.")


def _request_sentence(run: JobRun, operations: Sequence[Operation]) -> str:
    candidates = (
        operation
        for operation in operations
        if operation.kind in _RUN_ENDING_KINDS and _was_open_at_the_end(operation, run)
    )
    # A cancel supersedes the operation in progress. Only old records have several open operations; the last one counts.
    ended_by = max(candidates, key=lambda operation: operation.requested_ms, default=None)
    if ended_by is None:
        return f"It was {'stopped' if run.end == State.STOPPED else 'cancelled'}; no operation was recorded."
    requester = f"by {ended_by.actor}, requested at {moment(ended_by.requested_ms)} UTC."
    if ended_by.kind is Kind.UPGRADE and ended_by.run == run.id:
        return f"The upgrade {requester.removesuffix('.')} was rolled back: {ended_by.problem or 'it failed.'}"
    cancelled = ended_by.kind is Kind.STOP and ended_by.parameters.mode is not StopMode.SAVEPOINT
    return f"{'Cancelled' if cancelled else ended_by.kind.past_participle.capitalize()} {requester}"


def _was_open_at_the_end(operation: Operation, run: JobRun) -> bool:
    if run.ended_by is not None:
        return operation.id == run.ended_by
    # Earlier versions recorded only times, which are misleading if the clock was set back.
    ended_ms = run.ended_ms or 0
    return operation.requested_ms <= ended_ms and (operation.ended_ms is None or ended_ms <= operation.ended_ms)


# An observation older than this says nothing about the current state.
_STALE_AFTER_MS = 20_000
_MAX_HISTORY = 50


@dataclass(frozen=True)
class JobView:
    """One job: its desired and its observed state, one word each, and a sentence that explains both.

    frames: comma-separated. run: the Flink id of its run at the last observation. observed_ms: 0 if never observed.
    """

    name: str
    desired: str
    state: str
    sentence: str
    version: int
    frames: str
    parallelism: int
    run: str | None
    observed_ms: int
    operation: Operation | None = None

    @property
    def is_as_desired(self) -> bool:
        """Return whether the job is in its desired state."""
        return self.state == (State.RUNNING if self.desired == Desired.RUNNING else State.STOPPED)

    def as_json(self) -> dict[str, object]:
        """Return the job as values for JSON."""
        operation = self.operation and {
            "id": self.operation.id,
            "kind": self.operation.kind.value,
            "sentence": self.operation.sentence,
            "asked_ms": self.operation.requested_ms,
        }
        return {**vars(self), "operation": operation}


@dataclass(frozen=True)
class JobDetail:
    """One job with its current spec and its history, newest first."""

    view: JobView
    spec: BarsJobSpec
    versions: Sequence[JobVersion]
    runs: Sequence[JobRun]
    operations: Sequence[Operation]
    savepoints: Sequence[Savepoint]


def job_views(home: Home) -> Sequence[JobView]:
    """Return all jobs by name; empty before the first start."""
    with if_ready(), JobRepository.read_only(home) as repository:
        statuses = {status.job: status for status in repository.statuses()}
        return [view(repository, job, statuses.get(job.name), now_ms()) for job in repository.jobs()]
    return ()


def known_jobs(home: Home) -> Sequence[KnownJob]:
    """Return all jobs with the frames that each makes; deleted jobs come last and make none."""
    with if_ready(), JobRepository.read_only(home) as repository:
        specs = {job.name: (repository.spec(job.name, job.version), job.desired) for job in repository.jobs()}
        deleted = repository.deleted() - specs.keys()
        existing = (
            KnownJob(name, frozenset(spec.frame_list), desired is Desired.RUNNING)
            for name, (spec, desired) in specs.items()
        )
        return [*existing, *(KnownJob(name, frozenset(), should_run=False) for name in deleted)]
    return ()


def job_detail(home: Home, name: str) -> JobDetail | None:
    """Return a job with its last versions, runs and operations, and all its savepoints; None if it does not exist."""
    with suppress(NoSuchJobError), if_ready(), JobRepository.read_only(home) as repository:
        job = repository.job(name)
        status = next((job_status for job_status in repository.statuses() if job_status.job == name), None)
        return JobDetail(
            view=view(repository, job, status, now_ms()),
            spec=repository.spec(name, job.version),
            versions=repository.versions(name, _MAX_HISTORY),
            runs=repository.runs(name, _MAX_HISTORY),
            operations=repository.operations(name, _MAX_HISTORY),
            savepoints=repository.savepoints(name),
        )
    return None


def last_rereads(home: Home, name: str, count: int) -> Sequence[ReadAgain]:
    """Return the last times that a job could not continue from its state and read the log again, newest first."""
    with if_ready(), BarReader.open(home.bars_db) as reader:
        return reader.last_rereads(name, count)
    return ()


def view(repository: JobRepository, job: Job, status: JobStatus | None, at_ms: int) -> JobView:
    """Return a job's desired and observed state, and its operation in progress.

    Without a recent observation, the state is UNKNOWN; a job that was never observed and should be stopped is STOPPED.
    """
    spec = repository.spec(job.name, job.version)
    job_view = JobView(
        name=job.name,
        desired=job.desired.value,
        state=State.UNKNOWN.value,
        sentence="The controller has not checked the job yet.",
        version=job.version,
        frames=spec.frames,
        parallelism=spec.parallelism,
        run=status.run if status else None,
        observed_ms=status.observed_ms if status else 0,
        operation=repository.open_operation(job.name),
    )
    if status is None:
        return replace(job_view, state=State.STOPPED.value) if job.desired is Desired.STOPPED else job_view
    age_ms = at_ms - status.observed_ms
    if age_ms > _STALE_AFTER_MS:
        sentence = f"The controller last checked {age_ms / 1_000:.0f} s ago and reported: {status.sentence}"
        return replace(job_view, sentence=sentence)
    return replace(job_view, state=status.state, sentence=status.sentence)


def describe_stopping_frames(home: Home, name: str) -> str:
    """Return sentences about the frames that stop or are only derived after a job stops; '' if there are none."""
    return describe_dependence(job_views(home), name)


def describe_dependence(views: Sequence[JobView], name: str) -> str:
    """Return the same as `describe_stopping_frames` for a job among these views."""
    running_frames = {view.name: parse_frames(view.frames) for view in views if view.desired == Desired.RUNNING}
    own_frames = running_frames.pop(name, ())
    others = {frame for frames in running_frames.values() for frame in frames}
    exclusive = [frame for frame in own_frames if frame not in others]
    stopping = _not_derivable(exclusive, others)
    # Frames that pages derive from this job's bars stop, too.
    derived = _not_derivable(
        [usual_frame for usual_frame in USUAL_FRAMES if any(frame.divides(usual_frame) for frame in exclusive)], others
    )
    sentences = []
    if stopping:
        longer = [frame for frame in derived if frame not in stopping]
        derived_text = f", and so do {_frame_names(longer)}, which pages derive from them" if longer else ""
        sentences.append(
            f"Only the job {name} makes {_frame_names(stopping)}. If it stops, these frames stop{derived_text}."
        )
    if continued := [frame for frame in exclusive if frame not in stopping]:
        sentences.append(
            f"Without {name}, pages continue with shorter bars of other jobs for {_frame_names(continued)}, and"
            " ./barmill verify reports them as stopped."
        )
    return " ".join(sentences)


def _not_derivable(frames: Sequence[Frame], others: set[Frame]) -> list[Frame]:
    return [frame for frame in frames if not any(other.divides(frame) for other in others)]


def _frame_names(frames: Sequence[Frame]) -> str:
    return ", ".join(frame.text for frame in frames)
