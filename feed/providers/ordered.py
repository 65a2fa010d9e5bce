"""Files read in another order than they were written in: newest first turned round, or sorted by time, on disk."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

import polars as pl

from feed.intake import MAX_BLOCK_ROWS
from feed.provider import Batch
from feed.providers.replay import Place, ReplayProvider
from feed.tick import check
from feed.tick_time import read_times

_NS = "\0ns"
# Every so many rows of a sorted chunk, one time is kept in memory to divide the whole by.
_SAMPLE_EVERY = 1_000
_ORIGINS_SHOWN = 3


@dataclass(frozen=True)
class _Chunk:
    """Rows of one document (file and document in it) on disk; from_ns, to_ns: their oldest and newest time."""

    path: Path
    document: tuple[int, int]
    origin: str | None
    from_ns: int
    to_ns: int


@dataclass(frozen=True)
class OrderedReplay:
    """What a replay's files hold, in another order; its memory is bounded, and all of it must fit in `folder`.

    newest_first: each document is turned round, and the one with the oldest rows comes first. by_time: rows are sorted
    by time; those of equal times stay in the order of their files, turned round with newest_first. Rows that will be
    rejects come last. It always begins at the start.
    """

    inner: ReplayProvider
    folder: Path
    by_time: bool
    newest_first: bool
    block_rows: int = MAX_BLOCK_ROWS

    @property
    def name(self) -> str:
        """Name of the source in the tick log."""
        return self.inner.name

    @property
    def live(self) -> bool:
        """Return False: these are recordings."""
        return False

    def catalogue(self) -> None:
        """Return None, as the files' own provider does."""
        return

    def batches(self, cursor: str | None, stop: threading.Event) -> Iterator[Batch]:  # noqa: ARG002
        """Yield all rows, once every file has been read; broken lines come before."""
        self.folder.mkdir(parents=True, exist_ok=True)
        good, bad, samples = list[_Chunk](), list[_Chunk](), list[pl.Series]()
        for batch in self.inner.batches(None, stop):
            if batch.broken.height:
                yield replace(batch, ticks=pl.DataFrame(), share=(batch.share or 0) / 2)
            if batch.ticks.height:
                refused = check(batch.ticks, None).rejects["line"]
                is_bad = batch.ticks["line"].is_in(refused.implode())
                bad += self._kept(batch.ticks.filter(is_bad), batch, len(bad), "bad")
                good += self._kept(rows := self._arranged(batch.ticks.filter(~is_bad)), batch, len(good), "good")
                if self.by_time and rows.height:
                    samples.append(rows[_NS].gather_every(_SAMPLE_EVERY))
        if stop.is_set():
            return
        count = max(len(good) + len(bad), 1)
        slices = self._sorted(good, samples) if self.by_time else self._turned(good)
        for number, (rows, origin) in enumerate(slices):
            share = 0.5 + min(number / count, 1.0) / 2
            for part in rows.drop(_NS, strict=False).iter_slices(self.block_rows):
                yield Batch(part, "", origin=origin, share=share, rising_ids=self.inner.rising_ids)
                if stop.is_set():
                    return
        for chunk in bad:
            yield Batch(pl.read_ipc(chunk.path).drop(_NS, strict=False), "", origin=chunk.origin, share=1.0)

    def _arranged(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Turn rows round, and sort them, as far as it can be done in one chunk."""
        rows = rows.with_columns(read_times(rows["time"]).alias(_NS)) if rows.height else rows
        rows = rows.reverse() if self.newest_first else rows
        return rows.sort(_NS, maintain_order=True) if self.by_time and rows.height else rows

    def _kept(self, rows: pl.DataFrame, batch: Batch, number: int, kind: str) -> list[_Chunk]:
        """Write rows to disk; no rows are no chunk."""
        if not rows.height:
            return []
        path = self.folder / f"{kind}-{number}.arrow"
        rows.write_ipc(path)
        ends = (rows[_NS].min(), rows[_NS].max()) if _NS in rows.columns else (0, 0)
        place = Place.of(batch.cursor)
        document = (place.file, place.document)
        return [_Chunk(path, document, batch.origin, *(end if isinstance(end, int) else 0 for end in ends))]

    def _turned(self, chunks: list[_Chunk]) -> Iterator[tuple[pl.DataFrame, str | None]]:
        """Yield the chunks of each document from its end, and the documents by their oldest row."""
        documents = sorted(_documents(chunks), key=lambda parts: min(part.from_ns for part in parts))
        for part in (part for parts in documents for part in reversed(parts)):
            yield pl.read_ipc(part.path), part.origin

    def _sorted(self, chunks: list[_Chunk], samples: list[pl.Series]) -> Iterator[tuple[pl.DataFrame, str | None]]:
        """Yield rows by time, a stretch of time after the other, each with about a block of rows."""
        if not chunks:
            return
        turned = [chunk for parts in _documents(chunks) for chunk in reversed(parts)]
        arrival = turned if self.newest_first else chunks
        all_samples = pl.concat(samples).sort()
        bounds = all_samples.gather_every(max(self.block_rows // _SAMPLE_EVERY, 1)).unique().sort().to_list()
        newest_ns = max(chunk.to_ns for chunk in chunks)
        for from_ns, before_ns in zip(bounds, [*bounds[1:], newest_ns + 1], strict=True):
            parts = list[pl.DataFrame]()
            origins = dict[str, None]()
            for chunk in arrival:
                if chunk.to_ns < from_ns or chunk.from_ns >= before_ns:
                    continue
                inside = pl.col(_NS).is_between(from_ns, before_ns, closed="left")
                parts.append(pl.read_ipc(chunk.path).filter(inside))
                origins[chunk.origin or self.name] = None
            if parts:
                yield pl.concat(parts, how="diagonal_relaxed").sort(_NS, maintain_order=True), _together(list(origins))


def _documents(chunks: list[_Chunk]) -> list[list[_Chunk]]:
    """Return the chunks of each document, in their order."""
    return [list(parts) for _, parts in groupby(chunks, key=lambda chunk: chunk.document)]


def _together(origins: list[str]) -> str:
    """Name the files that sorted rows are from; a row's own file is not known then."""
    more = f" and {len(origins) - _ORIGINS_SHOWN} more" if len(origins) > _ORIGINS_SHOWN else ""
    return ", ".join(origins[:_ORIGINS_SHOWN]) + more
