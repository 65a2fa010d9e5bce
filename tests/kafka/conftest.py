"""A broker that the tests of Kafka share; each test uses separate topics."""

from collections.abc import Iterator

import pytest

from barmill.platform.kafka_settings import KafkaSettings
from tests.support.kafka_broker import RunningBroker, running_broker


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBroker]:
    """A real broker for all tests that do not kill it."""
    with running_broker(tmp_path_factory.mktemp("kafka")) as running:
        yield running


@pytest.fixture
def kafka(broker: RunningBroker) -> KafkaSettings:
    """How to reach the broker, with topics of this test alone."""
    return broker.new_settings()
