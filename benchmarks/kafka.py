"""The measurement of the rate and delay of a bars job from Kafka to Kafka, by a reader of committed messages.

python -m benchmarks.kafka rate TICKS.parquet --home FOLDER --parallelism P --cores N
    All ticks are in the topic before the job starts. The rate is measured from the first progress
    message that the reader sees to the last.
python -m benchmarks.kafka delay RATE SECONDS --home FOLDER --parallelism P
    Ticks are generated in real time, RATE per second, and sent ten times a second, as messages of the shipper. The
    delay of a batch is the time from just before it is sent until the reader sees bars with all its ticks. The first
    quarter is a warm-up and is left out.
"""

import argparse
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl

from barmill.ingest.intake import Intake
from barmill.ingest.providers.kafka import TopicReader
from barmill.ingest.providers.replay import ReplayProvider
from barmill.kafka.delivery import Delivery
from barmill.kafka.materialiser import Materialiser
from barmill.kafka.messages import PROGRESS, encode, read_progress
from barmill.kafka.shipper import Batches, Shipper
from barmill.kafka.shipper_status import read_shipper_status
from barmill.model.tick import TICK_SCHEMA
from barmill.platform.clock import NS_PER_MS, now_ms, wait_until
from barmill.platform.home import Home
from barmill.platform.kafka_settings import KafkaSettings
from barmill.storage.bar_store import BarStore
from barmill.storage.tick_log import Backlog, Source, TickLog
from benchmarks.latency import percentiles
from benchmarks.private_home import PrivateHomeError, bars_job, kafka_home, print_result, wait_or_fail
from benchmarks.usage import busy_seconds, children, command_line, cpu_seconds

_PROGRESS_TIMEOUT_S = 600.0
_MILLION = 1e6
_SHIP_TIMEOUT_S = 900.0
_MATERIALISE_TIMEOUT_S = 60.0
_BATCH_INTERVAL_MS = 100
_INSTRUMENTS = pl.Series([f"SYM{number:05d}/USD" for number in range(100)])
_SEED = 1
_WARM_UP_SHARE = 0.25
# If the sender falls behind by more than this, it does not keep the rate, and its figures are not valid.
_MAX_DELAY_S = 1.0


@dataclass(frozen=True)
class Progress:
    """The progress of all shards at one time, as a reader of committed messages sees it.

    next_sequence: all ticks before it in the log are in the bars. read: number of ticks read by all shards.
    """

    at_ms: int
    next_sequence: int
    read: int


class ProgressReader:
    """A reader of a job's progress, which is committed together with the bars it describes."""

    def __init__(self, reading: TopicReader, shards: int) -> None:
        self._reading, self._shards = reading, shards
        self._by_shard: dict[int, tuple[int, int]] = {}
        self.history: list[Progress] = []

    @classmethod
    @contextmanager
    def of(cls, settings: KafkaSettings) -> Iterator[Self]:
        """Yield a reader that starts at the beginning of the topic; it closes when the block ends."""
        with TopicReader.open(settings, None, settings.topic(PROGRESS), {}) as reading:
            yield cls(reading, settings.partitions)

    def poll(self) -> None:
        """Record what was committed since the last poll."""
        messages, _ = self._reading.next()
        at_ms = now_ms()
        for shard in read_progress([bytes(message.value() or b"") for message in messages]) if messages else ():
            self._by_shard[shard.shard] = (shard.next_sequence, shard.read)
        if len(self._by_shard) == self._shards:
            lowest_sequence = min(next_sequence for next_sequence, _ in self._by_shard.values())
            read = sum(ticks for _, ticks in self._by_shard.values())
            if not self.history or lowest_sequence > self.history[-1].next_sequence or read > self.history[-1].read:
                self.history.append(Progress(at_ms, lowest_sequence, read))

    def wait(self, condition: Callable[[list[Progress]], bool], problem: str) -> None:
        """Poll until the condition holds; raise PrivateHomeError with `problem` on a timeout."""

        def poll() -> bool:
            self.poll()
            return condition(self.history)

        wait_or_fail(poll, problem, _PROGRESS_TIMEOUT_S)


def measure_rate(ticks: Path, home: Home, parallelism: int, cores: int, *, final_only: bool) -> dict[str, Any]:
    """Fill the topic, run the job over it, and return the measurements."""
    with kafka_home(home) as settings:
        end, intake_s = _fill_log(ticks, home)
        shipped_s = _ship(home, settings, end)
        topic_bytes = sum(
            file.stat().st_size for file in home.root.glob(f"kafka/data/{settings.topic('ticks')}-[0-9]*/*.log")
        )
        started = time.monotonic()
        job = bars_job(home, cores, parallelism=parallelism, final_only=final_only)
        with job, ProgressReader.of(settings) as progress:
            progress.wait(bool, "no bars are committed")
            used_s = _cpu_s()
            progress.wait(lambda history: history[-1].next_sequence >= end, "not all ticks are in committed bars")
            used_s = {name: spent_s - used_s.get(name, 0.0) for name, spent_s in _cpu_s().items()}
        return {
            "topic_bytes_per_tick": round(topic_bytes / (end - 1), 1),
            "materialised_messages_per_s": _materialised_per_s(home, settings),
            "parallelism": parallelism,
            "cores": cores,
            "ticks": end - 1,
            "total_s": round(time.monotonic() - started, 2),
            "intake_ticks_per_s": round((end - 1) / intake_s),
            "shipped_ticks_per_s": round((end - 1) / shipped_s),
            **rate(progress.history, used_s),
        }


