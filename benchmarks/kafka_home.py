"""A broker and a Flink of a benchmark's own, a bars job from Kafka to Kafka, and how far others see that it is."""

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

from confluent_kafka import KafkaException

from bar.clock import now_ms
from bar.kafka.messages import PROGRESS, read_progress
from benchmarks.private_home import PrivateHomeError, wait_or_fail
from control.flink.cluster import private_cluster
from control.flink.rest import FlinkRest
from control.home import Home
from control.jobs.specs import BARS_PROGRAM, check_spec
from control.kafka.artifacts import fetch
from control.kafka.broker import private_broker
from control.kafka.settings import KafkaSettings
from control.kafka.topics import ensure_topics
from feed.providers.kafka_topic import TopicReading

_KEEP_DAYS = 1.0
_TIMEOUT_S = 600.0


@dataclass(frozen=True)
class Seen:
    """How far all shards were at a moment, as a reader saw that takes only what was committed.

    next_sequence: everything in the log before it is in the bars. read: ticks of all shards together.
    """

    at_ms: int
    next_sequence: int
    read: int


class ProgressSeen:
    """A reader of a job's progress, which is committed together with the bars it speaks of."""

    def __init__(self, reading: TopicReading, shards: int) -> None:
        self._reading, self._shards = reading, shards
        self._of_shard: dict[int, tuple[int, int]] = {}
        self.seen: list[Seen] = []

    @classmethod
    @contextmanager
    def of(cls, settings: KafkaSettings) -> Iterator[Self]:
        """Read from the beginning, until the block ends."""
        with TopicReading.open(settings, None, settings.topic(PROGRESS), {}) as reading:
            yield cls(reading, settings.partitions)

    def look(self) -> None:
        """Take note of what was committed since."""
        messages, _ = self._reading.next()
        at_ms = now_ms()
        for one in read_progress([bytes(message.value() or b"") for message in messages]) if messages else ():
            self._of_shard[one.shard] = (one.next_sequence, one.read)
        if len(self._of_shard) == self._shards:
            behind = min(next_sequence for next_sequence, _ in self._of_shard.values())
            read = sum(ticks for _, ticks in self._of_shard.values())
            if not self.seen or behind > self.seen[-1].next_sequence or read > self.seen[-1].read:
                self.seen.append(Seen(at_ms, behind, read))

    def wait(self, done: Callable[[list[Seen]], bool], what: str) -> None:
        """Look until that is so; raise PrivateHomeError with what did not come about."""

        def look() -> bool:
            self.look()
            return done(self.seen)

        wait_or_fail(look, what, _TIMEOUT_S)


@contextmanager
def kafka_home(home: Home) -> Iterator[KafkaSettings]:
    """Run a broker with the topics of a fresh home, whose kafka.json says so."""
    fetch("connector")
    home.create()
    try:
        with private_broker(home.root / "kafka") as settings:
            KafkaSettings.write(home, settings)
            ensure_topics(settings, _KEEP_DAYS)
            yield settings
    except KafkaException as error:
        raise PrivateHomeError(f"Kafka refused: {error.args[0].str()}.") from error


@contextmanager
def bars_job(home: Home, cores: int, **fields: Any) -> Iterator[FlinkRest]:
    """Run a bars job from Kafka to Kafka on a Flink that may use that many cores."""
    usable = sorted(os.sched_getaffinity(0))
    if cores > len(usable):
        raise PrivateHomeError(f"This machine has {len(usable)} cores, so nothing can be measured on {cores}.")
    os.sched_setaffinity(0, usable[:cores])  # which the processes of Flink inherit
    try:
        with private_cluster(Home(home.root / "cluster")) as flink:
            os.sched_setaffinity(0, usable)
            spec = check_spec({"name": "bench", "source": "kafka", "sink": "kafka", **fields}, home)
            path = home.flink / "spec.json"
            path.write_text(spec.model_dump_json())
            arguments = ["--spec", str(path)]
            flink.submit(BARS_PROGRAM, arguments, parallelism=spec.parallelism, job_id=uuid.uuid4().hex)
            yield flink
    finally:
        os.sched_setaffinity(0, usable)
