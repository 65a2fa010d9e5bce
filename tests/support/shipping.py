"""A tick log that grows, a real shipper process, and what of it all is in Kafka."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import polars as pl

from barmill.kafka.messages import SEQUENCED_SCHEMA, TickMessage, decode
from barmill.kafka.shipper_status import kafka_problem, read_shipper_status
from barmill.model.tick import REJECT_SCHEMA
from barmill.platform.clock import wait_until
from barmill.platform.home import REPO_ROOT, Home
from barmill.platform.kafka_settings import KafkaSettings
from barmill.storage.tick_log import TickLog
from tests.support.kafka_broker import committed
from tests.support.ticks import ticks

TIMEOUT_S = 60
INSTRUMENTS = tuple(f"I{number}" for number in range(20))


@dataclass
class GrowingLog:
    """The tick log of a home, as its feed would write it."""

    log: TickLog
    batches: int = 0

    def append(self, rows: int = 50) -> None:
        """Append the next batch, over all instruments in turn."""
        at_ms = self.batches * 100
        table = ticks(*((at_ms + n, INSTRUMENTS[(n * 7 + self.batches) % 20], 1.0 + n) for n in range(rows)))
        self.batches += 1
        self.log.append(
            "one",
            table.drop("sequence"),
            pl.DataFrame(schema=REJECT_SCHEMA),
            read=rows,
            cursor=str(at_ms),
            complete_to_ms=at_ms,
        )

    def sequenced(self) -> pl.DataFrame:
        """Return all ticks with their sequence numbers."""
        parts = [
            table.with_columns(sequence=pl.int_range(first, first + pl.len(), dtype=pl.Int64))
            for first, table in self.log.blocks()
        ]
        return pl.concat(parts)


@contextmanager
def growing_log(home: Home) -> Iterator[GrowingLog]:
    """Lend the tick log of a home."""
    with TickLog.open(home.ticks_db, durable=False) as log:
        log.start_source("one", live=True)
        yield GrowingLog(log)


@dataclass
class ShipperProcess:
    """A shipper that a test may kill and start again."""

    home: Home
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it."""
        command = [sys.executable, "-m", "barmill.kafka.shipper", "--home", str(self.home.root)]
        with (self.home.log / "shipper.log").open("ab") as output:
            self.process = subprocess.Popen(command, cwd=REPO_ROOT, stdout=output, stderr=output)

    def kill(self) -> None:
        """Kill it as a crash would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def wait_until_shipped(self, end_sequence: int) -> None:
        """Wait until it says that Kafka has everything before this sequence."""

        def shipped() -> bool:
            status = read_shipper_status(self.home)
            return status is not None and (status.next_sequence or 0) >= end_sequence and not status.problem

        assert wait_until(shipped, TIMEOUT_S), (self.home.log / "shipper.log").read_text()

    def wait_for_problem(self, part: str) -> str:
        """Wait until a problem with these words is known; return its sentence."""
        assert wait_until(lambda: part in kafka_problem(self.home), TIMEOUT_S), kafka_problem(self.home)
        return kafka_problem(self.home)


@contextmanager
def shipper_process(home: Home) -> Iterator[ShipperProcess]:
    """Lend a shipper that is not started yet, and see to its end."""
    shipper = ShipperProcess(home)
    try:
        yield shipper
    finally:
        shipper.kill()


def messages_by_partition(settings: KafkaSettings) -> dict[int, list[TickMessage]]:
    """Return what a read_committed consumer finds in the topic of ticks, by partition, in order."""
    found: dict[int, list[TickMessage]] = {}
    for message in committed(settings, "ticks"):
        partition, value = message.partition(), message.value()
        assert partition is not None
        assert value is not None
        found.setdefault(partition, []).append(decode(value))
    return found


def shipped_ticks(messages: list[TickMessage]) -> pl.DataFrame:
    """Return the ticks of some messages, in their order."""
    return pl.concat([pl.DataFrame(schema=SEQUENCED_SCHEMA), *(message.ticks for message in messages)])
