import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from barmill.platform import operating_system
from barmill.platform.clock import wait_until
from barmill.platform.operating_system import LinuxProcesses, PortableProcesses, ProcessSource
from barmill.platform.process_table import (
    Process,
    Usage,
    end,
    lock_holder,
    process,
    read_pid_file,
    usage,
    write_pid_file,
)

DEAF = "import signal, sys; signal.signal(15, signal.SIG_IGN); print('ready', flush=True); signal.pause()"
LOCKING = "import fcntl, os, sys; fcntl.flock(os.open(sys.argv[1], 0), fcntl.LOCK_EX); print(1, flush=True); input()"


@pytest.fixture(autouse=True, params=[LinuxProcesses, PortableProcesses])
def source(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run each test as on Linux and as on other systems."""
    chosen: ProcessSource = request.param()
    monkeypatch.setattr(operating_system, "PROCESSES", chosen)


def start(*command: str) -> subprocess.Popen[str]:
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)


def finish(child: subprocess.Popen[str]) -> int:
    assert child.stdout
    child.stdout.close()
    return child.wait(timeout=30)


def test_a_process_is_known_by_id_and_start_time() -> None:
    me = process(os.getpid())
    assert me
    assert me.alive
    assert not Process(me.pid, me.started + 1).alive  # its id was given to another process


def test_a_process_that_ended_is_not_alive_even_before_anybody_collects_it() -> None:
    child = start("sleep", "1000")
    known = process(child.pid)
    assert known
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not known.alive
    finish(child)
    assert not known.alive
    assert process(child.pid) is None


def test_notes_come_back_and_broken_ones_count_as_none(tmp_path: Path) -> None:
    note = tmp_path / "x.pid"
    write_pid_file(note, Process(12, 34))
    assert read_pid_file(note) == Process(12, 34)
    note.write_text("12")
    assert read_pid_file(note) is None
    assert read_pid_file(tmp_path / "missing") is None


def test_end_asks_first_and_reports_whom_it_had_to_kill() -> None:
    polite, deaf = start("sleep", "1000"), start(sys.executable, "-c", DEAF)
    assert deaf.stdout
    assert deaf.stdout.readline() == "ready\n"
    known = [running for child in (polite, deaf) if (running := process(child.pid))]
    assert end([*known, Process(1, 0)], grace_s=1.0) == [known[1]]
    assert (finish(polite), finish(deaf)) == (-signal.SIGTERM, -signal.SIGKILL)


def test_end_takes_the_whole_group() -> None:
    family = start("sh", "-c", "sleep 1000 & echo $!; wait")
    assert family.stdout
    below = process(int(family.stdout.readline()))
    above = process(family.pid)
    assert above
    assert below
    end([above], grace_s=5.0)
    finish(family)
    # The signal went to both at once, but only the head of the group was waited for.
    assert wait_until(lambda: not below.alive, 10.0)


def test_memory_and_cpu_time_count_descendants() -> None:
    busy = "import time; x = bytearray(80_000_000)\nwhile time.process_time() < 0.3: pass\n"
    hungry = f"{busy}print('ready', flush=True); input()"
    parent = subprocess.Popen(
        ["sh", "-c", '"$0" -c "$1"; :', sys.executable, hungry],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout
    parent.stdout.readline()
    used = usage([parent.pid, os.getpid()])[parent.pid]
    assert used.resident_bytes > 80_000_000
    assert 0.25 < used.cpu_s < 20
    parent.communicate("\n")
    assert usage([parent.pid]) == {parent.pid: Usage()}


def test_a_lock_names_the_program_that_holds_it(tmp_path: Path) -> None:
    arguments = ["-c", LOCKING, str(tmp_path)]
    assert lock_holder(tmp_path / "missing", arguments) is None
    assert lock_holder(tmp_path, arguments) is None
    holder = subprocess.Popen(
        [sys.executable, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    )
    assert holder.stdout
    holder.stdout.readline()
    assert lock_holder(tmp_path, arguments) == process(holder.pid)
    holder.communicate(b"\n")
    assert lock_holder(tmp_path, arguments) is None


def test_a_program_without_the_lock_does_not_hold_it(tmp_path: Path) -> None:
    arguments = ["-c", "input()", str(tmp_path)]
    idle = subprocess.Popen([sys.executable, *arguments], stdin=subprocess.PIPE)
    assert lock_holder(tmp_path, arguments) is None
    idle.communicate(b"\n")
