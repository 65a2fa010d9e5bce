"""The tick log on SQLite as a source: each shard reads it for itself and takes what is its own."""

import polars as pl

from bar.fold import MAX_ROWS_AT_ONCE
from bar.sharding import shard_of
from feed.ticklog import Backlog, TickLog
from flink_jobs.shard import Cursor, Delivery

_NS_PER_MS = 1_000_000
MAX_ROWS_PER_POLL = MAX_ROWS_AT_ONCE // 2


class SqliteSource:
    """What is in the tick log for one of so many shards."""

    def __init__(self, log: TickLog, shard: int, shards: int) -> None:
        self._log, self._shard, self._shards = log, shard, shards
        self._mine: dict[str, bool] = {}

    def lost(self, cursor: Cursor) -> str | None:
        """Say in a sentence what the log lacks of what a cursor has read; None if nothing."""
        end = self._log.end_sequence()
        if cursor.next_sequence > end:
            return (
                f"The tick log ends before sequence {end}, but ticks up to {cursor.next_sequence - 1} were read; it was"
                " replaced by an older one."
            )
        if cursor.epoch is not None and self._log.epoch_before(cursor.next_sequence) != cursor.epoch:
            return (
                f"The tick log holds other ticks than those read up to sequence {cursor.next_sequence - 1}; it was"
                " replaced by an older one, and then continued."
            )
        return None

    def read_from(self, sequence: int) -> Delivery:
        """Read what is next from `sequence` on."""
        backlog = self._log.read_from(sequence, MAX_ROWS_PER_POLL)
        return Delivery(
            self._select(backlog),
            backlog.first_sequence,
            backlog.next_sequence,
            backlog.caught_up,
            backlog.source,
            backlog.sources,
            self._missing_to_ms(sequence, backlog),
            backlog.epoch,
        )

    def _missing_to_ms(self, asked: int, backlog: Backlog) -> int | None:
        """Return up to which time ticks are gone that were asked for; None where none is."""
        if backlog.first_sequence == asked and backlog.damaged_to_ns is None:
            return None
        lost_ns = [at_ns for at_ns in (backlog.damaged_to_ns, self._log.dropped_to_ns()) if at_ns is not None]
        if not lost_ns and backlog.ticks is not None:
            # What was lost in another way than by retention is hardly newer than what came right after it.
            lost_ns.append(backlog.ticks["time_ns"][0])
        return max(lost_ns) // _NS_PER_MS if lost_ns else None

    def _select(self, backlog: Backlog) -> pl.DataFrame | None:
        """Return this shard's part of the ticks, with their sequence numbers, or None if there is none."""
        if backlog.ticks is None:
            return None
        first = backlog.first_sequence
        ticks = backlog.ticks.with_columns(sequence=pl.int_range(first, first + pl.len(), dtype=pl.Int64))
        if self._shards == 1:
            return ticks
        for name in ticks["instrument"].unique():
            self._mine.setdefault(name, shard_of(name, self._shards) == self._shard)
        mine = ticks.filter(pl.col("instrument").replace_strict(self._mine, return_dtype=pl.Boolean))
        return mine if mine.height else None
