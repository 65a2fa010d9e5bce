"""Intake: takes batches from a provider, checks them, drops repeats, and appends them to the tick log."""

import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import polars as pl

from feed.duplicates import RecentIds
from feed.provider import Batch, Provider
from feed.tick import as_rejects, check, rejects_of_ticks
from feed.ticklog import TickLog

logger = logging.getLogger(__name__)

DEFAULT_FUTURE_TOLERANCE_MS = 5_000
DEFAULT_DUPLICATE_WINDOW_MS = 300_000
MAX_BLOCK_ROWS = 250_000
_NS_PER_MS = 1_000_000


@dataclass(frozen=True)
class Ingested:
    """What became of one batch."""

    read: int
    accepted: int
    rejected: int
    end_sequence: int
    share: float | None


class Intake:
    """One provider's way into the tick log.

    prefix, made_ms: see TickLog.start_source; what has a prefix is filed under the provider's own name.
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
        self._future_tolerance_ns = future_tolerance_ms * _NS_PER_MS
        self._recent = RecentIds(duplicate_window_ms * _NS_PER_MS)
        self._duplicate_window_ns = duplicate_window_ms * _NS_PER_MS
        self._future_guard: bool | None = True if provider.live else None
        self._say_reused_at = 1

    def run(self, stop: threading.Event) -> Iterator[Ingested]:
        """Append batch after batch, yielding what became of each, until the provider ends or `stop` is set."""
        name, live = self._provider.name, self._provider.live
        cursor = self._log.start_source(name, live=live, prefix=self._prefix, made_ms=self._made_ms)
        self._recall_ids()
        for batch in self._provider.batches(cursor, stop):
            yield self._append(batch)
            if stop.is_set():
                return
        if not stop.is_set():  # a source that was told to stop has more to give, and its bars must not close
            self._log.end_source(self._provider.name)

    def _append(self, batch: Batch) -> Ingested:
        checked = check(batch.ticks, self._future_limit_ns(batch.ticks), rising_ids=batch.rising_ids)
        reused, restarted = self._recent.reused, self._recent.restarted
        new, repeats = self._recent.split(checked.ticks)
        if self._recent.restarted > restarted:
            logger.warning(
                "%s: ids of rising numbers start again from lower ones; no tick is lost.", self._provider.name
            )
        self._say_reused()
        refused = _refused(checked.rejects, repeats, batch.broken)
        read = batch.ticks.height + batch.broken.height
        end = self._log.append(
            self._provider.name,
            new,
            refused,
            origin=batch.origin,
            read=read,
            cursor=batch.cursor,
            complete_to_ms=batch.complete_to_ms,
            reused_ids=self._recent.reused - reused,
        )
        return Ingested(read, new.height, refused.height, end, batch.share)

    def _say_reused(self) -> None:
        """Say that ids come again, at first and each time when twice as many ticks have them as the last time."""
        if self._recent.reused < self._say_reused_at:
            return
        self._say_reused_at = 2 * self._recent.reused
        logger.warning(
            "%s: ticks with an id that another tick of their instrument had, which are kept: %d. Its counter started"
            " again, or ids are unique only together with another field.",
            self._provider.name,
            self._recent.reused,
        )

    def _future_limit_ns(self, raw: pl.DataFrame) -> int | None:
        """Return the newest time stamp to believe, or None when the source plays in the future.

        A recording cannot be ahead of the wall clock, so a stamp beyond it is as wrong as it is live, and one such
        row must not make all later ones late. Only a source whose rows mostly lie ahead, a simulation, has no limit.
        """
        limit_ns = time.time_ns() + self._future_tolerance_ns
        if self._future_guard is None and raw.height:
            ahead = check(raw, limit_ns).rejects.filter(pl.col("reason") == "future").height
            self._future_guard = ahead <= raw.height // 2
        return limit_ns if self._future_guard in (True, None) else None

    def _recall_ids(self) -> None:
        """Read back the ids of the window before the end of the log, as if this process had never stopped."""
        own = self._provider.name if self._prefix else None
        newest_ns = self._log.newest_time_ns(own)
        if newest_ns is not None:
            self._recent.remember(self._log.recent(newest_ns - self._duplicate_window_ns, own))


def _refused(bad: pl.DataFrame, repeats: pl.DataFrame, broken: pl.DataFrame) -> pl.DataFrame:
    """Return all rejects of a batch by line; nearly always there are none, which costs nothing."""
    parts = [bad]
    if repeats.height:
        parts.append(rejects_of_ticks(repeats, "duplicate"))
    if broken.height:
        parts.append(as_rejects(broken))
    return bad if len(parts) == 1 else pl.concat(parts).sort("line", maintain_order=True)
