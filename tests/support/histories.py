"""Histories of a home without Flink: a tick log, jobs that come and go, retention, and one bar store, all real."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import polars as pl

from barmill.model import recompute
from barmill.model.bar import BAR_VALUES
from barmill.model.frames import Frame, parse_frame
from barmill.model.job_spec import BarsJobSpec
from barmill.model.pieces import Piece
from barmill.model.progress import shard_of
from barmill.model.tick import REJECT_SCHEMA
from barmill.storage.bar_blocks import BEGIN_MS
from barmill.storage.bar_store import BarStore
from barmill.storage.bar_upkeep import MoveSizes, move_oldest, remove_oldest
from barmill.storage.maintenance import drop_older
from barmill.storage.reader import BarQuery, BarReader
from barmill.storage.tick_log import TickLog
from control.retention import Policy, kept_from_ms
from flink_jobs.shard import Cursor, Shard
from flink_jobs.sources import SqliteSource
from tests.support.ticks import START_MS, ticks

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
        # (frames, shards, shard, lateness) of everything that ever ran, and how far it came
        self.came_to: dict[tuple[str, int, int, int], int] = {}
        # A clock that only events move: when bars are written, for readers that ask for what was known or changed.
        self.clock_ms = START_MS
        self.arrivals: list[tuple[int, int]] = []  # when a block came, and the sequence after it
        self.lost: list[int] = []  # sequences that were dropped before any job had read them
        self.removals = 0

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
        self.clock_ms = max(self.clock_ms, newest_ms) + 20
        self.arrivals.append((self.clock_ms, self.ticks.height + 1))
        self.log.append(
            "market", batch.drop("sequence"), NO_REJECTS, read=len(rows), cursor="", complete_to_ms=newest_ms
        )
        with self.log.db.atomic():  # a block is as old as it is far down the log
            self.log.db.execute("UPDATE blocks SET received_ms = first_sequence")

    def arrived_by(self, at_ms: int) -> int:
        """Return the sequence after the last tick that had come by a time."""
        return max((after for came_ms, after in self.arrivals if came_ms <= at_ms), default=1)

    def create(self, name: str, frames: str, shards: int = 1, lateness_ms: int = LATENESS_MS) -> None:
        if name not in self.jobs:
            self.jobs[name] = Job(
                BarsJobSpec(
                    name=name,
                    ticks_db=self.folder / "ticks.sqlite",
                    bars_db=self.folder / "bars.sqlite",
                    frames=frames,
                    lateness_ms=lateness_ms,
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
            taken = shard.fold(source.read_from(shard.next_sequence))
            if taken.snapshot is not None:
                job.kept[number] = [taken.snapshot]
            elif taken.delta is not None:
                job.kept[number].append(taken.delta)
            for publication in taken.publications:
                self.store.publish(
                    publication.progress, publication.bars, publication.late, publication.read_again_from
                )
                key = (job.spec.frames, job.spec.shards, number, job.spec.lateness_ms)
                self.came_to[key] = max(self.came_to.get(key, 0), publication.progress.next_sequence)
        job.checkpoints.append([(shard._cursor, [*kept]) for shard, kept in zip(job.shards, job.kept, strict=True)])

    def drop(self, before_sequence: int) -> None:
        """Drop the blocks of the log that begin before a sequence."""
        drop_older(self.log.db, before_sequence)
        [first] = self.log.db.conn.execute("SELECT coalesce(min(first_sequence), 1 << 62) FROM blocks").fetchone()
        for name in self.ticks["instrument"].unique():
            read_to = max(
                (to for (_, shards, shard, _), to in self.came_to.items() if shard == shard_of(name, shards)), default=1
            )
            gone = self.ticks.filter(
                (pl.col("instrument") == name) & (pl.col("sequence") < first) & (pl.col("sequence") >= read_to)
            )
            self.lost += gone["sequence"].to_list()

    def remove(self, frame: str, into: str, keep_ms: int) -> None:
        """Remove old bars of a frame as the controller does, where every job that makes it makes `into` too."""
        makers = [job.spec.frames.split(",") for job in self.jobs.values() if frame in job.spec.frames.split(",")]
        if not makers or any(into not in frames for frames in makers):
            return
        before_ms = kept_from_ms(Policy(frame, keep_ms, into), self.reader.progress())
        if before_ms is not None:
            for name in self.reader.instruments():
                while remove_oldest(self.store.db, name, parse_frame(frame), parse_frame(into), before_ms, 50):
                    self.removals += 1

    def move(self, sizes: MoveSizes) -> None:
        """Move old bars of every instrument and frame into blocks, as the controller does."""
        for name in self.reader.instruments():
            for frame in self.reader.frames(name):
                from_ms: int | None = BEGIN_MS
                while from_ms is not None:
                    _, from_ms = move_oldest(self.store.db, name, frame, from_ms, LATENESS_MS, sizes)

    def check(self, part: int = 0, parts: int = 1) -> int:
        """Hold bars of every offered frame, or a part of these, against the ticks; return how many were left out.

        Those are the ones that may lack ticks, or whose short bars were removed.
        """
        return sum(self._check(name, frame) for name, frame in self.offered(part, parts))

    def offered(self, part: int = 0, parts: int = 1) -> list[tuple[str, Frame]]:
        """Return every instrument with every frame that it is offered in, or a part of these."""
        offered = [(name, frame) for name in self.reader.instruments() for frame in self.reader.offered_frames(name)]
        return offered[part % parts :: parts]

    def sure(self, name: str, frame: Frame) -> pl.Expr:
        """Return which bars of a frame are known to be complete."""
        known = list[tuple[int, int]]()
        for piece in self.reader.pieces(name, frame):
            if known and known[-1][1] == piece.from_ms and not piece.doubtful:
                known[-1] = (known[-1][0], piece.to_ms)
            elif not piece.doubtful:
                known.append((piece.from_ms, piece.to_ms))
        return pl.any_horizontal(
            pl.lit(False), *((pl.col("start_ms") >= start) & (pl.col("end_ms") <= end) for start, end in known)
        )

    def _check(self, name: str, frame: Frame) -> int:
        made, sure = self.reader.read(BarQuery(name, frame)), self.sure(name, frame)
        pieces = self.reader.pieces(name, frame)
        waits = {piece.frame: self._waits(name, piece.frame) for piece in pieces}
        every = sorted(set[int]().union(*waits.values())) or [LATENESS_MS]
        expected = {wait_ms: recompute.bars(self._accepted(name, frame, wait_ms), frame) for wait_ms in every}
        if len(every) == 1:
            assert_same(made.filter(sure), expected[every[0]].filter(sure), f"{name} {frame.text}")
            return expected[every[0]].filter(~sure).height
        spans = pl.concat([rows.select("start_ms", "end_ms") for rows in (made, *expected.values())])
        for start_ms, end_ms in spans.filter(sure).unique().sort("start_ms").rows():
            here = pl.col("start_ms") == start_ms
            within = [piece for piece in pieces if piece.from_ms < end_ms and piece.to_ms > start_ms]
            # Each piece may be of jobs that wait longer or shorter for late ticks.
            mixes = product(*(sorted(waits[piece.frame]) for piece in within))
            mixed = (
                expected[mix[0]] if len(set(mix)) == 1 else self._mixed(name, frame, [*zip(within, mix, strict=True)])
                for mix in mixes
            )
            found = made.filter(here)
            if not any(is_same(found, rows.filter(here)) for rows in mixed):
                assert_same(found, expected[every[-1]].filter(here), f"{name} {frame.text}")
        return max(rows.filter(~sure).height for rows in expected.values())

    def _mixed(self, name: str, frame: Frame, pieces: Sequence[tuple[Piece, int]]) -> pl.DataFrame:
        """Return the bars of ticks of which those of each piece were accepted with its own lateness."""
        of_pieces = [
            self._accepted(name, frame, wait_ms).filter(
                (pl.col("time_ns") >= max(piece.from_ms, 0) * 1_000_000)
                & (pl.col("time_ns") < min(piece.to_ms, 1 << 43) * 1_000_000)
            )
            for piece, wait_ms in pieces
        ]
        return recompute.bars(pl.concat(of_pieces), frame)

    def _waits(self, name: str, frame: Frame) -> set[int]:
        """Return how long those waited for late ticks that ever made a frame of an instrument."""
        return {
            wait_ms
            for (frames, shards, shard, wait_ms) in self.came_to
            if shard == shard_of(name, shards) and frame.text in frames.split(",")
        }

    def _accepted(self, name: str, frame: Frame, lateness_ms: int) -> pl.DataFrame:
        """Return the ticks that are in bars of a frame: of those read, the ones that were not too late."""
        limit = max(
            (
                came_to
                for (frames, shards, shard, _), came_to in self.came_to.items()
                if shard == shard_of(name, shards)
                and any(parse_frame(text).divides(frame) for text in frames.split(","))
            ),
            default=0,
        )
        mine = self.ticks.filter((pl.col("instrument") == name) & (pl.col("sequence") < limit))
        return recompute.accepted_ticks(mine, lateness_ms)


def is_same(made: pl.DataFrame, expected: pl.DataFrame) -> bool:
    """Tell whether bars are those expected, but for the last digit of a vwap that is made of several."""
    values = [name for name in BAR_VALUES if name != "vwap"]
    if not made.select(values).equals(expected.select(values)):
        return False
    off = (made["vwap"] - expected["vwap"]).abs() <= _VWAP_IS_OFF_BY * expected["vwap"]
    return bool(off.fill_null(True).all()) and made["vwap"].is_null().equals(expected["vwap"].is_null())


def assert_same(made: pl.DataFrame, expected: pl.DataFrame, what: str) -> None:
    found = [*recompute.differences(expected.select(BAR_VALUES.keys()), made.select(BAR_VALUES.keys()))][:3]
    assert is_same(made, expected), f"{what}: {found}"


def opened(path: Path) -> closing[History]:
    """Return a history that is closed at the end of a block."""
    return closing(History(path))
