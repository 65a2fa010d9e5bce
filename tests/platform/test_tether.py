import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from barmill.platform import operating_system
from barmill.platform.clock import wait_until
from barmill.platform.operating_system import LinuxProcesses, PortableProcesses
from barmill.platform.process_table import Process, process, read_pid_file
from control.processes.supervisor import tether_prefix, tether_stdin

PARENT = """
import os, subprocess, sys
from barmill.platform import operating_system
from control.processes.supervisor import tether_prefix, tether_stdin
operating_system.KERNEL_TETHERS = {kernel}
command = [*tether_prefix({signal}, os.getpid(), "-"), "/bin/sleep", "1000"]
child = subprocess.Popen(command, start_new_session=True, stdin=tether_stdin())
print(child.pid, flush=True)
input()
"""


@pytest.fixture(autouse=True, params=["kernel", "pipe"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run each test as on Linux and as on other systems."""
    kernel = request.param == "kernel"
    monkeypatch.setattr(operating_system, "KERNEL_TETHERS", kernel)
    monkeypatch.setattr(operating_system, "PROCESSES", LinuxProcesses() if kernel else PortableProcesses())
    return str(request.param)


def orphan(signal_text: str) -> Process:
    """Return a tethered sleep whose parent has just been killed."""
    code = f"import signal\n{PARENT.format(signal=signal_text, kernel=operating_system.KERNEL_TETHERS)}"
    parent = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert parent.stdin
    assert parent.stdout
    child = process(int(parent.stdout.readline()))
    assert child
    assert child.alive
    parent.kill()
    parent.wait()
    parent.stdin.close()
    parent.stdout.close()
    return child


def test_the_command_dies_when_its_parent_is_killed() -> None:
    child = orphan("signal.SIGKILL")
    assert wait_until(lambda: not child.alive, 10)


def test_without_a_signal_the_command_outlives_its_parent() -> None:
    child = orphan("None")
    assert child.alive
    os.kill(child.pid, signal.SIGKILL)


def test_the_command_is_not_started_for_a_parent_that_is_gone() -> None:
    stranger = 1
    done = subprocess.run(
        [*tether_prefix(signal.SIGKILL, stranger, "-"), "/bin/echo", "started"],
        stdin=tether_stdin(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")


def test_the_note_names_the_command_itself(tmp_path: Path) -> None:
    note = tmp_path / "sleep.pid"
    child = subprocess.Popen(
        [*tether_prefix(signal.SIGKILL, os.getpid(), str(note)), "/bin/sleep", "1000"], stdin=tether_stdin()
    )
    assert wait_until(note.exists, 10)
    assert read_pid_file(note) == process(child.pid)
    child.kill()
    child.wait()


def test_the_output_ends_with_the_command() -> None:
    child = subprocess.Popen(
        [*tether_prefix(signal.SIGKILL, os.getpid(), "-"), "/bin/sh", "-c", "read line || echo end of input"],
        stdin=tether_stdin(),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.communicate(timeout=30)[0] == "end of input\n"
    assert child.returncode == 0


@pytest.mark.parametrize("way", ["pipe"], indirect=True)
def test_the_watching_process_ends_after_the_command(tmp_path: Path) -> None:
    note = tmp_path / "sleep.pid"
    child = subprocess.Popen(
        [*tether_prefix(signal.SIGKILL, os.getpid(), str(note)), "/bin/sleep", "1000"], stdin=tether_stdin()
    )
    assert wait_until(note.exists, 10)
    (watching,) = (pid for pid, sample in LinuxProcesses().samples().items() if sample.parent == child.pid)
    watch = process(watching)
    assert watch
    assert os.getpgid(watching) != os.getpgid(child.pid)  # signals to the command's group do not end the watch
    child.kill()
    child.wait()
    assert wait_until(lambda: not watch.alive, 10)


@pytest.mark.parametrize("way", ["pipe"], indirect=True)
def test_a_command_without_a_pipe_from_its_parent_is_not_started() -> None:
    done = subprocess.run(
        [*tether_prefix(signal.SIGKILL, os.getpid(), "-"), "/bin/echo", "started"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "must be a pipe" in done.stderr
