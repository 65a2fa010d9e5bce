"""The bar store on SQLite: what the job publishes and everybody reads.

    bars           BAR_SCHEMA, one row per (instrument, frame, start_ms)
    bar_revisions  every superseded version of a closed bar, and when it was superseded
    rejects        ticks a job refused (too late), by job and by their sequence in the tick log; the newest of them
    late           how many of these there are and were, by job and shard: see bar/late.py
    progress       one row per job and shard: how far the job has read, and what it counted
    written        how many bars and versions of bars each job has written, which only rises
    read_again     each time that a job could not go on from its state and read the log again, with the reason
    removed        one row per frame that is not kept for ever: up to when its bars were removed, and how many
    coverage       how far bars of each frame hold all ticks, and
    seams          where they may lack some, and
    shard_seams    for instruments without a bar: see bar/holdings.py and bar/seams.py

Writing is safe to repeat: a job that restarts from a checkpoint publishes some bars again, and a version with fewer
ticks never replaces one with more. What readers have seen closed stays closed; a change after that is a revision.
So several jobs may make the same frame here: the one that has seen most of a bar's ticks has the last word.
"""

import time
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Self

import polars as pl

from bar import holdings, revisions, seams
from bar import late as late_ticks
from bar.model import BAR_KEY, BAR_SCHEMA, BAR_VALUES
from bar.progress import Progress
from bar.sqlite import Database, Migrations
from bar.sqlite_file import immediate, open_for_reading, open_for_writing
from feed import rejects
from feed.tick import REJECT_SCHEMA

__all__ = ["BarStore", "Progress", "ReadAgain", "Removed", "upsert_sql"]

_migrations = Migrations("bars")
_SQL_TYPES = {pl.String(): "TEXT", pl.Int64(): "INTEGER", pl.Float64(): "REAL"}
_VALUE_COLUMNS = [name for name in BAR_VALUES if name not in BAR_KEY]
_COUNT_WRITTEN = "INSERT INTO written VALUES (?, ?) ON CONFLICT (job) DO UPDATE SET bars = bars + excluded.bars"


def _columns(schema: dict[str, pl.DataType]) -> str:
    return ", ".join(f"{name} {_SQL_TYPES[dtype]}" for name, dtype in schema.items())


@_migrations()
def create(db: Database) -> None:
    """Make the first version of the schema."""
    key = ", ".join(BAR_KEY)
    db.execute(f"CREATE TABLE bars ({_columns(BAR_SCHEMA)}, PRIMARY KEY ({key})) WITHOUT ROWID")
    db.execute(
        f"CREATE TABLE bar_revisions ({_columns(BAR_SCHEMA)}, superseded_ms INTEGER, PRIMARY KEY ({key}, revision))"
        " WITHOUT ROWID"
    )
    old = ", ".join(f"OLD.{name}" for name in BAR_SCHEMA)
    db.execute(
        "CREATE TRIGGER keep_revision AFTER UPDATE ON bars WHEN NEW.revision > OLD.revision"
        f" BEGIN INSERT OR IGNORE INTO bar_revisions VALUES ({old}, NEW.changed_ms); END"
    )
    db.execute(
        f"CREATE TABLE rejects (source TEXT, rejected_ms INTEGER, {_columns(REJECT_SCHEMA)}, PRIMARY KEY (sequence))"
    )
    db.execute(
        "CREATE TABLE progress (shard INTEGER PRIMARY KEY, next_sequence INTEGER, read INTEGER, late INTEGER,"
        " forming INTEGER, held INTEGER, newest_tick_ms INTEGER, final INTEGER, updated_ms INTEGER)"
    )


