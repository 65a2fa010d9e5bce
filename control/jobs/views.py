"""The jobs as people see them: what each should be, how it is, and what is being done about it."""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace

from bar.clock import now_ms
from bar.making import KnownJob
from bar.reader import BarReader
from bar.sqlite_file import StoreMissingError
from bar.store import ReadAgain
from control.home import Home
from control.jobs.ledger import Job, JobLedger, JobRun, JobStatus, JobVersion, Savepoint
from control.jobs.operations import Operation
from control.jobs.specs import NoSuchJobError
from control.jobs.states import Desired, State
from flink_jobs.spec import BarsJobSpec

# Older than this, the controller's word on a job says nothing about now.
_STALE_MS = 20_000
_REMEMBERED = 50


@dataclass(frozen=True)
class JobView:
    """One job: desired and state in one word each, and a sentence that says what they mean together."""

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
    def as_desired(self) -> bool:
        """Tell whether the job is as it should be."""
        return self.state == (State.RUNNING if self.desired == Desired.RUNNING else State.STOPPED)

    def as_json(self) -> dict[str, object]:
        """Return it as plain values."""
        operation = self.operation and {
            "id": self.operation.id,
            "kind": self.operation.kind.value,
            "sentence": self.operation.sentence,
            "asked_ms": self.operation.asked_ms,
        }
        return {**vars(self), "operation": operation}


@dataclass(frozen=True)
class JobDetail:
    """One job with its present spec and what is on record about it, everything the newest first."""

    view: JobView
    spec: BarsJobSpec
    versions: Sequence[JobVersion]
    runs: Sequence[JobRun]
    operations: Sequence[Operation]
    savepoints: Sequence[Savepoint]


def job_views(home: Home) -> Sequence[JobView]:
    """Return all jobs by name; none where nothing was ever started."""
    try:
        with JobLedger.read_only(home) as ledger:
            statuses = {status.job: status for status in ledger.statuses()}
            return [view(ledger, job, statuses.get(job.name), now_ms()) for job in ledger.jobs()]
    except (StoreMissingError, sqlite3.OperationalError):  # nothing has made it, or not all of it, yet
        return ()


def known_jobs(home: Home) -> Sequence[KnownJob]:
    """Return all jobs, also those that were deleted, and the frames that each makes."""
    try:
        with JobLedger.read_only(home) as ledger:
            specs = {job.name: (ledger.spec(job.name, job.version), job.desired) for job in ledger.jobs()}
            gone = ledger.deleted() - specs.keys()
    except (StoreMissingError, sqlite3.OperationalError):  # nothing has made it, or not all of it, yet
        return ()
    there = (
        KnownJob(name, frozenset(spec.frame_list), desired is Desired.RUNNING)
        for name, (spec, desired) in specs.items()
    )
    return [*there, *(KnownJob(name, frozenset(), wanted=False) for name in gone)]


def job_detail(home: Home, name: str) -> JobDetail | None:
    """Return a job with its last versions, runs and operations, and all its savepoints; None if there is none."""
    try:
        with JobLedger.read_only(home) as ledger:
            job = ledger.job(name)
            status = next((one for one in ledger.statuses() if one.job == name), None)
            return JobDetail(
                view=view(ledger, job, status, now_ms()),
                spec=ledger.spec(name, job.version),
                versions=ledger.versions(name, _REMEMBERED),
                runs=ledger.runs(name, _REMEMBERED),
                operations=ledger.operations(name, _REMEMBERED),
                savepoints=ledger.savepoints(name),
            )
    except (NoSuchJobError, StoreMissingError, sqlite3.OperationalError):
        return None


def times_read_again(home: Home, name: str, count: int) -> Sequence[ReadAgain]:
    """Return the last times that a job could not go on from its state and read the log again, the newest first."""
    try:
        with closing(BarReader.open(home.bars_db)) as reader:
            return reader.read_again(name, count)
    except (StoreMissingError, sqlite3.OperationalError):  # no job has written with this version yet
        return ()


def view(ledger: JobLedger, job: Job, status: JobStatus | None, at_ms: int) -> JobView:
    """Put together what is known of a job."""
    spec = ledger.spec(job.name, job.version)
    seen = JobView(
        name=job.name,
        desired=job.desired.value,
        state=State.UNKNOWN.value,
        sentence="The controller has not looked at the job yet.",
        version=job.version,
        frames=spec.frames,
        parallelism=spec.parallelism,
        run=status.run if status else None,
        observed_ms=status.observed_ms if status else 0,
        operation=ledger.open_operation(job.name),
    )
    if status is None:
        return replace(seen, state=State.STOPPED.value) if job.desired is Desired.STOPPED else seen
    age_ms = at_ms - status.observed_ms
    if age_ms > _STALE_MS:
        said = f"The controller last looked {age_ms / 1_000:.0f} s ago; it said: {status.sentence}"
        return replace(seen, sentence=said)
    return replace(seen, state=status.state, sentence=status.sentence)
