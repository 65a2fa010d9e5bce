"""The bar store on SQLite: jobs publish to it, and everything else reads from it.

    bars           BAR_SCHEMA and change (changes.py), one row per (instrument, frame, start_ms)
    bar_revisions  the superseded versions of closed bars, and when each was superseded
    rejects        the newest ticks that a job rejected as too late, by job and by sequence in the tick log
    late           the number of late ticks, by job and shard; see barmill/storage/rejects.py
    progress       one row per job and shard: how far the job has read, and its counts
    written        how many bars and versions of bars each job has written; only increases
    read_again     each time a shard could not continue from its state and read the log again, with the reason
    removed        one row per frame with bars removed by retention: the time before which they start, their number and
                   the number of their ticks
    coverage       how far bars of each frame hold all ticks; see barmill/storage/holdings.py
    bar_blocks     bars that are unlikely to change, in columns; see barmill/storage/bar_blocks.py
    positions      how far jobs had read at earlier times; also positions_thinned; see barmill/storage/cover_records.py
    seams          which bars may lack ticks; see barmill/storage/cover_records.py
    shard_seams    the same for instruments that had no bar; see barmill/storage/cover_records.py
    change_sequence  the store's name and the number of the last publication that wrote bars; see changes.py

The store of a replay also has bar_runs (barmill/storage/bar_runs.py), and a store that is filled from Kafka has
kafka_offsets (barmill/kafka/materialiser.py).

Writes are idempotent: a job that restarts from a checkpoint publishes some bars again, and a version with fewer ticks
never replaces one with more. A bar that readers have seen closed stays closed; a later change is a revision. Several
jobs may therefore make the same frame: the version with the most ticks wins. The changed_ms of a bar never goes back,
even if the clock does, so that exactly one of its versions is current at each time.
"""

from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Self

import polars as pl

from barmill.model.bar import BAR_KEY, BAR_SCHEMA, BAR_VALUES
from barmill.model.progress import Progress
from barmill.model.tick import REJECT_SCHEMA
from barmill.platform.clock import now_ms
from barmill.platform.sqlite_file import Database, Migrations, Store, immediate, open_for_reading, open_for_writing
from barmill.storage import bar_blocks, changes, cover_records, holdings, rejects

__all__ = ["BarStore", "Progress", "ReadAgain", "Removed", "upsert_sql"]

# Each file stores the names of its migrations, so the functions are never renamed.
_migrations = Migrations("bars")
_SQL_TYPES = {pl.String(): "TEXT", pl.Int64(): "INTEGER", pl.Float64(): "REAL"}
_VALUE_COLUMNS = [name for name in BAR_VALUES if name not in BAR_KEY]
_COUNT_WRITTEN = "INSERT INTO written VALUES (?, ?) ON CONFLICT (job) DO UPDATE SET bars = bars + excluded.bars"


def _columns(schema: dict[str, pl.DataType]) -> str:
    return ", ".join(f"{name} {_SQL_TYPES[dtype]}" for name, dtype in schema.items())


@_migrations()
def create(db: Database) -> None:
    """Create the first version of the schema."""
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
    """Store rejects and progress by job. Running jobs write their progress again."""
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
    """Count the writes of bars by job. A job that returns to a checkpoint does not lower the count."""
    db.execute("CREATE TABLE written (job TEXT PRIMARY KEY, bars INTEGER NOT NULL)")


@_migrations()
def index_for_looking(db: Database) -> None:
    """Add indexes for queries on rejects and revisions."""
    rejects.add_indexes(db)
    changes.add_revision_index(db)


@_migrations()
def remember_what_was_removed(db: Database) -> None:
    """Record what retention removed, to distinguish it from missing bars."""
    db.execute(
        "CREATE TABLE removed (frame TEXT PRIMARY KEY, to_ms INTEGER NOT NULL, bars INTEGER NOT NULL,"
        " ticks INTEGER NOT NULL)"
    )


@_migrations()
def know_what_is_covered(db: Database) -> None:
    """Record how complete the bars of each frame are, whether or not a job makes the frame now."""
    holdings.add_tables(db)


