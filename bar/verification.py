"""The comparison of what the jobs published, and of what pages show of it, with bars recomputed from the tick log."""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from bar import recompute
from bar.frames import Frame, parse_frame
from bar.holdings import Cover
from bar.making import KnownJob, Making, halted, makings, with_delay
from bar.model import BAR_KEY, BAR_VALUES
from bar.pieces import Piece
from bar.query import BarQuery
from bar.reader import BarReader
from bar.sharding import shard_of
from feed.damage import damaged_blocks
from feed.tick import TICK_SCHEMA
from feed.ticklog import TickLog

_NS_PER_MS = 1_000_000
# Ticks are looked at in groups of instruments, each small enough for a laptop's memory.
_TICKS_PER_GROUP = 10_000_000
_MAX_EXAMPLES = 20
# What is rolled up of stored bars is rounded more than once: see bar/rollup.py.
_ROUNDED = 2e-14


@dataclass
class Verdict:
    """What the comparison found.

    ticks: read by the jobs and still in the log. in_bars, late: what became of them, by recomputation.
    bars: compared, all frames. unverifiable: bars older than the log's oldest tick, of a frame that no job makes, or
    about to be removed as retention has removed others of their age.
    ahead: bars that hold ticks beyond what is known to have been read, compared with as many ticks as they hold. Only a
    store that is kept from Kafka has such, since progress is taken over there after the bars it speaks of.
    different: bars that disagree, the first of them described in examples.
    shown, shown_different: the same of bars that pages make of stored ones, in every frame that they offer.
    damaged: ticks in damaged blocks of the log that were not acknowledged yet; bars of these times are not compared.
    stopped: a sentence for each frame that is not made any more while others are, or while its job should run.
    given_up: a sentence for each frame whose jobs were all deleted or make others now, which is no failure.
    """

    ticks: int = 0
    in_bars: int = 0
    late: int = 0
    bars: int = 0
    unverifiable: int = 0
    different: int = 0
    examples: list[str] = field(default_factory=list)
    ahead: int = 0
    shown: int = 0
    shown_different: int = 0
    stopped: list[str] = field(default_factory=list)
    damaged: int = 0
    given_up: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """Tell whether there is nothing to complain of."""
        return not (self.different or self.shown_different or self.stopped or self.damaged)


