import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from barmill.platform.feed_settings import FeedSettings
from barmill.platform.home import PYTHON_PATH, Home
from barmill.platform.kafka_settings import NO_KAFKA, KafkaSettings
from barmill.platform.ports import choose_ports
from control.flink.cluster import Cluster
from control.flink.settings import Memory
from control.system.readiness import programs
from tools.compile_java import SOURCES, compile_into


@pytest.fixture
def cluster(home: Home) -> Cluster:
    return Cluster(home, rest_port=18081, rpc_port=16123)


def settings(cluster: Cluster) -> dict[str, str]:
    cluster.write_files()
    lines = (cluster.conf / "config.yaml").read_text().splitlines()
    pairs = (line.split(": ", 1) for line in lines if not line.startswith("#"))
    return {key: value.strip('"') for key, value in pairs}


def test_the_traps_are_closed(cluster: Cluster) -> None:
    written = settings(cluster)
    assert written["cluster.intercept-user-system-exit"] == "THROW"
    assert written["execution.checkpointing.externalized-checkpoint-retention"] == "RETAIN_ON_CANCELLATION"
    assert written["web.access-control-allow-origin"] != "*"
    assert written["jobmanager.scheduler"] == "adaptive"
    hosts = [
        value for key, value in written.items() if key.endswith((".address", "bind-host", "bind-address", ".host"))
    ]
    assert set(hosts) == {"127.0.0.1"}
    logging = (cluster.conf / "log4j.properties").read_text()
    assert "org.apache.flink.client.python.PythonEnvUtils\nlogger.environment.level = WARN" in logging
    assert any(Path(jar).name.startswith("flink-python-") for jar in class_path(cluster))


def test_the_class_that_sets_a_password_comes_before_that_of_flink_and_is_what_its_source_says(
    cluster: Cluster, tmp_path: Path
) -> None:
    compile_into(tmp_path)
    classes = {path.relative_to(SOURCES): path.read_bytes() for path in SOURCES.rglob("*.class")}
    assert classes == {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*.class")}
    with zipfile.ZipFile(class_path(cluster)[0]) as first:
        assert {Path(name): first.read(name) for name in first.namelist()} == classes
    flink_python = next(jar for jar in class_path(cluster) if Path(jar).name.startswith("flink-python-"))
    with zipfile.ZipFile(flink_python) as jar:
        replaced = {str(path) for path in classes} & set(jar.namelist())
    assert replaced == {str(path) for path in classes if path.parts[0] == "org"} != set()


def test_the_python_of_the_taskmanager_starts_without_beam_and_pandas(cluster: Cluster) -> None:
    program = "import sys, pyflink.fn_execution.coders; print(*{'apache_beam', 'pandas'} & {*sys.modules})"
    command = [sys.executable, "-c", program]
    with_both = {"PYTHONPATH": PYTHON_PATH}
    imported = [
        subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split()
        for environment in (cluster.environment(), with_both)
    ]
    assert [len(names) for names in imported] == [0, 2]


def class_path(cluster: Cluster) -> list[str]:
    command = cluster.taskmanager_command()
    return command[command.index("-classpath") + 1].split(":")


def test_settings_given_override_the_usual_ones(home: Home) -> None:
    cluster = Cluster(home, 1, 2, slots=2, settings={"execution.checkpointing.interval": "1 s"})
    written = settings(cluster)
    assert written["execution.checkpointing.interval"] == "1 s"
    assert written["taskmanager.numberOfTaskSlots"] == "2"


def test_what_killed_processes_left_is_cleared_and_checkpoints_stay(cluster: Cluster) -> None:
    cluster.write_files()
    left, kept = cluster.home.flink / "tmp" / "left", cluster.home.flink / "checkpoints" / "kept"
    left.write_text("x")
    kept.write_text("x")
    cluster.write_files()
    assert not left.exists()
    assert kept.exists()


def test_the_jvms_get_the_memory_the_settings_promise(home: Home) -> None:
    cluster = Cluster(
        home, 1, 2, memory=Memory(jobmanager_heap_mb=111, task_heap_mb=300, framework_heap_mb=22, network_mb=33)
    )
    assert "-Xmx111m" in cluster.jobmanager_command()
    assert "-Xmx322m" in cluster.taskmanager_command()
    assert "-XX:MaxDirectMemorySize=97m" in cluster.taskmanager_command()
    assert settings(cluster)["taskmanager.memory.network.max"] == "33m"


@pytest.mark.parametrize("kafka", [NO_KAFKA, KafkaSettings(bootstrap="broker.example:9093")])
def test_only_a_taskmanager_with_kafka_optimises_its_code(home: Home, kafka: KafkaSettings) -> None:
    commands = {
        program.name: program.command for program in programs(home, choose_ports(home, None), FeedSettings(), kafka)
    }
    assert ("-XX:TieredStopAtLevel=1" in commands["taskmanager"]) == (not kafka.is_used)
    assert "-XX:TieredStopAtLevel=1" in commands["jobmanager"]


def test_the_environment_is_only_what_is_written_here(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_SECRET", "hunter2")
    assert "hunter2" not in str(cluster.environment())
    assert "SOME_SECRET" not in cluster.environment()
