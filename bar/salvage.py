"""What can still be read of a damaged bar store, taken over into a new one.

Progress is not taken over: a job that finds none reads the tick log again from its start, which gives every bar that
the log can give. What is older than the log is in the new store as far as the old one can be read.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from bar.sqlite_file import open_for_reading
from bar.store import BarStore

# Table and key. What else there is can be made from the log, or says how far jobs have read.
_TABLES = {
    "bars": ("instrument", "frame", "start_ms"),
    "bar_revisions": ("instrument", "frame", "start_ms", "revision"),
    "rejects": ("job", "sequence"),
    "late": ("job", "shard"),
    "written": ("job",),
    "removed": ("frame",),
    "seams": ("frame", "instrument", "to_ms"),
    "shard_seams": ("frame", "to_ms", "shards", "shard"),
    "read_again": ("number",),
}
_ROWS_AT_ONCE = 2_000


def salvage(damaged: Path, into: Path) -> dict[str, int]:
    """Make a new store of what can be read of a damaged one; return how many rows that was, by table."""
    found = dict.fromkeys(_TABLES, 0)
    store = BarStore.open(into)
    try:
        with closing(open_for_reading(damaged).conn) as old:
            for table, key in _TABLES.items():
                for columns, rows in _readable(old, table, key):
                    marks = ", ".join("?" * len(columns))
                    names = ", ".join(columns)
                    with store.db.atomic():
                        cursor = store.db.conn.executemany(
                            f"INSERT OR IGNORE INTO {table} ({names}) VALUES ({marks})", rows
                        )
                    found[table] += cursor.rowcount
    finally:
        store.close()
    return found


def _readable(
    old: sqlite3.Connection, table: str, key: tuple[str, ...]
) -> Iterator[tuple[list[str], list[tuple[object, ...]]]]:
    """Yield (columns, rows): what can be read from the beginning on, and what can be read back from the end."""
    for order in ("ASC", "DESC"):
        ordered = ", ".join(f"{name} {order}" for name in key)
        try:
            cursor = old.execute(f"SELECT * FROM {table} ORDER BY {ordered}")
            columns = [about[0] for about in cursor.description]
        except sqlite3.DatabaseError:  # not even its beginning can be read, or an earlier version had no such table
            continue
        whole, rows = False, list[tuple[object, ...]]()
        try:
            for row in cursor:
                rows.append(row)
                if len(rows) == _ROWS_AT_ONCE:
                    yield columns, rows
                    rows = []
            whole = True
        except sqlite3.DatabaseError:
            pass
        yield columns, rows
        if whole:
            return
