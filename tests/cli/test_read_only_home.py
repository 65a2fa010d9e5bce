"""Every command on a home that cannot be written: one sentence at most, and never a traceback."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from barmill.platform.home import Home
from barmill.platform.ports import PEERS_VARIABLE
from barmill.storage.tick_log import TickLog
from cli.main import COMMANDS, CONTAINER_COMMANDS, main
from tests.support.small_disk import small_disk

CALLS = [
    *("up --no-browser", "down", "status", "bars --instrument A --frame 1m", "job list", "job start bars", "verify"),
    *(
        "job retention",
        "job retention 1s 7d",
        "audit list",
        "audit verify-log",
        "user list",
        "user add x --role trader",
    ),
    *(
        "instrument list",
        "instrument enable A",
        "instrument feed list",
        "key list",
        "key rotate-kek",
        "user link admin",
    ),
    *("prepare", "run app", "run jobmanager", "run ingest", "check ingest"),
]
# These write to a separate folder.
ELSEWHERE = {"replay", "bench", "test"}


@pytest.fixture(params=["new", "used"])
def read_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Home]:
    """A home on a file system that is mounted without the right to write; one was used before."""
    with small_disk(tmp_path / "disk", 16) as mounted:
        if not mounted:
            pytest.skip("a file system can be mounted only by root")
        home = Home(tmp_path / "disk" / "home")
        monkeypatch.setenv("BARMILL_HOME", str(home.root))
        if request.param == "used":
            assert main(["user", "add", "ada", "--role", "admin"]) == 0
            TickLog.open(home.create().ticks_db).close()
        subprocess.run(["mount", "-o", "remount,ro", str(tmp_path / "disk")], check=True)
        yield home


def test_a_home_that_cannot_be_written_is_a_sentence(
    read_only: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("os.execv", lambda *_: pytest.fail("a process was started"))
    tried = {call.split()[0] for call in CALLS}
    assert tried | ELSEWHERE >= {*COMMANDS, *CONTAINER_COMMANDS} - {"repair"}
    for call in CALLS:
        if call.split()[0] in CONTAINER_COMMANDS:
            peers = {"app": 1, "market": 2, "jobmanager_rest": 3, "jobmanager_rpc": 4}
            monkeypatch.setenv(PEERS_VARIABLE, json.dumps(peers))
        capsys.readouterr()
        code = main(call.split())
        said = capsys.readouterr().err
        assert code in (0, 1), call
        assert said.count("\n") <= 1, (call, said)
        if code and said:
            assert said.startswith("barmill: "), call
    assert not list(read_only.root.glob("tls*"))
