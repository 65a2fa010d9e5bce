"""Reading a topic from given offsets on, and knowing when all of it has been read."""

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any, Self

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from bar.clock import now_ms
from control.kafka.access import connect
from control.kafka.settings import KafkaConnection

logger = logging.getLogger(__name__)

MAX_MESSAGES = 20_000
_WAIT_S = 0.1
# As often as the demo market says that it is complete, so that bars close alike.
_ASK_EVERY_MS = 250
_LOOK_FOR_PARTITIONS_EVERY_MS = 10_000
_ANSWER_TIMEOUT_S = 5.0


class TopicReading:
    """Where one consumer is in each partition of a topic.

    offsets: of the message to read next, by partition. Everything raises KafkaException where the brokers do not answer
    or refuse; it is of no more use then.
    """

    def __init__(self, consumer: Consumer, admin: AdminClient, topic: str, offsets: Mapping[int, int]) -> None:
        self._consumer, self._admin, self._topic = consumer, admin, topic
        self.offsets = dict(offsets)
        self._asked_ms, self._ends = 0, dict[int, Future[Any]]()
        self._looked_ms, self._partitions = 0, set[int]()
        self._gone: list[tuple[int, int]] = []

    @classmethod
    def open(cls, brokers: KafkaConnection, secret: str | None, topic: str, offsets: Mapping[int, int]) -> Self:
        """Begin to read at these offsets, and partitions that have none at their oldest message.

        Raise AccessError where the brokers refuse us.
        """
        admin = connect(brokers, secret)
        consumer = Consumer(
            {
                **brokers.client(secret),
                "group.id": "barmill",  # offsets are kept by the caller, but Kafka's client wants a group
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "enable.partition.eof": True,
                # What is gone is said, and not passed over in silence.
                "auto.offset.reset": "error",
                "log_level": 0,
            }
        )
        return cls(consumer, admin, topic, offsets)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._consumer.close()

    def next(self) -> tuple[Sequence[Message], int | None]:
        """Wait a moment; return new messages and, if all there was had been read at some new moment, that moment."""
        clock_ms = now_ms()
        if clock_ms - self._looked_ms >= _LOOK_FOR_PARTITIONS_EVERY_MS:
            self._look_for_partitions()
            self._looked_ms = clock_ms
        if not self._ends and clock_ms - self._asked_ms >= _ASK_EVERY_MS:
            self._ask(clock_ms)
        messages = [one for one in self._consumer.consume(MAX_MESSAGES, _WAIT_S) if self._take(one)]
        if self._ends and self._reached_the_ends():
            self._ends = {}
            return messages, self._asked_ms
        return messages, None

    def take_gone(self) -> Sequence[tuple[int, int]]:
        """Return, once, the partitions and offsets that were to be read next and were deleted before that."""
        gone, self._gone = self._gone, []
        return gone

    def _ask(self, clock_ms: int) -> None:
        """Ask where the partitions end now: once we have come that far, all there was until now has been read."""
        latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]
        wanted = {TopicPartition(self._topic, partition): latest for partition in self._partitions}
        asked = self._admin.list_offsets(
            wanted, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=_ANSWER_TIMEOUT_S
        )
        self._asked_ms, self._ends = clock_ms, {place.partition: end for place, end in asked.items()}

    def _reached_the_ends(self) -> bool:
        return all(
            end.done() and self.offsets.get(partition, -1) >= end.result().offset
            for partition, end in self._ends.items()
        )

    def _look_for_partitions(self) -> None:
        """Begin to read partitions that are new to us."""
        # Through this client, because it only answers for partitions that it has heard of itself.
        found = self._admin.list_topics(self._topic, _ANSWER_TIMEOUT_S).topics[self._topic]
        if found.error is not None:
            raise KafkaException(found.error)
        for partition in sorted(set(found.partitions) - self._partitions):
            self._read_from(partition, self.offsets.get(partition, OFFSET_BEGINNING))

    def _read_from(self, partition: int, offset: int) -> None:
        self._consumer.incremental_assign([TopicPartition(self._topic, partition, offset)])
        self._partitions.add(partition)

    def _take(self, message: Message) -> bool:
        """Note how far this brings us; tell whether it is a message and not word of something else."""
        error, partition, offset = message.error(), message.partition(), message.offset()
        if partition is None or offset is None:
            raise KafkaException(error)
        if error is None:
            self.offsets[partition] = offset + 1
            return message.value() is not None
        if error.code() == KafkaError._PARTITION_EOF:
            # Transactions leave marks behind that are no messages; the end lies behind them.
            self.offsets[partition] = offset
        elif error.code() == KafkaError._AUTO_OFFSET_RESET:
            self._begin_anew(partition)
        else:
            raise KafkaException(error)
        return False

    def _begin_anew(self, partition: int) -> None:
        """Go on from the oldest message where the one we want next is gone."""
        gone = self.offsets.pop(partition)
        logger.warning("Ticks may be missing: partition %d has no offset %d; on from its oldest.", partition, gone)
        self._gone.append((partition, gone))
        self._ends = {}  # what was asked before says nothing of what is missing now
        self._consumer.incremental_unassign([TopicPartition(self._topic, partition)])
        self._read_from(partition, OFFSET_BEGINNING)
