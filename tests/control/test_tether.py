import os
import signal
import subprocess
import sys
from pathlib import Path

from control.machine.process_table import Process, process, read_note
from control.machine.processes import tethered
from control.waiting import wait_until

PARENT = """
import os, subprocess, sys
from control.machine.processes import tethered
child = subprocess.Popen([*tethered({signal}, os.getpid(), "-"), "/bin/sleep", "1000"], start_new_session=True)
print(child.pid, flush=True)
input()
"""


def orphan(signal_text: str) -> Process:
    """Return a tethered sleep whose parent has just been killed."""
    code = f"import signal\n{PARENT.format(signal=signal_text)}"
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
        [*tethered(signal.SIGKILL, stranger, "-"), "/bin/echo", "started"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")


def test_the_note_names_the_command_itself(tmp_path: Path) -> None:
    note = tmp_path / "sleep.pid"
    child = subprocess.Popen([*tethered(signal.SIGKILL, os.getpid(), str(note)), "/bin/sleep", "1000"])
    assert wait_until(note.exists, 10)
    assert read_note(note) == process(child.pid)
    child.kill()
    child.wait()
