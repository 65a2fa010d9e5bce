"""The ticks that jobs refused as too late, in the bar store: the newest of each shard of a job, and how many in all.

    late  one row per job and shard: kept, how many are in `rejects`; dropped, how many were and had to go, with
          sequences from dropped_from to dropped_to

Those with the lowest sequences go first, and a shard refuses in the order of the log. So what comes again up to
dropped_to, from a job that went back to a checkpoint, has been counted.
"""

import polars as pl

from bar.sqlite import Database
from feed.tick import REJECT_SCHEMA

MAX_KEPT_OF_SHARD = 100_000
# So many more may come before the oldest go, since each time costs a look through all.
_SLACK = 10_000
_COUNT = "INSERT INTO late (job, shard, kept) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET kept = kept + excluded.kept"


def add_table(db: Database) -> None:
    """Make the table, with what there is in `rejects`."""
    db.execute(
        "CREATE TABLE late (job TEXT, shard INTEGER, kept INTEGER NOT NULL, dropped INTEGER NOT NULL DEFAULT 0,"
        " dropped_from INTEGER NOT NULL DEFAULT 0, dropped_to INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (job, shard))"
    )
    db.execute("INSERT INTO late (job, shard, kept) SELECT job, shard, count(*) FROM rejects GROUP BY job, shard")


def write_late(db: Database, late: pl.DataFrame, *, keep_all: bool = False) -> None:
    """Write late ticks (job, shard, source, rejected_ms and REJECT_SCHEMA), in the caller's transaction.

    keep_all: none goes, however many there are.
    """
    names = ("job", "shard", "source", "rejected_ms", *REJECT_SCHEMA)
    insert = f"INSERT OR IGNORE INTO rejects ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"
    for key, of_shard in late.select(names).group_by("job", "shard", maintain_order=True):
        row = db.conn.execute("SELECT dropped_to FROM late WHERE job = ? AND shard = ?", key).fetchone()
        new = of_shard.filter(pl.col("sequence") > (row[0] if row else 0))
        written = db.conn.executemany(insert, new.iter_rows()).rowcount if new.height else 0
        db.conn.execute(_COUNT, (*key, written))
        if not keep_all:
            _drop_oldest(db, key)


def forget_late(db: Database, job: str, shard: int, from_sequence: int) -> None:
    """Forget what a shard has refused from a sequence on, in the caller's transaction.

    Of what was dropped, only all can be forgotten: what begins before the sequence stays counted.
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
    """Return how many ticks a job refused, or any job: those that are kept, each once, and those that were dropped."""
    kept = "SELECT count(DISTINCT sequence) FROM rejects WHERE ? IS NULL OR job = ?"
    dropped = "SELECT coalesce(max(all_of), 0) FROM (SELECT sum(dropped) AS all_of FROM late WHERE ? IS NULL OR job = ?"
    (count,) = db.conn.execute(kept, (job, job)).fetchone()
    # Several jobs that read one log refuse much the same ticks.
    (gone,) = db.conn.execute(f"{dropped} GROUP BY job)", (job, job)).fetchone()
    return int(count) + int(gone)


def _drop_oldest(db: Database, key: tuple[object, ...]) -> None:
    (kept,) = db.conn.execute("SELECT kept FROM late WHERE job = ? AND shard = ?", key).fetchone()
    if kept <= MAX_KEPT_OF_SHARD + _SLACK:
        return
    of_shard = "FROM rejects WHERE job = ? AND shard = ?"
    query = f"SELECT sequence {of_shard} ORDER BY sequence LIMIT 1 OFFSET ?"
    (first,) = db.conn.execute(query, (*key, 0)).fetchone()
    (to,) = db.conn.execute(query, (*key, kept - MAX_KEPT_OF_SHARD - 1)).fetchone()
    gone = db.conn.execute(f"DELETE {of_shard} AND sequence <= ?", (*key, to)).rowcount
    db.conn.execute(
        "UPDATE late SET kept = kept - ?1, dropped_from = CASE WHEN dropped THEN dropped_from ELSE ?2 END,"
        " dropped = dropped + ?1, dropped_to = ?3 WHERE job = ?4 AND shard = ?5",
        (gone, first, to, *key),
    )
