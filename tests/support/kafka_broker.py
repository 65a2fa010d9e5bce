"""A real Kafka broker for tests, which can be killed and started again."""

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from barmill.platform.certificates import ensure_certificate
from barmill.platform.clock import wait_until
from barmill.platform.home import Home
from barmill.platform.kafka_settings import KafkaSettings
from barmill.platform.ports import free_ports
from control.kafka.broker import Broker, end, start, wait_until_ready

READ_TIMEOUT_S = 30.0


@dataclass
class RunningBroker:
    """A broker of this test run alone."""

    broker: Broker
    process: subprocess.Popen[bytes] = field(init=False)

    def start(self) -> None:
        """Start it and wait until it answers."""
        self.process = start(self.broker)
        wait_until_ready(self.broker, self.process)

    def kill(self) -> None:
        """Kill it as a crash would."""
        end(self.process)

    def settings(self, prefix: str = "") -> KafkaSettings:
        """Return how to reach it, with topics of this prefix."""
        return KafkaSettings(**dict(self.broker.connection), prefix=prefix)

    def new_settings(self) -> KafkaSettings:
        """Return how to reach it, with topics that no other test has."""
        return self.settings(f"t{uuid4().hex[:8]}.")


@contextmanager
def running_broker(
    folder: Path, settings: Mapping[str, str] | None = None, *, ports: tuple[int, int] | None = None
) -> Iterator[RunningBroker]:
    """Run a broker until the block ends, on these ports if any are given."""
    port, controller_port = ports or free_ports(2)
    broker = Broker(folder, port, controller_port, ensure_certificate(Home(folder)), settings or {})
    broker.write_files()
    running = RunningBroker(broker)
    try:
        running.start()
        yield running
    finally:
        if hasattr(running, "process"):
            running.kill()


def write_settings(folder: Path, settings: KafkaSettings) -> None:
    """Write kafka.json of a home."""
    (folder / KafkaSettings.file_name).write_text(settings.model_dump_json())


def committed(settings: KafkaSettings, topic: str) -> list[Message]:
    """Return every committed message of one of our topics, partition by partition, in order."""
    consumer = Consumer(
        {
            **settings.client(),
            "group.id": "tests",
            "isolation.level": "read_committed",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
        }
    )
    try:
        name = settings.topic(topic)
        partitions = consumer.list_topics(name, READ_TIMEOUT_S).topics[name].partitions
        assigned = [TopicPartition(name, number, 0) for number in partitions]
        # To where the topic ends now: one that is being written to may never be seen at its end.
        ends = {
            partition.partition: consumer.get_watermark_offsets(partition, READ_TIMEOUT_S)[1] for partition in assigned
        }
        found, ended = list[Message](), set[int]()
        consumer.assign(assigned)

        def read() -> bool:
            for message in consumer.consume(1_000, 0.2):
                (partition, offset), error = _place(message), message.error()
                if error is None:
                    found.append(message)
                elif error.code() != KafkaError._PARTITION_EOF:
                    raise KafkaException(error)
                if error is not None or offset + 1 >= ends[partition]:
                    ended.add(partition)
            return len(ended) == len(partitions)

        assert wait_until(read, READ_TIMEOUT_S), f"read only {len(ended)} of {len(partitions)} partitions"
    finally:
        consumer.close()
    return sorted(found, key=_place)


def _place(message: Message) -> tuple[int, int]:
    return message.partition() or 0, message.offset() or 0
