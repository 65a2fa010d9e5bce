"""The comparison of what the job published with bars recomputed from the tick log."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path

import polars as pl

from bar import recompute
from bar.frames import Frame, parse_frame, parse_frames
from bar.model import BAR_KEY, BAR_VALUES
from bar.reader import BarReader
from bar.sharding import shard_of
from bar.store import Progress
from feed.tick import TICK_SCHEMA
from feed.ticklog import TickLog

_NS_PER_MS = 1_000_000
# Ticks are looked at in groups of instruments, each small enough for a laptop's memory.
_TICKS_PER_GROUP = 10_000_000
_MAX_EXAMPLES = 20


@dataclass
class Verdict:
    """What the comparison found.

    ticks: read by the jobs and still in the log. in_bars, late: what became of them, by recomputation.
    bars: compared, all frames. unverifiable: bars older than the log's oldest tick, of a frame that no job makes, or
    about to be removed as retention has removed others of their age.
    ahead: bars that hold ticks beyond what is known to have been read, compared with as many ticks as they hold. Only a
    store that is kept from Kafka has such, since progress is taken over there after the bars it speaks of.
    different: bars that disagree, the first of them described in examples.
    """

    ticks: int = 0
    in_bars: int = 0
    late: int = 0
    bars: int = 0
    unverifiable: int = 0
    different: int = 0
    examples: list[str] = field(default_factory=list)
    ahead: int = 0


@dataclass(frozen=True)
class Making:
    """How a frame's bars come about: what is accepted as not too late, and how far each job that makes it has read.

    read_to: (shards, by shard number the next sequence) of each such job.
    """

    lateness_ms: int
    read_to: tuple[tuple[int, Mapping[int, int]], ...]

    def limit(self, instrument: str) -> int:
        """Return the sequence up to which ticks of an instrument are in bars."""
        return max(next_of.get(shard_of(instrument, shards), 0) for shards, next_of in self.read_to)


def verify(ticks_db: Path, bars_db: Path, watch: Callable[[float], None]) -> Verdict:
    """Compare every bar of the store with the tick log; `watch` is told the share done.

    The jobs may go on meanwhile: bars and the log are compared as of one moment.
    """
    verdict = Verdict()
    with TickLog.read_only(ticks_db) as log, BarReader.open(bars_db).at_one_moment() as reader:
        progress = reader.progress()
        makings = frames_by_making(progress)
        dropped_to_ms = (log.dropped_to_ns() or -_NS_PER_MS) // _NS_PER_MS
        removed_to_ms = {parse_frame(one.frame): one.to_ms for one in reader.removed()}
        groups = 1 + sum(shard.read for shard in progress) // _TICKS_PER_GROUP
        for group in range(groups):
            published = dict(_published(reader, group, groups))
            frames_done, frames_all = 0, sum(len(frames) for _, frames in makings)
            for making, frames in makings:
                watch((group + frames_done / frames_all) / groups)
                ticks = _in_bars(log, making.limit, group, groups)
                later = cache(partial(_accepted, log, making, group, groups)) if reader.kept_from_kafka else None
                good = recompute.accepted(ticks, making.lateness_ms)
                verdict.ticks += ticks.height
                verdict.in_bars += good.height
                verdict.late += ticks.height - good.height
                for frame in frames:
                    from_ms = max(dropped_to_ms + 1, removed_to_ms.get(frame, 0))
                    _compare(verdict, good, published.pop(frame, None), frame, from_ms, later)
                    frames_done += 1
                    watch((group + frames_done / frames_all) / groups)
            verdict.unverifiable += sum(bars.height for bars in published.values())
    return verdict


def frames_by_making(progress: Sequence[Progress]) -> list[tuple[Making, list[Frame]]]:
    """Tell how each frame's bars come about; of several jobs, the one that waits longest for late ticks decides."""
    jobs: dict[str, list[Progress]] = {}
    for shard in progress:
        jobs.setdefault(shard.job, []).append(shard)
    makers: dict[Frame, list[list[Progress]]] = {}
    for shards in jobs.values():
        for frame in parse_frames(shards[0].frames):
            makers.setdefault(frame, []).append(shards)
    makings: dict[tuple[int, tuple[str, ...]], list[Frame]] = {}
    for frame, made_by in makers.items():
        lateness_ms = max(shards[0].lateness_ms for shards in made_by)
        makings.setdefault((lateness_ms, tuple(shards[0].job for shards in made_by)), []).append(frame)
    return [
        (Making(lateness_ms, tuple((jobs[name][0].shards, _next_by_shard(jobs[name])) for name in names)), frames)
        for (lateness_ms, names), frames in makings.items()
    ]


