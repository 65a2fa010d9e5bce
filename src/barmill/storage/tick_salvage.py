"""Salvage of a tick log whose own pages are damaged: copies everything still readable into a new file.

SQLite finds blocks through the pages of their table. It cannot scan past a damaged page, but it can still look up rows
on other pages. Sequence numbers do not change, so readers resume where they were.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from barmill.platform.clock import now_ms
from barmill.platform.sqlite_file import open_for_reading
from barmill.storage.tick_log import TickLog

# Tables that must be readable. Of the other tables, rows from the first unreadable one on are omitted.
_REQUIRED = ("log", "epochs", "sources")
_OTHERS = ("rejects_by_reason", "rejects", "damaged_blocks")
_HEAD = "first_sequence, rows, source, min_time_ns, max_time_ns, received_ms"
_PROBLEM = "pages of the table of blocks were damaged"


@dataclass(frozen=True)
class _Head:
    """A block without its data."""

    first_sequence: int
    rows: int
    source: str
    min_time_ns: int
    max_time_ns: int
    received_ms: int


def salvage_log(damaged: Path, into: Path) -> None:
    """Make a new log from the readable parts of a damaged one. Unreadable blocks are recorded in damaged_blocks.

    Raise sqlite3.DatabaseError if the tables log, epochs and sources cannot be read completely.
    """
    with closing(open_for_reading(damaged).conn) as old, TickLog.open(into) as log:
        new = log.db.conn
        with log.db.atomic():
            for table in (*_REQUIRED, *_OTHERS):
                _copy(old, new, table, whole=table in _REQUIRED)
            end, before = log.end_sequence(), None
            for head in _heads(old, end):
                _record_gap(new, before, head, head.first_sequence)
                _copy_block(old, new, head)
                before = head
            _record_gap(new, before, None, end)


def _copy(old: sqlite3.Connection, new: sqlite3.Connection, table: str, *, whole: bool) -> None:
    new.execute(f"DELETE FROM {table}")
    try:
        cursor = old.execute(f"SELECT * FROM {table}")
        names = ", ".join(column[0] for column in cursor.description)
        marks = ", ".join("?" * len(cursor.description))
        for row in cursor:
            new.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", row)
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError:
        if whole:
            raise


def _heads(old: sqlite3.Connection, end: int) -> Iterator[_Head]:
    """Yield the blocks that can be found, in order."""
    sequence: int | None = 0
    while sequence is not None:
        try:
            for row in old.execute(f"SELECT {_HEAD} FROM blocks WHERE first_sequence >= ? ORDER BY 1", (sequence,)):
                head = _Head(*row)
                sequence = head.first_sequence + 1
                yield head
            return
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError:
            sequence = _readable_after(old, sequence, end)


def _readable_after(old: sqlite3.Connection, sequence: int, end: int) -> int | None:
    """Return the lowest sequence after a damaged page from which blocks can be found again; None if there is none."""
    unreadable, step = sequence, 1
    while not _is_readable(old, sequence + step):
        unreadable, step = sequence + step, 2 * step
        if unreadable >= end:
            return None
    readable = sequence + step
    while readable - unreadable > 1:
        middle = (unreadable + readable) // 2
        if _is_readable(old, middle):
            readable = middle
        else:
            unreadable = middle
    return readable


def _is_readable(old: sqlite3.Connection, sequence: int) -> bool:
    query = "SELECT first_sequence FROM blocks WHERE first_sequence >= ? ORDER BY 1 LIMIT 1"
    try:
        old.execute(query, (sequence,)).fetchone()
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError:
        return False
    return True


def _copy_block(old: sqlite3.Connection, new: sqlite3.Connection, head: _Head) -> None:
    first = head.first_sequence
    try:
        row = old.execute(f"SELECT {_HEAD}, data, crc FROM blocks WHERE first_sequence = ?", (first,)).fetchone()
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError as error:
        if not new.execute("SELECT 1 FROM damaged_blocks WHERE first_sequence = ?", (first,)).fetchone():
            _record_lost(new, head, f"its pages in the file are damaged ({error})")
        return
    new.execute(f"INSERT INTO blocks ({_HEAD}, data, crc) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)


def _record_gap(new: sqlite3.Connection, before: _Head | None, after: _Head | None, end: int) -> None:
    """Record missing blocks between two others, unless they were quarantined before.

    Their source and times are inferred from the adjacent blocks. Blocks missing before the first one were dropped by
    retention.
    """
    if before is None:
        return
    first = before.first_sequence + before.rows
    count_query = "SELECT coalesce(sum(rows), 0) FROM damaged_blocks WHERE first_sequence >= ? AND first_sequence < ?"
    lost_rows = end - first - int(new.execute(count_query, (first, end)).fetchone()[0])
    if lost_rows <= 0:
        return
    newest_ns = after.max_time_ns if after else max(before.max_time_ns, _newest_ns(new))
    gap = _Head(first, lost_rows, before.source, before.min_time_ns, newest_ns, before.received_ms)
    _record_lost(new, gap, _PROBLEM)


def _newest_ns(new: sqlite3.Connection) -> int:
    return int(new.execute("SELECT coalesce(max(newest_ns), 0) FROM sources").fetchone()[0])


def _record_lost(new: sqlite3.Connection, head: _Head, problem: str) -> None:
    new.execute(
        f"INSERT INTO damaged_blocks ({_HEAD}, found_ms, problem) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (*vars(head).values(), now_ms(), problem),
    )
