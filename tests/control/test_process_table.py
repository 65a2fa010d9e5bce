import os
import signal
import subprocess
import sys
from pathlib import Path

from control.machine.process_table import Process, Usage, end, process, read_note, usage, write_note
from control.waiting import wait_until

DEAF = "import signal, sys; signal.signal(15, signal.SIG_IGN); print('ready', flush=True); signal.pause()"


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
    write_note(note, Process(12, 34))
    assert read_note(note) == Process(12, 34)
    note.write_text("12")
    assert read_note(note) is None
    assert read_note(tmp_path / "missing") is None


def test_end_asks_first_and_reports_whom_it_had_to_kill() -> None:
    polite, deaf = start("sleep", "1000"), start(sys.executable, "-c", DEAF)
    assert deaf.stdout
    assert deaf.stdout.readline() == "ready\n"
    known = [one for child in (polite, deaf) if (one := process(child.pid))]
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
