"""What is told to which shard: the next ticks of the log, split, and how the log stands. Pure but for what was told."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import polars as pl

from bar.sharding import shard_of
from feed.kafka.message import NO_TICKS, SourceState, TickMessage
from feed.ticklog import Backlog

# So many ticks, whatever the names of their instruments, are below the size of a message that Kafka takes.
MAX_ROWS_PER_MESSAGE = 20_000
# A shard without ticks hears how the log stands so often, as long as that changes, so that its bars close in time ...
QUIET_TOLD_EVERY_MS = 250
# ... and so often in any case, so that whoever reads can tell a quiet log from a dead one.
TOLD_EVERY_MS = 1_000


@dataclass(frozen=True)
class _Told:
    at_ms: int
    message: TickMessage


class Batches:
    """Turns what is read from the log into messages, one after the other, for each shard in the order of the log."""

    def __init__(self, shards: int) -> None:
        self._shards = shards
        self._shard_of: dict[str, int] = {}
        self._told: dict[int, _Told] = {}

    def messages(self, backlog: Backlog, clock_ms: int) -> list[tuple[int, TickMessage]]:
        """Return (shard, message) for every shard that is to hear something now."""
        about = TickMessage(
            NO_TICKS,
            backlog.first_sequence,
            backlog.next_sequence,
            backlog.end_sequence,
            None,
            tuple(
                SourceState(one.name, one.live, one.complete_to_ms, one.ended, one.prefix) for one in backlog.sources
            ),
        )
        parts = self._split(backlog)
        found = list[tuple[int, TickMessage]]()
        for shard in range(self._shards):
            if shard in parts:
                found += ((shard, one) for one in _pieces(replace(about, source=backlog.source), parts[shard]))
            elif self._is_due(shard, about, clock_ms):
                found.append((shard, about))
        self._told |= {shard: _Told(clock_ms, about) for shard, _ in found}
        return found

    def next_due_ms(self, clock_ms: int) -> int:
        """Return in how many milliseconds a shard is to hear something, whether the log goes on or not."""
        if len(self._told) < self._shards:
            return 0
        return max(0, min(told.at_ms for told in self._told.values()) + TOLD_EVERY_MS - clock_ms)

    def _is_due(self, shard: int, about: TickMessage, clock_ms: int) -> bool:
        told = self._told.get(shard)
        if told is None:
            return True
        every_ms = TOLD_EVERY_MS if _says_the_same(told.message, about) else QUIET_TOLD_EVERY_MS
        return clock_ms - told.at_ms >= every_ms

    def _split(self, backlog: Backlog) -> Mapping[int, pl.DataFrame]:
        """Return the ticks by shard, with their sequence numbers."""
        if backlog.ticks is None:
            return {}
        first = backlog.first_sequence
        ticks = backlog.ticks.with_columns(sequence=pl.int_range(first, first + pl.len(), dtype=pl.Int64))
        for name in ticks["instrument"].unique():
            if name not in self._shard_of:
                self._shard_of[name] = shard_of(name, self._shards)
        shards = pl.col("instrument").replace_strict(self._shard_of, return_dtype=pl.Int64)
        parts = ticks.with_columns(shard=shards).partition_by("shard", maintain_order=True, include_key=False)
        return {self._shard_of[part["instrument"][0]]: part for part in parts}


def _pieces(whole: TickMessage, ticks: pl.DataFrame) -> Iterator[TickMessage]:
    """Cut a shard's part of a batch into messages that Kafka takes; only the last one tells where the batch ends."""
    for start in range(0, ticks.height, MAX_ROWS_PER_MESSAGE):
        piece = ticks.slice(start, MAX_ROWS_PER_MESSAGE)
        is_last = start + piece.height == ticks.height
        yield replace(whole, ticks=piece, next_sequence=whole.next_sequence if is_last else piece["sequence"][-1] + 1)


def _says_the_same(told: TickMessage, about: TickMessage) -> bool:
    return told.sources == about.sources and told.end_sequence == about.end_sequence
