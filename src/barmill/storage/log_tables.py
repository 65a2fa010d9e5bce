"""Tables of the tick log on SQLite, with their migrations. barmill/storage/tick_log.py describes the contents."""

import polars as pl

from barmill.model.tick import REJECT_SCHEMA
from barmill.platform.sqlite_file import Database, Migrations
from barmill.storage import tick_damage
from barmill.storage.rejects import add_indexes

# Each file stores the names of its migrations, so the functions are never renamed.
log_migrations = Migrations("ticklog")


@log_migrations()
def create(db: Database) -> None:
    """Create the first version of the schema."""
    db.execute(
        "CREATE TABLE blocks (first_sequence INTEGER PRIMARY KEY, rows INTEGER NOT NULL, source TEXT NOT NULL,"
        " min_time_ns INTEGER NOT NULL, max_time_ns INTEGER NOT NULL, received_ms INTEGER NOT NULL, data BLOB NOT NULL)"
    )
    db.execute(
        "CREATE TABLE sources (name TEXT PRIMARY KEY, cursor TEXT, live INTEGER NOT NULL, complete_to_ms INTEGER,"
        " ended INTEGER NOT NULL DEFAULT 0, read INTEGER NOT NULL DEFAULT 0, accepted INTEGER NOT NULL DEFAULT 0,"
        " rejected INTEGER NOT NULL DEFAULT 0, problem TEXT, updated_ms INTEGER NOT NULL)"
    )
    columns = ", ".join(f"{name} {'INTEGER' if dtype == pl.Int64 else 'TEXT'}" for name, dtype in REJECT_SCHEMA.items())
    db.execute(
        f"CREATE TABLE rejects (number INTEGER PRIMARY KEY, source TEXT NOT NULL, rejected_ms INTEGER, {columns})"
    )
    db.execute("CREATE TABLE rejects_by_reason (source TEXT, reason TEXT, count INTEGER, PRIMARY KEY (source, reason))")
    db.execute("CREATE TABLE log (one INTEGER PRIMARY KEY, next_sequence INTEGER NOT NULL, dropped_to_ns INTEGER)")
    db.execute("INSERT INTO log VALUES (1, 1, NULL)")


@log_migrations()
def index_rejects(db: Database) -> None:
    """Add indexes for queries on rejects."""
    add_indexes(db)


@log_migrations()
def name_log(db: Database) -> None:
    """Give the log an id."""
    db.execute("ALTER TABLE log ADD COLUMN id TEXT")
    db.execute("UPDATE log SET id = lower(hex(randomblob(8)))")


@log_migrations()
def tell_sources_apart(db: Database) -> None:
    """Record each source's prefix, when it was created, and when its last ticks arrived."""
    db.execute("ALTER TABLE sources ADD COLUMN prefix TEXT NOT NULL DEFAULT ''")
    for name in ("made_ms INTEGER NOT NULL DEFAULT 0", "arrived_ms INTEGER", "newest_ns INTEGER"):
        db.execute(f"ALTER TABLE sources ADD COLUMN {name}")


@log_migrations()
def tell_epochs_apart(db: Database) -> None:
    """Distinguish ticks with equal sequences after a restore from a backup. All existing ticks get one epoch."""
    db.execute("CREATE TABLE epochs (first_sequence INTEGER PRIMARY KEY, id TEXT NOT NULL)")
    db.execute("INSERT INTO epochs SELECT 1, id FROM log")


@log_migrations()
def judge_ages_by_a_trusted_time(db: Database) -> None:
    """Keep a time that jumps of the wall clock do not affect."""
    db.execute("ALTER TABLE log ADD COLUMN trusted_ms INTEGER")


@log_migrations()
def find_damage(db: Database) -> None:
    """Add a checksum for each new block, and the table of damaged blocks."""
    tick_damage.add_table(db)


@log_migrations()
def count_reused_ids(db: Database) -> None:
    """Count ticks whose id another tick of their instrument already had."""
    db.execute("ALTER TABLE sources ADD COLUMN reused_ids INTEGER NOT NULL DEFAULT 0")
