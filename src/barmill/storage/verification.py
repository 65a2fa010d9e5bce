"""Verification: compares published bars, and bars as pages show them, with bars recomputed from the tick log."""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from barmill.model import recompute
from barmill.model.bar import BAR_KEY, BAR_VALUES
from barmill.model.frames import Frame, parse_frame
from barmill.model.pieces import Piece
from barmill.model.progress import shard_of
from barmill.model.tick import TICK_SCHEMA
from barmill.platform.clock import NS_PER_MS
from barmill.storage.coverage import Coverage, KnownJob, coverage_by_frame, halted_frames, with_delay
from barmill.storage.holdings import Cover
from barmill.storage.query import BarQuery
from barmill.storage.reader import BarReader
from barmill.storage.tick_damage import damaged_blocks
from barmill.storage.tick_log import TickLog

# Ticks are read in groups of instruments, each small enough for a laptop's memory.
_TICKS_PER_GROUP = 10_000_000
_MAX_EXAMPLES = 20
# Rolled-up bars are rounded more than once; see barmill/model/rollup.py.
_ROUNDING_ERROR = 2e-14


@dataclass
class Verdict:
    """The result of a verification.

    ticks: read by the jobs and still in the log; counted once for each group of frames that the same jobs made.
    in_bars, late: how many of them are in bars, and were too late, by recomputation.
    bars: compared bars of all frames. unverifiable: bars that may contain ticks that the log has dropped or that are in
    damaged blocks, bars of a frame without coverage, and bars as old as those that retention has removed.
    ahead: bars that hold ticks beyond the recorded progress, compared with as many ticks as they hold. Only a store
    filled from Kafka has such bars, since progress is stored there after the bars it covers.
    different: bars that differ. examples: descriptions of the first bars that differ, at most 20.
    shown, shown_different: compared and different bars as pages show them, where they do not just show the stored bars.
    damaged: ticks in damaged blocks of the log that are not yet marked as seen (tick_damage.py).
    stopped: a sentence for each frame that is no longer made while others are, or while its job should run.
    given_up: a sentence for each frame whose jobs were deleted or make other frames now, which is no failure.
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
        """Return whether no problem was found."""
        return not (self.different or self.shown_different or self.stopped or self.damaged)


def verify(
    ticks_db: Path, bars_db: Path, on_progress: Callable[[float], None], jobs: Collection[KnownJob] = ()
) -> Verdict:
    """Compare the bars of the store, and the bars that pages show, with the tick log.

    on_progress: called with the fraction done. jobs: all known jobs. They may run meanwhile: bars and progress are read
    as of one moment. Raise StoreMissingError if the log or the store does not exist.
    """
    verdict = Verdict()
    with TickLog.read_only(ticks_db) as log, BarReader.open(bars_db).snapshot() as reader:
        covers = reader.covers()
        not_made = halted_frames(covers, jobs, log.end_sequence(), log.arrived_ms())
        verdict.stopped, verdict.given_up = not_made.stopped, not_made.given_up
        by_frame = coverage_by_frame(covers)
        whole = Coverage(tuple(covers))
        from_ms = (log.dropped_to_ns() or -NS_PER_MS) // NS_PER_MS + 1
        removed_to_ms = {parse_frame(removal.frame): removal.to_ms for removal in reader.removals()}
        groups = 1 + sum(shard.read for shard in reader.progress()) // _TICKS_PER_GROUP
        for group in range(groups):
            published = dict(_published(reader, group, groups))
            ahead = reader.is_filled_from_kafka
            ticks = with_delay(_read(log, (lambda _: 2**62) if ahead else whole.read_to, group, groups))
            damaged = damaged_blocks(log.db)
            verdict.damaged = sum(block.rows for block in damaged if not block.seen)
            intact = _outside([(block.min_time_ns // NS_PER_MS, block.max_time_ns // NS_PER_MS) for block in damaged])
            for frame_coverage in dict.fromkeys(by_frame.values()):
                read = frame_coverage.ticks_read(ticks).height
                verdict.ticks, in_bars = verdict.ticks + read, frame_coverage.ticks_in_bars(ticks).height
                verdict.in_bars, verdict.late = verdict.in_bars + in_bars, verdict.late + read - in_bars
            for index, (frame, frame_coverage) in enumerate(by_frame.items()):
                on_progress((group + index / len(by_frame) / 2) / groups)
                since_ms = max(from_ms, removed_to_ms.get(frame, 0))
                later = ticks.filter(pl.col("behind_ns") <= frame_coverage.lateness_ns) if ahead else None
                whole_bars = intact & (pl.col("start_ms") >= since_ms)
                _compare(
                    verdict, frame_coverage.ticks_in_bars(ticks), published.pop(frame, None), frame, whole_bars, later
                )
            verdict.unverifiable += sum(bars.height for bars in published.values())
            offers = _offers(reader, group, groups)
            for index, (frame, names) in enumerate(offers.items()):
                on_progress((group + (1 + index / len(offers)) / 2) / groups)
                whole_bars = intact & (pl.col("start_ms") >= from_ms)
                _compare_shown(verdict, reader, frame, names, ticks, covers, whole_bars)
    on_progress(1.0)
    return verdict


def _outside(times: Sequence[tuple[int, int]]) -> pl.Expr:
    """Return whether a bar overlaps none of these time ranges, ends included."""
    clear = ((pl.col("end_ms") <= from_ms) | (pl.col("start_ms") > to_ms) for from_ms, to_ms in times)
    return pl.all_horizontal(pl.lit(True), *clear)


def _offers(reader: BarReader, group: int, groups: int) -> dict[Frame, list[str]]:
    """Return, by frame, the instruments of this group for which pages offer it."""
    names = [name for name in reader.instruments() if shard_of(name, groups) == group]
    offered = {name: reader.offered_frames(name) for name in names}
    frames = sorted({frame for frames_of_one in offered.values() for frame in frames_of_one})
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
    """Compare the bars of one frame, for those instruments of which pages do not just show the stored bars."""
    makers = tuple(cover for cover in covers if any(made.divides(frame) for made in cover.frames))
    held_ticks, shown_bars, certain = list[pl.DataFrame](), list[pl.DataFrame](), list[pl.DataFrame]()
    for name in names:
        parts = reader.pieces(name, frame)
        if all(piece.frame == frame for piece in parts):
            continue
        shown_bars.append(reader.read(BarQuery(name, frame)).select(BAR_VALUES.keys()))
        certain.append(_spans(name, [piece for piece in parts if not piece.doubtful]))
        own_ticks = ticks.filter(pl.col("instrument") == name)
        if len({cover.lateness_ms for cover in makers}) == 1:
            held_ticks.append(Coverage(makers).ticks_in_bars(own_ticks))
        else:  # the lateness differs between the jobs
            held_ticks += (
                _inside(coverage_by_frame(covers).get(piece.frame, Coverage(())).ticks_in_bars(own_ticks), piece)
                for piece in parts
            )
    if not shown_bars:
        return
    bounds = pl.concat(certain)
    shown_certain, expected = (
        bars.join_where(bounds, pl.col("instrument") == pl.col("of"), pl.col("start_ms") >= pl.col("from_ms"))
        .filter(pl.col("end_ms") <= pl.col("to_ms"), whole)
        .select(BAR_VALUES.keys())
        for bars in (pl.concat(shown_bars), recompute.bars(pl.concat(held_ticks).drop("behind_ns"), frame))
    )
    if reader.is_filled_from_kafka:
        shown_certain, expected = _without_bars_ahead(shown_certain, expected)
    verdict.shown += expected.height
    verdict.shown_different += _record_differences(
        verdict, expected, _ignore_rounding(shown_certain, expected), "as pages show it, "
    )


def _inside(ticks: pl.DataFrame, piece: Piece) -> pl.DataFrame:
    at_ms = pl.col("time_ns") // NS_PER_MS
    return ticks.filter(at_ms >= piece.from_ms, at_ms < piece.to_ms)


def _spans(name: str, parts: Sequence[Piece]) -> pl.DataFrame:
    """Return (of, from_ms, to_ms): the time ranges of these pieces, adjacent ones joined."""
    spans = list[tuple[str, int, int]]()
    for piece in parts:
        if spans and spans[-1][2] == piece.from_ms:
            spans[-1] = (name, spans[-1][1], piece.to_ms)
        else:
            spans.append((name, piece.from_ms, piece.to_ms))
    return pl.DataFrame(spans, {"of": pl.String, "from_ms": pl.Int64, "to_ms": pl.Int64}, orient="row")


def _without_bars_ahead(bars: pl.DataFrame, expected: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return both tables without the bars that hold ticks beyond the recorded progress."""
    known_ticks = expected.select(*BAR_KEY, known="ticks")
    ahead = bars.join(known_ticks, on=BAR_KEY, how="left").filter(pl.col("ticks") > pl.col("known").fill_null(0))
    return bars.join(ahead, on=BAR_KEY, how="anti"), expected.join(ahead, on=BAR_KEY, how="anti")


