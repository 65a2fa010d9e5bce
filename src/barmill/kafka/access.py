"""Access to the brokers: connections, the password (read only when used), and topics."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from barmill.audit.roles import Actor
from barmill.platform.clock import MS_PER_DAY, MS_PER_HOUR, wait_until
from barmill.platform.errors import ControlError
from barmill.platform.home import Home
from barmill.platform.kafka_settings import KafkaConnection, KafkaSettings
from barmill.secrets.store import KeyStore

# This is shorter than the time that a process has for its shutdown.
_RESPONSE_TIMEOUT_S = 5.0


class AccessError(ControlError):
    """The brokers respond but refuse the connection. The message says what to change."""


def password(home: Home, brokers: KafkaConnection, actor: Actor, hosts: Sequence[str] | None = None) -> str | None:
    """Return the password, or None if the brokers need none. Raise KeyStoreError if it cannot be read.

    hosts: the hosts to which a feed sends it, as in KeyStore.reveal.
    """
    if not brokers.signs_in:
        return None
    with KeyStore.open(home, actor) as store:
        return store.reveal(brokers.password_key, hosts)


def connect(brokers: KafkaConnection, secret: str | None = None) -> AdminClient:
    """Return a client for the brokers, after they have responded.

    Raise AccessError if they refuse the connection, KafkaException if none responds.
    """
    errors = list[KafkaError]()
    # The client reports connection errors through the callback; a request over the connection only times out.
    configuration: dict[str, Any] = {**brokers.client(secret), "log_level": 0, "error_cb": errors.append}
    admin = AdminClient(configuration)
    try:
        admin.list_topics(timeout=_RESPONSE_TIMEOUT_S)
    except KafkaException:
        admin.poll(0)
        codes = {problem.code() for problem in errors}
        if KafkaError._AUTHENTICATION in codes:
            raise AccessError(
                "Kafka rejects the user name or the password; store the correct one with ./barmill key rotate"
                f" {brokers.password_key}."
            ) from None
        if KafkaError._SSL in codes:
            raise AccessError(
                "Kafka's certificate is not trusted; set ca_file to the certificate of its authority."
            ) from None
        raise
    return admin


MAX_MESSAGE_BYTES = 8 << 20
_TIMEOUT_S = 5.0


class TopicError(ControlError):
    """The topics cannot be created or do not match the settings. The message says what to do."""


@dataclass(frozen=True)
class Topic:
    """A Barmill topic.

    compacted: the topic keeps the newest record of each key forever; other topics keep all records for some days.
    keep_older_ms: how long a compacted topic also keeps older records, so that a reader that was offline misses none.
    """

    name: str
    partitions: int
    compacted: bool = False
    keep_older_ms: int = 0

    def creation_request(self, settings: KafkaSettings, keep_days: float) -> NewTopic:
        """Return the request to create the topic. keep_days: how long it keeps records, unless it is compacted."""
        policy = (
            # Short segments, because Kafka does not compact the segment that it writes.
            {
                "cleanup.policy": "compact",
                "segment.ms": "600000",
                "min.cleanable.dirty.ratio": "0.1",
                "min.compaction.lag.ms": str(self.keep_older_ms),
            }
            if self.compacted
            else {"cleanup.policy": "delete", "retention.ms": str(int(keep_days * MS_PER_DAY))}
        )
        return NewTopic(
            settings.topic(self.name),
            num_partitions=self.partitions,
            replication_factor=settings.replication,
            config={"max.message.bytes": str(MAX_MESSAGE_BYTES), **policy},
        )


def topics(settings: KafkaSettings) -> Sequence[Topic]:
    """Return the topics of a home."""
    return (
        Topic("ticks", settings.partitions),
        Topic("ticks-position", 1, compacted=True),
        Topic("bars", settings.partitions, compacted=True, keep_older_ms=MS_PER_HOUR),
        Topic("rejects", settings.partitions),
        Topic("progress", 1, compacted=True),
    )


def ensure_topics(settings: KafkaSettings, keep_days: float, password: str | None = None) -> None:
    """Create missing topics. Raise TopicError if that fails or a topic has another number of partitions.

    keep_days: how long new topics keep ticks and rejects. Raise AccessError if the brokers refuse the connection,
    KafkaException if none responds.
    """
    admin = connect(settings, password)
    partition_counts = _partition_counts(admin)
    topics_by_name = {settings.topic(topic.name): topic for topic in topics(settings)}
    missing = [
        topic.creation_request(settings, keep_days)
        for name, topic in topics_by_name.items()
        if name not in partition_counts
    ]
    if missing:
        for name, future in admin.create_topics(missing, request_timeout=_TIMEOUT_S).items():
            try:
                future.result()
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise TopicError(f"Kafka did not create the topic {name}: {error.args[0].str()}.") from error
        # A broker confirms a new topic before it lists it.
        if not wait_until(lambda: topics_by_name.keys() <= _partition_counts(admin).keys(), _TIMEOUT_S):
            raise TopicError(
                "Kafka created the topics but does not list them; it may be overloaded, so try again in a minute."
            )
        partition_counts = _partition_counts(admin)
    for name, topic in topics_by_name.items():
        partitions = partition_counts[name]
        if partitions != topic.partitions:
            raise TopicError(
                f"The topic {name} has {partitions} partitions instead of {topic.partitions}; set the number, or"
                f" another prefix, in {settings.file_name}."
            )


def _partition_counts(admin: AdminClient) -> Mapping[str, int]:
    return {name: len(topic.partitions) for name, topic in admin.list_topics(timeout=_TIMEOUT_S).topics.items()}
