"""Processes that are started separately, as containers are."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from barmill.audit.accounts import open_audited_db
from barmill.audit.roles import Actor
from barmill.auth.administration import FIRST_ADMIN, PASSWORD_FILE_VARIABLE
from barmill.auth.sessions import Client, find_session
from barmill.auth.settings import SignInSettings
from barmill.auth.sign_in import sign_in
from barmill.platform.clock import now_ms, wait_until
from barmill.platform.home import PYTHON_PATH, REPO_ROOT, Home
from barmill.platform.kafka_settings import KafkaSettings
from barmill.platform.ports import PEERS_VARIABLE, free_ports
from barmill.platform.service import is_running
from barmill.secrets.store import KeyStore
from cli.main import main
from control.system.status import read_status

TIMEOUT_S = 60


@pytest.fixture(autouse=True)
def _peers(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("app", "market", "jobmanager_rest", "jobmanager_rpc", "kafka")
    peers = {**dict(zip(names, free_ports(5), strict=True)), "kafka_host": "kafka.example"}
    monkeypatch.setenv("BARMILL_HOME", str(home.root))
    monkeypatch.setenv(PEERS_VARIABLE, json.dumps(peers))
    monkeypatch.setenv("PYTHONPATH", PYTHON_PATH)


@pytest.fixture
def market() -> Iterator[subprocess.Popen[bytes]]:
    """The demo market, started alone."""
    process = subprocess.Popen([sys.executable, "-P", "-m", "cli.main", "run", "market"])
    yield process
    process.kill()
    process.wait()


def test_a_process_is_run_alone_checked_on_and_ends_when_told_to(market: subprocess.Popen[bytes]) -> None:
    assert wait_until(lambda: main(["check", "market"]) == 0, TIMEOUT_S)
    market.terminate()
    market.wait(TIMEOUT_S)
    assert main(["check", "market"]) == 1


@pytest.mark.parametrize("name", ["jobmanager", "taskmanager", "ingest", "shipper", "materialiser", "app"])
def test_what_does_not_run_is_not_well(name: str) -> None:
    assert main(["check", name]) == 1


def test_a_process_that_the_home_does_not_have_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "shipper"]) == 1
    assert "This home has no process shipper; choose one of jobmanager, taskmanager, market" in capsys.readouterr().err


def test_up_leaves_processes_alone_that_are_started_one_by_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["up"]) == 1
    assert f"{PEERS_VARIABLE} is set, so the processes are started separately; unset it" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["prepare"], ["run", "app"], ["check", "app"]])
def test_without_peers_there_is_up(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    monkeypatch.delenv(PEERS_VARIABLE)
    assert main(command) == 1
    assert "on one machine, use ./barmill" in capsys.readouterr().err


def test_a_home_is_made_ready_as_often_as_one_likes(home: Home) -> None:
    assert [main(["prepare"]), main(["prepare"])] == [0, 0]
    assert (home.tls / "key.pem").is_file()
    with KeyStore.open(home, Actor("a test")) as store:
        assert [key.name for key in store.list()] == ["demo-market"]
    assert not KafkaSettings.read(home).is_used


def test_with_the_profile_kafka_the_home_goes_over_its_broker(home: Home) -> None:
    main(["prepare", "--profiles=debug,kafka"])
    written = KafkaSettings.read(home)
    assert written.bootstrap.startswith("kafka.example:")
    KafkaSettings.write(home, written.model_copy(update={"prefix": "mine."}))
    main(["prepare", "--profiles=kafka"])
    assert KafkaSettings.read(home).prefix == "mine."


def test_the_first_admin_may_have_a_password_from_a_file(
    home: Home, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    secret = tmp_path / "first-admin"
    secret.write_text("a horse, a battery, a staple\n")
    secret.chmod(0o600)
    monkeypatch.setenv(PASSWORD_FILE_VARIABLE, str(secret))
    assert main(["prepare"]) == 0
    with open_audited_db(home) as db:
        client = Client("127.0.0.1", "a test")
        token = sign_in(db, FIRST_ADMIN, "a horse, a battery, a staple", client, SignInSettings())
        assert find_session(db, token, now_ms()) is not None


def test_a_password_that_everybody_can_read_is_not_taken(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = tmp_path / "first-admin"
    secret.write_text("a horse, a battery, a staple\n")
    secret.chmod(0o644)
    monkeypatch.setenv(PASSWORD_FILE_VARIABLE, str(secret))
    assert main(["prepare"]) == 1
    assert "accessible to all users (mode 0644); run: chmod o=" in capsys.readouterr().err


def test_a_controller_without_a_supervisor_counts_as_running(home: Home) -> None:
    assert not read_status(home).running
    controller = subprocess.Popen(
        [sys.executable, "-P", "-m", "control.controller", "--home", str(home.root)], env=os.environ, cwd=REPO_ROOT
    )
    try:
        assert wait_until(lambda: is_running(home, "controller"), TIMEOUT_S)
        assert read_status(home).running
        assert read_status(home).unsupervised
    finally:
        controller.terminate()
        controller.wait()
    assert not is_running(home, "controller")
