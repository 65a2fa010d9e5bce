"""A broker that wants a user name and a password."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from barmill.platform.kafka_settings import KafkaSettings
from barmill.platform.ports import LOOPBACK, free_ports
from tests.support.kafka_broker import running_broker

USER, PASSWORD = "barmill", "correct-horse-7781"


@contextmanager
def broker_with_password(folder: Path) -> Iterator[KafkaSettings]:
    """Run such a broker until the block ends; the key store is to have the password as `kafka`."""
    port, controller_port, sasl_port = free_ports(3)
    listeners = f"SSL://{LOOPBACK}:{port},SASL_PLAINTEXT://{LOOPBACK}:{sasl_port}"
    login = "org.apache.kafka.common.security.plain.PlainLoginModule"
    settings = {
        "listeners": f"{listeners},CONTROLLER://{LOOPBACK}:{controller_port}",
        "advertised.listeners": listeners,
        "listener.security.protocol.map": "SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,CONTROLLER:SSL",
        "sasl.enabled.mechanisms": "PLAIN",
        "listener.name.sasl_plaintext.plain.sasl.jaas.config": f'{login} required user_{USER}="{PASSWORD}";',
    }
    with running_broker(folder, settings, ports=(port, controller_port)):
        yield KafkaSettings(
            bootstrap=f"{LOOPBACK}:{sasl_port}",
            protocol="SASL_PLAINTEXT",
            mechanism="PLAIN",
            username=USER,
            password_key="kafka",
        )
