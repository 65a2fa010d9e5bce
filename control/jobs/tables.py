"""The tables of this room, in the control database.

jobs          one row per job: what it should be (desired, version), and after which run failures count
job_versions  every version of each job's spec
job_runs      one row per run: a job gets a new Flink id each time it is submitted
job_status    one row per job: how it was when the controller last looked
              job_runs are in the order of their rowid, whatever the clock said
operations    what was asked for and takes time: stop, restart, upgrade, ...; at most one open per job
savepoints    every savepoint taken and where it is, until it is disposed of
"""

from bar.sqlite import Database, Migrations

job_migrations = Migrations("job_runs")


@job_migrations()
def create(db: Database) -> None:
    """Make the first version of the tables."""
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
    """Add what jobs should be, beside what they are."""
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
    # What asks twice for the same job finds the first one, also when both ask at once.
    db.execute("CREATE UNIQUE INDEX one_open_operation ON operations (job) WHERE ended_ms IS NULL")
    db.execute(
        "CREATE TABLE savepoints (id TEXT PRIMARY KEY, job TEXT NOT NULL, run TEXT NOT NULL, version INTEGER NOT NULL,"
        " path TEXT NOT NULL, created_ms INTEGER NOT NULL, disposed_ms INTEGER)"
    )
    db.execute("ALTER TABLE job_runs ADD COLUMN version INTEGER NOT NULL DEFAULT 1")
    db.execute("CREATE INDEX job_runs_by_job ON job_runs (job, created_ms)")


@job_migrations()
def order_by_number(db: Database) -> None:
    """Say by the number of a run, not by a time, what is too old: a clock may be set back."""
    for what in ("fresh", "failures"):
        db.execute(f"ALTER TABLE jobs ADD COLUMN {what}_after_run INTEGER NOT NULL DEFAULT 0")
        db.execute(
            f"UPDATE jobs SET {what}_after_run = coalesce((SELECT max(job_runs.rowid) FROM job_runs"
            f" WHERE job = name AND job_runs.created_ms < {what}_after_ms), 0)"
        )
        db.execute(f"ALTER TABLE jobs DROP COLUMN {what}_after_ms")
