"""Blocks of ticks in the tick log: how they are encoded, and how damaged ones are detected and quarantined.

damaged_blocks  each block that could not be read, unchanged, with the problem and when it was found. data is null if
                SQLite cannot read its pages; the block then also stays in blocks, until tick_salvage.py makes a new
                log without it. seen: ./barmill repair has been run since, so there is no longer an alert.
"""

import io
import logging
import sqlite3
import zlib
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from barmill.model.tick import TICK_SCHEMA
from barmill.platform.clock import NS_PER_MS, now_ms
from barmill.platform.sqlite_file import (
    Database,
    if_ready,
    immediate,
    open_for_reading,
    open_for_writing,
)
from barmill.platform.texts import moment

logger = logging.getLogger(__name__)

MAX_BLOCK_ROWS = 250_000
_OPTIONAL_COLUMNS = ("volume", "id", "line", "id_text")


def encode_block(ticks: pl.DataFrame) -> bytes:
    """Encode ticks (TICK_SCHEMA, and any other columns) as bytes, without optional columns that are empty."""
    empty = [name for name in _OPTIONAL_COLUMNS if name in ticks.columns and ticks[name].null_count() == ticks.height]
    ticks = ticks.drop(empty)
    # Plain trades open and close at one price. Storing it once halves the prices to read back.
    if (ticks["price_open"] == ticks["price_close"]).all():
        ticks = ticks.drop("price_close")
    buffer = io.BytesIO()
    ticks.rechunk().write_ipc_stream(buffer, compression="lz4")
    return buffer.getvalue()


def decode_block(data: bytes, schema: Mapping[str, pl.DataType] = TICK_SCHEMA) -> pl.DataFrame:
    """Decode the result of `encode_block` with every column of the schema: TICK_SCHEMA and columns encoded with it."""
    ticks = pl.read_ipc_stream(io.BytesIO(data))
    if "price_close" not in ticks.columns:
        ticks = ticks.with_columns(price_close=pl.col("price_open"))
    missing = [pl.lit(None, TICK_SCHEMA[name]).alias(name) for name in _OPTIONAL_COLUMNS if name not in ticks.columns]
    return ticks.with_columns(missing).select(schema.keys())


class DamagedBlockError(Exception):
    """A block does not hold what was written into it."""


@dataclass(frozen=True)
class DamagedBlock:
    """A block that could not be read: its position in the log, its number of ticks, their source and time range.

    found_ms, problem: when and why it was recorded. seen: 1 if ./barmill repair has been run since, otherwise 0.
    """

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
    """Create the table and a column for each block's checksum. Existing blocks have none."""
    db.execute("ALTER TABLE blocks ADD COLUMN crc INTEGER")
    db.execute(
        "CREATE TABLE damaged_blocks (first_sequence INTEGER, rows INTEGER, source TEXT, min_time_ns INTEGER,"
        " max_time_ns INTEGER, received_ms INTEGER, data BLOB, crc INTEGER, found_ms INTEGER, problem TEXT,"
        " seen INTEGER NOT NULL DEFAULT 0)"
    )


def checksum(data: bytes) -> int:
    """Return the checksum that is stored with a block to detect damage."""
    return zlib.crc32(data)


def read_block(db: Database, first_sequence: int) -> pl.DataFrame:
    """Return the ticks of a block (TICK_SCHEMA).

    Raise DamagedBlockError if it is damaged, or is no longer in blocks because another process quarantined it.
    """
    try:
        query = "SELECT rows, data, crc FROM blocks WHERE first_sequence = ?"
        row = db.conn.execute(query, (first_sequence,)).fetchone()
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError as error:
        raise DamagedBlockError(f"its pages in the file are damaged ({error})") from error
    if row is None:
        raise DamagedBlockError("another process has quarantined it")
    rows, data, crc = row
    if crc is not None and checksum(data) != crc:
        raise DamagedBlockError("its checksum is wrong")
    try:
        ticks = decode_block(data)
    # Polars panics on some bytes.
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError) as error:
        raise DamagedBlockError(f"it cannot be decoded ({str(error).splitlines()[0]})") from error
    if ticks.height != rows:
        raise DamagedBlockError(f"it contains {ticks.height} ticks instead of {rows}")
    return ticks


def quarantine(db: Database, problems: Mapping[int, str]) -> None:
    """Quarantine damaged blocks, given as first sequence to problem, so that no reader reads them again.

    SQLite can neither copy nor delete a block whose pages are damaged. Such a block is recorded and stays, and each
    reader skips it. If recording fails too, each reader detects the damage again. db: the log, opened for reading or
    writing.
    """
    try:
        path = Path(db.conn.execute("PRAGMA database_list").fetchone()[2])
        with closing(open_for_writing(path).conn) as connection:
            for first, problem in problems.items():
                if not _move(connection, first, problem, with_data=True):
                    _move(connection, first, problem, with_data=False)
    except sqlite3.DatabaseError as error:
        logger.warning("Damaged blocks of the tick log could not be quarantined: %s", error)


def _move(connection: sqlite3.Connection, first: int, problem: str, *, with_data: bool) -> bool:
    """Move a block to damaged_blocks, or only record it there, at most once. Return whether that was possible."""
    # The checksum is stored after the data, on the damaged pages.
    data = "data, crc" if with_data else "NULL, NULL"
    try:
        with immediate(Database(connection)):
            is_moved = connection.execute(
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
    if is_moved:
        logger.warning("The block of the tick log at sequence %d is damaged: %s.", first, problem)
    return True


def damaged_blocks(db: Database) -> list[DamagedBlock]:
    """Return the blocks that were recorded as damaged, in log order."""
    if not db.table("damaged_blocks").exists():
        return []
    rows = db.conn.execute(f"SELECT {_COLUMNS} FROM damaged_blocks ORDER BY first_sequence")
    return [DamagedBlock(*row) for row in rows]


def mark_seen(db: Database) -> tuple[int, int]:
    """Mark all damaged blocks as seen. Return how many were new, and how many ticks these held."""
    with immediate(db):
        new = "FROM damaged_blocks WHERE NOT seen"
        blocks, ticks = db.conn.execute(f"SELECT count(*), coalesce(sum(rows), 0) {new}").fetchone()
        db.conn.execute("UPDATE damaged_blocks SET seen = 1")
    return int(blocks), int(ticks)


def damage_problem(ticks_db: Path) -> str:
    """Return a sentence on which ticks are in damaged blocks not yet seen, and what to do.

    Return '' if there are none, or the log cannot be read at the moment.
    """
    new: list[DamagedBlock] = []
    with if_ready(), closing(open_for_reading(ticks_db).conn) as connection:
        new = [block for block in damaged_blocks(Database(connection)) if not block.seen]
    if not new:
        return ""
    sources = ", ".join(sorted({block.source for block in new}))
    from_ns, to_ns = min(block.min_time_ns for block in new), max(block.max_time_ns for block in new)
    begin, end = (moment(at_ns // NS_PER_MS) for at_ns in (from_ns, to_ns))
    return (
        f"{sum(block.rows for block in new):,} ticks of {sources} from {begin} to {end} UTC are in damaged blocks of"
        " the tick log; check the disk, fetch this range again from the source, and run ./barmill repair."
    )
