"""`up`, `status` and `down` with everything real: supervisor, cluster, demo market, feed, controller and app."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from bar.reader import BarReader
from control.home import REPO_ROOT, Home
from control.jobs.ledger import JobLedger, JobRun
from control.machine.ports import LOOPBACK, free_ports
from control.machine.process_table import read_note
from control.waiting import wait_until

TIMEOUT_S = 150
PROGRAMS = {"jobmanager", "taskmanager", "market", "ingest", "controller", "app"}
pytestmark = pytest.mark.timeout(600)


@dataclass(frozen=True)
class Barmill:
    """One home and how to call the command line on it."""

    home: Home
    port: int

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-P", "-m", "cli.main", *arguments]

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {"PYTHONPATH": str(REPO_ROOT), "BARMILL_HOME": str(self.home.root)}

    def call(self, *arguments: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
        """Call a command, with this on standard input."""
        command, environment = self.command(*arguments), self.environment
        return subprocess.run(
            command, input=given, capture_output=True, text=True, check=False, env=environment, cwd="/"
        )

    def up(self) -> subprocess.CompletedProcess[str]:
        return self.call("up", "--detach", "--no-browser", "--port", str(self.port))

    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = json.loads(self.call("status", "--json").stdout)
        return status

    def processes(self) -> list[str]:
        """Return the command lines of all processes of this home, whoever started them."""
        mark, found = os.fsencode(self.home.root), []
        for folder in Path("/proc").iterdir():
            try:
                if folder.name.isdigit() and any(
                    mark in (folder / name).read_bytes() for name in ("cmdline", "environ")
                ):
                    found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode())
            except OSError:  # it ended meanwhile
                continue
        return found

    def runs(self) -> list[JobRun]:
        with JobLedger.read_only(self.home) as ledger:
            return ledger.runs("bars", 9)

    def bars_move(self) -> bool:
        """Tell whether everything is well and the newest tick in a bar is new."""
        status = self.status()
        age_s = status["newest_tick_age_s"]
        return bool(status["healthy"]) and age_s is not None and age_s < 5


@pytest.fixture(scope="module")
def barmill(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Barmill]:
    """A running Barmill."""
    [port] = free_ports(1)
    one = Barmill(Home(tmp_path_factory.mktemp("up") / "home"), port)
    try:
        done = one.up()
        assert done.returncode == 0, done.stderr + done.stdout
        for stage in ("Flink cluster", "demo market", "feed", "jobs", "first bars", "app"):
            assert f"  {stage}" in done.stdout
        assert f"http://{LOOPBACK}:{port}\n" in done.stdout
        assert "First choose a password for the account admin" in done.stdout
        assert f"http://{LOOPBACK}:{port}/welcome?token=" in done.stdout
        yield one
    finally:
        one.call("down")


def test_everything_is_up_and_small_enough_for_a_laptop(barmill: Barmill) -> None:
    assert wait_until(barmill.bars_move, TIMEOUT_S, every_s=1)
    status = barmill.status()
    assert {one["name"] for one in status["processes"]} == PROGRAMS
    assert all(one["resident_mb"] > 0 and one["pid"] for one in status["processes"])
    assert status["resident_mb"] < 4_000
    assert status["ticks_per_s"] > 0
    assert [job["name"] for job in status["jobs"]] == ["bars"]
    text = barmill.call("status")
    assert text.returncode == 0
    assert "job bars: The job is running." in text.stdout
    assert requests.get(f"{status['url']}/healthz", timeout=10).ok


def test_a_second_up_says_where_the_first_one_is(barmill: Barmill) -> None:
    before = barmill.status()["processes"]
    done = barmill.up()
    assert done.returncode == 0
    first, *link = done.stdout.splitlines()
    assert first == f"Barmill is running already: http://{LOOPBACK}:{barmill.port}"
    assert len(link) == 2  # nobody has chosen a password yet
    assert [one["pid"] for one in barmill.status()["processes"]] == [one["pid"] for one in before]


def test_a_port_in_use_is_one_sentence_and_nothing_is_started(barmill: Barmill, tmp_path: Path) -> None:
    other = Barmill(Home(tmp_path / "other"), barmill.port)
    done = other.up()
    assert done.returncode == 1
    assert done.stderr.startswith(f"barmill: Port {barmill.port} is in use by another program; choose another one")
    assert done.stderr.count("\n") == 1
    assert other.processes() == []


def test_bars_go_on_after_the_taskmanager_and_then_the_jobmanager_are_killed(barmill: Barmill) -> None:
    assert wait_until(lambda: any((barmill.home.flink / "checkpoints").glob("*/chk-*/_metadata")), TIMEOUT_S)
    [first] = barmill.runs()
    kill(barmill.home, "taskmanager")
    killed_ms = time.time_ns() // 1_000_000
    assert wait_until(lambda: newest_tick_ms(barmill.home) > killed_ms, TIMEOUT_S)
    assert barmill.runs() == [first]  # Flink itself brings the job back
    assert wait_until(barmill.bars_move, TIMEOUT_S, every_s=1)

    kill(barmill.home, "jobmanager")
    assert wait_until(lambda: len(barmill.runs()) == 2, TIMEOUT_S, every_s=0.5)
    assert wait_until(barmill.bars_move, TIMEOUT_S, every_s=1)
    second, lost = barmill.runs()
    assert (lost.id, lost.end) == (first.id, "LOST")
    assert str(second.restored_from).startswith((barmill.home.flink / "checkpoints" / first.id).as_uri())


def kill(home: Home, program: str) -> None:
    noted = read_note(home.run / f"{program}.pid")
    assert noted
    assert noted.alive
    os.kill(noted.pid, signal.SIGKILL)
    assert wait_until(lambda: read_note(home.run / f"{program}.pid") != noted, TIMEOUT_S)


def newest_tick_ms(home: Home) -> int:
    reader = BarReader.open(home.bars_db)
    newest = max(one.newest_tick_ms or 0 for one in reader.progress())
    reader.close()
    return newest


def test_down_leaves_no_process_and_a_new_start_goes_on(barmill: Barmill) -> None:
    assert len(barmill.processes()) >= len(PROGRAMS)
    runs = len(barmill.runs())
    done = barmill.call("down")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Everything is stopped")
    assert barmill.processes() == []
    status = barmill.call("status")
    assert (status.returncode, status.stdout) == (1, "Barmill is not running; start it with ./barmill up.\n")
    assert barmill.call("down").stdout == "Barmill was not running.\n"

    again = barmill.up()
    assert again.returncode == 0, again.stderr + again.stdout
    assert wait_until(barmill.bars_move, TIMEOUT_S, every_s=1)
    assert len(barmill.runs()) == runs + 1
    assert barmill.runs()[0].restored_from


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_in_the_foreground_everything_ends_with_the_command(tmp_path: Path, number: signal.Signals) -> None:
    [port] = free_ports(1)
    one = Barmill(Home(tmp_path / "home"), port)
    command = one.command("up", "--no-browser", "--port", str(port))
    # A group of its own: only the command itself gets the signal, as from a terminal that is closed or `kill`.
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=one.environment, start_new_session=True
    ) as foreground:
        try:
            started = [one.home.run / f"{program}.pid" for program in PROGRAMS]
            assert wait_until(lambda: all(note.exists() for note in started), TIMEOUT_S)
            foreground.send_signal(number)
            out, err = foreground.communicate(timeout=TIMEOUT_S)
        finally:
            foreground.kill()
            assert wait_until(lambda: one.processes() == [], TIMEOUT_S)
            one.call("down")
    assert foreground.returncode == (-number if number == signal.SIGKILL else 128 + number), out + err
    assert "Traceback" not in err


def test_a_home_that_cannot_be_used_is_one_sentence(tmp_path: Path) -> None:
    full = Path("/proc/home")  # a file system without a byte to spare
    for folder, cause in ((tmp_path / "a:b", "has a character in its name"), (full, "has only 0 MB left")):
        done = Barmill(Home(folder), 1).up()
        assert done.returncode == 1
        assert cause in done.stderr
        assert done.stderr.count("\n") == 1
