"""The replay provider: prices from files, at the original speed, faster, or as fast as possible."""

import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from barmill.ingest.connection.provider import Batch
from barmill.ingest.files.layout import Layout
from barmill.ingest.files.tables import Rows
from barmill.ingest.providers.files import rows_of
from barmill.model.tick_time import time_ns
from barmill.platform.clock import NS_PER_MS
from barmill.storage.tick_damage import MAX_BLOCK_ROWS

LIVE_BLOCK_MS = 100
LIVE_BLOCK_ROWS = 20_000


@dataclass(frozen=True)
class FilePosition:
    """A position in the files: file number, document number within the file, and the last line taken."""

    file: int = 0
    document: int = 0
    line: int = 0

    @classmethod
    def of(cls, cursor: str | None) -> "FilePosition":
        """Parse a cursor; cursors from versions without archive support have no document number."""
        numbers = json.loads(cursor) if cursor else ()
        return cls(numbers[0], numbers[2] if len(numbers) > 2 else 0, numbers[1]) if numbers else cls()

    @property
    def cursor(self) -> str:
        """Return the position as a cursor."""
        return json.dumps([self.file, self.line, self.document] if self.document else [self.file, self.line])


@dataclass(frozen=True)
class ReplayProvider:
    """Files, read one after the other.

    layout: the columns of each field, or Barmill's names by the file's names, such as {"ts": "time"}.
    speed: 1 replays at the original speed, 10 ten times as fast, None as fast as possible.
    """

    files: Sequence[Path]
    layout: Layout | Mapping[str, str]
    speed: float | None = None
    name: str = "replay"
    live: bool = False

    @property
    def rising_ids(self) -> bool:
        """Return whether ids rise per instrument, according to the layout."""
        return isinstance(self.layout, Layout) and self.layout.rising_ids

    def batches(self, cursor: str | None, stop: threading.Event) -> Iterator[Batch]:
        """Yield the files' rows in order; the cursor is the position of the last row.

        Raise ReplayFileError if a file cannot be read at all, or does not fit the layout.
        """
        start_position = FilePosition.of(cursor)
        layout = self.layout if isinstance(self.layout, Layout) else Layout.of_names(self.layout)
        pacer = _Pacer(self.speed, stop) if self.speed is not None else None
        for file, path in enumerate(self.files):
            if file < start_position.file:
                continue
            document, last_label = -1, None
            for document_format, rows in rows_of(path, layout):
                document += document_format.document.label != last_label
                last_label = document_format.document.label
                position = FilePosition(file, document, rows.last_line)
                if (file, document, rows.last_line) <= (
                    start_position.file,
                    start_position.document,
                    start_position.line,
                ):
                    continue
                last_read_line = (
                    start_position.line if (file, document) == (start_position.file, start_position.document) else 0
                )
                batches = self._split(rows, last_read_line, position, _origin(path, last_label))
                yield from batches if pacer is None else pacer.pace(batches)
                if stop.is_set():
                    return

    def catalogue(self) -> None:
        """Return None: the files are read completely."""
        return

    def _split(self, rows: Rows, last_read_line: int, position: FilePosition, origin: str) -> Iterator[Batch]:
        """Split rows into batches of at most one block; the last one contains the broken lines."""
        ticks = rows.ticks.filter(pl.col("line") > last_read_line) if rows.ticks.height else rows.ticks
        broken = rows.broken.filter(pl.col("line") > last_read_line)
        step = MAX_BLOCK_ROWS if self.speed is None else LIVE_BLOCK_ROWS
        starts = range(0, max(ticks.height, 1), step)
        for start in starts:
            part, last = ticks.slice(start, step), start == starts[-1]
            batch_position = position if last else replace(position, line=part["line"][-1])
            share = (position.file + rows.share) / len(self.files)
            batch_broken = broken if last else pl.DataFrame()
            yield Batch(part, batch_position.cursor, None, batch_broken, origin, share, self.rising_ids)


def _origin(path: Path, label: str) -> str:
    """Return the origin shown for rejects: the file's name, and the member's name in an archive."""
    return path.name + label.removeprefix(str(path))


class _Pacer:
    """The pacer of a replay, which releases rows when the replay's clock reaches their time."""

    def __init__(self, speed: float, stop: threading.Event) -> None:
        self._speed, self._stop = speed, stop
        self._started: tuple[float, int] | None = None
        self._newest_ns = 0

    def pace(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        for batch in batches:
            yield from self._slices(batch)

    def _slices(self, batch: Batch) -> Iterator[Batch]:
        if not batch.ticks.height:
            yield batch
            return
        # A row without a readable time, or with an older time than earlier rows, is due together with them.
        times = batch.ticks.select(due_ns=time_ns())["due_ns"]
        due_ns = times.fill_null(strategy="forward").fill_null(self._newest_ns).cum_max().clip(self._newest_ns)
        start = 0
        while start < due_ns.len() and not self._stop.is_set():
            end = int(due_ns.search_sorted(self._now_ns(int(due_ns[start])), side="right"))
            if end <= start:
                self._stop.wait(LIVE_BLOCK_MS / 1_000)
                continue
            last = end == due_ns.len()
            ticks = batch.ticks.slice(start, end - start)
            position = FilePosition.of(batch.cursor)
            self._newest_ns = int(due_ns[end - 1])
            yield replace(
                batch,
                ticks=ticks,
                cursor=batch.cursor if last else replace(position, line=ticks["line"][-1]).cursor,
                complete_to_ms=self._newest_ns // NS_PER_MS,
                broken=batch.broken if last else pl.DataFrame(),
            )
            start = end
            if not last:
                self._stop.wait(LIVE_BLOCK_MS / 1_000)

    def _now_ns(self, first_ns: int) -> int:
        """Return the replay's current time in ns; it starts with the first row."""
        if self._started is None:
            self._started = (time.monotonic(), first_ns)
        started_s, start_ns = self._started
        return start_ns + int((time.monotonic() - started_s) * self._speed * 1e9)
