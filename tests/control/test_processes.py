"""Supervision with a real supervisord, over small programs."""

import mmap
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from supervisor.loggers import LogRecord

from barmill.platform import operating_system
from barmill.platform.clock import wait_until
from barmill.platform.home import Home
from barmill.platform.operating_system import PortableProcesses
from barmill.platform.process_table import Process, read_pid_file
from barmill.platform.supervising import DroppingLog
from control.processes.supervisor import Program, Supervisor, SupervisorError
from tests.support.small_disk import fill, small_disk

SLEEP = Program("sleeper", ["/bin/sleep", "1000"])
DEAF = "import signal; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); signal.pause()"
TIMEOUT_S = 30


@contextmanager
def started(home: Home, *programs: Program, ends_with_parent: bool = True) -> Iterator[Supervisor]:
    supervisor = Supervisor(home)
    try:
        supervisor.start(programs, ends_with_parent=ends_with_parent)
        assert wait_until(lambda: all(process.running for process in supervisor.status()), TIMEOUT_S)
        yield supervisor
    finally:
        supervisor.stop()


def noted(home: Home, name: str) -> Process:
    assert wait_until(lambda: read_pid_file(home.run / f"{name}.pid") is not None, TIMEOUT_S)
    found = read_pid_file(home.run / f"{name}.pid")
    assert found
    return found


def said(home: Home, name: str) -> str:
    log = home.log / f"{name}.log"
    assert wait_until(lambda: log.exists() and "\n" in log.read_text(), TIMEOUT_S)
    return log.read_text()


def python(name: str, code: str, **options: object) -> Program:
    return Program(name, [sys.executable, "-c", code], **options)  # type: ignore[arg-type]


def test_what_runs_is_known_with_its_memory_and_stops_without_a_trace(home: Home) -> None:
    with started(home, SLEEP, Program("other", ["/bin/sleep", "1000"])) as supervisor:
        statuses = {process.name: process for process in supervisor.status()}
        assert set(statuses) == {"sleeper", "other"}
        assert all(status.resident_bytes > 0 and status.uptime_s >= 0 for status in statuses.values())
        running = [noted(home, "sleeper"), noted(home, "other"), noted(home, "supervisord")]
        assert [process.pid for process in running[:2]] == [statuses["sleeper"].pid, statuses["other"].pid]
        assert not supervisor.stopped_on_request
        assert Supervisor(home).stop() == []
        assert not any(process.alive for process in running)
        assert not supervisor.running
        assert supervisor.stopped_on_request
        assert supervisor.status() == []


def test_what_dies_is_started_again(home: Home) -> None:
    with started(home, SLEEP) as supervisor:
        first = noted(home, "sleeper")
        assert wait_until(lambda: supervisor.status()[0].state == "RUNNING", TIMEOUT_S)
        os.kill(first.pid, signal.SIGKILL)
        assert wait_until(lambda: noted(home, "sleeper") != first, TIMEOUT_S)
        assert wait_until(lambda: supervisor.status()[0].running, TIMEOUT_S)


