"""The tables of the jobs in the control database. The controller and service.py write them.

jobs          one row per job: its desired state and version, and the runs after which states and failures count
job_versions  every version of each job's spec
job_runs      one row per run, ordered by rowid because clocks can be set back; each submit gets a new Flink id
job_status    one row per job: its state at the controller's last observation
operations    user requests that take time: stop, restart, upgrade, ...; at most one open per job
savepoints    every savepoint, its location, and when it was disposed of
"""

import json
from collections.abc import Mapping
from dataclasses import astuple, replace
from typing import Any, Self

from barmill.audit.accounts import account_migrations
from barmill.audit.actions import record_outcome
from barmill.audit.roles import CONTROLLER
from barmill.audit.trail import audit_migrations
from barmill.model.job_spec import BarsJobSpec
from barmill.platform.clock import now_ms
from barmill.platform.home import Home
from barmill.platform.sqlite_file import Database, Migrations, Store, immediate, open_control_db, read_control_db
from control.jobs.model import (
    Desired,
    Job,
    JobRun,
    JobStatus,
    JobVersion,
    Kind,
    Operation,
    OperationParameters,
    Outcome,
    Phase,
    Savepoint,
    StopMode,
)
from control.jobs.specs import NoSuchJobError, complete_spec

_RUN_COLUMNS = "id, job, created_ms, incarnation, restored_from, version, ended_ms, end, cause, ended_by"

job_migrations = Migrations("job_runs")


@job_migrations()
def create(db: Database) -> None:
    """Create the first version of the tables."""
    db.execute(
        "CREATE TABLE job_runs (id TEXT PRIMARY KEY, job TEXT NOT NULL, created_ms INTEGER NOT NULL,"
        " incarnation TEXT NOT NULL, restored_from TEXT, ended_ms INTEGER, end TEXT, cause TEXT)"
    )
    db.execute(
        "CREATE TABLE job_status (job TEXT PRIMARY KEY, state TEXT NOT NULL, sentence TEXT NOT NULL,"
        " run TEXT, observed_ms INTEGER NOT NULL)"
    )


@job_migrations()
def keep_intent(db: Database) -> None:
    """Add the desired states of jobs, separate from their observed states."""
    db.execute(
        "CREATE TABLE jobs (name TEXT PRIMARY KEY, version INTEGER NOT NULL, desired TEXT NOT NULL,"
        " created_ms INTEGER NOT NULL, fresh_after_ms INTEGER NOT NULL, failures_after_ms INTEGER NOT NULL)"
    )
    db.execute(
        "CREATE TABLE job_versions (job TEXT, version INTEGER, spec TEXT NOT NULL, created_ms INTEGER NOT NULL,"
        " actor TEXT NOT NULL, PRIMARY KEY (job, version))"
    )
    db.execute(
        "CREATE TABLE operations (id TEXT PRIMARY KEY, job TEXT NOT NULL, kind TEXT NOT NULL, wanted TEXT NOT NULL,"
        " actor TEXT NOT NULL, asked_ms INTEGER NOT NULL, phase TEXT NOT NULL, run TEXT, savepoint TEXT,"
        " problem TEXT, ended_ms INTEGER, outcome TEXT, sentence TEXT NOT NULL)"
    )
    # A job has at most one open operation, even if two processes add one at the same time.
    db.execute("CREATE UNIQUE INDEX one_open_operation ON operations (job) WHERE ended_ms IS NULL")
    db.execute(
        "CREATE TABLE savepoints (id TEXT PRIMARY KEY, job TEXT NOT NULL, run TEXT NOT NULL, version INTEGER NOT NULL,"
        " path TEXT NOT NULL, created_ms INTEGER NOT NULL, disposed_ms INTEGER)"
    )
    db.execute("ALTER TABLE job_runs ADD COLUMN version INTEGER NOT NULL DEFAULT 1")
    db.execute("CREATE INDEX job_runs_by_job ON job_runs (job, created_ms)")