def _ignore_rounding(bars: pl.DataFrame, expected: pl.DataFrame) -> pl.DataFrame:
    """Replace amounts that differ only by double rounding with the exact ones."""
    names = ("volume", "vwap")
    joined = bars.join(expected.select(*BAR_KEY, *names), on=BAR_KEY, how="left", suffix="_exact")
    return joined.with_columns(
        pl.when((pl.col(name) - pl.col(f"{name}_exact")).abs() <= _ROUNDING_ERROR * pl.col(f"{name}_exact"))
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
    """Compare one frame.

    whole: which bars have all their ticks in the log. later: all accepted ticks of the log, if bars may be ahead of the
    recorded progress.
    """
    if published is None:
        published = pl.DataFrame(schema=BAR_VALUES)
    verdict.unverifiable += published.filter(~whole).height
    expected, published = recompute.bars_to_verify(ticks, frame).filter(whole), published.filter(whole)
    if later is not None:
        known_ticks = expected.select(*BAR_KEY, known="ticks")
        more = published.join(known_ticks, on=BAR_KEY, how="left").filter(
            pl.col("ticks") > pl.col("known").fill_null(0)
        )
        if more.height:
            behind = expected.join(more, on=BAR_KEY, how="anti")
            expected = pl.concat([behind, recompute.bars_of_first(later, more, frame)])
            verdict.ahead += more.height
    verdict.bars += expected.height
    verdict.different += _record_differences(verdict, expected, published)


def _record_differences(verdict: Verdict, expected: pl.DataFrame, bars: pl.DataFrame, context: str = "") -> int:
    """Describe the differences, up to a limit, and return how many bars differ."""
    count = 0
    for key, problem in recompute.differences(expected, bars):
        count += 1
        if len(verdict.examples) < _MAX_EXAMPLES:
            verdict.examples.append(f"{key['instrument']} {key['frame']} {key['start_ms']}: {context}{problem}")
    return count


def _read(log: TickLog, limit_of: Callable[[str], int], group: int, groups: int) -> pl.DataFrame:
    """Return the ticks of this group of instruments with their sequences, each instrument up to its limit."""
    in_group: dict[str, bool] = {}
    limit: dict[str, int] = {}
    parts = []
    for first, block in log.blocks():
        for name in block["instrument"].unique():
            if name not in limit:
                in_group[name], limit[name] = shard_of(name, groups) == group, limit_of(name)
        instrument = pl.col("instrument")
        parts.append(
            block.with_columns(sequence=pl.int_range(first, first + pl.len(), dtype=pl.Int64)).filter(
                instrument.replace_strict(in_group, return_dtype=pl.Boolean),
                pl.col("sequence") < instrument.replace_strict(limit, return_dtype=pl.Int64),
            )
        )
    return pl.concat(parts) if parts else pl.DataFrame(schema={**TICK_SCHEMA, "sequence": pl.Int64()})


def _published(reader: BarReader, group: int, groups: int) -> Iterator[tuple[Frame, pl.DataFrame]]:
    """Yield the published bars (BAR_VALUES) of this group of instruments, by frame."""
    names = [name for name in reader.instruments() if shard_of(name, groups) == group]
    frames = sorted({frame for name in names for frame in reader.frames(name)})
    for frame in frames:
        yield parse_frame(frame), pl.concat(reader.bars(name, frame).select(BAR_VALUES.keys()) for name in names)
