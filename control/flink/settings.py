"""The cluster's settings: what Flink reads from `config.yaml`, and why each is so."""

from dataclasses import dataclass
from pathlib import Path

from control.home import Home
from control.machine.ports import LOOPBACK
from control.machine.tls import TlsFiles


@dataclass(frozen=True)
class Memory:
    """Memory of the two Flink processes in MB, part by part.

    All parts are given, so that no helper JVM has to work them out before each start. Python and Polars in the
    TaskManager take theirs outside the JVM, on top of this.
    """

    jobmanager_heap: int = 256
    jobmanager_metaspace: int = 192
    task_heap: int = 320
    framework_heap: int = 64
    managed: int = 32
    network: int = 32
    off_heap: int = 64
    taskmanager_metaspace: int = 256

    @property
    def taskmanager_heap(self) -> int:
        """Heap of the TaskManager's JVM."""
        return self.task_heap + self.framework_heap

    @property
    def taskmanager_direct(self) -> int:
        """Direct memory of the TaskManager's JVM."""
        return self.network + self.off_heap


def flink_settings(
    home: Home,
    *,
    host: str,
    listen: str,
    rest_port: int,
    rpc_port: int,
    slots: int,
    memory: Memory,
    python: str,
    scratch: Path,
    tls: TlsFiles,
) -> dict[str, str]:
    """Return every setting of the cluster as Flink's own keys and values; a password is among them.

    host: where the JobManager is found. listen: the address its processes listen on. scratch: a folder for what is of
    use to one machine of the cluster alone. tls: the certificate that all processes and clients of the cluster hold.
    """
    return {
        **_mutual_tls(tls),
        "jobmanager.rpc.address": host,
        "jobmanager.rpc.port": str(rpc_port),
        "jobmanager.bind-host": listen,
        "rest.address": host,
        "rest.bind-address": listen,
        "rest.port": str(rest_port),
        # A TaskManager elsewhere is known by the name of its own machine.
        **({} if listen != LOOPBACK else {"taskmanager.host": LOOPBACK}),
        "taskmanager.bind-host": listen,
        "taskmanager.rpc.port": "0",
        "taskmanager.data.port": "0",
        "blob.server.port": "0",
        "web.access-control-allow-origin": f"https://{host}:{rest_port}",
        "web.upload.dir": str(scratch / "upload"),
        "web.refresh-interval": "3000",
        # One unreadable program argument would otherwise end the JobManager and every job.
        "cluster.intercept-user-system-exit": "THROW",
        "jobmanager.scheduler": "adaptive",
        "jobmanager.adaptive-scheduler.submission.resource-stabilization-timeout": "0 ms",
        # A job that was rescaled takes what is free soon, also when that is less than it may have.
        "jobmanager.adaptive-scheduler.executing.resource-stabilization-timeout": "5 s",
        "jobmanager.adaptive-scheduler.executing.cooldown-after-rescaling": "5 s",
        "web.adaptive-scheduler.rescale-history.size": "20",
        "parallelism.default": "1",
        # A killed TaskManager is noticed by its closed connections; the heartbeat is for one that hangs.
        "heartbeat.interval": "1 s",
        "heartbeat.timeout": "15 s",
        "heartbeat.rpc-failure-threshold": "2",
        "cluster.registration.initial-timeout": "50 ms",
        "cluster.registration.error-delay": "500 ms",
        "cluster.registration.refused-registration-delay": "500 ms",
        "restart-strategy.type": "exponential-delay",
        "restart-strategy.exponential-delay.initial-backoff": "200 ms",
        "restart-strategy.exponential-delay.max-backoff": "30 s",
        "restart-strategy.exponential-delay.backoff-multiplier": "2.0",
        "restart-strategy.exponential-delay.reset-backoff-threshold": "20 s",
        # After that the controller takes over, which knows when to give up and says why.
        "restart-strategy.exponential-delay.attempts-before-reset-backoff": "8",
        "restart-strategy.exponential-delay.jitter-factor": "0.1",
        "execution.checkpointing.interval": "10 s",
        "execution.checkpointing.timeout": "2 min",
        "execution.checkpointing.dir": (home.flink / "checkpoints").as_uri(),
        "execution.checkpointing.savepoint-dir": (home.flink / "savepoints").as_uri(),
        "execution.checkpointing.num-retained": "3",
        "execution.checkpointing.externalized-checkpoint-retention": "RETAIN_ON_CANCELLATION",
        "state.backend.type": "hashmap",
        "python.execution-mode": "thread",
        "python.executable": python,
        "python.client.executable": python,
        "io.tmp.dirs": str(scratch / "tmp"),
        "jobmanager.memory.heap.size": f"{memory.jobmanager_heap}m",
        "taskmanager.numberOfTaskSlots": str(slots),
        "taskmanager.cpu.cores": str(slots),
        "taskmanager.memory.task.heap.size": f"{memory.task_heap}m",
        "taskmanager.memory.task.off-heap.size": "0m",
        "taskmanager.memory.framework.heap.size": f"{memory.framework_heap}m",
        "taskmanager.memory.framework.off-heap.size": f"{memory.off_heap}m",
        "taskmanager.memory.managed.size": f"{memory.managed}m",
        "taskmanager.memory.network.min": f"{memory.network}m",
        "taskmanager.memory.network.max": f"{memory.network}m",
        "taskmanager.memory.jvm-metaspace.size": f"{memory.taskmanager_metaspace}m",
        "taskmanager.memory.jvm-overhead.min": "192m",
        "taskmanager.memory.jvm-overhead.max": "192m",
    }


