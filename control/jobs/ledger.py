"""What is known of the jobs: reading for everybody, writing for the controller. People's own wishes: see book.py."""

import json
from collections.abc import Mapping
from dataclasses import astuple, dataclass, replace
from typing import Self

from bar.clock import now_ms
from bar.sqlite import Database
from control.actions import record_outcome
from control.audit import audit_migrations
from control.database import immediate, open_control_db, read_control_db
from control.home import Home
from control.jobs.operations import Kind, Operation, Outcome, Phase
from control.jobs.specs import NoSuchJobError, completed
from control.jobs.states import Desired
from control.jobs.tables import job_migrations
from control.people.accounts import account_migrations
from control.people.roles import CONTROLLER
from flink_jobs.spec import BarsJobSpec

_RUN_COLUMNS = "id, job, created_ms, incarnation, restored_from, version, ended_ms, end, cause"


@dataclass(frozen=True)
class Job:
    """What a job should be.

    fresh_after_run: checkpoints and savepoints of runs up to this number are not gone on from, unless it is 0.
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
    """One version of a job's spec: which, when it was made and by whom."""

    version: int
    spec: BarsJobSpec
    created_ms: int
    actor: str


@dataclass(frozen=True)
class JobRun:
    """One run of a job.

    id: the Flink job id. incarnation: the JobManager it was submitted to; another one does not know it.
    end: what ended it, a terminal state; None while it may run. number: later runs have larger ones; 0 before it is
    written down.
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
    number: int = 0


@dataclass(frozen=True)
class JobStatus:
    """How a job was when the controller last looked."""

    job: str
    state: str
    sentence: str
    run: str | None
    observed_ms: int


@dataclass(frozen=True)
class Savepoint:
    """A savepoint: the job's state at one moment, kept until somebody disposes of it."""

    id: str
    job: str
    run: str
    version: int
    path: str
    created_ms: int
    run_number: int = 0


