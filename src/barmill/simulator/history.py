"""The recent ticks of the demo market, and its state: one SQLite file, bounded in rows and in age.

A block holds the ticks of one step, or a part of the days that were backfilled when the market opened: complete NDJSON
lines, compressed. Cursors number the ticks without gaps: a client with cursor n has all ticks up to and including n.
"""

import sqlite3
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from barmill.platform.clock import MS_PER_HOUR
from barmill.platform.sqlite_file import is_from_full_disk

DEFAULT_MAX_TICKS = 2_000_000
DEFAULT_MAX_AGE_MS = MS_PER_HOUR

# Plain sqlite3: no other process reads this file, and sqlite-utils would triple the market's memory use.
_SCHEMA = """
CREATE TABLE IF NOT EXISTS blocks (
    first_cursor INTEGER PRIMARY KEY, ticks INTEGER NOT NULL, to_ms INTEGER NOT NULL, lines BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS state (one INTEGER PRIMARY KEY, newest_cursor INTEGER NOT NULL, state TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS opened (one INTEGER PRIMARY KEY, opened_ms INTEGER NOT NULL);
"""


@dataclass(frozen=True)
class Block:
    """Ticks to store: their number, the market time they reach up to, and their complete lines."""

    ticks: int
    to_ms: int
    lines: bytes


@dataclass(frozen=True)
class StoredTicks:
    """Stored ticks: complete lines, the cursor of the last one, and the market time they reach up to."""

    lines: bytes
    cursor: int
    to_ms: int


class History:
    """The history file, for the one market process that writes and reads it."""

    def __init__(self, path: Path, connection: sqlite3.Connection, max_ticks: int, max_age_ms: int) -> None:
        self._path, self._connection = path, connection
        self._max_ticks, self._max_age_ms = max_ticks, max_age_ms
        row = connection.execute("SELECT opened_ms FROM opened").fetchone()
        self._opened_ms = 0 if row is None else int(row[0])

    @classmethod
    def open(cls, path: Path, max_ticks: int = DEFAULT_MAX_TICKS, max_age_ms: int = DEFAULT_MAX_AGE_MS) -> Self:
        """Open the file; create it if it is missing."""
        connection = sqlite3.connect(path)
        connection.execute("PRAGMA journal_mode = WAL")
        # A power failure may cost the last moments of a simulation, but never the file. Steps do not wait for the disk.
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.executescript(_SCHEMA)
        return cls(path, connection, max_ticks, max_age_ms)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def is_disk_full(self, error: Exception) -> bool:
        """Return whether an error of `append` means that the disk is full."""
        return is_from_full_disk(error, self._path.parent)

    def load(self) -> tuple[int, str] | None:
        """Return the newest cursor and its state, or None for a new market."""
        row = self._connection.execute("SELECT newest_cursor, state FROM state").fetchone()
        return None if row is None else (row[0], row[1])

    def begin(self, first_cursor: int, blocks: Iterable[Block], state: str, opened_ms: int) -> None:
        """Store the backfill of a new market, oldest first, and the state after it, all or nothing.

        opened_ms: when the backfill is first readable; its ticks are kept as long as ticks published then.
        """
        first = first_cursor
        with self._connection:
            for block in blocks:
                self._insert(first, block)
                first += block.ticks
            self._connection.execute("INSERT OR REPLACE INTO state VALUES (1, ?, ?)", (first - 1, state))
            self._connection.execute("INSERT OR REPLACE INTO opened VALUES (1, ?)", (opened_ms,))
        self._opened_ms = opened_ms

    def append(self, first_cursor: int, ticks: int, to_ms: int, lines: bytes, state: str) -> None:
        """Store the ticks of a step and the state after it, and drop ticks beyond the bounds."""
        newest = first_cursor + ticks - 1
        with self._connection:
            if ticks:
                self._insert(first_cursor, Block(ticks, to_ms, lines))
            self._connection.execute("INSERT OR REPLACE INTO state VALUES (1, ?, ?)", (newest, state))
            self._drop_oldest(newest, to_ms)

    def oldest_cursor(self, newest_cursor: int) -> int:
        """Return the cursor after which everything is kept."""
        first = self._connection.execute("SELECT min(first_cursor) FROM blocks").fetchone()[0]
        return newest_cursor if first is None else int(first) - 1

    def read(self, after: int, max_ticks: int) -> StoredTicks | None:
        """Read about `max_ticks` ticks after this cursor; None if there are none.

        If the first of them are no longer kept, start with the oldest that are.
        """
        lines, ticks, last, to_ms = list[bytes](), 0, after, 0
        for first, count, block_to_ms, compressed in self._blocks_from(after + 1):
            if first + count <= after + 1:
                continue
            if ticks >= max_ticks:
                break
            skipped = max(0, after + 1 - first)
            data = zlib.decompress(compressed)
            lines.append(data.split(b"\n", skipped)[-1] if skipped else data)
            ticks += count - skipped
            last, to_ms = first + count - 1, block_to_ms
        return StoredTicks(b"".join(lines), last, to_ms) if ticks else None

    def _blocks_from(self, cursor: int) -> sqlite3.Cursor:
        # The block that holds a cursor may start before it.
        start = "coalesce((SELECT max(first_cursor) FROM blocks WHERE first_cursor <= :cursor), 0)"
        query = f"SELECT first_cursor, ticks, to_ms, lines FROM blocks WHERE first_cursor >= {start} ORDER BY 1"
        return self._connection.execute(query, {"cursor": cursor})

    def _insert(self, first_cursor: int, block: Block) -> None:
        row = (first_cursor, block.ticks, block.to_ms, zlib.compress(block.lines, 1))
        self._connection.execute("INSERT INTO blocks VALUES (?, ?, ?, ?)", row)

    def _drop_oldest(self, newest: int, now_ms: int) -> None:
        """Drop up to 100 blocks beyond the bounds. Usually there are only a few, so there is no need to defer this."""
        self._connection.execute(
            "DELETE FROM blocks WHERE first_cursor IN"
            " (SELECT first_cursor FROM blocks ORDER BY first_cursor LIMIT 100)"
            " AND (first_cursor + ticks <= ? - ? + 1 OR max(to_ms, ?) < ?)",
            (newest, self._max_ticks, self._opened_ms, now_ms - self._max_age_ms),
        )