def _mutual_tls(tls: TlsFiles) -> dict[str, str]:
    """Return what makes every port of the cluster refuse those without the home's key: they could run code."""
    stores = {
        "keystore": str(tls.keystore),
        "keystore-type": "PKCS12",
        "keystore-password": tls.password(),
        "key-password": tls.password(),
        "truststore": str(tls.truststore),
        "truststore-type": "PKCS12",
        "truststore-password": tls.password(),
    }
    return {
        "security.ssl.protocol": "TLSv1.3",
        "security.ssl.algorithms": "TLS_AES_128_GCM_SHA256",
        "security.ssl.internal.enabled": "true",  # between JobManager and TaskManagers, always with certificates
        "security.ssl.rest.enabled": "true",
        "security.ssl.rest.authentication-enabled": "true",
        **{f"security.ssl.{side}.{key}": value for side in ("internal", "rest") for key, value in stores.items()},
    }


LOGGING = """\
# Written by Barmill at each start.
rootLogger.level = INFO
rootLogger.appenderRef.rolling.ref = Rolling

# At INFO this one writes the whole environment of the JobManager at every submit, and the log is served by REST.
logger.environment.name = org.apache.flink.client.python.PythonEnvUtils
logger.environment.level = WARN
logger.netty.name = org.jboss.netty.channel.DefaultChannelPipeline
logger.netty.level = OFF

appender.rolling.name = Rolling
appender.rolling.type = RollingFile
appender.rolling.append = true
appender.rolling.fileName = ${sys:log.file}
appender.rolling.filePattern = ${sys:log.file}.%i
appender.rolling.layout.type = PatternLayout
appender.rolling.layout.pattern = %d{yyyy-MM-dd'T'HH:mm:ss.SSS'Z'}{UTC} %-5p %c - %m%n
appender.rolling.policies.type = Policies
appender.rolling.policies.size.type = SizeBasedTriggeringPolicy
appender.rolling.policies.size.size = 5MB
appender.rolling.strategy.type = DefaultRolloverStrategy
appender.rolling.strategy.max = 3
"""

# Where a process has a log of its own that is kept by whoever runs it, as containers have.
LOGGING_TO_CONSOLE = """\
rootLogger.appenderRef.console.ref = Console
appender.console.name = Console
appender.console.type = CONSOLE
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{yyyy-MM-dd'T'HH:mm:ss.SSS'Z'}{UTC} %-5p %c - %m%n
"""
