"""The topics of a home on a real broker."""

import pytest
from confluent_kafka.admin import AdminClient, ConfigResource  # type: ignore[attr-defined]

from barmill.kafka.access import TopicError, ensure_topics, topics
from barmill.platform.kafka_settings import KafkaSettings


def settings_of(kafka: KafkaSettings, name: str) -> dict[str, str]:
    resource = ConfigResource(ConfigResource.Type.TOPIC, kafka.topic(name))
    admin = AdminClient(kafka.client())
    found = admin.describe_configs([resource])[resource].result(30)
    return {key: entry.value for key, entry in found.items()}


def test_topics_are_made_once_and_found_again(kafka: KafkaSettings) -> None:
    for _ in range(2):
        ensure_topics(kafka, keep_days=0.5)
    there = AdminClient(kafka.client()).list_topics(timeout=30).topics
    for topic in topics(kafka):
        assert len(there[kafka.topic(topic.name)].partitions) == topic.partitions
    assert settings_of(kafka, "bars")["cleanup.policy"] == "compact"
    ticks = settings_of(kafka, "ticks")
    assert (ticks["cleanup.policy"], ticks["retention.ms"]) == ("delete", "43200000")


def test_another_number_of_partitions_is_a_sentence(kafka: KafkaSettings) -> None:
    ensure_topics(kafka, keep_days=1)
    with pytest.raises(TopicError, match=r"ticks has 8 partitions instead of 4; set the number, or another"):
        ensure_topics(kafka.model_copy(update={"partitions": 4}), keep_days=1)
