"""A broker that the tests of Kafka share; each uses topics of its own."""

from collections.abc import Iterator

import pytest

from control.kafka.settings import KafkaSettings
from tests.kafka_broker import RunningBroker, running_broker


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBroker]:
    """A real broker for all tests that do not kill it."""
    with running_broker(tmp_path_factory.mktemp("kafka")) as running:
        yield running


@pytest.fixture
def kafka(broker: RunningBroker) -> KafkaSettings:
    """How to reach the broker, with topics of this test alone."""
    return broker.new_settings()
