"""The broker of a home that has its own, and what a start with Kafka takes."""

from control.home import Home
from control.kafka.artifacts import fetch
from control.kafka.broker import Broker
from control.kafka.settings import KafkaSettings
from control.machine.ports import Ports


def broker_of(home: Home, ports: Ports) -> Broker:
    """Return the home's own broker."""
    return Broker(home.root / "kafka", ports.kafka, ports.kafka_controller)


def prepare(home: Home, ports: Ports, settings: KafkaSettings) -> KafkaSettings:
    """Make everything ready to start with Kafka, and return its settings as they are from now on.

    Where no brokers are named, the home gets one of its own. Raise ControlError with what is missing.
    """
    if not settings.used:
        settings = settings.model_copy(update={"own_broker": True})
    if settings.own_broker:
        broker = broker_of(home, ports)
        broker.write_files()
        settings = settings.model_copy(update={"bootstrap": broker.bootstrap})
        KafkaSettings.write(home, settings)
    fetch("connector")
    return settings