@_migrations()
def tell_jobs_apart(db: Database) -> None:
    """Keep rejects and progress by job. Progress is written anew by whatever runs."""
    columns = _columns(REJECT_SCHEMA)
    db.execute("ALTER TABLE rejects RENAME TO old_rejects")
    db.execute(
        f"CREATE TABLE rejects (job TEXT, shard INTEGER, source TEXT, rejected_ms INTEGER, {columns},"
        " PRIMARY KEY (job, sequence))"
    )
    db.execute("INSERT INTO rejects SELECT 'bars', 0, * FROM old_rejects")
    db.execute("DROP TABLE old_rejects")
    db.execute("DROP TABLE progress")
    db.execute(
        "CREATE TABLE progress (job TEXT, shard INTEGER, frames TEXT, lateness_ms INTEGER, shards INTEGER,"
        " next_sequence INTEGER, read INTEGER, late INTEGER, forming INTEGER, held INTEGER, newest_tick_ms INTEGER,"
        " final INTEGER, updated_ms INTEGER, PRIMARY KEY (job, shard))"
    )


@_migrations()
def count_what_is_written(db: Database) -> None:
    """Count by job how often a bar was written; a job that goes back to a checkpoint does not take this back."""
    db.execute("CREATE TABLE written (job TEXT PRIMARY KEY, bars INTEGER NOT NULL)")


@_migrations()
def index_for_looking(db: Database) -> None:
    """Let people look through rejects and revisions."""
    rejects.add_indexes(db)
    revisions.add_indexes(db)


@_migrations()
def remember_what_was_removed(db: Database) -> None:
    """Tell what retention has removed from what is missing."""
    db.execute(
        "CREATE TABLE removed (frame TEXT PRIMARY KEY, to_ms INTEGER NOT NULL, bars INTEGER NOT NULL,"
        " ticks INTEGER NOT NULL)"
    )


@_migrations()
def know_what_is_covered(db: Database) -> None:
    """Know how complete the bars of each frame are, whether a job makes it now or not."""
    holdings.add_tables(db)


@_migrations()
def remember_why_jobs_read_again(db: Database) -> None:
    """Keep when and why jobs began to read the log again."""
    db.execute(
        "CREATE TABLE read_again (number INTEGER PRIMARY KEY, job TEXT NOT NULL, shard INTEGER NOT NULL,"
        " from_sequence INTEGER NOT NULL, at_ms INTEGER NOT NULL, reason TEXT NOT NULL)"
    )


@_migrations()
def keep_few_late_ticks(db: Database) -> None:
    """Bound the late ticks that are kept, and count all."""
    late_ticks.add_table(db)


@_migrations()
def tell_seams_of_shards_apart(db: Database) -> None:
    """Let a shard that lacks ticks not cast doubt on the instruments of others."""
    seams.add_table_of_shards(db)


@dataclass(frozen=True)
class ReadAgain:
    """A shard of a job read the log again from a sequence on, for a reason that is a sentence."""

    job: str
    shard: int
    from_sequence: int
    at_ms: int
    reason: str


@dataclass(frozen=True)
class Removed:
    """What was removed of a frame: bars that start before to_ms, so many so far, and the ticks they held."""

    frame: str
    to_ms: int
    bars: int
    ticks: int


def upsert_sql() -> str:
    """Return the statement that publishes one bar: its columns in BAR_SCHEMA order.

    State and revision are decided here, unless they were when the bar was published elsewhere: then they are taken.
    """
    updates = ", ".join(f"{name} = excluded.{name}" for name in (*_VALUE_COLUMNS, "changed_ms"))
    more = "excluded.ticks > bars.ticks"
    return (
        f"INSERT INTO bars VALUES ({', '.join('?' * len(BAR_SCHEMA))})"
        f" ON CONFLICT ({', '.join(BAR_KEY)}) DO UPDATE SET {updates},"
        " state = CASE WHEN bars.state = 'forming' THEN excluded.state ELSE 'revised' END,"
        " revision = max(excluded.revision, bars.revision + (bars.state <> 'forming'))"
        f" WHERE {more} OR (excluded.ticks = bars.ticks AND bars.state = 'forming' AND excluded.state <> 'forming')"
    )


def read_store(path: Path) -> Database:
    """Open a bar store file for reading; raise StoreMissingError if no job has made it yet."""
    return open_for_reading(path, _migrations)


