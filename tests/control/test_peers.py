import json
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from barmill.platform.feed_settings import FeedSettings
from barmill.platform.home import Home
from barmill.platform.ports import PEERS_VARIABLE, PeersError, Ports, choose_ports, free_ports, read_ports
from control.processes.health import is_healthy
from control.system.readiness import cluster_of, programs
from tests.support.answering import OK, answering

PEERS = {
    "app": 8501,
    "market": 8600,
    "jobmanager_rest": 8081,
    "jobmanager_rpc": 6123,
    "listen": "0.0.0.0",
    "market_host": "market",
    "jobmanager_host": "jobmanager",
    "slots": 4,
}


@pytest.fixture
def peers(home: Home, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Ports:
    """Where the processes are when each is in a container."""
    monkeypatch.setenv(PEERS_VARIABLE, json.dumps(PEERS))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "of-this-container"))
    ports = read_ports(home)
    assert ports is not None
    return ports


def test_the_environment_says_where_the_processes_are_whatever_the_home_has_noted(home: Home, peers: Ports) -> None:
    choose_ports(home)
    assert read_ports(home) == peers
    assert peers.market_url == "http://market:8600"


@pytest.mark.parametrize("text", ["{", '{"app": 1}', '{"app": 1, "market": 2, "jobmanager": "flink"}'])
def test_peers_that_make_no_sense_are_refused(home: Home, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv(PEERS_VARIABLE, text)
    with pytest.raises(PeersError, match=f"{PEERS_VARIABLE} is not valid: .* correct it"):
        read_ports(home)


def test_a_home_notes_its_own_ports_without_hosts_of_others(home: Home, peers: Ports) -> None:
    chosen = choose_ports(home)
    assert (chosen.listen, chosen.market_host, chosen.jobmanager_host) == ("127.0.0.1",) * 3
    assert chosen.market != peers.market


def test_a_cluster_of_containers_meets_at_the_jobmanager(home: Home, peers: Ports) -> None:
    cluster = cluster_of(home, peers)
    cluster.write_files()
    settings = yaml.safe_load((cluster.conf / "config.yaml").read_text())
    assert settings["jobmanager.rpc.address"] == settings["rest.address"] == "jobmanager"
    assert settings["jobmanager.bind-host"] == settings["taskmanager.bind-host"] == "0.0.0.0"
    assert "taskmanager.host" not in settings  # each has its own
    assert settings["taskmanager.numberOfTaskSlots"] == "4"
    assert (cluster.rest.host, cluster.rest.port) == ("jobmanager", 8081)


def test_containers_share_checkpoints_and_nothing_else(home: Home, peers: Ports) -> None:
    cluster = cluster_of(home, peers)
    cluster.write_files()
    settings = yaml.safe_load((cluster.conf / "config.yaml").read_text())
    shared = {key for key, value in settings.items() if str(home.root) in value}
    stores = {f"security.ssl.{side}.{store}" for side in ("internal", "rest") for store in ("keystore", "truststore")}
    assert shared == {"execution.checkpointing.dir", "execution.checkpointing.savepoint-dir", *stores}
    assert not cluster.log.is_relative_to(home.root)
    # The runtime of a container stores its output.
    assert "rootLogger.appenderRef.console.ref = Console" in (cluster.conf / "log4j.properties").read_text()


def test_what_others_must_reach_listens_for_them(home: Home, peers: Ports) -> None:
    listening = {
        program.name: program.command[program.command.index("--address") + 1]
        for program in programs(home, peers, FeedSettings())
        if "--address" in program.command
    }
    assert listening == {"market": "0.0.0.0", "app": "0.0.0.0"}


@pytest.mark.parametrize(("sent", "well"), [(OK + b"\r\n{}", True), (OK + b"\r\n<html>", False), (b"hello\r\n", False)])
def test_a_health_check_asks_the_process_itself_and_never_a_proxy(
    home: Home, monkeypatch: pytest.MonkeyPatch, sent: bytes, well: bool
) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_ports(1)[0]}")
    with answering(lambda connection: connection.sendall(sent)) as url:
        ports = replace(choose_ports(home), app=urlsplit(url).port or 0)
        assert is_healthy(home, ports, "app") is well
