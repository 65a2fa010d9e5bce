"""Coverage of frames: which jobs made the bars of a frame, and which ticks these bars hold. Pure functions."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import polars as pl

from barmill.model.frames import Frame, parse_frames
from barmill.model.progress import shard_of
from barmill.platform.clock import NS_PER_MS
from barmill.platform.texts import moment
from barmill.storage.holdings import Cover

# A job reports its progress about once a second. If it is silent this long while others report or ticks
# arrive, it is not running.
_SILENT_MS = 60_000


@dataclass(frozen=True)
class Coverage:
    """The coverage of all jobs that make or made certain frames.

    Each shard of a job has one cover for each combination of frames, lateness and number of shards that the job had.
    """

    covers: tuple[Cover, ...]

    def read_to(self, instrument: str) -> int:
        """Return the sequence before which all ticks of an instrument were read; 0 if none were."""
        return max((cover.next_sequence for cover in self._covers_of(instrument)), default=0)

    def ticks_in_bars(self, ticks: pl.DataFrame) -> pl.DataFrame:
        """Return the ticks that are in bars. ticks: TICK_SCHEMA, sequence, and behind_ns from `with_delay`."""
        names = ticks["instrument"].unique().to_list()
        is_covered = pl.lit(False)
        for cover in self.covers:
            own_names = [name for name in names if shard_of(name, cover.shards) == cover.shard]
            is_covered = is_covered | (
                pl.col("instrument").is_in(own_names)
                & (pl.col("sequence") < cover.next_sequence)
                & (pl.col("behind_ns") <= cover.lateness_ms * NS_PER_MS)
            )
        return ticks.filter(is_covered)

    def ticks_read(self, ticks: pl.DataFrame) -> pl.DataFrame:
        """Return the ticks that were read. ticks: TICK_SCHEMA and sequence."""
        limits = {name: self.read_to(name) for name in ticks["instrument"].unique()}
        return ticks.filter(
            pl.col("sequence") < pl.col("instrument").replace_strict(limits, return_dtype=pl.Int64, default=0)
        )

    @property
    def lateness_ns(self) -> int:
        """Return the longest lateness that any of the jobs allows, in ns."""
        return max((cover.lateness_ms for cover in self.covers), default=0) * NS_PER_MS

    def _covers_of(self, instrument: str) -> Iterable[Cover]:
        return (cover for cover in self.covers if cover.shard == shard_of(instrument, cover.shards))


def with_delay(ticks: pl.DataFrame) -> pl.DataFrame:
    """Add behind_ns: how much older each tick is than its instrument's newest tick so far in the log.

    ticks: TICK_SCHEMA and sequence, from the start of the log.
    """
    newest_ns = pl.col("time_ns").cum_max().over("instrument", order_by="sequence")
    return ticks.with_columns(behind_ns=newest_ns - pl.col("time_ns"))


def covered_to(covers: Collection[Cover], frames: str, lateness_ms: int) -> int:
    """Return the sequence before which all ticks are in bars of each of these frames (comma-separated).

    covers: of one shard of a job. The result is 0 if a frame has no cover that counts. Covers with a shorter lateness
    do not count: they may lack ticks that were too late for them.
    """
    sequences_of_frames = [
        [cover.next_sequence for cover in covers if frame in cover.frames and cover.lateness_ms >= lateness_ms]
        for frame in (parse_frames(frames) if frames else ())
    ]
    return min((max(sequences, default=0) for sequences in sequences_of_frames), default=0)


def coverage_by_frame(covers: Sequence[Cover]) -> dict[Frame, Coverage]:
    """Return the coverage of each frame that has any, shortest frame first."""
    frames = sorted({frame for cover in covers for frame in cover.frames})
    return {frame: Coverage(tuple(cover for cover in covers if frame in cover.frames)) for frame in frames}


@dataclass(frozen=True)
class KnownJob:
    """A job, the frames it makes while it runs, and whether it should run. A deleted job makes no frames."""

    name: str
    frames: frozenset[Frame]
    should_run: bool


@dataclass(frozen=True)
class HaltedFrames:
    """Sentences about frames that are no longer made.

    stopped: other frames are made, or a job should make these. given_up: no known job makes these, even if it runs.
    """

    stopped: list[str]
    given_up: list[str]


def halted_frames(covers: Sequence[Cover], jobs: Collection[KnownJob], log_end: int, log_ms: int) -> HaltedFrames:
    """Return a sentence for each frame that is no longer made: since when, and which job made it last.

    jobs: all known jobs. A frame counts as given up only if known jobs alone ever made it.
    log_end, log_ms: the sequence that the next tick gets, and when the last tick arrived, in epoch ms.
    """
    result, names = HaltedFrames([], []), {job.name for job in jobs}
    expected_jobs = {job.name for job in jobs if job.should_run}
    newest_update_ms, read_to = (
        max((getattr(cover, name) for cover in covers), default=0) for name in ("updated_ms", "next_sequence")
    )
    for frame, coverage in coverage_by_frame(covers).items():
        newest = max(coverage.covers, key=lambda cover: (cover.updated_ms, cover.next_sequence))
        reach = max(cover.next_sequence for cover in coverage.covers)
        since = f"{moment(newest.updated_ms)} UTC"
        if all(cover.job in names for cover in coverage.covers) and not any(frame in job.frames for job in jobs):
            result.given_up.append(
                f"{frame.text}: no job makes these bars now; the job {newest.job} made the last ones at {since}."
            )
            continue
        others_advance = newest.updated_ms < newest_update_ms - _SILENT_MS and reach < read_to
        should_advance = (
            any(cover.job in expected_jobs for cover in coverage.covers)
            and newest.updated_ms < log_ms - _SILENT_MS
            and reach < log_end
        )
        if others_advance or should_advance:
            why = "other frames are up to date" if others_advance else "the job should be running"
            result.stopped.append(
                f"{frame.text}: the job {newest.job} has made no bars since {since}, although {why};"
                " start a job that makes them."
            )
    return result
