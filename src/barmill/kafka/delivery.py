"""Delivery of ticks to Kafka: each batch and its end position in one transaction, by the only writer of the topic.

The position is a record in the compacted topic `ticks-position`: {"log": id, "next_sequence": n, "epoch": the epoch of
the tick before}. Records of earlier versions have no epoch. A process that opens a delivery ends any unfinished
transaction of its predecessor and fences it off, then reads the position. A failed delivery can therefore simply be
dropped: the next one continues exactly where Kafka's data ends.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Self

import orjson
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from barmill.kafka.access import MAX_MESSAGE_BYTES
from barmill.platform.errors import ControlError
from barmill.platform.kafka_settings import KafkaSettings

_READ_TIMEOUT_S = 5.0
# A step that takes longer than this is reported; it continues nevertheless.
_SLOW_S = 5.0
_KEY = b"position"


class OtherLogError(ControlError):
    """The topics hold the ticks of another tick log."""


@dataclass(frozen=True)
class Position:
    """The position up to which Kafka has a log: the log's id, the next sequence to send, and the epoch before it."""

    log: str
    next_sequence: int
    epoch: str | None


class Delivery:
    """A writer to the topic of ticks."""

    def __init__(
        self,
        settings: KafkaSettings,
        log_id: str,
        producer: Producer,
        position: Position,
        keep_waiting: Callable[[], bool],
    ) -> None:
        self._topic, self._position_topic = settings.topic("ticks"), settings.topic("ticks-position")
        self._log_id, self._producer, self._keep_waiting = log_id, producer, keep_waiting
        self.next_sequence, self.epoch = position.next_sequence, position.epoch

    @classmethod
    def open(cls, settings: KafkaSettings, log_id: str, password: str | None, keep_waiting: Callable[[], bool]) -> Self:
        """Take over the topic. Raise KafkaException if Kafka refuses, OtherLogError if the topic holds another log.

        keep_waiting: called from time to time while Kafka is slow, here and in `send`; returns False to give up.
        """
        configuration = {
            **settings.client(password),
            # The topic is part of the name, so that two homes that write to the same topic fence each other off.
            "transactional.id": f"{settings.topic('ticks')}-shipper",
            "message.max.bytes": MAX_MESSAGE_BYTES,
            "log_level": 0,
        }
        producer = Producer(configuration)
        _own_position(settings, log_id, password)  # check before fencing off the writer of another log
        _retry_while_slow(producer.init_transactions, keep_waiting)
        return cls(settings, log_id, producer, _own_position(settings, log_id, password), keep_waiting)

    def send(self, values: Iterable[tuple[int, bytes]], next_sequence: int, epoch: str | None) -> None:
        """Write (partition, value) and the new position, all or nothing. Return once Kafka has them.

        Raise KafkaException if this delivery is no longer usable. The next delivery finds out whether the batch was
        written.
        """
        self._producer.begin_transaction()
        for partition, value in values:
            self._producer.produce(self._topic, value, partition=partition)
        position = orjson.dumps({"log": self._log_id, "next_sequence": next_sequence, "epoch": epoch})
        self._producer.produce(self._position_topic, position, key=_KEY, partition=0)
        _retry_while_slow(self._producer.commit_transaction, self._keep_waiting)
        self.next_sequence, self.epoch = next_sequence, epoch

    def drop(self) -> None:
        """Close without waiting. The next delivery ends the open transaction."""
        self._producer.purge()


def _retry_while_slow(step: Callable[[float], None], keep_waiting: Callable[[], bool]) -> None:
    """Run a step, however long Kafka takes. Raise KafkaException if it cannot succeed or `keep_waiting` gives up."""
    while True:
        try:
            return step(_SLOW_S)
        except KafkaException as error:
            if not error.args[0].retriable() or not keep_waiting():
                raise


def _own_position(settings: KafkaSettings, log_id: str, password: str | None) -> Position:
    """Return the position up to which Kafka has this log.

    Raise OtherLogError if the topics hold another log, KafkaException if the position cannot be read.
    """
    position = _read_position(settings, password) or Position(log_id, 1, None)
    if position.log != log_id:
        raise OtherLogError(
            f"The topic {settings.topic('ticks')} contains the ticks of another tick log; set another prefix in"
            f" {settings.file_name}"
        )
    return position


def _read_position(settings: KafkaSettings, password: str | None) -> Position | None:
    """Return the last committed position, or None before the first batch. Raise KafkaException if Kafka fails."""
    topic = settings.topic("ticks-position")
    consumer = Consumer(
        {
            **settings.client(password),
            "group.id": topic,  # no offset is ever committed, but the client requires a group
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "log_level": 0,
        }
    )
    newest: bytes | None = None
    deadline_s = time.monotonic() + _READ_TIMEOUT_S
    try:
        consumer.assign([TopicPartition(topic, 0, 0)])
        while time.monotonic() < deadline_s:
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
