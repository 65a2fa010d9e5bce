"""Damaged blocks of the tick log: found by the process that reads one, put aside, counted and reported.

damaged_blocks  a block that could not be read, as it was (without data where SQLite cannot read its pages, and then
                it is in blocks, too), with when it was found and why; seen: a person has run
                ./barmill repair since, so there is no more alert
"""

import logging
import sqlite3
import zlib
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from bar.clock import now_ms
from bar.sqlite import Database
from bar.sqlite_file import StoreMissingError, immediate, open_for_reading, open_for_writing
from feed.block import decode_block

logger = logging.getLogger(__name__)

_NS_PER_S = 1_000_000_000


class DamagedBlockError(Exception):
    """A block does not hold what was written into it."""


@dataclass(frozen=True)
class Damaged:
    """A block that could not be read: its place in the log, how many ticks it held, whose, and of which times."""

    first_sequence: int
    rows: int
    source: str
    min_time_ns: int
    max_time_ns: int
    found_ms: int
    problem: str
    seen: int


_COLUMNS = "first_sequence, rows, source, min_time_ns, max_time_ns, found_ms, problem, seen"


def add_table(db: Database) -> None:
    """Make the table, and room for a checksum of each block; those written before have none."""
    db.execute("ALTER TABLE blocks ADD COLUMN crc INTEGER")
    db.execute(
        "CREATE TABLE damaged_blocks (first_sequence INTEGER, rows INTEGER, source TEXT, min_time_ns INTEGER,"
        " max_time_ns INTEGER, received_ms INTEGER, data BLOB, crc INTEGER, found_ms INTEGER, problem TEXT,"
        " seen INTEGER NOT NULL DEFAULT 0)"
    )


def checksum(data: bytes) -> int:
    """Return what is kept beside a block to tell whether it is still as it was written."""
    return zlib.crc32(data)


def read_block(db: Database, first_sequence: int) -> pl.DataFrame:
    """Return the ticks of a block; raise DamagedBlockError."""
    try:
        query = "SELECT rows, data, crc FROM blocks WHERE first_sequence = ?"
        row = db.conn.execute(query, (first_sequence,)).fetchone()
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError as error:
        raise DamagedBlockError(f"its pages in the file are damaged ({error})") from error
    if row is None:
        raise DamagedBlockError("another process has put it aside")
    rows, data, crc = row
    if crc is not None and checksum(data) != crc:
        raise DamagedBlockError("its checksum is wrong")
    try:
        ticks = decode_block(data)
    # Polars panics at some bytes.
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError) as error:
        raise DamagedBlockError(f"it cannot be decoded ({str(error).splitlines()[0]})") from error
    if ticks.height != rows:
        raise DamagedBlockError(f"it holds {ticks.height} ticks instead of {rows}")
    return ticks


def put_aside(db: Database, found: Mapping[int, str]) -> None:
    """Put damaged blocks, given by their first sequence with what is wrong, out of the way of every reader.

    SQLite can neither copy nor delete a block whose pages are damaged: it is noted and stays, and each reader passes
    over it. Where not even that is possible, each reader finds out for itself. db: the log, open for writing or not.
    """
    try:
        path = Path(db.conn.execute("PRAGMA database_list").fetchone()[2])
        with closing(open_for_writing(path).conn) as connection:
            for first, problem in found.items():
                if not _moved(connection, first, problem, with_data=True):
                    _moved(connection, first, problem, with_data=False)
    except sqlite3.DatabaseError as error:
        logger.warning("Damaged blocks of the tick log could not be put aside: %s", error)


def _moved(connection: sqlite3.Connection, first: int, problem: str, *, with_data: bool) -> bool:
    """Move a block to damaged_blocks, or only note it there; tell whether that was possible. Noted once is enough."""
    # The checksum lies behind the data, on the damaged pages.
    data = "data, crc" if with_data else "NULL, NULL"
    try:
        with immediate(Database(connection)):
            noted = connection.execute(
                "INSERT INTO damaged_blocks SELECT first_sequence, rows, source, min_time_ns, max_time_ns, received_ms,"
                f" {data}, ?, ?, 0 FROM blocks WHERE first_sequence = ?"
                " AND first_sequence NOT IN (SELECT first_sequence FROM damaged_blocks)",
                (now_ms(), problem, first),
            ).rowcount
            if with_data:
                connection.execute("DELETE FROM blocks WHERE first_sequence = ?", (first,))
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError:
        return False
    if noted:
        logger.warning("The block of the tick log at sequence %d is damaged: %s.", first, problem)
    return True


def damaged_blocks(db: Database) -> list[Damaged]:
    """Return the blocks that were put aside, in the order of the log."""
    if not db.table("damaged_blocks").exists():
        return []
    rows = db.conn.execute(f"SELECT {_COLUMNS} FROM damaged_blocks ORDER BY first_sequence")
    return [Damaged(*row) for row in rows]


def mark_seen(db: Database) -> tuple[int, int]:
    """Note that a person knows of all damaged blocks; return how many were new, and how many ticks these held."""
    with immediate(db):
        new = "FROM damaged_blocks WHERE NOT seen"
        blocks, ticks = db.conn.execute(f"SELECT count(*), coalesce(sum(rows), 0) {new}").fetchone()
        db.conn.execute("UPDATE damaged_blocks SET seen = 1")
    return int(blocks), int(ticks)


def damage_problem(ticks_db: Path) -> str:
    """Say in a sentence which ticks are in damaged blocks that are not seen yet, and what to do; '' if none are."""
    try:
        with closing(open_for_reading(ticks_db).conn) as connection:
            new = [one for one in damaged_blocks(Database(connection)) if not one.seen]
    except (StoreMissingError, sqlite3.OperationalError):
        return ""
    if not new:
        return ""
    sources = ", ".join(sorted({one.source for one in new}))
    from_s, to_s = min(one.min_time_ns for one in new) // _NS_PER_S, max(one.max_time_ns for one in new) // _NS_PER_S
    begin, end = (datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%d %H:%M:%S") for at_s in (from_s, to_s))
    return (
        f"{sum(one.rows for one in new):,} ticks of {sources} from {begin} to {end} UTC are in damaged blocks of the"
        " tick log; check the disk, get these times again from their source, and run ./barmill repair."
    )
