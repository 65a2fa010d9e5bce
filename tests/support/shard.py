"""Helpers of test_shard.py that other tests use too."""

from pathlib import Path

import polars as pl

from barmill.model.job_spec import BarsJobSpec
from barmill.model.tick import REJECT_SCHEMA
from barmill.storage.bar_runs import ReplayStore
from barmill.storage.bar_store import BarStore
from barmill.storage.reader import BarReader
from barmill.storage.tick_log import TickLog
from barmill.storage.verification import verify
from flink_jobs.shard import FoldResult, Shard
from flink_jobs.sources import SqliteSource
from flink_jobs.state import cursor_from_bytes, cursor_to_bytes, describe_store_loss
from tests.support.ticks import START_MS, ticks

LATENESS_MS = 60_000


class Market:
    """A tick log that the test fills, a shard that reads it, and the store that the shard's publications go to."""

    def __init__(self, folder: Path, **spec: object) -> None:
        self.spec = BarsJobSpec.model_validate(
            {
                "ticks_db": folder / "ticks.sqlite",
                "bars_db": folder / "bars.sqlite",
                "frames": "1s,1m",
                "lateness_ms": LATENESS_MS,
                **spec,
            }
        )
        self.log = TickLog.open(self.spec.ticks_db)
        self.log.start_source("market", live=True)
        self.store = (ReplayStore.create if self.spec.final_only else BarStore.open)(self.spec.bars_db)
        self.shard, self.source = self.begin()
        self.kept: list[pl.DataFrame] = []
        self.taken = FoldResult(self.shard._cursor)

    def begin(self, number: int = 0) -> tuple[Shard, SqliteSource]:
        """Return a shard without any state, and where its ticks come from."""
        log = TickLog.read_only(self.spec.ticks_db)
        return Shard(self.spec, number), SqliteSource(log, number, self.spec.shards)

    def arrive(self, *rows: tuple[object, ...], complete_to: int | None = None) -> None:
        """Append ticks, and the source's word that it is complete to so many ms after START_MS; then poll."""
        self.append(*rows, complete_to=complete_to)
        self.poll()

    def append(self, *rows: tuple[object, ...], complete_to: int | None = None) -> None:
        """Append ticks, and the source's word, as `arrive` does, without a poll."""
        at_ms = None if complete_to is None else START_MS + complete_to
        batch = ticks(*rows).drop("sequence") if rows else ticks((0, "A", 1.0)).drop("sequence").clear()
        no_rejects = pl.DataFrame(schema=REJECT_SCHEMA)
        self.log.append("market", batch, no_rejects, read=len(rows), cursor="", complete_to_ms=at_ms)

    def caught_up(self) -> bool:
        """Tell whether the shard has read the whole log."""
        return self.shard.next_sequence >= self.log.end_sequence()

    def poll(self) -> None:
        self.taken = self.shard.fold(self.source.read_from(self.shard.next_sequence))
        if self.taken.snapshot is not None:
            self.kept = [self.taken.snapshot]
        elif self.taken.delta is not None:
            self.kept.append(self.taken.delta)
        for publication in self.taken.publications:
            publication.write_to(self.store)

    def restart(self, **changes: object) -> None:
        """Continue from the last checkpoint as in a new process, optionally as another version of the job."""
        self.spec = self.spec.model_copy(update=changes)
        self.shard, self.source = self.begin()
        cursor = cursor_from_bytes(cursor_to_bytes(self.taken.cursor))
        lost = self.source.describe_loss(cursor) or describe_store_loss(self.spec.bars_db, self.spec.name, 0, cursor)
        self.shard.restore(cursor, self.kept, lost)

    def bars(self, frame: str = "1s", instrument: str = "A") -> list[tuple[int, str, int, int]]:
        """Return (seconds after START_MS, state, ticks, revision) of the stored bars."""
        table = BarReader.open(self.spec.bars_db).bars(instrument, frame)
        seconds = (table["start_ms"] - START_MS) // 1_000
        return list(zip(seconds, table["state"], table["ticks"], table["revision"], strict=True))

    def assert_true_to_the_log(self) -> None:
        verdict = verify(self.spec.ticks_db, self.spec.bars_db, lambda _: None)
        assert verdict.examples == []
        assert verdict.bars > 0
        assert verdict.ticks == verdict.in_bars + verdict.late
        assert verdict.late == BarReader.open(self.spec.bars_db).reject_count()