@job_migrations()
def order_by_number(db: Database) -> None:
    """Replace times with run numbers as the limit for old states and failures, because a clock may be set back."""
    for prefix in ("fresh", "failures"):
        db.execute(f"ALTER TABLE jobs ADD COLUMN {prefix}_after_run INTEGER NOT NULL DEFAULT 0")
        db.execute(
            f"UPDATE jobs SET {prefix}_after_run = coalesce((SELECT max(job_runs.rowid) FROM job_runs"
            f" WHERE job = name AND job_runs.created_ms < {prefix}_after_ms), 0)"
        )
        db.execute(f"ALTER TABLE jobs DROP COLUMN {prefix}_after_ms")


@job_migrations()
def record_what_ended_a_run(db: Database) -> None:
    """Record the operation that was open when a run ended; times are unreliable after a clock was set back."""
    db.execute("ALTER TABLE job_runs ADD COLUMN ended_by TEXT")


class JobRepository(Store):
    """The tables of the jobs."""

    def __init__(self, home: Home, db: Database) -> None:
        super().__init__(db)
        self.home = home

    @classmethod
    def open(cls, home: Home) -> Self:
        """Open for writing; create missing tables."""
        return cls(home, open_control_db(home, audit_migrations, account_migrations, job_migrations))

    @classmethod
    def read_only(cls, home: Home) -> Self:
        """Open for reading; raise StoreMissingError if there is no control database."""
        return cls(home, read_control_db(home))

    def jobs(self) -> list[Job]:
        """Return all jobs by name."""
        query = "SELECT name, version, desired, created_ms, fresh_after_run, failures_after_run FROM jobs ORDER BY name"
        return [
            Job(name, version, Desired(desired), created_ms, *run_numbers)
            for name, version, desired, created_ms, *run_numbers in self.db.conn.execute(query)
        ]

    def deleted(self) -> frozenset[str]:
        """Return the names of deleted jobs, including names that are in use again."""
        query = "SELECT DISTINCT job FROM operations WHERE kind = ? AND outcome = ?"
        return frozenset(name for (name,) in self.db.conn.execute(query, (Kind.DELETE.value, Outcome.DONE.value)))

    def job(self, name: str) -> Job:
        """Return one job; raise NoSuchJobError if it does not exist."""
        match = next((job for job in self.jobs() if job.name == name), None)
        if match is None:
            names = ", ".join(job.name for job in self.jobs()) or "none yet"
            raise NoSuchJobError(f"There is no job {name}; existing jobs: {names}.")
        return match

    def spec(self, job: str, version: int) -> BarsJobSpec:
        """Return one version of a job's spec; raise NoSuchJobError if it does not exist."""
        query = "SELECT spec FROM job_versions WHERE job = ? AND version = ?"
        row = self.db.conn.execute(query, (job, version)).fetchone()
        if row is None:
            raise NoSuchJobError(f"The job {job} has no version {version}.")
        return complete_spec(json.loads(row[0]), self.home)

    def versions(self, job: str, count: int) -> list[JobVersion]:
        """Return the last versions of a job, newest first."""
        query = "SELECT version, spec, created_ms, actor FROM job_versions WHERE job = ? ORDER BY version DESC LIMIT ?"
        return [
            JobVersion(version, complete_spec(json.loads(spec), self.home), created_ms, actor)
            for version, spec, created_ms, actor in self.db.conn.execute(query, (job, count))
        ]

    def newest_version(self, job: str) -> int:
        """Return the number of the newest version, which may differ from the current version; 0 without versions."""
        row = self.db.conn.execute("SELECT max(version) FROM job_versions WHERE job = ?", (job,)).fetchone()
        return int(row[0] or 0)

    def open_operation(self, job: str) -> Operation | None:
        """Return the operation in progress on a job, or None."""
        rows = self.db.conn.execute("SELECT * FROM operations WHERE job = ? AND ended_ms IS NULL", (job,))
        return next(map(_operation_in, rows), None)

    def operation(self, operation_id: str) -> Operation | None:
        """Return one operation, or None."""
        rows = self.db.conn.execute("SELECT * FROM operations WHERE id = ?", (operation_id,))
        return next(map(_operation_in, rows), None)

    def operations(self, job: str, count: int) -> list[Operation]:
        """Return the last operations on a job, newest first."""
        query = "SELECT * FROM operations WHERE job = ? ORDER BY rowid DESC LIMIT ?"
        return [_operation_in(row) for row in self.db.conn.execute(query, (job, count))]

    def runs(self, job: str, count: int = 1) -> list[JobRun]:
        """Return the last runs of a job, newest first."""
        query = f"SELECT {_RUN_COLUMNS}, rowid FROM job_runs WHERE job = ? ORDER BY rowid DESC LIMIT ?"
        return [JobRun(*row) for row in self.db.conn.execute(query, (job, count))]

    def newest_run_number(self, job: str) -> int:
        """Return the number of the last run of a job; 0 before the first."""
        return next((run.number for run in self.runs(job)), 0)

    def run(self, run_id: str) -> JobRun | None:
        """Return one run, or None."""
        rows = self.db.conn.execute(f"SELECT {_RUN_COLUMNS}, rowid FROM job_runs WHERE id = ?", (run_id,))
        return next((JobRun(*row) for row in rows), None)

    def statuses(self) -> list[JobStatus]:
        """Return the last observed state of each job."""
        query = "SELECT job, state, sentence, run, observed_ms FROM job_status ORDER BY job"
        return [JobStatus(*row) for row in self.db.conn.execute(query)]

    def savepoints(self, job: str) -> list[Savepoint]:
        """Return the existing savepoints of a job, newest first."""
        query = (
            "SELECT id, job, run, version, path, created_ms,"
            " coalesce((SELECT job_runs.rowid FROM job_runs WHERE job_runs.id = savepoints.run), 0)"
            " FROM savepoints WHERE job = ? AND disposed_ms IS NULL ORDER BY rowid DESC"
        )
        return [Savepoint(*row) for row in self.db.conn.execute(query, (job,))]

    def savepoint(self, savepoint_id: str) -> Savepoint | None:
        """Return a savepoint, or None if it was disposed of or never existed."""
        query = "SELECT job FROM savepoints WHERE id = ?"
        row = self.db.conn.execute(query, (savepoint_id,)).fetchone()
        return (
            next((savepoint for savepoint in self.savepoints(row[0]) if savepoint.id == savepoint_id), None)
            if row
            else None
        )

    def add_job(self, job: Job) -> None:
        """Add a job; its version must exist."""
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
        """Add an operation; its job must have no open operation."""
        with immediate(self.db):
            row = _row_of(operation)
            self.db.conn.execute(f"INSERT INTO operations VALUES ({', '.join('?' * len(row))})", row)

    def mark_disposed(self, savepoint_id: str) -> None:
        """Record that a savepoint's files were deleted."""
        self._update("savepoints", "id", savepoint_id, {"disposed_ms": now_ms()})

    def start_run(self, run: JobRun, operation: Operation | None) -> None:
        """Record a run before it is submitted, also as the run of its operation unless that is rolling back."""
        with immediate(self.db):
            placeholders = ", ".join("?" * len(_RUN_COLUMNS.split(", ")))
            self.db.conn.execute(f"INSERT INTO job_runs ({_RUN_COLUMNS}) VALUES ({placeholders})", astuple(run)[:-1])
            if operation is not None and operation.phase is not Phase.ROLLING_BACK:
                self.advance(operation, run=run.id)

    def end_run(self, run_id: str, end: str, cause: str | None = None) -> None:
        """Record that a run has ended; a later record does not overwrite the first."""
        with immediate(self.db):
            query = (
                "UPDATE job_runs SET ended_ms = ?, end = ?, cause = ?, ended_by = coalesce((SELECT operations.id"
                " FROM operations WHERE operations.job = job_runs.job AND operations.ended_ms IS NULL), '')"
                " WHERE id = ? AND end IS NULL"
            )
            self.db.conn.execute(query, (now_ms(), end, cause, run_id))

    def set_status(
        self, job: str, state: str, sentence: str, run: str | None, operation: Operation | None = None
    ) -> None:
        """Replace the observed state of a job, and the sentence of its operation if one is given."""
        with immediate(self.db):
            query = "INSERT OR REPLACE INTO job_status (job, state, sentence, run, observed_ms) VALUES (?, ?, ?, ?, ?)"
            self.db.conn.execute(query, (job, state, sentence, run, now_ms()))
            if operation is not None and operation.sentence != sentence:
                self.advance(operation, sentence=sentence)

    def change_job(self, name: str, **changes: object) -> None:
        """Change columns of a job's row by name, in the caller's transaction if there is one."""
        self._update("jobs", "name", name, changes)

    def advance(self, operation: Operation, **changes: object) -> Operation:
        """Record the progress of an operation, unless it has ended, and return the operation with the changes."""
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
        delete_job: bool = False,
    ) -> None:
        """End an operation, change the job and write the record in the audit log, in one transaction.

        No effect on an operation that has ended.
        """
        with immediate(self.db):
            query = "UPDATE operations SET ended_ms = ?, outcome = ?, sentence = ? WHERE id = ? AND ended_ms IS NULL"
            values = (now_ms(), outcome.value, sentence, operation.id)
            if not self.db.conn.execute(query, values).rowcount:
                return
            if changes:
                self.change_job(operation.job, **changes)
            if delete_job:
                self._delete_job(operation.job)
            name, failed = f"job.{operation.kind.value}", outcome is Outcome.FAILED
            record_outcome(self.db, CONTROLLER, name, operation.job, operation.id, failed=failed, result=sentence)

    def keep_savepoint(self, operation: Operation, run: JobRun, path: str) -> None:
        """Register the savepoint that an operation took; repeating this has no effect. path: its URI."""
        with immediate(self.db):
            query = "INSERT OR IGNORE INTO savepoints VALUES (?, ?, ?, ?, ?, ?, NULL)"
            self.db.conn.execute(query, (operation.id, operation.job, run.id, run.version, path, now_ms()))
            self.advance(operation, savepoint=path)

    def _delete_job(self, name: str) -> None:
        """Delete a job with its versions and status; its runs, operations and savepoints remain as history."""
        for table, column in (("jobs", "name"), ("job_versions", "job"), ("job_status", "job")):
            self.db.conn.execute(f"DELETE FROM {table} WHERE {column} = ?", (name,))

    def _update(self, table: str, key: str, value: str, changes: Mapping[str, object]) -> None:
        columns = ", ".join(f"{name} = ?" for name in changes)
        with immediate(self.db):
            self.db.conn.execute(f"UPDATE {table} SET {columns} WHERE {key} = ?", (*changes.values(), value))


def _row_of(operation: Operation) -> tuple[object, ...]:
    return (
        *(
            operation.id,
            operation.job,
            operation.kind.value,
            json.dumps(operation.parameters.non_defaults, sort_keys=True),
        ),
        *(operation.actor, operation.requested_ms, operation.phase.value, operation.run, operation.savepoint),
        *(operation.problem, operation.ended_ms, operation.outcome and operation.outcome.value, operation.sentence),
    )


def _operation_in(row: tuple[Any, ...]) -> Operation:
    (
        operation_id,
        job,
        kind,
        parameters_text,
        actor,
        requested_ms,
        phase,
        run,
        savepoint,
        problem,
        ended_ms,
        outcome,
        sentence,
    ) = row
    parameters = json.loads(parameters_text)
    return Operation(
        id=operation_id,
        job=job,
        kind=Kind(kind),
        parameters=OperationParameters(**{**parameters, "mode": StopMode(parameters.get("mode", StopMode.SAVEPOINT))}),
        actor=actor,
        requested_ms=requested_ms,
        phase=Phase(phase),
        run=run,
        savepoint=savepoint,
        problem=problem,
        ended_ms=ended_ms,
        outcome=None if outcome is None else Outcome(outcome),
        sentence=sentence,
    )