class BarStore:
    """The writing side of a bar store file."""

    def __init__(self, db: Database, *, keep_all_late: bool = False) -> None:
        self._db, self._keep_all_late = db, keep_all_late
        self._upsert = upsert_sql()

    @classmethod
    def open(cls, path: Path, *, durable: bool = True, keep_all_late: bool = False) -> Self:
        """Open for writing, making the file when there is none. keep_all_late: without the bound of bar/late.py."""
        return cls(open_for_writing(path, _migrations, durable=durable), keep_all_late=keep_all_late)

    @property
    def db(self) -> Database:
        """The file itself, for what is done to it besides publishing."""
        return self._db

    def close(self) -> None:
        """Give the file back."""
        self._db.conn.close()

    def publish(
        self,
        progress: Progress,
        bars: pl.DataFrame | None = None,
        late: pl.DataFrame | None = None,
        anew_from: int | None = None,
        reason: str = "",
    ) -> None:
        """Write progress, bars (see write_bars) and late ticks (source and REJECT_SCHEMA) in one transaction.

        anew_from: the shard reads the log again from this sequence on, so what it refused from there on is forgotten.
        reason: why it had to, which is kept.
        """
        now_ms = time.time_ns() // 1_000_000
        # At once for writing: a transaction that begins with reading cannot go on once another process has written.
        with immediate(self._db):
            self.write_progress(progress)
            if bars is not None:
                self.write_bars(progress.job, bars, now_ms)
            if anew_from is not None:
                self.forget_late(progress.job, progress.shard, anew_from)
            if anew_from is not None and reason:
                self._remember(ReadAgain(progress.job, progress.shard, anew_from, now_ms, reason))
            if late is not None:
                about = {"job": progress.job, "shard": progress.shard, "rejected_ms": now_ms}
                self.write_late(late.with_columns(pl.lit(value).alias(name) for name, value in about.items()))

    def write_progress(self, progress: Progress) -> None:
        """Write how far a shard is and what that covers, in the caller's transaction, before its bars."""
        holdings.note(self._db, progress)
        row = astuple(progress)
        self._db.conn.execute(f"INSERT OR REPLACE INTO progress VALUES ({', '.join('?' * len(row))})", row)

    def write_bars(self, job: str, bars: pl.DataFrame, now_ms: int) -> None:
        """Write bars, in the caller's transaction: BAR_VALUES and state, or BAR_SCHEMA where all was decided already.

        Bars so old that retention has removed their like are left out.
        """
        decided = {"revision": pl.lit(0), "changed_ms": pl.lit(now_ms)}
        rows = self._not_removed(bars).with_columns(
            value.alias(name) for name, value in decided.items() if name not in bars.columns
        )
        # Neighbours in the order of the key share a page; in any other order a large batch takes far longer.
        rows = rows.select(BAR_SCHEMA.keys()).sort(BAR_KEY, maintain_order=True)
        seams.reach_back(self._db, rows)
        written = self._db.conn.executemany(self._upsert, rows.iter_rows()).rowcount
        self._db.conn.execute(_COUNT_WRITTEN, (job, written))

    def forget_late(self, job: str, shard: int, from_sequence: int) -> None:
        """Forget what a shard has refused from a sequence on, in the caller's transaction."""
        late_ticks.forget_late(self._db, job, shard, from_sequence)

    def write_late(self, late: pl.DataFrame) -> None:
        """Write late ticks (job, shard, source, rejected_ms and REJECT_SCHEMA), in the caller's transaction."""
        late_ticks.write_late(self._db, late, keep_all=self._keep_all_late)

    def _remember(self, again: ReadAgain) -> None:
        names = ", ".join(field.name for field in fields(ReadAgain))
        self._db.conn.execute(f"INSERT INTO read_again ({names}) VALUES (?, ?, ?, ?, ?)", astuple(again))

    def _not_removed(self, bars: pl.DataFrame) -> pl.DataFrame:
        removed = self._db.conn.execute("SELECT frame, to_ms FROM removed").fetchall()
        for frame, to_ms in removed:
            bars = bars.filter((pl.col("frame") != frame) | (pl.col("start_ms") >= to_ms))
        return bars