@pytest.mark.parametrize(
    ("victim", "kernel"),
    [("supervisord", True), ("children too", True), ("supervisord", False)],
    ids=["supervisord", "children too", "supervisord, not on Linux"],
)
def test_a_killed_supervisor_leaves_nothing_behind(
    home: Home, victim: str, kernel: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not kernel:
        monkeypatch.setattr(operating_system, "KERNEL_TETHERS", False)
        monkeypatch.setattr(operating_system, "PROCESSES", PortableProcesses())
    with started(home, SLEEP) as supervisor:
        child, parent = noted(home, "sleeper"), noted(home, "supervisord")
        os.kill(parent.pid, signal.SIGKILL)
        assert wait_until(lambda: not child.alive and not supervisor.running, TIMEOUT_S)
        if victim == "children too":
            assert list(supervisor.stop()) == []
        supervisor.start([SLEEP], ends_with_parent=True)  # what is left of the one before is no obstacle
        assert supervisor.running


def test_orphans_are_found_by_their_notes_and_nobody_else_is_harmed(home: Home) -> None:
    stranger = Process(os.getpid(), 1)  # our id, but the start time of an earlier process
    (home.run / "market.pid").write_text(f"{stranger.pid} {stranger.started}\n")
    with started(home, python("deaf", DEAF)) as supervisor:
        assert said(home, "deaf") == "deaf\n"
        deaf, parent = noted(home, "deaf"), noted(home, "supervisord")
        os.kill(parent.pid, signal.SIGSTOP)  # a supervisor that hangs
        assert set(supervisor.stop()) == {"deaf", "supervisord"}
        assert not deaf.alive
        assert not parent.alive


def test_with_the_starter_tied_everything_ends_with_it(home: Home) -> None:
    code = (
        "import sys; from pathlib import Path; from barmill.platform.home import Home\n"
        "from control.processes.supervisor import *\n"
        "Supervisor(Home(Path(sys.argv[1]))).start([Program('sleeper', ['/bin/sleep', '1000'])],"
        " ends_with_parent=True)\n"
        "print('started', flush=True); input()"
    )
    with tied_starter(code, home) as kill:
        child, supervisord = noted(home, "sleeper"), noted(home, "supervisord")
        kill()
        assert wait_until(lambda: not child.alive and not supervisord.alive, TIMEOUT_S)


@contextmanager
def tied_starter(code: str, home: Home) -> Iterator[Callable[[], None]]:
    command = [sys.executable, "-c", code, str(home.root)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout
        try:
            assert starter.stdout.readline() == "started\n"
            yield starter.kill
        finally:
            starter.kill()
            Supervisor(home).stop()


def test_a_program_sees_only_the_environment_it_is_given(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_SECRET", "hunter2")
    show = "import os; print(sorted(os.environ), flush=True); import signal; signal.pause()"
    programs = [
        python("bare", show, environment={"LANG": "C.UTF-8", "ODD": "50 % of 'y' \"z\""}),
        python("hidden", show, hidden=("SOME_SECRET",)),
        python("open", show),
    ]
    with started(home, *programs):
        seen = {}
        for name in ("bare", "hidden", "open"):
            seen[name] = said(home, name)
        assert "ODD" in seen["bare"]
        assert "PATH" not in seen["bare"]
        assert "SUPERVISOR" not in seen["bare"]
        assert "SOME_SECRET" not in seen["hidden"]
        assert "PATH" in seen["hidden"]
        assert "SOME_SECRET" in seen["open"]


def test_what_a_program_writes_is_private_whatever_the_umask_was(home: Home) -> None:
    before = os.umask(0o000)
    try:
        show = "import os; print(oct(os.umask(0)), flush=True); import signal; signal.pause()"
        with started(home, python("shower", show)):
            assert said(home, "shower") == "0o77\n"
            assert {path.stat().st_mode & 0o077 for path in home.log.iterdir()} == {0}
    finally:
        os.umask(before)


@pytest.mark.parametrize("name", ["with space and 100 % (x)s", "d" * 120])
def test_odd_and_long_folder_names_work(tmp_path: Path, name: str) -> None:
    home = Home(tmp_path / name).create()
    with started(home, python("speaker", "print('spoke', flush=True); import signal; signal.pause()")) as supervisor:
        assert said(home, "speaker") == "spoke\n"
        assert supervisor.socket.stat().st_mode & 0o077 == 0
    assert not supervisor.socket.exists()


def test_two_homes_live_side_by_side(tmp_path: Path) -> None:
    home, other_home = Home(tmp_path / "one").create(), Home(tmp_path / "two").create()
    with started(home, SLEEP) as first, started(other_home, SLEEP) as second:
        first.stop()
        assert second.running
        assert noted(other_home, "sleeper").alive


def test_a_supervisor_that_cannot_start_says_where_the_reason_stands(home: Home) -> None:
    with pytest.raises(SupervisorError, match=r"supervisord\.out"):
        Supervisor(home).start(
            [Program("x", ["/bin/true"], folder=Path("/no/such/folder\n[broken"))], ends_with_parent=True
        )
    Supervisor(home).stop()


CHATTER = "import itertools, time; [print('words ' * 99, flush=True) or time.sleep(0.005) for _ in itertools.count()]"


def test_a_full_disk_costs_log_lines_and_no_process(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 2) as mounted:
        if not mounted:
            pytest.skip("a small file system can be mounted only by root")
        home = Home(tmp_path / "disk" / "home").create()
        log = home.log / "chatter.log"
        with started(home, python("chatter", CHATTER)) as supervisor:
            first = noted(home, "chatter")
            said(home, "chatter")
            filler = fill(tmp_path / "disk")
            pages = -(-log.stat().st_size // mmap.PAGESIZE)  # what is left of the last one may still be filled
            os.kill(first.pid, signal.SIGKILL)  # what dies meanwhile comes back as well
            assert wait_until(lambda: _other_pid(supervisor, first.pid), TIMEOUT_S)
            assert log.stat().st_size <= pages * mmap.PAGESIZE
            filler.unlink()
            assert wait_until(lambda: b"could not be written here" in log.read_bytes(), TIMEOUT_S)
            assert all(process.running for process in supervisor.status())
        text = log.read_text()
        counted = re.search(r"\[(\d+) messages \((\d+) bytes\) could not be written here\]\n", text)
        assert counted
        assert int(counted[1]) > 0
        assert int(counted[2]) >= int(counted[1])


def _other_pid(supervisor: Supervisor, pid: int) -> bool:
    [process] = supervisor.status()
    return process.state == "RUNNING" and process.pid != pid


def test_logs_stay_bounded(tmp_path: Path) -> None:
    log = DroppingLog(str(tmp_path / "log"), max_bytes=100, backups=2)
    for number in range(41):
        log.emit(LogRecord(20, f"line {number:02} of what is said\n".encode()))
    log.close()
    files = sorted(tmp_path.iterdir())
    assert [path.name for path in files] == ["log", "log.1", "log.2"]
    assert all(path.stat().st_size <= 130 for path in files)
    assert "line 40" in "".join(path.read_text() for path in files)
    log.remove()
    assert not (tmp_path / "log").exists()


def test_a_home_has_one_supervisor_also_when_its_run_folder_was_deleted(home: Home) -> None:
    with started(home, SLEEP) as supervisor:
        first, child = noted(home, "supervisord"), noted(home, "sleeper")
        shutil.rmtree(home.run)
        home.create()
        assert supervisor.running
        with pytest.raises(SupervisorError, match=f"process {first.pid}, is running"):
            Supervisor(home).start([SLEEP], ends_with_parent=True)
        assert first.alive
        Supervisor(home).stop()
        assert wait_until(lambda: not first.alive and not child.alive, TIMEOUT_S)
        assert not supervisor.running
        supervisor.start([SLEEP], ends_with_parent=True)  # and now there is room for another one
        assert supervisor.running