def verify(ticks_db: Path, bars_db: Path, watch: Callable[[float], None], jobs: Collection[KnownJob] = ()) -> Verdict:
    """Compare every bar of the store, and every bar that pages show, with the tick log.

    `watch` gets the share done. jobs: all that are known. They may go on meanwhile: bars and
    the log are compared as of one moment.
    """
    verdict = Verdict()
    with TickLog.read_only(ticks_db) as log, BarReader.open(bars_db).at_one_moment() as reader:
        covers = reader.covers()
        not_made = halted(covers, jobs, log.end_sequence(), log.arrived_ms())
        verdict.stopped, verdict.given_up = not_made.stopped, not_made.given_up
        by_frame = makings(covers)
        whole = Making(tuple(covers))
        from_ms = (log.dropped_to_ns() or -_NS_PER_MS) // _NS_PER_MS + 1
        removed_to_ms = {parse_frame(one.frame): one.to_ms for one in reader.removed()}
        groups = 1 + sum(shard.read for shard in reader.progress()) // _TICKS_PER_GROUP
        for group in range(groups):
            published = dict(_published(reader, group, groups))
            ahead = reader.kept_from_kafka
            ticks = with_delay(_read(log, (lambda _: 2**62) if ahead else whole.limit, group, groups))
            damaged = damaged_blocks(log.db)
            verdict.damaged = sum(one.rows for one in damaged if not one.seen)
            intact = _outside([(one.min_time_ns // _NS_PER_MS, one.max_time_ns // _NS_PER_MS) for one in damaged])
            for making in dict.fromkeys(by_frame.values()):
                read = making.read(ticks).height
                verdict.ticks, taken = verdict.ticks + read, making.took(ticks).height
                verdict.in_bars, verdict.late = verdict.in_bars + taken, verdict.late + read - taken
            for place, (frame, making) in enumerate(by_frame.items()):
                watch((group + place / len(by_frame) / 2) / groups)
                since_ms = max(from_ms, removed_to_ms.get(frame, 0))
                later = ticks.filter(pl.col("behind_ns") <= making.lateness_ns) if ahead else None
                whole_bars = intact & (pl.col("start_ms") >= since_ms)
                _compare(verdict, making.took(ticks), published.pop(frame, None), frame, whole_bars, later)
            verdict.unverifiable += sum(bars.height for bars in published.values())
            offers = _offers(reader, group, groups)
            for place, (frame, names) in enumerate(offers.items()):
                watch((group + (1 + place / len(offers)) / 2) / groups)
                whole_bars = intact & (pl.col("start_ms") >= from_ms)
                _compare_shown(verdict, reader, frame, names, ticks, covers, whole_bars)
    watch(1.0)
    return verdict


def _outside(times: Sequence[tuple[int, int]]) -> pl.Expr:
    """Return whether a bar holds none of these stretches of time, ends included."""
    clear = ((pl.col("end_ms") <= from_ms) | (pl.col("start_ms") > to_ms) for from_ms, to_ms in times)
    return pl.all_horizontal(pl.lit(True), *clear)


def _offers(reader: BarReader, group: int, groups: int) -> dict[Frame, list[str]]:
    """Return by frame the instruments of this group that pages offer it of."""
    names = [name for name in reader.instruments() if shard_of(name, groups) == group]
    offered = {name: reader.offered(name) for name in names}
    frames = sorted({frame for of_one in offered.values() for frame in of_one})
    return {frame: [name for name in names if frame in offered[name]] for frame in frames}


def _compare_shown(
    verdict: Verdict,
    reader: BarReader,
    frame: Frame,
    names: Sequence[str],
    ticks: pl.DataFrame,
    covers: Sequence[Cover],
    whole: pl.Expr,
) -> None:
    """Compare the bars of one frame where pages show them otherwise than they are stored."""
    makers = tuple(one for one in covers if any(of_it.divides(frame) for of_it in one.frames))
    held, made, sure = list[pl.DataFrame](), list[pl.DataFrame](), list[pl.DataFrame]()
    for name in names:
        parts = reader.pieces(name, frame)
        if all(piece.frame == frame for piece in parts):
            continue
        made.append(reader.read(BarQuery(name, frame)).select(BAR_VALUES.keys()))
        sure.append(_spans(name, [piece for piece in parts if not piece.doubtful]))
        mine = ticks.filter(pl.col("instrument") == name)
        if len({one.lateness_ms for one in makers}) == 1:
            held.append(Making(makers).took(mine))
        else:  # what is too late is not the same for all of them
            held += (_inside(makings(covers).get(piece.frame, Making(())).took(mine), piece) for piece in parts)
    if not made:
        return
    known = pl.concat(sure)
    found, expected = (
        bars.join_where(known, pl.col("instrument") == pl.col("of"), pl.col("start_ms") >= pl.col("from_ms"))
        .filter(pl.col("end_ms") <= pl.col("to_ms"), whole)
        .select(BAR_VALUES.keys())
        for bars in (pl.concat(made), recompute.bars(pl.concat(held).drop("behind_ns"), frame))
    )
    if reader.kept_from_kafka:
        found, expected = _as_far_as_known(found, expected)
    verdict.shown += expected.height
    verdict.shown_different += _note(verdict, expected, _rounded_alike(found, expected), "as pages show it, ")


def _inside(ticks: pl.DataFrame, piece: Piece) -> pl.DataFrame:
    at_ms = pl.col("time_ns") // _NS_PER_MS
    return ticks.filter(at_ms >= piece.from_ms, at_ms < piece.to_ms)


def _spans(name: str, parts: Sequence[Piece]) -> pl.DataFrame:
    """Return (of, from_ms, to_ms): the stretches of time of these pieces, neighbors joined."""
    spans = list[tuple[str, int, int]]()
    for piece in parts:
        if spans and spans[-1][2] == piece.from_ms:
            spans[-1] = (name, spans[-1][1], piece.to_ms)
        else:
            spans.append((name, piece.from_ms, piece.to_ms))
    return pl.DataFrame(spans, {"of": pl.String, "from_ms": pl.Int64, "to_ms": pl.Int64}, orient="row")


def _as_far_as_known(made: pl.DataFrame, expected: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Leave out bars that hold ticks beyond what is known to have been read."""
    known = expected.select(*BAR_KEY, known="ticks")
    ahead = made.join(known, on=BAR_KEY, how="left").filter(pl.col("ticks") > pl.col("known").fill_null(0))
    return made.join(ahead, on=BAR_KEY, how="anti"), expected.join(ahead, on=BAR_KEY, how="anti")


def _rounded_alike(made: pl.DataFrame, expected: pl.DataFrame) -> pl.DataFrame:
    """Take over amounts that differ by no more than what rounding twice can do."""
    names = ("volume", "vwap")
    both = made.join(expected.select(*BAR_KEY, *names), on=BAR_KEY, how="left", suffix="_exact")
    return both.with_columns(
        pl.when((pl.col(name) - pl.col(f"{name}_exact")).abs() <= _ROUNDED * pl.col(f"{name}_exact"))
        .then(pl.col(f"{name}_exact"))
        .otherwise(pl.col(name))
        .alias(name)
        for name in names
    ).select(BAR_VALUES.keys())


def _compare(
    verdict: Verdict,
    ticks: pl.DataFrame,
    published: pl.DataFrame | None,
    frame: Frame,
    whole: pl.Expr,
    later: pl.DataFrame | None,
) -> None:
    """Compare one frame. whole: of which bars the log holds all ticks. later: all accepted ticks of the log, where bars
    may be ahead of what is known.
    """
    if published is None:
        published = pl.DataFrame(schema=BAR_VALUES)
    verdict.unverifiable += published.filter(~whole).height
    expected, published = recompute.bars_to_verify(ticks, frame).filter(whole), published.filter(whole)
    if later is not None:
        known = expected.select(*BAR_KEY, known="ticks")
        more = published.join(known, on=BAR_KEY, how="left").filter(pl.col("ticks") > pl.col("known").fill_null(0))
        if more.height:
            behind = expected.join(more, on=BAR_KEY, how="anti")
            expected = pl.concat([behind, recompute.bars_of_first(later, more, frame)])
            verdict.ahead += more.height
    verdict.bars += expected.height
    verdict.different += _note(verdict, expected, published)


def _note(verdict: Verdict, expected: pl.DataFrame, found: pl.DataFrame, how: str = "") -> int:
    """Describe what differs, as long as there is room, and return how many bars do."""
    count = 0
    for at, problem in recompute.differences(expected, found):
        count += 1
        if len(verdict.examples) < _MAX_EXAMPLES:
            verdict.examples.append(f"{at['instrument']} {at['frame']} {at['start_ms']}: {how}{problem}")
    return count


def _read(log: TickLog, limit_of: Callable[[str], int], group: int, groups: int) -> pl.DataFrame:
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
