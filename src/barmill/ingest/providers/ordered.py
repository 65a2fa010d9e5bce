"""Files in another order than written: reversed if newest first, or sorted by time, with temporary files on disk."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

import polars as pl

from barmill.ingest.connection.provider import Batch
from barmill.ingest.providers.replay import FilePosition, ReplayProvider
from barmill.model.tick import check
from barmill.model.tick_time import read_times
from barmill.storage.tick_damage import MAX_BLOCK_ROWS

_TIME_COLUMN = "\0ns"
# For every _SAMPLE_EVERY rows of a sorted chunk, one time stays in memory to find the bounds of the sorted blocks.
_SAMPLE_EVERY = 1_000
_ORIGINS_SHOWN = 3


@dataclass(frozen=True)
class _Chunk:
    """Rows of one document on disk; document: file number and document number.

    from_ns, to_ns: the oldest and the newest time.
    """

    path: Path
    document: tuple[int, int]
    origin: str | None
    from_ns: int
    to_ns: int


@dataclass(frozen=True)
class OrderedReplay:
    """The rows of a replay's files in another order, with bounded memory; all of them must fit in `folder`.

    newest_first: each document is reversed, and the document with the oldest rows comes first. by_time: rows are sorted
    by time; rows of equal times keep the order of their files, reversed if newest_first. Rows that will be rejected
    come last. Reading always starts at the beginning.
    """

    inner: ReplayProvider
    folder: Path
    by_time: bool
    newest_first: bool
    block_rows: int = MAX_BLOCK_ROWS

    @property
    def name(self) -> str:
        """Return the name of the source in the tick log."""
        return self.inner.name

    @property
    def live(self) -> bool:
        """Return False, because files are recordings."""
        return False

    def catalogue(self) -> None:
        """Return None, like the inner provider."""
        return

    def batches(self, cursor: str | None, stop: threading.Event) -> Iterator[Batch]:  # noqa: ARG002
        """Yield all rows after every file has been read; broken lines are yielded during reading."""
        self.folder.mkdir(parents=True, exist_ok=True)
        good_chunks, bad_chunks, samples = list[_Chunk](), list[_Chunk](), list[pl.Series]()
        for batch in self.inner.batches(None, stop):
            if batch.broken.height:
                yield replace(batch, ticks=pl.DataFrame(), share=(batch.share or 0) / 2)
            if batch.ticks.height:
                rejected_lines = check(batch.ticks, None).rejects["line"]
                is_bad = batch.ticks["line"].is_in(rejected_lines.implode())
                bad_chunks += self._write_chunk(batch.ticks.filter(is_bad), batch, len(bad_chunks), "bad")
                rows = self._arrange(batch.ticks.filter(~is_bad))
                good_chunks += self._write_chunk(rows, batch, len(good_chunks), "good")
                if self.by_time and rows.height:
                    samples.append(rows[_TIME_COLUMN].gather_every(_SAMPLE_EVERY))
        if stop.is_set():
            return
        count = max(len(good_chunks) + len(bad_chunks), 1)
        slices = self._sorted_rows(good_chunks, samples) if self.by_time else self._reversed_documents(good_chunks)
        for number, (rows, origin) in enumerate(slices):
            share = 0.5 + min(number / count, 1.0) / 2
            for part in rows.drop(_TIME_COLUMN, strict=False).iter_slices(self.block_rows):
                yield Batch(part, "", origin=origin, share=share, rising_ids=self.inner.rising_ids)
                if stop.is_set():
                    return
        for chunk in bad_chunks:
            yield Batch(pl.read_ipc(chunk.path).drop(_TIME_COLUMN, strict=False), "", origin=chunk.origin, share=1.0)

    def _arrange(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Reverse and sort the rows of one chunk as required."""
        rows = rows.with_columns(read_times(rows["time"]).alias(_TIME_COLUMN)) if rows.height else rows
        rows = rows.reverse() if self.newest_first else rows
        return rows.sort(_TIME_COLUMN, maintain_order=True) if self.by_time and rows.height else rows

    def _write_chunk(self, rows: pl.DataFrame, batch: Batch, number: int, kind: str) -> list[_Chunk]:
        """Write rows to disk; return no chunk if there are no rows."""
        if not rows.height:
            return []
        path = self.folder / f"{kind}-{number}.arrow"
        rows.write_ipc(path)
        ends = (rows[_TIME_COLUMN].min(), rows[_TIME_COLUMN].max()) if _TIME_COLUMN in rows.columns else (0, 0)
        position = FilePosition.of(batch.cursor)
        document = (position.file, position.document)
        return [_Chunk(path, document, batch.origin, *(end if isinstance(end, int) else 0 for end in ends))]

    def _reversed_documents(self, chunks: list[_Chunk]) -> Iterator[tuple[pl.DataFrame, str | None]]:
        """Yield the chunks of each document from its end; the documents are ordered by their oldest row."""
        documents = sorted(_documents(chunks), key=lambda parts: min(part.from_ns for part in parts))
        for part in (part for parts in documents for part in reversed(parts)):
            yield pl.read_ipc(part.path), part.origin

    def _sorted_rows(self, chunks: list[_Chunk], samples: list[pl.Series]) -> Iterator[tuple[pl.DataFrame, str | None]]:
        """Yield rows sorted by time, one time range after the other, each with about one block of rows."""
        if not chunks:
            return
        reversed_chunks = [chunk for parts in _documents(chunks) for chunk in reversed(parts)]
        ordered_chunks = reversed_chunks if self.newest_first else chunks
        all_samples = pl.concat(samples).sort()
        bounds = all_samples.gather_every(max(self.block_rows // _SAMPLE_EVERY, 1)).unique().sort().to_list()
        newest_ns = max(chunk.to_ns for chunk in chunks)
        for from_ns, before_ns in zip(bounds, [*bounds[1:], newest_ns + 1], strict=True):
            parts = list[pl.DataFrame]()
            origins = dict[str, None]()
            for chunk in ordered_chunks:
                if chunk.to_ns < from_ns or chunk.from_ns >= before_ns:
                    continue
                in_range = pl.col(_TIME_COLUMN).is_between(from_ns, before_ns, closed="left")
                parts.append(pl.read_ipc(chunk.path).filter(in_range))
                origins[chunk.origin or self.name] = None
            if parts:
                yield (
                    pl.concat(parts, how="diagonal_relaxed").sort(_TIME_COLUMN, maintain_order=True),
                    _origins_text(list(origins)),
                )


def _documents(chunks: list[_Chunk]) -> list[list[_Chunk]]:
    """Return the chunks of each document, in order."""
    return [list(parts) for _, parts in groupby(chunks, key=lambda chunk: chunk.document)]


def _origins_text(origins: list[str]) -> str:
    """Return the names of the files that sorted rows are from; the file of a single row is not known."""
    more = f" and {len(origins) - _ORIGINS_SHOWN} more" if len(origins) > _ORIGINS_SHOWN else ""
    return ", ".join(origins[:_ORIGINS_SHOWN]) + more
