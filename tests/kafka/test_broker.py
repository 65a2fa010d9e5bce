"""The broker of one machine."""

from confluent_kafka.admin import AdminClient

from control.kafka.broker import answers
from control.kafka.settings import KafkaSettings
from control.machine.ports import LOOPBACK, free_ports


def test_a_broker_answers(kafka: KafkaSettings) -> None:
    assert answers(kafka)
    brokers = AdminClient(kafka.client()).list_topics(timeout=10).brokers
    assert [f"{one.host}:{one.port}" for one in brokers.values()] == [kafka.bootstrap]


def test_where_no_broker_is_nothing_answers() -> None:
    (port,) = free_ports(1)
    assert not answers(KafkaSettings(bootstrap=f"{LOOPBACK}:{port}"))
