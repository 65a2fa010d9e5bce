"""The replay provider: prices from files, at the speed they happened, faster, or as fast as they can be read."""

import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from feed.files.layout import Layout
from feed.files.tables import Rows
from feed.intake import MAX_BLOCK_ROWS
from feed.provider import Batch
from feed.providers.files import rows_of
from feed.tick_time import time_ns

LIVE_BLOCK_MS = 100
LIVE_BLOCK_ROWS = 20_000
_NS_PER_MS = 1_000_000


@dataclass(frozen=True)
class Place:
    """How far the files have been read: the number of a file, that of a document in it, and its last line taken."""

    file: int = 0
    document: int = 0
    line: int = 0

    @classmethod
    def of(cls, cursor: str | None) -> "Place":
        """Read a cursor; those from before archives were read have no document."""
        numbers = json.loads(cursor) if cursor else ()
        return cls(numbers[0], numbers[2] if len(numbers) > 2 else 0, numbers[1]) if numbers else cls()

    @property
    def cursor(self) -> str:
        """Return the place as a cursor."""
        return json.dumps([self.file, self.line, self.document] if self.document else [self.file, self.line])


@dataclass(frozen=True)
class ReplayProvider:
    """Files, read one after the other.

    layout: which of their columns are which fields, or our names by theirs, such as {"ts": "time"}.
    speed: 1 replays as fast as it happened, 10 ten times as fast, None as fast as possible.
    """

    files: Sequence[Path]
    layout: Layout | Mapping[str, str]
    speed: float | None = None
    name: str = "replay"
    live: bool = False

    @property
    def rising_ids(self) -> bool:
        """Tell whether ids rise per instrument, as the layout says."""
        return isinstance(self.layout, Layout) and self.layout.rising_ids

    def batches(self, cursor: str | None, stop: threading.Event) -> Iterator[Batch]:
        """Yield the files' rows in their order; the cursor is where in which file the last of them was.

        Raise ReplayFileError where a file cannot be read at all, or does not fit the layout.
        """
        begin = Place.of(cursor)
        layout = self.layout if isinstance(self.layout, Layout) else Layout.of_names(self.layout)
        paced = _Pace(self.speed, stop) if self.speed is not None else None
        for file, path in enumerate(self.files):
            if file < begin.file:
                continue
            document, last_shown = -1, None
            for shape, rows in rows_of(path, layout):
                document += shape.document.shown != last_shown
                last_shown = shape.document.shown
                place = Place(file, document, rows.last_line)
                if (file, document, rows.last_line) <= (begin.file, begin.document, begin.line):
                    continue
                done = begin.line if (file, document) == (begin.file, begin.document) else 0
                batches = self._cut(rows, done, place, _origin(path, last_shown))
                yield from batches if paced is None else paced.slowly(batches)
                if stop.is_set():
                    return

    def catalogue(self) -> None:
        """Return None: the files are read whole, and what is in them is what there is."""
        return

    def _cut(self, rows: Rows, done: int, place: Place, origin: str) -> Iterator[Batch]:
        """Turn rows into batches of at most a block, the broken lines with the last of them."""
        ticks = rows.ticks.filter(pl.col("line") > done) if rows.ticks.height else rows.ticks
        broken = rows.broken.filter(pl.col("line") > done)
        step = MAX_BLOCK_ROWS if self.speed is None else LIVE_BLOCK_ROWS
        starts = range(0, max(ticks.height, 1), step)
        for start in starts:
            part, last = ticks.slice(start, step), start == starts[-1]
            here = place if last else replace(place, line=part["line"][-1])
            share = (place.file + rows.share) / len(self.files)
            broken_here = broken if last else pl.DataFrame()
            yield Batch(part, here.cursor, None, broken_here, origin, share, self.rising_ids)


def _origin(path: Path, shown: str) -> str:
    """Return the name that rejects bear: the file's, and that of a member of an archive."""
    return path.name + shown.removeprefix(str(path))


class _Pace:
    """Lets rows through when the replay's clock has reached their time."""

    def __init__(self, speed: float, stop: threading.Event) -> None:
        self._speed, self._stop = speed, stop
        self._started: tuple[float, int] | None = None
        self._newest_ns = 0

    def slowly(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        for batch in batches:
            yield from self._slices(batch)

    def _slices(self, batch: Batch) -> Iterator[Batch]:
        if not batch.ticks.height:
            yield batch
            return
        # A row that has no readable time, or an older one than its forerunners, is due with them.
        times = batch.ticks.select(due=time_ns(batch.ticks.schema["time"]))["due"]
        due = times.fill_null(strategy="forward").fill_null(self._newest_ns).cum_max().clip(self._newest_ns)
        start = 0
        while start < due.len() and not self._stop.is_set():
            end = int(due.search_sorted(self._now_ns(int(due[start])), side="right"))
            if end <= start:
                self._stop.wait(LIVE_BLOCK_MS / 1_000)
                continue
            last = end == due.len()
            ticks = batch.ticks.slice(start, end - start)
            place = Place.of(batch.cursor)
            self._newest_ns = int(due[end - 1])
            yield replace(
                batch,
                ticks=ticks,
                cursor=batch.cursor if last else replace(place, line=ticks["line"][-1]).cursor,
                complete_to_ms=self._newest_ns // _NS_PER_MS,
                broken=batch.broken if last else pl.DataFrame(),
            )
            start = end
            if not last:
                self._stop.wait(LIVE_BLOCK_MS / 1_000)

    def _now_ns(self, first_ns: int) -> int:
        """Return the replay's own time; it starts with the first row."""
        if self._started is None:
            self._started = (time.monotonic(), first_ns)
        since, start_ns = self._started
        return start_ns + int((time.monotonic() - since) * self._speed * 1e9)
