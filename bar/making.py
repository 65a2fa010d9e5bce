"""How the bars of a frame come about, derived from what the store knows of coverage: which ticks they hold. Pure."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import polars as pl

from bar.frames import Frame
from bar.holdings import Cover
from bar.sharding import shard_of

# A job says how far it is about once a second; one that was silent for so long beside others is not at work.
_SILENT_MS = 60_000
_NS_PER_MS = 1_000_000


@dataclass(frozen=True)
class Making:
    """Who makes, or made, bars of some frames: of a job with other frames or another lateness before, both."""

    covers: tuple[Cover, ...]

    def limit(self, instrument: str) -> int:
        """Return the sequence up to which ticks of an instrument were read."""
        return max((one.next_sequence for one in self._of(instrument)), default=0)

    def took(self, ticks: pl.DataFrame) -> pl.DataFrame:
        """Return those of the ticks (TICK_SCHEMA, sequence, and behind_ns as `with_delay` adds it) that are in bars."""
        names = ticks["instrument"].unique().to_list()
        taken = pl.lit(False)
        for one in self.covers:
            mine = [name for name in names if shard_of(name, one.shards) == one.shard]
            taken = taken | (
                pl.col("instrument").is_in(mine)
                & (pl.col("sequence") < one.next_sequence)
                & (pl.col("behind_ns") <= one.lateness_ms * _NS_PER_MS)
            )
        return ticks.filter(taken)

    def read(self, ticks: pl.DataFrame) -> pl.DataFrame:
        """Return those of the ticks that were read."""
        limits = {name: self.limit(name) for name in ticks["instrument"].unique()}
        return ticks.filter(
            pl.col("sequence") < pl.col("instrument").replace_strict(limits, return_dtype=pl.Int64, default=0)
        )

    @property
    def lateness_ns(self) -> int:
        """Return the longest lateness that any of them allows."""
        return max((one.lateness_ms for one in self.covers), default=0) * _NS_PER_MS

    def _of(self, instrument: str) -> Iterable[Cover]:
        return (one for one in self.covers if one.shard == shard_of(instrument, one.shards))


def with_delay(ticks: pl.DataFrame) -> pl.DataFrame:
    """Add behind_ns: by how much each tick was older than the newest of its instrument; from the start of the log."""
    newest_ns = pl.col("time_ns").cum_max().over("instrument", order_by="sequence")
    return ticks.with_columns(behind_ns=newest_ns - pl.col("time_ns"))


def makings(covers: Sequence[Cover]) -> dict[Frame, Making]:
    """Return by frame how its bars come about."""
    frames = sorted({frame for one in covers for frame in one.frames})
    return {frame: Making(tuple(one for one in covers if frame in one.frames)) for frame in frames}


@dataclass(frozen=True)
class KnownJob:
    """A job, the frames that it makes while it runs, and whether it should; one that was deleted makes none."""

    name: str
    frames: frozenset[Frame]
    wanted: bool


@dataclass(frozen=True)
class Halted:
    """Sentences on frames that are not made. stopped: others are, or a job should make them; given_up: none would."""

    stopped: list[str]
    given_up: list[str]


def halted(covers: Sequence[Cover], jobs: Collection[KnownJob], log_end: int, log_ms: int) -> Halted:
    """Say of each frame that is not made any more since when, and by which job it was.

    jobs: all that are known. A frame counts as given up only if nothing but these ever made it.
    log_end, log_ms: the sequence that the next tick gets, and when the last one came.
    """
    found, names = Halted([], []), {one.name for one in jobs}
    wanted = {one.name for one in jobs if one.wanted}
    heard_ms, read_to = (
        max((getattr(one, name) for one in covers), default=0) for name in ("updated_ms", "next_sequence")
    )
    for frame, making in makings(covers).items():
        newest = max(making.covers, key=lambda one: (one.updated_ms, one.next_sequence))
        reach = max(one.next_sequence for one in making.covers)
        since = datetime.fromtimestamp(newest.updated_ms / 1_000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        if all(one.job in names for one in making.covers) and not any(frame in one.frames for one in jobs):
            found.given_up.append(
                f"{frame.text}: no job makes these bars any more; the job {newest.job} made the last ones at {since}."
            )
            continue
        others = newest.updated_ms < heard_ms - _SILENT_MS and reach < read_to
        should = (
            any(one.job in wanted for one in making.covers)
            and newest.updated_ms < log_ms - _SILENT_MS
            and reach < log_end
        )
        if others or should:
            why = "others are" if others else "it should be"
            found.stopped.append(
                f"{frame.text}: no bars have been made since {since}, by the job {newest.job}, although {why};"
                " start a job that makes them."
            )
    return found
