"""The broker of one machine."""

import socket
import ssl
from dataclasses import replace
from pathlib import Path

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from barmill.kafka.access import ensure_topics
from barmill.platform.certificates import ensure_certificate
from barmill.platform.clock import wait_until
from barmill.platform.home import Home
from barmill.platform.kafka_settings import KafkaSettings
from barmill.platform.ports import LOOPBACK, Ports, free_ports
from control.kafka.broker import START_TIMEOUT_S, broker_of, end, is_responding, prepare, start
from tests.support.kafka_broker import READ_TIMEOUT_S, RunningBroker, committed, write_settings


def test_a_broker_answers(kafka: KafkaSettings) -> None:
    assert is_responding(kafka)
    brokers = AdminClient(kafka.client()).list_topics(timeout=10).brokers
    assert [f"{broker_metadata.host}:{broker_metadata.port}" for broker_metadata in brokers.values()] == [
        kafka.bootstrap
    ]


def test_where_no_broker_is_nothing_answers() -> None:
    (port,) = free_ports(1)
    assert not is_responding(KafkaSettings(bootstrap=f"{LOOPBACK}:{port}"))


def test_clients_without_the_certificate_of_the_home_are_refused(
    broker: RunningBroker, kafka: KafkaSettings, tmp_path: Path
) -> None:
    other = ensure_certificate(Home(tmp_path))
    (tmp_path / "other.pem").write_text(other.key.read_text() + other.certificate.read_text())
    assert is_responding(kafka)
    assert not is_responding(KafkaSettings(bootstrap=kafka.bootstrap))
    assert not is_responding(kafka.model_copy(update={"certificate_file": None}))
    assert not is_responding(kafka.model_copy(update={"certificate_file": tmp_path / "other.pem"}))
    for port in (broker.broker.port, broker.broker.controller_port):
        context = ssl.create_default_context(cafile=str(broker.broker.tls.certificate))
        with pytest.raises((ssl.SSLError, ConnectionResetError)):
            read_from(port, context)
        context.load_cert_chain(broker.broker.tls.certificate, broker.broker.tls.key)
        with pytest.raises(TimeoutError):  # accepted: it waits for a request
            read_from(port, context)


def test_a_broker_unpacks_its_libraries_in_its_folder_and_the_next_start_deletes_them(
    broker: RunningBroker, kafka: KafkaSettings, home: Home
) -> None:
    ensure_topics(kafka, keep_days=1)
    producer = Producer({**kafka.client(), "compression.type": "lz4"})
    for _ in range(20):  # a single small message is not compressed
        producer.produce(kafka.topic("ticks"), b"0" * 1_000)
    assert producer.flush(READ_TIMEOUT_S) == 0
    assert [*(broker.broker.folder / "tmp").glob("liblz4*.so")]
    ensure_certificate(home)
    stopped = broker_of(home, Ports(*free_ports(6)))
    stopped.write_files()
    left = stopped.folder / "tmp" / "left.so"
    left.touch()
    stopped.write_files()
    assert not left.exists()


def read_from(port: int, context: ssl.SSLContext) -> None:
    """Connect and read; TLS 1.3 refuses a client only after the handshake."""
    with (
        socket.create_connection((LOOPBACK, port), timeout=1) as plain,
        context.wrap_socket(plain, server_hostname=LOOPBACK) as connection,
    ):
        connection.recv(1)


def test_a_broker_of_an_earlier_version_keeps_its_topics_and_takes_no_plain_connections_any_more(home: Home) -> None:
    ports = Ports(*free_ports(6))
    listener = f"PLAINTEXT://{LOOPBACK}:{ports.kafka}"
    plain = {
        "listeners": f"{listener},CONTROLLER://{LOOPBACK}:{ports.kafka_controller}",
        "advertised.listeners": listener,
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "security.inter.broker.protocol": "PLAINTEXT",
    }
    before = KafkaSettings(bootstrap=f"{LOOPBACK}:{ports.kafka}", own_broker=True, prefix="dev.", partitions=1)
    ensure_certificate(home)
    earlier = replace(broker_of(home, ports), settings=plain)
    earlier.write_files()
    process = start(earlier)
    try:
        assert wait_until(lambda: is_responding(before), START_TIMEOUT_S)
        ensure_topics(before, keep_days=1)
        producer = Producer(before.client())
        producer.produce("dev.ticks", b"kept")
        assert producer.flush(READ_TIMEOUT_S) == 0
    finally:
        end(process)
    write_settings(home.root, before)

    prepare(home, ports, KafkaSettings.read(home))
    after = KafkaSettings.read(home)
    assert (after.prefix, after.partitions, after.own_broker) == ("dev.", 1, True)
    running = RunningBroker(broker_of(home, ports))
    try:
        running.start()
        assert [message.value() for message in committed(after, "ticks")] == [b"kept"]
        assert not is_responding(before)
    finally:
        running.kill()
