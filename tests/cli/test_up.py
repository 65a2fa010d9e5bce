"""`up`, `status` and `down` with everything real: supervisor, cluster, demo market, feed, controller and app."""

import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import requests

from barmill.model.frames import parse_frame
from barmill.platform.clock import wait_until
from barmill.platform.home import Home
from barmill.platform.ports import LOOPBACK, free_ports
from barmill.simulator.prices import INSTRUMENTS
from barmill.storage.reader import BarQuery, BarReader
from tests.support.up import PROGRAMS, TIMEOUT_S, Barmill, kill, newest_tick_ms

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def barmill(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Barmill]:
    """A running Barmill."""
    [port] = free_ports(1)
    barmill = Barmill(Home(tmp_path_factory.mktemp("up") / "home"), port)
    try:
        done = barmill.up()
        assert done.returncode == 0, done.stderr + done.stdout
        for stage in ("Flink cluster", "demo market", "feed", "jobs", "first bars", "app"):
            assert f"  {stage}" in done.stdout
        assert f"http://{LOOPBACK}:{port}\n" in done.stdout
        assert "Choose a password for the account admin" in done.stdout
        assert f"http://{LOOPBACK}:{port}/welcome?token=" in done.stdout
        yield barmill
    finally:
        barmill.call("down")


def test_everything_is_up_and_small_enough_for_a_laptop(barmill: Barmill) -> None:
    assert wait_until(barmill.bars_move, TIMEOUT_S, every_s=1)
    status = barmill.status()
    assert {process["name"] for process in status["processes"]} == PROGRAMS
    assert all(process["resident_mb"] > 0 and process["pid"] for process in status["processes"])
    assert status["resident_mb"] < 4_000
    # Prices are live behind the days before the first start, so all of these are in the bars.
    assert status["backfill"]["in_bars"] == 1
    assert status["backfill"]["to_ms"] - status["backfill"]["from_ms"] > 6.9 * 86_400_000
    with closing(BarReader.open(barmill.home.bars_db)) as reader:
        hours = [reader.read(BarQuery(name, parse_frame("1h"), newest=1_000)) for name in reader.instruments()]
    assert len(hours) == len(INSTRUMENTS)
    assert min(bars.height for bars in hours) >= 150
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
    assert first == f"Barmill is already running: http://{LOOPBACK}:{barmill.port}"
    assert len(link) == 2  # no password has been chosen yet
    assert [process["pid"] for process in barmill.status()["processes"]] == [name["pid"] for name in before]


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
    barmill = Barmill(Home(tmp_path / "home"), port)
    command = barmill.command("up", "--no-browser", "--port", str(port))
    # A separate process group: only the command gets the signal, as from a terminal that is closed or `kill`.
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=barmill.environment,
        start_new_session=True,
    ) as foreground:
        try:
            started = [barmill.home.run / f"{program}.pid" for program in PROGRAMS]
            assert wait_until(lambda: all(note.exists() for note in started), TIMEOUT_S)
            foreground.send_signal(number)
            out, err = foreground.communicate(timeout=TIMEOUT_S)
        finally:
            foreground.kill()
            assert wait_until(lambda: barmill.processes() == [], TIMEOUT_S)
            barmill.call("down")
    assert foreground.returncode == (-number if number == signal.SIGKILL else 128 + number), out + err
    assert "Traceback" not in err


def test_a_home_that_cannot_be_used_is_one_sentence(tmp_path: Path) -> None:
    full = Path("/proc/home")  # a file system without a byte to spare
    for folder, cause in ((tmp_path / "a:b", "contains a character"), (full, "has only 0 MB left")):
        done = Barmill(Home(folder), 1).up()
        assert done.returncode == 1
        assert cause in done.stderr
        assert done.stderr.count("\n") == 1
