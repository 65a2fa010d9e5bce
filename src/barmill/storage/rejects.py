"""Queries on rejects, and the storage of late ticks: the bar store keeps the newest of each shard.

    late  one row per job and shard: kept is the number in `rejects`; dropped is the number removed from there, with
          sequences from dropped_from to dropped_to

The lowest sequences are dropped first, and a shard rejects in log order. Ticks up to dropped_to that arrive again, from
a job that returned to a checkpoint, are therefore already counted.
"""

from dataclasses import dataclass

import polars as pl

from barmill.model.tick import REJECT_SCHEMA
from barmill.platform.sqlite_file import Database

SAMPLE_SCHEMA: dict[str, pl.DataType] = {"source": pl.String(), "rejected_ms": pl.Int64(), **REJECT_SCHEMA}
COUNT_SCHEMA: dict[str, pl.DataType] = {"from_ms": pl.Int64(), "reason": pl.String(), "count": pl.Int64()}


@dataclass(frozen=True)
class RejectFilter:
    """A filter for rejects; None matches any value."""

    from_ms: int = 0
    reason: str | None = None
    instrument: str | None = None


def add_indexes(db: Database) -> None:
    """Add the indexes that the queries of `counts` and `samples` use."""
    db.execute("CREATE INDEX rejects_by_time ON rejects (rejected_ms, reason)")
    db.execute("CREATE INDEX rejects_of_reason ON rejects (reason, rejected_ms)")
    db.execute("CREATE INDEX rejects_of_instrument ON rejects (instrument, rejected_ms)")


def counts(db: Database, from_ms: int, bucket_ms: int) -> pl.DataFrame:
    """Count the rejects since `from_ms` by time bucket and reason (COUNT_SCHEMA), oldest first."""
    query = (
        "SELECT rejected_ms / :bucket * :bucket AS start_ms, reason, count(*) FROM rejects WHERE rejected_ms >= :from"
        " GROUP BY 1, 2 ORDER BY 1, 2"
    )
    rows = db.conn.execute(query, {"bucket": bucket_ms, "from": from_ms}).fetchall()
    return pl.DataFrame(rows, COUNT_SCHEMA, orient="row")


def samples(db: Database, reject_filter: RejectFilter, limit: int) -> pl.DataFrame:
    """Return the newest matching rejects (SAMPLE_SCHEMA), newest first."""
    where, values = ["rejected_ms >= ?"], list[object]([reject_filter.from_ms])
    for column in ("reason", "instrument"):
        if (value := getattr(reject_filter, column)) is not None:
            where.append(f"{column} = ?")
            values.append(value)
    query = (
        f"SELECT {', '.join(SAMPLE_SCHEMA)} FROM rejects WHERE {' AND '.join(where)} ORDER BY rejected_ms DESC LIMIT ?"
    )
    return pl.DataFrame(db.conn.execute(query, (*values, limit)).fetchall(), SAMPLE_SCHEMA, orient="row")


MAX_KEPT_PER_SHARD = 100_000
# Allow this many more before dropping the oldest, since each drop scans all of them.
_SLACK = 10_000
_COUNT = "INSERT INTO late (job, shard, kept) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET kept = kept + excluded.kept"


def add_table(db: Database) -> None:
    """Create the table and count the existing `rejects`."""
    db.execute(
        "CREATE TABLE late (job TEXT, shard INTEGER, kept INTEGER NOT NULL, dropped INTEGER NOT NULL DEFAULT 0,"
        " dropped_from INTEGER NOT NULL DEFAULT 0, dropped_to INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (job, shard))"
    )
    db.execute("INSERT INTO late (job, shard, kept) SELECT job, shard, count(*) FROM rejects GROUP BY job, shard")


def write_late(db: Database, late: pl.DataFrame, *, keep_all: bool = False) -> None:
    """Write late ticks (job, shard, source, rejected_ms and REJECT_SCHEMA), in the caller's transaction.

    keep_all: drop none, regardless of their number.
    """
    names = ("job", "shard", "source", "rejected_ms", *REJECT_SCHEMA)
    insert = f"INSERT OR IGNORE INTO rejects ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"
    for key, shard_late in late.select(names).group_by("job", "shard", maintain_order=True):
        row = db.conn.execute("SELECT dropped_to FROM late WHERE job = ? AND shard = ?", key).fetchone()
        new = shard_late.filter(pl.col("sequence") > (row[0] if row else 0))
        row_count = db.conn.executemany(insert, new.iter_rows()).rowcount if new.height else 0
        db.conn.execute(_COUNT, (*key, row_count))
        if not keep_all:
            _drop_oldest(db, key)


def forget_late(db: Database, job: str, shard: int, from_sequence: int) -> None:
    """Delete a shard's late ticks from a sequence on, in the caller's transaction.

    Dropped ticks are forgotten all together or not at all: if some are before the sequence, all stay counted.
    """
    key = (job, shard)
    db.conn.execute("DELETE FROM rejects WHERE job = ? AND shard = ? AND sequence >= ?", (*key, from_sequence))
    db.conn.execute(
        "UPDATE late SET dropped = CASE WHEN dropped_from < ?1 THEN dropped ELSE 0 END,"
        " dropped_to = min(dropped_to, ?1 - 1),"
        " kept = (SELECT count(*) FROM rejects WHERE rejects.job = late.job AND rejects.shard = late.shard)"
        " WHERE job = ?2 AND shard = ?3",
        (from_sequence, *key),
    )


def count_late(db: Database, job: str | None) -> int:
    """Return how many ticks a job rejected, or for None, about how many different ones all jobs rejected.

    For all jobs, each kept tick counts once, and of the dropped ticks only those of the job with the most dropped
    ticks.
    """
    count_query = "SELECT count(DISTINCT sequence) FROM rejects WHERE ? IS NULL OR job = ?"
    dropped = "SELECT coalesce(max(total), 0) FROM (SELECT sum(dropped) AS total FROM late WHERE ? IS NULL OR job = ?"
    (count,) = db.conn.execute(count_query, (job, job)).fetchone()
    # Several jobs that read one log reject mostly the same ticks.
    (dropped_count,) = db.conn.execute(f"{dropped} GROUP BY job)", (job, job)).fetchone()
    return int(count) + int(dropped_count)


def _drop_oldest(db: Database, key: tuple[object, ...]) -> None:
    (kept_rows,) = db.conn.execute("SELECT kept FROM late WHERE job = ? AND shard = ?", key).fetchone()
    if kept_rows <= MAX_KEPT_PER_SHARD + _SLACK:
        return
    shard_rejects = "FROM rejects WHERE job = ? AND shard = ?"
    query = f"SELECT sequence {shard_rejects} ORDER BY sequence LIMIT 1 OFFSET ?"
    (first,) = db.conn.execute(query, (*key, 0)).fetchone()
    (last,) = db.conn.execute(query, (*key, kept_rows - MAX_KEPT_PER_SHARD - 1)).fetchone()
    dropped_rows = db.conn.execute(f"DELETE {shard_rejects} AND sequence <= ?", (*key, last)).rowcount
    db.conn.execute(
        "UPDATE late SET kept = kept - ?1, dropped_from = CASE WHEN dropped THEN dropped_from ELSE ?2 END,"
        " dropped = dropped + ?1, dropped_to = ?3 WHERE job = ?4 AND shard = ?5",
        (dropped_rows, first, last, *key),
    )