def rate(history: list[Progress], used_s: dict[str, float]) -> dict[str, Any]:
    """Return the rate between the first and the last progress, if most ticks were read between them.

    used_s: CPU seconds by process in that time.
    """
    first, last = history[0], history[-1]
    ticks, seconds = last.read - first.read, (last.at_ms - first.at_ms) / 1_000
    is_valid = ticks * 2 > last.read and seconds > 0
    return {
        "ticks_per_s": round(ticks / seconds) if is_valid else None,
        **{
            f"{name}_cpu_s_per_million_ticks": round(spent_s / ticks * _MILLION, 3)
            for name, spent_s in used_s.items()
            if is_valid
        },
    }


def _fill_log(ticks: Path, home: Home) -> tuple[int, float]:
    """Read the file into the tick log of the home; return the end of the log, and how long this took in seconds."""
    started = time.monotonic()
    with TickLog.open(home.ticks_db, durable=False) as log:
        for _ in Intake(log, ReplayProvider([ticks], {}, None)).run(threading.Event()):
            pass
        return log.end_sequence(), time.monotonic() - started


def _ship(home: Home, settings: KafkaSettings, end: int) -> float:
    """Send the tick log to Kafka; return how long this took in seconds."""
    started, stop = time.monotonic(), threading.Event()
    thread = threading.Thread(target=Shipper(home, settings, 1, stop).run)
    thread.start()

    def is_shipped() -> bool:
        status = read_shipper_status(home)
        return status is not None and (status.next_sequence or 0) >= end

    try:
        if not wait_until(is_shipped, _SHIP_TIMEOUT_S):
            raise PrivateHomeError("The ticks do not reach Kafka; the disk may be full.")
    finally:
        stop.set()
        thread.join()
    return time.monotonic() - started


def _materialised_per_s(home: Home, settings: KafkaSettings) -> int | None:
    """Return how many messages of the job's topics the materialiser stores per second, or None after a single batch."""
    store = BarStore.open(home.bars_db)
    materialiser = Materialiser(store, settings)
    try:
        wait_or_fail(lambda: materialiser.step() > 0, "no bar comes from the topic", _MATERIALISE_TIMEOUT_S)
        started, messages = time.monotonic(), 0
        while count := materialiser.step():
            messages, ended_s = messages + count, time.monotonic()
        return round(messages / (ended_s - started)) if messages else None
    finally:
        materialiser.close()
        store.close()


def _cpu_s() -> dict[str, float]:
    """Return the CPU seconds that TaskManager and broker have used."""
    names = {"TaskManagerRunner": "taskmanager", "kafka.Kafka": "broker"}
    used_s = {}
    for pid in children(os.getpid()):
        for class_name, name in names.items():
            if class_name in command_line(pid):
                used_s[name] = cpu_seconds(pid) or 0.0
    return used_s


@dataclass(frozen=True)
class SentBatch:
    """A sent batch: the time it was sent, and the sequence after its last tick."""

    at_ms: int
    next_sequence: int


