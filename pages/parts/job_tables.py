"""The tables of one job's history. Pure."""

from collections.abc import Sequence

import polars as pl

from charts.runs import origin
from charts.texts import age, moment
from control.jobs.endings import why_ended
from control.jobs.ledger import JobRun, JobVersion, Savepoint
from control.jobs.operations import Operation
from control.jobs.specs import written
from flink_jobs.spec import BarsJobSpec
from pages.parts.audit_records import trace_address

SHORT_ID = 8


def run_table(runs: Sequence[JobRun], operations: Sequence[Operation], now_ms: int) -> pl.DataFrame:
    """Return one row for each run, with why it ended."""
    endings = {run.id: why_ended(run, operations) for run in runs}
    rows = [
        (
            moment(run.created_ms),
            run.id[:SHORT_ID],
            run.version,
            origin(run.restored_from),
            age((run.ended_ms or now_ms) - run.created_ms),
            run.end.lower() if run.end else "open",
            ending.sentence if (ending := endings[run.id]) else "",
        )
        for run in runs
    ]
    return _table(rows, "Began, UTC", "Run", "Version", "From", "Lasted", "Ended", "Because")


def version_table(versions: Sequence[JobVersion]) -> pl.DataFrame:
    """Return one row for each version, the newest first, with what makes it differ from the one before."""
    rows = [
        (one.version, moment(one.created_ms), one.actor, changes(older.spec, one.spec) if older else "–")
        for one, older in zip(versions, [*versions[1:], None], strict=True)
    ]
    return _table(rows, "Version", "Made, UTC", "By", "What changed")


def changes(before: BarsJobSpec, after: BarsJobSpec) -> str:
    """Say in one line in which fields two specs differ."""
    old, new = written(before), written(after)
    differences = [f"{name}: {old[name]} → {new[name]}" for name in new if old[name] != new[name]]
    return "; ".join(differences) or "nothing"


def operation_table(operations: Sequence[Operation]) -> pl.DataFrame:
    """Return one row for each operation; Trace is where the audit trail shows all of it."""
    rows = [
        (
            moment(one.asked_ms),
            one.actor,
            one.kind.value,
            one.outcome.value if one.outcome else "under way",
            age(one.ended_ms - one.asked_ms) if one.ended_ms else "",
            one.sentence,
            trace_address(one.id),
        )
        for one in operations
    ]
    return _table(rows, "Asked for, UTC", "By", "What", "Became", "Took", "In words", "Trace")


def savepoint_table(savepoints: Sequence[Savepoint]) -> pl.DataFrame:
    """Return one row for each savepoint."""
    rows = [
        (moment(one.created_ms), one.id[:SHORT_ID], one.version, one.run[:SHORT_ID], one.path) for one in savepoints
    ]
    return _table(rows, "Taken, UTC", "Savepoint", "Version", "Of run", "Where")


def savepoint_name(savepoint: Savepoint) -> str:
    """Return how a savepoint is called where one is picked."""
    return f"Savepoint {savepoint.id[:SHORT_ID]} of {moment(savepoint.created_ms)} UTC, version {savepoint.version}"


def _table(rows: Sequence[tuple[str | int, ...]], *names: str) -> pl.DataFrame:
    return pl.DataFrame(rows, {name: pl.Int64() if name == "Version" else pl.String() for name in names}, orient="row")
