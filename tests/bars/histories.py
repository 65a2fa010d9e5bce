"""Histories of a home without Flink: a tick log, jobs that come and go, retention, and one bar store, all real."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from bar import recompute
from bar.frames import Frame, parse_frame
from bar.model import BAR_VALUES
from bar.reader import BarQuery, BarReader
from bar.retention import remove_some
from bar.sharding import shard_of
from bar.store import BarStore
from control.retention.policy import Policy
from control.retention.removal import kept_from_ms
from feed.tick import REJECT_SCHEMA
from feed.ticklog import TickLog
from feed.upkeep import drop_older
from flink_jobs.shard import Cursor, Shard
from flink_jobs.spec import BarsJobSpec
from flink_jobs.sqlite_source import SqliteSource
from tests.bars.ticks import ticks

LATENESS_MS = 20_000
# Of two shards, each has one.
INSTRUMENTS = ("A", "D")
# A stored vwap is rounded to 15 digits, and so is the one that is made of several.
_VWAP_IS_OFF_BY = 2e-14
NO_REJECTS = pl.DataFrame(schema=REJECT_SCHEMA)

Checkpoint = list[tuple[Cursor, list[pl.DataFrame]]]


@dataclass
class Job:
    """A job: its shards while it runs, and every checkpoint it ever took, which is one after each poll."""

    spec: BarsJobSpec
    shards: list[Shard] = field(default_factory=list)
    kept: list[list[pl.DataFrame]] = field(default_factory=list)
    checkpoints: list[Checkpoint] = field(default_factory=list)

    @property
    def running(self) -> bool:
        return bool(self.shards)


class History:
    """What happens to one home; every method is one event, and `check` holds all that is read against the ticks."""

    def __init__(self, folder: Path, rows_per_poll: int = 1_000_000) -> None:
        self.folder, self.rows_per_poll = folder, rows_per_poll
        self.log = TickLog.open(folder / "ticks.sqlite", durable=False)
        self.log.start_source("market", live=True)
        self.reading = TickLog.read_only(folder / "ticks.sqlite")
        self.store = BarStore.open(folder / "bars.sqlite", durable=False)
        self.reader = BarReader.open(folder / "bars.sqlite")
        self.jobs: dict[str, Job] = {}
        self.ticks = ticks((0, "A", 1.0)).clear()
        # (frames, shards, shard) of everything that ever ran, and how far it came
        self.came_to: dict[tuple[str, int, int], int] = {}

    def close(self) -> None:
        self.reader.close()
        self.store.close()
        self.reading.close()
        self.log.close()

    def arrive(self, rows: Sequence[tuple[int, str, float, float]]) -> None:
        """Log ticks of (ms after START_MS, instrument, price, volume), in one block."""
        batch = ticks(*rows, first_sequence=self.ticks.height + 1)
        self.ticks = pl.concat([self.ticks, batch])
        newest_ms = int(self.ticks.select(pl.max("time_ns")).item()) // 1_000_000
        self.log.append(
            "market", batch.drop("sequence"), NO_REJECTS, read=len(rows), cursor="", complete_to_ms=newest_ms
        )
        with self.log.db.atomic():  # a block is as old as it is far down the log
            self.log.db.execute("UPDATE blocks SET received_ms = first_sequence")

    def create(self, name: str, frames: str, shards: int = 1) -> None:
        if name not in self.jobs:
            self.jobs[name] = Job(
                BarsJobSpec(
                    name=name,
                    ticks_db=self.folder / "ticks.sqlite",
                    bars_db=self.folder / "bars.sqlite",
                    frames=frames,
                    lateness_ms=LATENESS_MS,
                    shards=shards,
                )
            )

    def start(self, name: str, back: int | None = 0) -> None:
        """Start a job from its last checkpoint but so many, or with None from the beginning of the log."""
        job = self.jobs.get(name)
        if job is None:
            return
        job.shards = [Shard(job.spec, number) for number in range(job.spec.shards)]
        job.kept = [[] for _ in job.shards]
        if back is not None and job.checkpoints:
            point = job.checkpoints[max(0, len(job.checkpoints) - 1 - back)]
            for number, (cursor, kept) in enumerate(point):
                job.shards[number].restore(cursor, kept)
                if job.shards[number].next_sequence == cursor.next_sequence:
                    job.kept[number] = [*kept]

    def stop(self, name: str) -> None:
        if name in self.jobs:
            self.jobs[name].shards = []

    def delete(self, name: str) -> None:
        self.jobs.pop(name, None)

    def edit(self, name: str, frames: str) -> None:
        """Give a job other frames; one that runs is restarted."""
        if name in self.jobs:
            job = self.jobs[name]
            job.spec = job.spec.model_copy(update={"frames": frames})
            if job.running:
                self.start(name)

    def poll(self, name: str, behind: int | None = None) -> None:
        """Let a job that runs read what is next, all shards of it or all but one."""
        job = self.jobs.get(name)
        if job is None or not job.running:
            return
        for number, shard in enumerate(job.shards):
            if number == behind:
                continue
            source = SqliteSource(self.reading, number, job.spec.shards)
            taken = shard.take(source.read_from(shard.next_sequence))
            if taken.snapshot is not None:
                job.kept[number] = [taken.snapshot]
            elif taken.delta is not None:
                job.kept[number].append(taken.delta)
            for one in taken.publications:
                self.store.publish(one.progress, one.bars, one.late, one.anew_from)
                key = (job.spec.frames, job.spec.shards, number)
                self.came_to[key] = max(self.came_to.get(key, 0), one.progress.next_sequence)
        job.checkpoints.append([(shard._cursor, [*kept]) for shard, kept in zip(job.shards, job.kept, strict=True)])

    def drop(self, before_sequence: int) -> None:
        """Drop the blocks of the log that begin before a sequence."""
        drop_older(self.log.db, before_sequence)

    def remove(self, frame: str, into: str, keep_ms: int) -> None:
        """Remove old bars of a frame as the controller does, where every job that makes it makes `into` too."""
        makers = [job.spec.frames.split(",") for job in self.jobs.values() if frame in job.spec.frames.split(",")]
        if not makers or any(into not in frames for frames in makers):
            return
        before_ms = kept_from_ms(Policy(frame, keep_ms, into), self.reader.progress())
        if before_ms is not None:
            for name in self.reader.instruments():
                while remove_some(self.store.db, name, parse_frame(frame), parse_frame(into), before_ms, 50):
                    pass

    def check(self, part: int = 0, parts: int = 1) -> int:
        """Hold bars of every offered frame, or a part of these, against the ticks; return how many were left out.

        Those are the ones that may lack ticks, or whose short bars were removed.
        """
        offered = [(name, frame) for name in self.reader.instruments() for frame in self.reader.offered(name)]
        return sum(self._check(name, frame) for name, frame in offered[part % parts :: parts])

    def _check(self, name: str, frame: Frame) -> int:
        made = self.reader.read(BarQuery(name, frame))
        expected = recompute.bars(self._accepted(name, frame), frame)
        known = list[tuple[int, int]]()
        for piece in self.reader.pieces(name, frame):
            if known and known[-1][1] == piece.from_ms and not piece.doubtful:
                known[-1] = (known[-1][0], piece.to_ms)
            elif not piece.doubtful:
                known.append((piece.from_ms, piece.to_ms))
        sure = pl.any_horizontal(
            pl.lit(False), *((pl.col("start_ms") >= start) & (pl.col("end_ms") <= end) for start, end in known)
        )
        assert_same(made.filter(sure), expected.filter(sure), f"{name} {frame.text}")
        return expected.filter(~sure).height

    def _accepted(self, name: str, frame: Frame) -> pl.DataFrame:
        """Return the ticks that are in bars of a frame: of those read, the ones that were not too late."""
        limit = max(
            (
                came_to
                for (frames, shards, shard), came_to in self.came_to.items()
                if shard == shard_of(name, shards) and any(parse_frame(one).divides(frame) for one in frames.split(","))
            ),
            default=0,
        )
        mine = self.ticks.filter((pl.col("instrument") == name) & (pl.col("sequence") < limit))
        return recompute.accepted(mine, LATENESS_MS)


def assert_same(made: pl.DataFrame, expected: pl.DataFrame, what: str) -> None:
    values = [name for name in BAR_VALUES if name != "vwap"]
    assert made.select(values).equals(expected.select(values)), (
        f"{what}: {[*recompute.differences(expected, made.select(BAR_VALUES.keys()))][:3]}"
    )
    off = (made["vwap"] - expected["vwap"]).abs() <= _VWAP_IS_OFF_BY * expected["vwap"]
    assert off.fill_null(True).all(), what
    assert made["vwap"].is_null().equals(expected["vwap"].is_null()), what


def opened(path: Path) -> closing[History]:
    """Return a history that is closed at the end of a block."""
    return closing(History(path))
