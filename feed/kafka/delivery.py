"""Ticks into Kafka: every batch with the position behind it in one transaction, as the log's only writer there.

The position is a record in the compacted topic `ticks-position`: {"log": id, "next_sequence": n, "epoch": that of the
tick before}; records of earlier versions are without an epoch. A process that opens a
delivery ends what a predecessor left unfinished and fences it off, then reads how far the log got. So a delivery that
failed in whatever way is dropped, and the next one goes on exactly where Kafka stands.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Self

import orjson
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from control.errors import ControlError
from control.kafka.settings import KafkaSettings
from control.kafka.topics import MAX_MESSAGE_BYTES

_READ_TIMEOUT_S = 5.0
# What takes longer than this is worth a word; it goes on all the same.
_SLOW_S = 5.0
_KEY = b"position"


class OtherLogError(ControlError):
    """The topics hold the ticks of another tick log."""


@dataclass(frozen=True)
class Position:
    """Up to where Kafka has a log: its id, the next sequence it is to get, and the epoch of the tick before."""

    log: str
    next_sequence: int
    epoch: str | None


class Delivery:
    """A writer of the topic of ticks."""

    def __init__(
        self, settings: KafkaSettings, log_id: str, producer: Producer, position: Position, still: Callable[[], bool]
    ) -> None:
        self._topic, self._position_topic = settings.topic("ticks"), settings.topic("ticks-position")
        self._log_id, self._producer, self._still = log_id, producer, still
        self.next_sequence, self.epoch = position.next_sequence, position.epoch

    @classmethod
    def open(cls, settings: KafkaSettings, log_id: str, password: str | None, still: Callable[[], bool]) -> Self:
        """Take over; raise KafkaException where Kafka does not let us, OtherLogError where the topics are not ours.

        still: asked now and then while Kafka is slow, here and in `send`; False gives up.
        """
        configuration = {
            **settings.client(password),
            # Part of the name is the topic: two homes that write to the same one would fence each other off.
            "transactional.id": f"{settings.topic('ticks')}-shipper",
            "message.max.bytes": MAX_MESSAGE_BYTES,
            "log_level": 0,
        }
        producer = Producer(configuration)
        _own_position(settings, log_id, password)  # or others would be fenced off from what is theirs
        _insist(producer.init_transactions, still)
        return cls(settings, log_id, producer, _own_position(settings, log_id, password), still)

    def send(self, values: Iterable[tuple[int, bytes]], next_sequence: int, epoch: str | None) -> None:
        """Write (partition, value) and the new position, all or nothing; return when Kafka has them.

        Raise KafkaException when this delivery is of no more use; what became of the batch, the next delivery knows.
        """
        self._producer.begin_transaction()
        for partition, value in values:
            self._producer.produce(self._topic, value, partition=partition)
        position = orjson.dumps({"log": self._log_id, "next_sequence": next_sequence, "epoch": epoch})
        self._producer.produce(self._position_topic, position, key=_KEY, partition=0)
        _insist(self._producer.commit_transaction, self._still)
        self.next_sequence, self.epoch = next_sequence, epoch

    def drop(self) -> None:
        """Let go without waiting for anybody: what is under way is ended by the next delivery."""
        self._producer.purge()


def _insist(step: Callable[[float], None], still: Callable[[], bool]) -> None:
    """Have a step done, however long Kafka takes; raise KafkaException where that is hopeless or given up."""
    while True:
        try:
            return step(_SLOW_S)
        except KafkaException as error:
            if not error.args[0].retriable() or not still():
                raise


def _own_position(settings: KafkaSettings, log_id: str, password: str | None) -> Position:
    """Return up to where Kafka has this log; raise OtherLogError where the topics are not ours."""
    position = _read_position(settings, password) or Position(log_id, 1, None)
    if position.log != log_id:
        raise OtherLogError(
            f"The topic {settings.topic('ticks')} holds the ticks of another tick log; set another prefix in"
            f" {settings.file_name}"
        )
    return position


def _read_position(settings: KafkaSettings, password: str | None) -> Position | None:
    """Return the position as last committed, or None before the first batch."""
    topic = settings.topic("ticks-position")
    consumer = Consumer(
        {
            **settings.client(password),
            "group.id": topic,  # it is never committed to, but Kafka's client wants one
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "log_level": 0,
        }
    )
    newest: bytes | None = None
    deadline = time.monotonic() + _READ_TIMEOUT_S
    try:
        consumer.assign([TopicPartition(topic, 0, 0)])
        while time.monotonic() < deadline:
            for message in consumer.consume(1_000, 1.0):
                error = message.error()
                if error is None:
                    newest = message.value()
                elif error.code() != KafkaError._PARTITION_EOF:
                    raise KafkaException(error)
                elif newest is None:
                    return None
                else:
                    position = orjson.loads(newest)
                    return Position(str(position["log"]), int(position["next_sequence"]), position.get("epoch"))
    finally:
        consumer.close()
    raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
