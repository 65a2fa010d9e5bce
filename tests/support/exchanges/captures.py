"""Recorded sessions of real exchanges, where they are at hand, and bars made of them by a shard over a real log."""

import gzip
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import polars as pl
import pytest

from barmill.ingest.connection.provider import Provider
from barmill.ingest.intake import Intake
from barmill.model.job_spec import BarsJobSpec
from barmill.platform.home import REPO_ROOT
from barmill.storage.bar_store import BarStore
from barmill.storage.reader import BarReader
from barmill.storage.tick_log import TickLog
from barmill.storage.verification import Verdict, verify
from flink_jobs.shard import Shard
from flink_jobs.sources import SqliteSource

_DATA = REPO_ROOT.parent / "shared" / "data"
BINANCE = _DATA / "binance_spot_websocket_capture.txt.gz"
KRAKEN_FUTURES = _DATA / "kraken_futures_websocket_capture.txt.gz"
needs_captures = pytest.mark.skipif(
    not (BINANCE.exists() and KRAKEN_FUTURES.exists()), reason="the recorded sessions of shared/data are not here"
)


def messages(path: Path) -> Iterator[dict[str, Any]]:
    """Yield what the exchange sent over WebSocket, in its order."""
    with gzip.open(path, "rt") as lines:
        for line in lines:
            received, _, text = line.partition(": ")
            with suppress(ValueError):  # what the client sent and fetched has an address in the place of the time
                float(received)
                yield orjson.loads(text)


@dataclass
class Bars:
    """A log, a shard that folds it, and the bars, advanced with every batch that a provider delivers."""

    folder: Path
    lateness_ms: int = 300_000

    def __post_init__(self) -> None:
        self.spec = BarsJobSpec.model_validate(
            {
                "ticks_db": self.folder / "ticks.sqlite",
                "bars_db": self.folder / "bars.sqlite",
                "frames": "1s,1m",
                "lateness_ms": self.lateness_ms,
            }
        )
        self._log, self._store = TickLog.open(self.spec.ticks_db, durable=False), BarStore.open(self.spec.bars_db)
        self._shard = Shard(self.spec, 0)
        self._source = SqliteSource(TickLog.read_only(self.spec.ticks_db), 0, 1)
        self.reader = BarReader.open(self.spec.bars_db)

    def take(self, provider: Provider, stop: threading.Event, then: Callable[[], object]) -> None:
        """Let a provider deliver until it ends or `stop` is set; `then` is called after each batch is in the bars."""
        for _ in Intake(self._log, provider).run(stop):
            self.fold()
            then()

    def fold(self) -> None:
        taken = self._shard.fold(self._source.read_from(self._shard.next_sequence))
        for publication in taken.publications:
            self._store.publish(
                publication.progress,
                publication.bars,
                publication.late,
                publication.read_again_from,
                publication.reason,
            )

    def ticks(self) -> pl.DataFrame:
        return pl.concat(block for _, block in self._log.blocks())

    def verdict(self) -> Verdict:
        return verify(self.spec.ticks_db, self.spec.bars_db, lambda _: None)


def by_field(rows: Iterable[dict[str, Any]], name: str) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault(row[name], []).append(row)
    return found
