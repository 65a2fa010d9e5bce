"""Reads files as a replay does: through the provider and intake into a tick log, without Flink."""

import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from barmill.ingest.connection.provider import Provider
from barmill.ingest.files.layout import Layout
from barmill.ingest.intake import Intake
from barmill.ingest.providers.ordered import OrderedReplay
from barmill.ingest.providers.replay import ReplayProvider
from barmill.model.tick import TICK_SCHEMA
from barmill.storage.tick_damage import MAX_BLOCK_ROWS
from barmill.storage.tick_log import TickLog


@dataclass(frozen=True)
class Taken:
    """What became of the rows of some files: ticks, rejects, and how many rows were read."""

    ticks: pl.DataFrame
    rejects: pl.DataFrame
    read: int

    @property
    def closes(self) -> list[float]:
        return self.ticks["price_close"].to_list()

    @property
    def refused(self) -> list[tuple[int, str]]:
        return self.rejects.sort("line").select("line", "reason").rows()


def take(
    files: Path | Sequence[Path],
    layout: Layout | None = None,
    *,
    by_time: bool = False,
    newest_first: bool = False,
    block_rows: int = MAX_BLOCK_ROWS,
) -> Taken:
    paths = [files] if isinstance(files, Path) else files
    replay = ReplayProvider(paths, layout or Layout())
    if not (by_time or newest_first):
        return taken_from(replay)
    with tempfile.TemporaryDirectory() as folder:
        return taken_from(OrderedReplay(replay, Path(folder) / "sorting", by_time, newest_first, block_rows))


def taken_from(provider: Provider) -> Taken:
    """Take in all that a provider delivers until it ends."""
    with tempfile.TemporaryDirectory() as folder, TickLog.open(Path(folder) / "ticks.sqlite", durable=False) as log:
        for _ in Intake(log, provider).run(threading.Event()):
            pass
        blocks = [block for _, block in log.blocks()]
        ticks = pl.concat(blocks) if blocks else pl.DataFrame(schema=TICK_SCHEMA)
        return Taken(ticks, log.rejects(), sum(source.read for source in log.sources()))
