"""The progress of a job's shards, and up to which time the sources of each instrument are complete.

An instrument belongs to the sources with the longest prefix that matches its name. Other sources do not affect it, so a
stuck source keeps no unrelated bar open.
"""

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Protocol

import polars as pl


@dataclass(frozen=True)
class Progress:
    """The progress of one shard of a job: ticks read and rejected as late, bars forming and held, and the newest time.

    next_sequence: the sequence after the last tick read. held: partial bars in memory, for bars that can still change.
    final: the job is a replay that has published all bars of the shard.
    frames, lateness_ms, shards: what the job makes, from its spec, so that its bars can be recomputed.
    begun_sequence: the sequence from which the shard has read the log without a hole. missing_to_ms: ticks before that
    sequence were already removed when the shard reached them; this is their newest time. None if none was removed.
    """

    job: str
    shard: int
    frames: str
    lateness_ms: int
    shards: int
    next_sequence: int
    read: int
    late: int
    forming: int
    held: int
    newest_tick_ms: int | None
    final: bool
    updated_ms: int
    begun_sequence: int = 1
    missing_to_ms: int | None = None


def shard_of(instrument: str, shards: int) -> int:
    """Return the shard of an instrument; the same on every machine and in every version."""
    return zlib.crc32(instrument.encode()) % shards


# By prefix; None while the time is unknown.
CompleteTo = Mapping[str, int | None]
FOREVER_MS = 2**61


class Completeness(Protocol):
    """The report of a source: up to when it is complete, and whether it has ended."""

    @property
    def prefix(self) -> str: ...  # noqa: D102

    @property
    def complete_to_ms(self) -> int | None: ...  # noqa: D102

    @property
    def ended(self) -> bool: ...  # noqa: D102


def complete_to(sources: Iterable[Completeness]) -> dict[str, int | None]:
    """Return, by prefix, the time in ms up to which all its sources are complete; FOREVER_MS if all have ended.

    The time is None if one of the running sources does not know it.
    """
    complete_ms = dict[str, int | None]()
    for source in sources:
        source_ms = FOREVER_MS if source.ended else source.complete_to_ms
        so_far_ms = complete_ms.get(source.prefix, FOREVER_MS)
        complete_ms[source.prefix] = None if source_ms is None or so_far_ms is None else min(source_ms, so_far_ms)
    return complete_ms


def prefix_of(prefixes: Iterable[str], instrument: str) -> str | None:
    """Return the prefix that an instrument belongs to; None if no prefix matches."""
    return max(filter(instrument.startswith, prefixes), key=len, default=None)


def by_instrument(values: Mapping[str, int | None], instrument: pl.Expr) -> pl.Expr:
    """Return the value of the prefix that each instrument belongs to; null if no prefix matches."""
    longest_last = sorted(values, key=len)
    return reduce(
        lambda so_far, prefix: (
            pl.when(instrument.str.starts_with(prefix)).then(pl.lit(values[prefix], pl.Int64)).otherwise(so_far)
        ),
        longest_last,
        pl.lit(None, pl.Int64),
    )