class JobLedger:
    """The tables of the jobs' room (see tables.py)."""

    def __init__(self, home: Home, db: Database) -> None:
        self.home, self.db = home, db

    @classmethod
    def open(cls, home: Home) -> Self:
        """Open for writing, making the tables where there are none."""
        return cls(home, open_control_db(home, audit_migrations, account_migrations, job_migrations))

    @classmethod
    def read_only(cls, home: Home) -> Self:
        """Open for reading; raise StoreMissingError when there is no control database."""
        return cls(home, read_control_db(home))

    def close(self) -> None:
        """Give the file back."""
        self.db.conn.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def data_version(self) -> int:
        """Return a number that changes whenever another process, or another connection, has written something."""
        return int(self.db.conn.execute("PRAGMA data_version").fetchone()[0])

    def jobs(self) -> list[Job]:
        """Return all jobs by name."""
        query = "SELECT name, version, desired, created_ms, fresh_after_run, failures_after_run FROM jobs ORDER BY name"
        return [
            Job(name, version, Desired(desired), *times)
            for name, version, desired, *times in self.db.conn.execute(query)
        ]

    def deleted(self) -> frozenset[str]:
        """Return the names of jobs that were deleted, also where there is one of that name again."""
        query = "SELECT DISTINCT job FROM operations WHERE kind = ? AND outcome = ?"
        return frozenset(name for (name,) in self.db.conn.execute(query, (Kind.DELETE.value, Outcome.DONE.value)))

    def job(self, name: str) -> Job:
        """Return one job; raise NoSuchJobError."""
        found = next((job for job in self.jobs() if job.name == name), None)
        if found is None:
            known = ", ".join(job.name for job in self.jobs()) or "none yet"
            raise NoSuchJobError(f"There is no job {name}; there is {known}.")
        return found

    def spec(self, job: str, version: int) -> BarsJobSpec:
        """Return one version of a job's spec; raise NoSuchJobError."""
        query = "SELECT spec FROM job_versions WHERE job = ? AND version = ?"
        row = self.db.conn.execute(query, (job, version)).fetchone()
        if row is None:
            raise NoSuchJobError(f"The job {job} has no version {version}.")
        return completed(json.loads(row[0]), self.home)

    def versions(self, job: str, count: int) -> list[JobVersion]:
        """Return the last versions of a job, the newest first."""
        query = "SELECT version, spec, created_ms, actor FROM job_versions WHERE job = ? ORDER BY version DESC LIMIT ?"
        return [
            JobVersion(version, completed(json.loads(spec), self.home), created_ms, actor)
            for version, spec, created_ms, actor in self.db.conn.execute(query, (job, count))
        ]

    def newest_version(self, job: str) -> int:
        """Return the number of the newest version, which need not be the one that runs."""
        row = self.db.conn.execute("SELECT max(version) FROM job_versions WHERE job = ?", (job,)).fetchone()
        return int(row[0] or 0)

    def open_operation(self, job: str) -> Operation | None:
        """Return what is being carried out on a job."""
        rows = self.db.conn.execute("SELECT * FROM operations WHERE job = ? AND ended_ms IS NULL", (job,))
        return next(map(Operation.of_row, rows), None)

    def operation(self, operation_id: str) -> Operation | None:
        """Return one operation."""
        rows = self.db.conn.execute("SELECT * FROM operations WHERE id = ?", (operation_id,))
        return next(map(Operation.of_row, rows), None)

    def operations(self, job: str, count: int) -> list[Operation]:
        """Return the last operations on a job, the newest first."""
        query = "SELECT * FROM operations WHERE job = ? ORDER BY rowid DESC LIMIT ?"
        return [Operation.of_row(row) for row in self.db.conn.execute(query, (job, count))]

    def runs(self, job: str, count: int = 1) -> list[JobRun]:
        """Return the last runs of a job, the newest first."""
        query = f"SELECT {_RUN_COLUMNS}, rowid FROM job_runs WHERE job = ? ORDER BY rowid DESC LIMIT ?"
        return [JobRun(*row) for row in self.db.conn.execute(query, (job, count))]

    def newest_run_number(self, job: str) -> int:
        """Return the number of the last run of a job; 0 before the first."""
        return next((run.number for run in self.runs(job)), 0)

    def run(self, run_id: str) -> JobRun | None:
        """Return one run."""
        rows = self.db.conn.execute(f"SELECT {_RUN_COLUMNS}, rowid FROM job_runs WHERE id = ?", (run_id,))
        return next((JobRun(*row) for row in rows), None)

    def statuses(self) -> list[JobStatus]:
        """Return how each job is."""
        query = "SELECT job, state, sentence, run, observed_ms FROM job_status ORDER BY job"
        return [JobStatus(*row) for row in self.db.conn.execute(query)]

    def savepoints(self, job: str) -> list[Savepoint]:
        """Return the savepoints of a job that were not disposed of, the newest first."""
        query = (
            "SELECT id, job, run, version, path, created_ms,"
            " coalesce((SELECT job_runs.rowid FROM job_runs WHERE job_runs.id = savepoints.run), 0)"
            " FROM savepoints WHERE job = ? AND disposed_ms IS NULL ORDER BY rowid DESC"
        )
        return [Savepoint(*row) for row in self.db.conn.execute(query, (job,))]

    def savepoint(self, savepoint_id: str) -> Savepoint | None:
        """Return a savepoint that was not disposed of."""
        query = "SELECT job FROM savepoints WHERE id = ?"
        row = self.db.conn.execute(query, (savepoint_id,)).fetchone()
        return next((one for one in self.savepoints(row[0]) if one.id == savepoint_id), None) if row else None

    def add_job(self, job: Job) -> None:
        """Add a job that has a version."""
        row = (job.name, job.version, job.desired.value, job.created_ms, job.fresh_after_run, job.failures_after_run)
        with immediate(self.db):
            columns = "name, version, desired, created_ms, fresh_after_run, failures_after_run"
            self.db.conn.execute(f"INSERT INTO jobs ({columns}) VALUES (?, ?, ?, ?, ?, ?)", row)

    def add_version(self, job: str, spec: str, actor: str) -> int:
        """Add a version of a job's spec and return its number."""
        with immediate(self.db):
            version = self.newest_version(job) + 1
            self.db.conn.execute(
                "INSERT INTO job_versions VALUES (?, ?, ?, ?, ?)", (job, version, spec, now_ms(), actor)
            )
        return version

    def add_operation(self, operation: Operation) -> None:
        """Add an operation; there is none open for its job."""
        with immediate(self.db):
            marks = ", ".join("?" * len(operation.row))
            self.db.conn.execute(f"INSERT INTO operations VALUES ({marks})", operation.row)

    def mark_disposed(self, savepoint_id: str) -> None:
        """Note that a savepoint's files are gone."""
        self._update("savepoints", "id", savepoint_id, {"disposed_ms": now_ms()})

    def start_run(self, run: JobRun, operation: Operation | None) -> None:
        """Note a run that is about to be submitted; an operation on its way forward calls it its own."""
        with immediate(self.db):
            marks = ", ".join("?" * len(_RUN_COLUMNS.split(", ")))
            self.db.conn.execute(f"INSERT INTO job_runs ({_RUN_COLUMNS}) VALUES ({marks})", astuple(run)[:-1])
            if operation is not None and operation.phase is not Phase.GOING_BACK:
                self.advance(operation, run=run.id)

    def end_run(self, run_id: str, end: str, cause: str | None = None) -> None:
        """Note that a run is over; the first such note stays."""
        with immediate(self.db):
            query = "UPDATE job_runs SET ended_ms = ?, end = ?, cause = ? WHERE id = ? AND end IS NULL"
            self.db.conn.execute(query, (now_ms(), end, cause, run_id))

    def set_status(self, job: str, state: str, sentence: str, run: str | None) -> None:
        """Replace what is known of how a job is."""
        with immediate(self.db):
            query = "INSERT OR REPLACE INTO job_status (job, state, sentence, run, observed_ms) VALUES (?, ?, ?, ?, ?)"
            self.db.conn.execute(query, (job, state, sentence, run, now_ms()))

    def change_job(self, name: str, **changes: object) -> None:
        """Change what a job should be, in the caller's transaction or one of its own."""
        self._update("jobs", "name", name, changes)

    def advance(self, operation: Operation, **changes: object) -> Operation:
        """Note how far an operation is, unless it was superseded meanwhile."""
        changed = replace(operation, **changes)  # type: ignore[arg-type]
        query = (
            "UPDATE operations SET phase = ?, run = ?, savepoint = ?, problem = ?, sentence = ?"
            " WHERE id = ? AND ended_ms IS NULL"
        )
        values = (changed.phase.value, changed.run, changed.savepoint, changed.problem, changed.sentence, changed.id)
        with immediate(self.db):
            self.db.conn.execute(query, values)
        return changed

    def finish(
        self,
        operation: Operation,
        outcome: Outcome,
        sentence: str,
        changes: Mapping[str, object],
        *,
        forget: bool = False,
    ) -> None:
        """End an operation, with what it changes about the job and its record in the audit trail, all at once."""
        with immediate(self.db):
            query = "UPDATE operations SET ended_ms = ?, outcome = ?, sentence = ? WHERE id = ? AND ended_ms IS NULL"
            values = (now_ms(), outcome.value, sentence, operation.id)
            if not self.db.conn.execute(query, values).rowcount:
                return
            if changes:
                self.change_job(operation.job, **changes)
            if forget:
                self._forget_job(operation.job)
            name, failed = f"job.{operation.kind.value}", outcome is Outcome.FAILED
            record_outcome(self.db, CONTROLLER, name, operation.job, operation.id, failed=failed, result=sentence)

    def keep_savepoint(self, operation: Operation, run: JobRun, path: str) -> None:
        """Register the savepoint an operation has taken; again is no harm."""
        with immediate(self.db):
            query = "INSERT OR IGNORE INTO savepoints VALUES (?, ?, ?, ?, ?, ?, NULL)"
            self.db.conn.execute(query, (operation.id, operation.job, run.id, run.version, path, now_ms()))
            self.advance(operation, savepoint=path)

    def _forget_job(self, name: str) -> None:
        """Delete what a job should be; its runs, operations and savepoints stay as history."""
        for table, column in (("jobs", "name"), ("job_versions", "job"), ("job_status", "job")):
            self.db.conn.execute(f"DELETE FROM {table} WHERE {column} = ?", (name,))

    def _update(self, table: str, key: str, value: str, changes: Mapping[str, object]) -> None:
        columns = ", ".join(f"{name} = ?" for name in changes)
        with immediate(self.db):
            self.db.conn.execute(f"UPDATE {table} SET {columns} WHERE {key} = ?", (*changes.values(), value))