class Sender:
    """A sender of generated ticks; the rate determines the size of each batch."""

    def __init__(self, delivery: Delivery, shards: int, rate: int) -> None:
        self.delivery, self._batches = delivery, Batches(shards)
        self._rows = rate * _BATCH_INTERVAL_MS // 1_000
        self._random = np.random.default_rng(_SEED)

    def send(self, due_ms: int) -> SentBatch:
        """Send the ticks of the interval before `due_ms` at that time."""
        backlog = self._backlog(due_ms)
        messages = [(shard, encode(ticks)) for shard, ticks in self._batches.messages(backlog, due_ms)]
        threading.Event().wait(max(0, due_ms - now_ms()) / 1_000)
        at_ms = now_ms()
        self.delivery.send(messages, backlog.next_sequence, None)
        return SentBatch(at_ms, backlog.next_sequence)

    def send_at_rate(self, seconds: float, max_delay_s: float) -> Iterator[SentBatch]:
        """Send batches at the rate and yield each; raise PrivateHomeError if this machine cannot keep the rate."""
        start_ms = now_ms()
        for number in range(1, round(seconds * 1_000 / _BATCH_INTERVAL_MS) + 1):
            due_ms = start_ms + number * _BATCH_INTERVAL_MS
            sent = self.send(due_ms)
            if sent.at_ms - due_ms > max_delay_s * 1_000:
                raise PrivateHomeError(f"This machine cannot send {self._rows * 10:,} ticks per second.")
            yield sent

    def _backlog(self, to_ms: int) -> Backlog:
        rows, first = self._rows, self.delivery.next_sequence
        time_ns = np.linspace((to_ms - _BATCH_INTERVAL_MS) * NS_PER_MS, to_ms * NS_PER_MS, rows, endpoint=False)
        price = np.round(self._random.normal(100, 1, rows), 2)
        columns = {
            "time_ns": time_ns.astype(np.int64),
            "instrument": _INSTRUMENTS.gather(self._random.integers(0, len(_INSTRUMENTS), rows)),
            "price_open": price,
            "price_close": price,
            "volume": np.round(self._random.exponential(1, rows), 4),
            "id": None,
            "line": None,
            "id_text": None,
        }
        source = Source("bench", None, True, to_ms, False, 0, 0, 0, None, to_ms)
        return Backlog(first, pl.DataFrame(columns, TICK_SCHEMA), "bench", (source,), first + rows)


def measure_delay(rate: int, seconds: float, home: Home, parallelism: int, max_delay_s: float) -> dict[str, Any]:
    """Run the job, send at the rate, and return the delays."""
    with (
        kafka_home(home) as settings,
        bars_job(home, 2, parallelism=parallelism),
        ProgressReader.of(settings) as progress,
    ):
        sender = Sender(Delivery.open(settings, "bench", None, lambda: True), settings.partitions, rate)

        def complete(history: list[Progress]) -> bool:
            return bool(history) and history[-1].next_sequence >= sender.delivery.next_sequence

        sender.send(now_ms())
        progress.wait(complete, "the job is not running")
        busy_s = busy_seconds()
        with ThreadPoolExecutor(1) as pool:
            sending = pool.submit(list, sender.send_at_rate(seconds, max_delay_s))
            while not sending.done():
                progress.poll()
            sent = sending.result()
        busy_s = busy_seconds() - busy_s
        progress.wait(complete, "the job does not keep up")
        return {
            "ticks_per_s": rate,
            "parallelism": parallelism,
            "partitions": settings.partitions,
            "ticks": sender.delivery.next_sequence - 1,
            "busy_cores": round(busy_s / seconds, 2),
            "delay_ms": percentiles(batch_delays(sent[int(len(sent) * _WARM_UP_SHARE) :], progress.history)),
        }


def batch_delays(sent: Sequence[SentBatch], history: Sequence[Progress]) -> pl.DataFrame:
    """Return for each batch the time from its sending until the reader first sees all of it (sent_to_committed_ms)."""
    batches = _table([(batch.next_sequence, batch.at_ms) for batch in sent], "at_ms")
    observations = _table([(progress.next_sequence, progress.at_ms) for progress in history], "observed_ms")
    first = observations.group_by("next_sequence").agg(pl.min("observed_ms")).sort("next_sequence")
    joined = batches.join_asof(first, on="next_sequence", strategy="forward")
    return joined.select(sent_to_committed_ms=(pl.col("observed_ms") - pl.col("at_ms")).cast(pl.Float64))


def _table(rows: list[tuple[int, int]], time_column: str) -> pl.DataFrame:
    return pl.DataFrame(rows, ["next_sequence", time_column], orient="row")


def main() -> int:
    """Parse the command line and print the result."""
    parser = argparse.ArgumentParser(description="Measure a bars job from Kafka to Kafka.")
    commands = parser.add_subparsers(dest="command", required=True)
    rate = commands.add_parser("rate", help="as fast as possible")
    rate.add_argument("ticks", type=Path)
    rate.add_argument("--cores", type=int, required=True, help="how many cores Flink may use")
    rate.add_argument("--final-only", action="store_true", help="publish each bar once, as a replay does")
    delay = commands.add_parser("delay", help="at a steady rate")
    delay.add_argument("rate", type=int)
    delay.add_argument("seconds", type=float)
    delay.add_argument(
        "--patience", type=float, default=_MAX_DELAY_S, metavar="SECONDS", help="how late a batch may be sent"
    )
    for command in (rate, delay):
        command.add_argument("--home", type=Path, required=True)
        command.add_argument("--parallelism", type=int, required=True)
    args = parser.parse_args()
    home = Home(args.home)
    if args.command == "rate":
        return print_result(
            lambda: measure_rate(args.ticks, home, args.parallelism, args.cores, final_only=args.final_only)
        )
    return print_result(lambda: measure_delay(args.rate, args.seconds, home, args.parallelism, args.patience))


if __name__ == "__main__":
    sys.exit(main())
