"""Counters that several processes share, as any reader sees them rise."""

import sqlite3
import time
from pathlib import Path

NEXT_IN_LOG = "SELECT next_sequence FROM log"
NEXT_IN_BARS = "SELECT min(next_sequence) FROM progress"


class Sightings:
    """What a reader sees of a counter that several processes share, each change with its time."""

    def __init__(self, path: Path, query: str) -> None:
        self._connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, check_same_thread=False)
        self._query = query
        self._version: int | None = None
        self.seen: list[tuple[int, int]] = []
        self.looks = 0

    @property
    def newest(self) -> int:
        """The counter as last seen."""
        return self.seen[-1][1]

    def look(self) -> None:
        """Note the counter if it has changed."""
        self.looks += 1
        # Costs next to nothing as long as nobody has committed anything.
        version = self._connection.execute("PRAGMA data_version").fetchone()[0]
        if version == self._version:
            return
        self._version = version
        value = int(self._connection.execute(self._query).fetchone()[0])
        if not self.seen or value > self.newest:
            self.seen.append((time.time_ns(), value))