@_migrations()
def remember_why_jobs_read_again(db: Database) -> None:
    """Record when and why jobs started to read the log again."""
    db.execute(
        "CREATE TABLE read_again (number INTEGER PRIMARY KEY, job TEXT NOT NULL, shard INTEGER NOT NULL,"
        " from_sequence INTEGER NOT NULL, at_ms INTEGER NOT NULL, reason TEXT NOT NULL)"
    )


@_migrations()
def keep_few_late_ticks(db: Database) -> None:
    """Limit the late ticks that are kept, and count all of them."""
    rejects.add_table(db)


@_migrations()
def tell_seams_of_shards_apart(db: Database) -> None:
    """Store seams by shard, so that a shard that lacks ticks does not make bars of other shards doubtful."""
    cover_records.add_shard_table(db)


@_migrations()
def record_positions(db: Database) -> None:
    """Record how far jobs have read at each time, so that reads as of a time need not estimate it."""
    cover_records.add_position_tables(db, now_ms())


@_migrations()
def number_changes(db: Database) -> None:
    """Number the publications, and give each bar the number of its last change."""
    changes.add_sequence(db)


@_migrations()
def order_times_of_versions(db: Database) -> None:
    """Correct the times of each bar's versions where they decreased because the clock was set back."""
    changes.order_times(db)


@_migrations()
def store_history_in_blocks(db: Database) -> None:
    """Add the table of blocks. Bars that are stored already move into blocks in the background."""
    bar_blocks.add_table(db)


@dataclass(frozen=True)
class ReadAgain:
    """A repeated read of the log by a job's shard, from a sequence on. reason: a sentence."""

    job: str
    shard: int
    from_sequence: int
    at_ms: int
    reason: str


@dataclass(frozen=True)
class Removed:
    """The bars of a frame that retention removed: all that start before to_ms.

    bars, ticks: how many bars it has removed so far, and how many ticks these held.
    """

    frame: str
    to_ms: int
    bars: int
    ticks: int


def upsert_sql() -> str:
    """Return the statement that publishes one bar.

    Its parameters are the bar's columns in BAR_SCHEMA order, and the number of the change. It does not replace a
    version with more ticks. If it replaces one, it decides changed_ms, state and revision from both versions.
    """
    updates = ", ".join(f"{name} = excluded.{name}" for name in (*_VALUE_COLUMNS, "change"))
    more = "excluded.ticks > bars.ticks"
    return (
        f"INSERT INTO bars ({', '.join(BAR_SCHEMA)}, change) VALUES ({', '.join('?' * len(BAR_SCHEMA))}, ?)"
        f" ON CONFLICT ({', '.join(BAR_KEY)}) DO UPDATE SET {updates},"
        " changed_ms = max(excluded.changed_ms, bars.changed_ms),"
        " state = CASE WHEN bars.state = 'forming' THEN excluded.state ELSE 'revised' END,"
        " revision = max(excluded.revision, bars.revision + (bars.state <> 'forming'))"
        f" WHERE {more} OR (excluded.ticks = bars.ticks AND bars.state = 'forming' AND excluded.state <> 'forming')"
    )


def read_store(path: Path) -> Database:
    """Open a bar store file for reading. Raise StoreMissingError if no job has created it yet."""
    return open_for_reading(path, _migrations)


