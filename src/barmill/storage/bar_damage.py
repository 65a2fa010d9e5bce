"""Damage of the bar store's file: a marker for health, status and alerts, and salvage into a new store.

Damage is detected by SQLite's errors, because a check of a large store takes minutes.

Progress is not copied. A job that finds none reads the tick log again from the start, which restores every bar that the
log covers. Bars older than the log are in the new store if they are readable in the old one.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from barmill.platform.home import Home
from barmill.platform.sqlite_file import Database, open_for_reading
from barmill.storage import bar_blocks
from barmill.storage.bar_store import BarStore
from barmill.storage.changes import continue_sequence, order_times
from barmill.storage.tick_damage import damage_problem

NEXT_STEP = "Stop Barmill with ./barmill down, then run ./barmill repair, which rebuilds the store."


def is_damage(error: sqlite3.Error) -> bool:
    """Return whether an error says that the file itself is damaged."""
    code = getattr(error, "sqlite_errorcode", 0) or 0
    return code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


@contextmanager
def mark_damage(bars_db: Path) -> Iterator[None]:
    """Create the marker file if the `with` block finds the store damaged. The error is raised in any case."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        if is_damage(error):
            _marker_path(bars_db).touch()
        raise


def store_problem(bars_db: Path) -> str:
    """Return a text that says that the store is damaged and what to do; '' if no damage was found."""
    return f"The bar store is damaged. {NEXT_STEP}" if _marker_path(bars_db).exists() else ""


def forget_damage(bars_db: Path) -> None:
    """Remove the marker file, once the store has been replaced."""
    _marker_path(bars_db).unlink(missing_ok=True)


def _marker_path(bars_db: Path) -> Path:
    return bars_db.with_name(f"{bars_db.name}.damaged")


def damage_of(home: Home) -> dict[str, str]:
    """Return, for "ticks" and "bars", what is damaged and what to do; '' if no damage was found."""
    return {"ticks": damage_problem(home.ticks_db), "bars": store_problem(home.bars_db)}


def are_blocks_whole(db: Database) -> bool:
    """Return whether all blocks of bars are intact. Reads them one at a time, up to the first damaged one."""
    if not db.table("bar_blocks").exists():  # a file of an earlier version
        return True
    return all(map(bar_blocks.is_intact, db.conn.execute("SELECT * FROM bar_blocks")))


# The tables to copy, each with its key. All other tables can be rebuilt from the log, or hold the progress of jobs.
_TABLES = {
    "bars": ("instrument", "frame", "start_ms"),
    "bar_revisions": ("instrument", "frame", "start_ms", "revision"),
    "bar_blocks": ("instrument", "frame", "first_start_ms"),
    "rejects": ("job", "sequence"),
    "late": ("job", "shard"),
    "written": ("job",),
    "removed": ("frame",),
    "seams": ("frame", "instrument", "to_ms"),
    "shard_seams": ("frame", "to_ms", "shards", "shard"),
    "read_again": ("number",),
}
_BATCH_ROWS = 2_000


def salvage(damaged: Path, into: Path) -> dict[str, int]:
    """Make a new store from the readable parts of a damaged one. Return the number of rows copied, by table."""
    counts = dict.fromkeys(_TABLES, 0)
    store = BarStore.open(into)
    try:
        with closing(open_for_reading(damaged).conn) as old:
            for table, key in _TABLES.items():
                for columns, rows in _readable_rows(old, table, key):
                    marks = ", ".join("?" * len(columns))
                    names = ", ".join(columns)
                    if table == "bar_blocks":
                        rows = [row for row in rows if bar_blocks.is_intact(row)]
                    with store.db.atomic():
                        cursor = store.db.conn.executemany(
                            f"INSERT OR IGNORE INTO {table} ({names}) VALUES ({marks})", rows
                        )
                    counts[table] += cursor.rowcount
        with store.db.atomic():
            order_times(store.db)
            bar_blocks.thaw_newest(store.db)
            continue_sequence(store.db)
    finally:
        store.close()
    return counts


def _readable_rows(
    old: sqlite3.Connection, table: str, key: tuple[str, ...]
) -> Iterator[tuple[list[str], list[tuple[object, ...]]]]:
    """Yield (columns, rows): rows readable from the start of a table, then rows readable backwards from its end."""
    for order in ("ASC", "DESC"):
        ordered = ", ".join(f"{name} {order}" for name in key)
        try:
            cursor = old.execute(f"SELECT * FROM {table} ORDER BY {ordered}")
            columns = [column[0] for column in cursor.description]
        except sqlite3.DatabaseError:  # not even the first row is readable, or an earlier version lacks this table
            continue
        is_complete, rows = False, list[tuple[object, ...]]()
        try:
            for row in cursor:
                rows.append(row)
                if len(rows) == _BATCH_ROWS:
                    yield columns, rows
                    rows = []
            is_complete = True
        except sqlite3.DatabaseError:
            pass
        yield columns, rows
        if is_complete:
            return
