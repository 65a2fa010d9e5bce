"""What the demo market has given out lately, and its state: one SQLite file, bounded in rows and in age.

A block is what one step gave out: whole NDJSON lines, compressed. Cursors number the ticks without gaps; a client that
holds cursor n has everything up to and including tick n.
"""

import sqlite3
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from bar.disk import is_from_full_disk

DEFAULT_MAX_TICKS = 2_000_000
DEFAULT_MAX_AGE_MS = 3_600_000

# Plain sqlite3: nobody else reads this file, and sqlite-utils would triple the memory of the market process.
_SCHEMA = """
CREATE TABLE IF NOT EXISTS blocks (
    first_cursor INTEGER PRIMARY KEY, ticks INTEGER NOT NULL, to_ms INTEGER NOT NULL, lines BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS state (one INTEGER PRIMARY KEY, newest_cursor INTEGER NOT NULL, state TEXT NOT NULL);
"""


@dataclass(frozen=True)
class Kept:
    """Ticks read back: whole lines, the cursor of the last one, and the market time they reach up to."""

    lines: bytes
    cursor: int
    to_ms: int


class History:
    """The history file, for the one market process that writes and reads it."""

    def __init__(self, path: Path, connection: sqlite3.Connection, max_ticks: int, max_age_ms: int) -> None:
        self._path, self._connection = path, connection
        self._max_ticks, self._max_age_ms = max_ticks, max_age_ms

    @classmethod
    def open(cls, path: Path, max_ticks: int = DEFAULT_MAX_TICKS, max_age_ms: int = DEFAULT_MAX_AGE_MS) -> Self:
        """Open the file, making it where there is none."""
        connection = sqlite3.connect(path)
        connection.execute("PRAGMA journal_mode = WAL")
        # A power cut may cost the last moments of a simulation, but never the file; no wait for the disk at each step.
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.executescript(_SCHEMA)
        return cls(path, connection, max_ticks, max_age_ms)

    def close(self) -> None:
        """Give the file back."""
        self._connection.close()

    def is_disk_full(self, error: Exception) -> bool:
        """Tell whether an error of `append` means that there is no room on the disk."""
        return is_from_full_disk(error, self._path.parent)

    def load(self) -> tuple[int, str] | None:
        """Return the newest cursor and the state that belongs to it, or None for a new market."""
        row = self._connection.execute("SELECT newest_cursor, state FROM state").fetchone()
        return None if row is None else (row[0], row[1])

    def append(self, first_cursor: int, ticks: int, to_ms: int, lines: bytes, state: str) -> None:
        """Keep what a step gave out together with the state after it, and forget what is beyond the bounds."""
        newest = first_cursor + ticks - 1
        with self._connection:
            if ticks:
                block = (first_cursor, ticks, to_ms, zlib.compress(lines, 1))
                self._connection.execute("INSERT INTO blocks VALUES (?, ?, ?, ?)", block)
            self._connection.execute("INSERT OR REPLACE INTO state VALUES (1, ?, ?)", (newest, state))
            self._forget(newest, to_ms)

    def oldest_cursor(self, newest_cursor: int) -> int:
        """Return the cursor after which everything is kept."""
        first = self._connection.execute("SELECT min(first_cursor) FROM blocks").fetchone()[0]
        return newest_cursor if first is None else int(first) - 1

    def read(self, after: int, max_ticks: int) -> Kept | None:
        """Read the ticks after this cursor, about `max_ticks` of them; None when there are none.

        Where the first of them are no longer kept, it starts with the oldest that are.
        """
        lines, ticks, last, to_ms = list[bytes](), 0, after, 0
        for first, count, block_to_ms, packed in self._blocks_from(after + 1):
            if first + count <= after + 1:
                continue
            if ticks >= max_ticks:
                break
            known = max(0, after + 1 - first)
            data = zlib.decompress(packed)
            lines.append(data.split(b"\n", known)[-1] if known else data)
            ticks += count - known
            last, to_ms = first + count - 1, block_to_ms
        return Kept(b"".join(lines), last, to_ms) if ticks else None

    def _blocks_from(self, cursor: int) -> sqlite3.Cursor:
        # The block that holds a cursor may start before it.
        start = "coalesce((SELECT max(first_cursor) FROM blocks WHERE first_cursor <= :cursor), 0)"
        query = f"SELECT first_cursor, ticks, to_ms, lines FROM blocks WHERE first_cursor >= {start} ORDER BY 1"
        return self._connection.execute(query, {"cursor": cursor})

    def _forget(self, newest: int, now_ms: int) -> None:
        """Drop blocks from the old end; a handful at most for each step, so there is nothing to postpone."""
        self._connection.execute(
            "DELETE FROM blocks WHERE first_cursor IN"
            " (SELECT first_cursor FROM blocks ORDER BY first_cursor LIMIT 100)"
            " AND (first_cursor + ticks <= ? - ? + 1 OR to_ms < ?)",
            (newest, self._max_ticks, now_ms - self._max_age_ms),
        )