def _next_by_shard(shards: Sequence[Progress]) -> Mapping[int, int]:
    return {shard.shard: shard.next_sequence for shard in shards}


def _compare(
    verdict: Verdict,
    ticks: pl.DataFrame,
    published: pl.DataFrame | None,
    frame: Frame,
    from_ms: int,
    later: Callable[[], pl.DataFrame] | None,
) -> None:
    """Compare one frame. later: gives all accepted ticks of the log, where bars may be ahead of what is known."""
    whole = pl.col("start_ms") >= from_ms
    if published is None:
        published = pl.DataFrame(schema=BAR_VALUES)
    verdict.unverifiable += published.filter(~whole).height
    expected, published = recompute.bars_to_verify(ticks, frame).filter(whole), published.filter(whole)
    if later is not None:
        known = expected.select(*BAR_KEY, known="ticks")
        more = published.join(known, on=BAR_KEY, how="left").filter(pl.col("ticks") > pl.col("known").fill_null(0))
        if more.height:
            behind = expected.join(more, on=BAR_KEY, how="anti")
            expected = pl.concat([behind, recompute.bars_of_first(later(), more, frame)])
            verdict.ahead += more.height
    verdict.bars += expected.height
    for at, problem in recompute.differences(expected, published):
        verdict.different += 1
        if len(verdict.examples) < _MAX_EXAMPLES:
            verdict.examples.append(f"{at['instrument']} {at['frame']} {at['start_ms']}: {problem}")


def _accepted(log: TickLog, making: Making, group: int, groups: int) -> pl.DataFrame:
    """Return all ticks of this group of instruments that are not too late, with their sequences."""
    end = log.end_sequence()
    return recompute.accepted(_in_bars(log, lambda _: end, group, groups), making.lateness_ms)


def _in_bars(log: TickLog, limit_of: Callable[[str], int], group: int, groups: int) -> pl.DataFrame:
    """Return the ticks of this group of instruments, each up to a sequence of its own, with their sequences."""
    of_group: dict[str, bool] = {}
    limit: dict[str, int] = {}
    parts = []
    for first, block in log.blocks():
        for name in block["instrument"].unique():
            if name not in limit:
                of_group[name], limit[name] = shard_of(name, groups) == group, limit_of(name)
        instrument = pl.col("instrument")
        parts.append(
            block.with_columns(sequence=pl.int_range(first, first + pl.len(), dtype=pl.Int64)).filter(
                instrument.replace_strict(of_group, return_dtype=pl.Boolean),
                pl.col("sequence") < instrument.replace_strict(limit, return_dtype=pl.Int64),
            )
        )
    return pl.concat(parts) if parts else pl.DataFrame(schema={**TICK_SCHEMA, "sequence": pl.Int64()})


def _published(reader: BarReader, group: int, groups: int) -> Iterator[tuple[Frame, pl.DataFrame]]:
    """Yield the published bars (BAR_VALUES) of this group of instruments, frame by frame."""
    names = [name for name in reader.instruments() if shard_of(name, groups) == group]
    frames = sorted({frame for name in names for frame in reader.frames(name)})
    for frame in frames:
        yield parse_frame(frame), pl.concat(reader.bars(name, frame).select(BAR_VALUES.keys()) for name in names)