class BarStore(Store):
    """A bar store file, opened for writing."""

    def __init__(self, db: Database, *, keep_all_late: bool = False) -> None:
        super().__init__(db)
        self._keep_all_late = keep_all_late
        self._upsert = upsert_sql()

    @classmethod
    def open(cls, path: Path, *, durable: bool = True, keep_all_late: bool = False) -> Self:
        """Open for writing; create the file if it is missing. keep_all_late: ignore the limit of rejects.py."""
        return cls(open_for_writing(path, _migrations, durable=durable), keep_all_late=keep_all_late)

    def publish(
        self,
        progress: Progress,
        bars: pl.DataFrame | None = None,
        late: pl.DataFrame | None = None,
        read_again_from: int | None = None,
        reason: str = "",
        number: int = 0,
    ) -> None:
        """Write progress, bars (see write_bars) and late ticks (source and REJECT_SCHEMA) in one transaction.

        read_again_from: the shard reads the log again from this sequence on, so its rejects from there on are deleted.
        reason: why this was necessary, which is recorded. number: see write_published.
        """
        at_ms = now_ms()
        # Take the write lock at the start: a transaction that starts with a read fails once another process has
        # written.
        with immediate(self.db):
            self.write_progress(progress, at_ms)
            self.write_published(progress, bars, at_ms, number)
            if read_again_from is not None:
                self.forget_late(progress.job, progress.shard, read_again_from)
            if read_again_from is not None and reason:
                self._record_reread(ReadAgain(progress.job, progress.shard, read_again_from, at_ms, reason))
            if late is not None:
                constants = {"job": progress.job, "shard": progress.shard, "rejected_ms": at_ms}
                self.write_late(late.with_columns(pl.lit(value).alias(name) for name, value in constants.items()))

    def write_progress(self, progress: Progress, at_ms: int) -> None:
        """Write a shard's progress and coverage, in the caller's transaction and before its bars.

        at_ms: the change time of these bars.
        """
        holdings.record_coverage(self.db, progress, at_ms)
        row = astuple(progress)
        self.db.conn.execute(f"INSERT OR REPLACE INTO progress VALUES ({', '.join('?' * len(row))})", row)

    def write_published(self, progress: Progress, bars: pl.DataFrame | None, at_ms: int, _number: int) -> None:
        """Write the bars of a shard's publication, if there are any, in the caller's transaction.

        The number is that of the shard's publications before this one, according to its checkpoints.
        """
        if bars is not None:
            self.write_bars(progress.job, bars, at_ms)

    def write_bars(self, job: str, bars: pl.DataFrame, now_ms: int) -> None:
        """Write bars in the caller's transaction: BAR_VALUES and state, or BAR_SCHEMA if decided before.

        now_ms: the change time of bars without changed_ms. Bars that start before the time up to which retention
        removed their frame's bars are skipped.
        """
        defaults = {"revision": pl.lit(0), "changed_ms": pl.lit(now_ms)}
        rows = bar_blocks.thaw_for(self.db, self._not_removed(bars)).with_columns(
            value.alias(name) for name, value in defaults.items() if name not in bars.columns
        )
        # Rows adjacent in key order share a page. In any other order a large batch takes far longer.
        rows = rows.select(BAR_SCHEMA.keys()).sort(BAR_KEY, maintain_order=True)
        cover_records.extend_seams(self.db, rows)
        change = changes.next_change(self.db) if rows.height else 0
        row_count = self.db.conn.executemany(self._upsert, ((*row, change) for row in rows.iter_rows())).rowcount
        self.db.conn.execute(_COUNT_WRITTEN, (job, row_count))

    def forget_late(self, job: str, shard: int, from_sequence: int) -> None:
        """Delete a shard's late ticks from a sequence on, in the caller's transaction."""
        rejects.forget_late(self.db, job, shard, from_sequence)

    def write_late(self, late: pl.DataFrame) -> None:
        """Write late ticks (job, shard, source, rejected_ms and REJECT_SCHEMA), in the caller's transaction."""
        rejects.write_late(self.db, late, keep_all=self._keep_all_late)

    def _record_reread(self, reread: ReadAgain) -> None:
        names = ", ".join(field.name for field in fields(ReadAgain))
        self.db.conn.execute(f"INSERT INTO read_again ({names}) VALUES (?, ?, ?, ?, ?)", astuple(reread))

    def _not_removed(self, bars: pl.DataFrame) -> pl.DataFrame:
        removed = self.db.conn.execute("SELECT frame, to_ms FROM removed").fetchall()
        for frame, to_ms in removed:
            bars = bars.filter((pl.col("frame") != frame) | (pl.col("start_ms") >= to_ms))
        return bars
