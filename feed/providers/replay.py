"""The replay provider: prices from files, at the speed they happened, faster, or as fast as they can be read."""

import json
import logging
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from feed.intake import MAX_BLOCK_ROWS
from feed.provider import Batch, ProviderError
from feed.providers.lines import CutLine, read_lines
from feed.providers.tables import Rows, csv_header, csv_rows, cut_line, json_rows
from feed.tick_time import time_ns

logger = logging.getLogger(__name__)

LIVE_BLOCK_MS = 100
LIVE_BLOCK_ROWS = 20_000
_KNOWN = ("time", "instrument", "price", "price_open", "price_close", "volume", "id")
_NS_PER_MS = 1_000_000


class ReplayFileError(ProviderError):
    """The file cannot be replayed at all; the sentence says why and what to do."""


@dataclass(frozen=True)
class ReplayProvider:
    """Files, read one after the other.

    columns: our name by the file's name, for files that call things differently, such as {"ts": "time"}.
    speed: 1 replays as fast as it happened, 10 ten times as fast, None as fast as possible.
    """

    files: Sequence[Path]
    columns: Mapping[str, str]
    speed: float | None = None
    name: str = "replay"
    live: bool = False

    def batches(self, cursor: str | None, stop: threading.Event) -> Iterator[Batch]:
        """Yield the files' rows in their order; the cursor is the file's number and the last line taken."""
        at_file, at_line = json.loads(cursor) if cursor else (0, 0)
        paced = _Pace(self.speed, stop) if self.speed is not None else None
        for number, path in enumerate(self.files):
            if number < at_file:
                continue
            done = at_line if number == at_file else 0
            for rows in self._rows(path):
                if rows.last_line <= done:
                    continue
                batches = self._cut(rows, done, number)
                yield from batches if paced is None else paced.slowly(batches)
                if stop.is_set():
                    return

    def catalogue(self) -> None:
        """Return None: the files are read whole, and what is in them is what there is."""
        return

    def _cut(self, rows: Rows, done: int, file: int) -> Iterator[Batch]:
        """Turn rows into batches of at most a block, the broken lines with the last of them."""
        ticks = rows.ticks.filter(pl.col("line") > done) if rows.ticks.height else rows.ticks
        broken = rows.broken.filter(pl.col("line") > done)
        step = MAX_BLOCK_ROWS if self.speed is None else LIVE_BLOCK_ROWS
        starts = range(0, max(ticks.height, 1), step)
        for start in starts:
            part, last = ticks.slice(start, step), start == starts[-1]
            cursor = json.dumps([file, rows.last_line if last else part["line"][-1]])
            share = (file + rows.share) / len(self.files)
            yield Batch(part, cursor, None, broken if last else pl.DataFrame(), self.files[file].name, share)

    def _rows(self, path: Path) -> Iterator[Rows]:
        kinds = [suffix for suffix in path.suffixes if suffix not in (".gz", ".zst")]
        kind = kinds[-1].lower() if kinds else ".csv"
        try:
            if kind == ".parquet":
                yield from self._parquet(path)
            elif kind in (".jsonl", ".ndjson", ".json"):
                for lines in read_lines(path):
                    rows = cut_line(lines) if isinstance(lines, CutLine) else json_rows(lines)
                    yield replace(rows, ticks=self._named(rows.ticks))
            else:
                yield from self._csv(path)
        except OSError as error:
            raise ReplayFileError(f"{path} cannot be read: {error.strerror or error}.") from error

    def _csv(self, path: Path) -> Iterator[Rows]:
        header: list[str] | None = None
        separator = ","
        for lines in read_lines(path):
            if isinstance(lines, CutLine):
                yield cut_line(lines)
                continue
            if header is None:
                first, _, rest = lines.data.partition(b"\n")
                header, separator = self._header(path, first)
                lines = replace(lines, data=rest, first_line=2)
                yield Rows(pl.DataFrame(), pl.DataFrame(schema={"line": pl.Int64}), 1)
            if lines.data:
                yield csv_rows(lines, header, separator)

    def _header(self, path: Path, first: bytes) -> tuple[list[str], str]:
        try:
            names, separator = csv_header(first)
        except UnicodeDecodeError as error:
            raise ReplayFileError(
                f"{path} does not start with a line of UTF-8 text; convert it to UTF-8 first."
            ) from error
        names = [self.columns.get(name, name) for name in names]
        self._require(path, names)
        return names, separator

    def _parquet(self, path: Path) -> Iterator[Rows]:
        try:
            file = pq.ParquetFile(path)
        except pa.ArrowInvalid as error:
            raise ReplayFileError(f"{path} is not a whole Parquet file: {error}.") from error
        names = {name: self.columns.get(name, name) for name in file.schema_arrow.names}
        self._require(path, list(names.values()))
        wanted = [name for name, ours in names.items() if ours in _KNOWN]
        done = 0
        for batch in file.iter_batches(MAX_BLOCK_ROWS, columns=wanted):
            table = self._named(pl.DataFrame(pl.from_arrow(batch)))
            line = pl.int_range(done + 1, done + 1 + table.height, dtype=pl.Int64)
            done += table.height
            share = done / max(file.metadata.num_rows, 1)
            yield Rows(table.with_columns(line=line), pl.DataFrame(schema={"line": pl.Int64}), done, share)

    def _named(self, table: pl.DataFrame) -> pl.DataFrame:
        return table.rename({name: ours for name, ours in self.columns.items() if name in table.columns})

    def _require(self, path: Path, names: Sequence[str]) -> None:
        prices = "price" in names or {"price_open", "price_close"} <= set(names)
        missing = [name for name in ("time", "instrument") if name not in names] + ([] if prices else ["price"])
        if missing:
            raise ReplayFileError(
                f"{path} has no column {' or '.join(missing)} but {', '.join(names)[:200]};"
                f" say which it is with --map {missing[0]}=COLUMN."
            )


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
            file = json.loads(batch.cursor)[0]
            self._newest_ns = int(due[end - 1])
            yield replace(
                batch,
                ticks=ticks,
                cursor=batch.cursor if last else json.dumps([file, ticks["line"][-1]]),
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
