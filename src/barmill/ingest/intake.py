"""Intake: takes batches from a provider, checks them, drops duplicates, and appends them to the tick log."""

import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import polars as pl

from barmill.ingest.connection.provider import Batch, Provider
from barmill.ingest.identity import RecentIds
from barmill.model.tick import as_rejects, check, rejects_of_ticks
from barmill.platform.clock import NS_PER_MS
from barmill.platform.feed_settings import DEFAULT_DUPLICATE_WINDOW_MS, DEFAULT_FUTURE_TOLERANCE_MS
from barmill.storage.tick_log import TickLog

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class BatchOutcome:
    """The outcome of one batch: numbers of rows, and the end of the tick log.

    rejected: rows stored as rejects, including duplicates. share: the share of the source read so far, 0 to 1, or None
    if the source has no end.
    """

    read: int
    accepted: int
    rejected: int
    end_sequence: int
    share: float | None


class Intake:
    """The writer of one provider's ticks to the tick log.

    prefix, made_ms: as for TickLog.start_source. With a prefix, earlier ids are read back from this source's ticks
    only; without one, from all ticks.
    """

    def __init__(
        self,
        log: TickLog,
        provider: Provider,
        *,
        duplicate_window_ms: int = DEFAULT_DUPLICATE_WINDOW_MS,
        future_tolerance_ms: int = DEFAULT_FUTURE_TOLERANCE_MS,
        prefix: str = "",
        made_ms: int = 0,
    ) -> None:
        self._prefix, self._made_ms = prefix, made_ms
        self._log, self._provider = log, provider
        self._future_tolerance_ns = future_tolerance_ms * NS_PER_MS
        self._recent = RecentIds(duplicate_window_ms * NS_PER_MS)
        self._duplicate_window_ns = duplicate_window_ms * NS_PER_MS
        self._limits_future: bool | None = True if provider.live else None
        self._warn_at_count = 1

    def run(self, stop: threading.Event) -> Iterator[BatchOutcome]:
        """Append batches and yield the outcome of each, until the provider ends or `stop` is set.

        Raise ProviderError if the provider cannot be read.
        """
        name, live = self._provider.name, self._provider.live
        cursor = self._log.start_source(name, live=live, prefix=self._prefix, made_ms=self._made_ms)
        self._read_recent_ids()
        for batch in self._provider.batches(cursor, stop):
            yield self._append(batch)
            if stop.is_set():
                return
        if not stop.is_set():  # a stopped source has more ticks, so its bars must not close
            self._log.end_source(self._provider.name)

    def _append(self, batch: Batch) -> BatchOutcome:
        checked = check(batch.ticks, self._future_limit_ns(batch.ticks), rising_ids=batch.rising_ids)
        reused, restarted = self._recent.reused, self._recent.restarted
        new, duplicates = self._recent.split(checked.ticks)
        if self._recent.restarted > restarted:
            logger.warning("%s: the rising ids started again from lower numbers; no tick is lost.", self._provider.name)
        self._warn_about_reused_ids()
        rejects = _sorted_rejects(checked.rejects, duplicates, batch.broken)
        read = batch.ticks.height + batch.broken.height
        end = self._log.append(
            self._provider.name,
            new,
            rejects,
            origin=batch.origin,
            read=read,
            cursor=batch.cursor,
            complete_to_ms=batch.complete_to_ms,
            reused_ids=self._recent.reused - reused,
        )
        return BatchOutcome(read, new.height, rejects.height, end, batch.share)

    def _warn_about_reused_ids(self) -> None:
        """Warn about reused ids: at the first one, and each time their number has doubled."""
        if self._recent.reused < self._warn_at_count:
            return
        self._warn_at_count = 2 * self._recent.reused
        logger.warning(
            "%s: %d ticks have an id that an earlier tick of their instrument had; they are kept. The id counter"
            " restarted, or ids are unique only together with another field.",
            self._provider.name,
            self._recent.reused,
        )

    def _future_limit_ns(self, raw: pl.DataFrame) -> int | None:
        """Return the newest plausible time in ns, or None if the source's times are in the future.

        A recording cannot be ahead of the wall clock, so a later time is as wrong as in a live feed, and one such row
        must not make all later rows late. Only a recording whose first rows are mostly ahead has no limit: a
        simulation.
        """
        limit_ns = time.time_ns() + self._future_tolerance_ns
        if self._limits_future is None and raw.height:
            ahead = check(raw, limit_ns).rejects.filter(pl.col("reason") == "future").height
            self._limits_future = ahead <= raw.height // 2
        return limit_ns if self._limits_future in (True, None) else None

    def _read_recent_ids(self) -> None:
        """Read the ids of the last window back from the log, so that a restart misses no duplicates."""
        source = self._provider.name if self._prefix else None
        newest_ns = self._log.newest_time_ns(source)
        if newest_ns is not None:
            self._recent.remember(self._log.recent(newest_ns - self._duplicate_window_ns, source))


def _sorted_rejects(rejects: pl.DataFrame, duplicates: pl.DataFrame, broken: pl.DataFrame) -> pl.DataFrame:
    """Return all rejects of a batch (REJECT_SCHEMA), sorted by line."""
    parts = [rejects]
    if duplicates.height:
        parts.append(rejects_of_ticks(duplicates, "duplicate"))
    if broken.height:
        parts.append(as_rejects(broken))
    return rejects if len(parts) == 1 else pl.concat(parts).sort("line", maintain_order=True)
