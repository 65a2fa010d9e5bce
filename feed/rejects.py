"""Looking through rejects, of the tick log and the bar store alike: both keep them in a table of the same columns."""

from dataclasses import dataclass

import polars as pl

from bar.sqlite import Database
from feed.tick import REJECT_SCHEMA

SAMPLE_SCHEMA: dict[str, pl.DataType] = {"source": pl.String(), "rejected_ms": pl.Int64(), **REJECT_SCHEMA}
COUNT_SCHEMA: dict[str, pl.DataType] = {"from_ms": pl.Int64(), "reason": pl.String(), "count": pl.Int64()}


@dataclass(frozen=True)
class Wanted:
    """Which rejects to show; None is any."""

    from_ms: int = 0
    reason: str | None = None
    instrument: str | None = None


def add_indexes(db: Database) -> None:
    """Make every query below a walk along an index."""
    db.execute("CREATE INDEX rejects_by_time ON rejects (rejected_ms, reason)")
    db.execute("CREATE INDEX rejects_of_reason ON rejects (reason, rejected_ms)")
    db.execute("CREATE INDEX rejects_of_instrument ON rejects (instrument, rejected_ms)")


def counts(db: Database, from_ms: int, bucket_ms: int) -> pl.DataFrame:
    """Count the rejects since `from_ms` by stretch of time and reason (COUNT_SCHEMA), oldest first."""
    query = (
        "SELECT rejected_ms / :bucket * :bucket AS start_ms, reason, count(*) FROM rejects WHERE rejected_ms >= :from"
        " GROUP BY 1, 2 ORDER BY 1, 2"
    )
    rows = db.conn.execute(query, {"bucket": bucket_ms, "from": from_ms}).fetchall()
    return pl.DataFrame(rows, COUNT_SCHEMA, orient="row")


def samples(db: Database, wanted: Wanted, limit: int) -> pl.DataFrame:
    """Return the newest rejects that fit (SAMPLE_SCHEMA), newest first."""
    where, values = ["rejected_ms >= ?"], list[object]([wanted.from_ms])
    for column in ("reason", "instrument"):
        if (value := getattr(wanted, column)) is not None:
            where.append(f"{column} = ?")
            values.append(value)
    query = (
        f"SELECT {', '.join(SAMPLE_SCHEMA)} FROM rejects WHERE {' AND '.join(where)} ORDER BY rejected_ms DESC LIMIT ?"
    )
    return pl.DataFrame(db.conn.execute(query, (*values, limit)).fetchall(), SAMPLE_SCHEMA, orient="row")
