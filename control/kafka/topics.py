"""The topics of a home: made where they are missing, and checked where they are not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from control.errors import ControlError
from control.kafka.access import connect
from control.kafka.settings import KafkaSettings
from control.waiting import wait_until

MAX_MESSAGE_BYTES = 8 << 20
_TIMEOUT_S = 5.0
_MS_PER_HOUR = 3_600_000
_MS_PER_DAY = 86_400_000


class TopicError(ControlError):
    """The topics cannot be made, or are not as they must be; the sentence says what to do."""


@dataclass(frozen=True)
class Topic:
    """One of our topics; compacted ones keep the newest record of each key for ever, others for `keep_days`.

    whole_for_ms: how long a compacted topic keeps older records, too, so that a reader who was away misses none.
    """

    name: str
    partitions: int
    compacted: bool = False
    whole_for_ms: int = 0

    def new(self, settings: KafkaSettings, keep_days: float) -> NewTopic:
        """Return what Kafka is asked to make."""
        how = (
            # Small segments, because Kafka does not compact the one that it writes to.
            {
                "cleanup.policy": "compact",
                "segment.ms": "600000",
                "min.cleanable.dirty.ratio": "0.1",
                "min.compaction.lag.ms": str(self.whole_for_ms),
            }
            if self.compacted
            else {"cleanup.policy": "delete", "retention.ms": str(int(keep_days * _MS_PER_DAY))}
        )
        return NewTopic(
            settings.topic(self.name),
            num_partitions=self.partitions,
            replication_factor=settings.replication,
            config={"max.message.bytes": str(MAX_MESSAGE_BYTES), **how},
        )


def topics(settings: KafkaSettings) -> Sequence[Topic]:
    """Return the topics a home has."""
    return (
        Topic("ticks", settings.partitions),
        Topic("ticks-position", 1, compacted=True),
        Topic("bars", settings.partitions, compacted=True, whole_for_ms=_MS_PER_HOUR),
        Topic("rejects", settings.partitions),
        Topic("progress", 1, compacted=True),
    )


def ensure_topics(settings: KafkaSettings, keep_days: float, password: str | None = None) -> None:
    """Make the topics that are missing; raise TopicError where that fails or one has another number of partitions.

    keep_days: how long Kafka keeps ticks and rejects. Raise AccessError where the brokers refuse us, KafkaException
    where none answers.
    """
    admin = connect(settings, password)
    there = _partitions(admin)
    wanted = {settings.topic(topic.name): topic for topic in topics(settings)}
    missing = [topic.new(settings, keep_days) for name, topic in wanted.items() if name not in there]
    if missing:
        for name, made in admin.create_topics(missing, request_timeout=_TIMEOUT_S).items():
            try:
                made.result()
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise TopicError(f"Kafka did not make the topic {name}: {error.args[0].str()}.") from error
        # A broker answers that a topic is made before it lists it.
        if not wait_until(lambda: wanted.keys() <= _partitions(admin).keys(), _TIMEOUT_S):
            raise TopicError("Kafka made our topics but does not list them; is it overloaded? Try again in a minute.")
        there = _partitions(admin)
    for name, topic in wanted.items():
        found = there[name]
        if found != topic.partitions:
            raise TopicError(
                f"The topic {name} has {found} partitions and not {topic.partitions}; say so in {settings.file_name},"
                " or take another prefix there."
            )


def _partitions(admin: AdminClient) -> Mapping[str, int]:
    return {name: len(topic.partitions) for name, topic in admin.list_topics(timeout=_TIMEOUT_S).topics.items()}
