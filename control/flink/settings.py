"""The cluster's settings: the content of Flink's `config.yaml`, with the reasons for some values."""

from dataclasses import dataclass
from pathlib import Path

from barmill.platform.home import Home
from barmill.platform.ports import LOOPBACK
from barmill.platform.tls import TlsFiles


@dataclass(frozen=True)
class Memory:
    """Memory of the two Flink processes in MB, by part.

    All parts are given so that no helper JVM has to compute them before each start. Python and Polars in the
    TaskManager use additional memory outside the JVM.
    """

    jobmanager_heap_mb: int = 256
    jobmanager_metaspace_mb: int = 192
    task_heap_mb: int = 320
    framework_heap_mb: int = 64
    managed_mb: int = 32
    network_mb: int = 32
    off_heap_mb: int = 64
    taskmanager_metaspace_mb: int = 256

    @property
    def taskmanager_heap_mb(self) -> int:
        """Return the heap of the TaskManager's JVM."""
        return self.task_heap_mb + self.framework_heap_mb

    @property
    def taskmanager_direct_mb(self) -> int:
        """Return the direct memory of the TaskManager's JVM."""
        return self.network_mb + self.off_heap_mb


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
    """Return the default settings of the cluster as Flink keys and values, including a password.

    host: the address of the JobManager. listen: the address that the processes listen on. scratch: a folder for files
    that only one machine of the cluster uses. tls: the certificate that all processes and clients of the cluster share.
    """
    return {
        **_mutual_tls(tls),
        "jobmanager.rpc.address": host,
        "jobmanager.rpc.port": str(rpc_port),
        "jobmanager.bind-host": listen,
        "rest.address": host,
        "rest.bind-address": listen,
        "rest.port": str(rest_port),
        # A TaskManager on another machine registers with the name of that machine.
        **({} if listen != LOOPBACK else {"taskmanager.host": LOOPBACK}),
        "taskmanager.bind-host": listen,
        "taskmanager.rpc.port": "0",
        "taskmanager.data.port": "0",
        "blob.server.port": "0",
        "web.access-control-allow-origin": f"https://{host}:{rest_port}",
        "web.upload.dir": str(scratch / "upload"),
        "web.refresh-interval": "3000",
        # Otherwise one unreadable program argument ends the JobManager and every job.
        "cluster.intercept-user-system-exit": "THROW",
        "jobmanager.scheduler": "adaptive",
        "jobmanager.adaptive-scheduler.submission.resource-stabilization-timeout": "0 ms",
        # A rescaled job takes the free slots soon, even if they are fewer than it may have.
        "jobmanager.adaptive-scheduler.executing.resource-stabilization-timeout": "5 s",
        "jobmanager.adaptive-scheduler.executing.cooldown-after-rescaling": "5 s",
        "web.adaptive-scheduler.rescale-history.size": "20",
        "parallelism.default": "1",
        # Closed connections reveal a killed TaskManager; the heartbeat is for one that hangs.
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
        # After these attempts the controller decides whether to start the job again, and reports the reason.
        "restart-strategy.exponential-delay.attempts-before-reset-backoff": "8",
        "restart-strategy.exponential-delay.jitter-factor": "0.1",
        # On its way to the sink, a publication waits for others at most this long; the default of Flink is 100 ms.
        "execution.buffer-timeout.interval": "10 ms",
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
        "jobmanager.memory.heap.size": f"{memory.jobmanager_heap_mb}m",
        "taskmanager.numberOfTaskSlots": str(slots),
        "taskmanager.cpu.cores": str(slots),
        "taskmanager.memory.task.heap.size": f"{memory.task_heap_mb}m",
        "taskmanager.memory.task.off-heap.size": "0m",
        "taskmanager.memory.framework.heap.size": f"{memory.framework_heap_mb}m",
        "taskmanager.memory.framework.off-heap.size": f"{memory.off_heap_mb}m",
        "taskmanager.memory.managed.size": f"{memory.managed_mb}m",
        "taskmanager.memory.network.min": f"{memory.network_mb}m",
        "taskmanager.memory.network.max": f"{memory.network_mb}m",
        "taskmanager.memory.jvm-metaspace.size": f"{memory.taskmanager_metaspace_mb}m",
        "taskmanager.memory.jvm-overhead.min": "192m",
        "taskmanager.memory.jvm-overhead.max": "192m",
    }


def _mutual_tls(tls: TlsFiles) -> dict[str, str]:
    """Return the settings that make Flink's ports refuse clients without the home's key; others could run code."""
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

# At INFO, this logger writes the whole environment of the JobManager at every submit, and REST serves the log.
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

# For processes whose output is kept by their runtime, as in containers.
LOGGING_TO_CONSOLE = """\
rootLogger.appenderRef.console.ref = Console
appender.console.name = Console
appender.console.type = CONSOLE
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{yyyy-MM-dd'T'HH:mm:ss.SSS'Z'}{UTC} %-5p %c - %m%n
"""
