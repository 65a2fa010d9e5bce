"""Processes of this machine, identified by id and start time."""

import os
import signal
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from barmill.platform import operating_system
from barmill.platform.clock import wait_until


@dataclass(frozen=True)
class Usage:
    """Memory use of a process and its descendants, and the CPU time of those still running."""

    resident_bytes: int = 0
    cpu_s: float = 0.0


@dataclass(frozen=True)
class Process:
    """A process. The start time distinguishes it from a later process that got the same id."""

    pid: int
    started: int

    @property
    def alive(self) -> bool:
        """Return whether this process is still running."""
        sample = operating_system.PROCESSES.sample(self.pid)
        return sample is not None and sample.started == self.started and not sample.ended


def process(pid: int) -> Process | None:
    """Return the process that has this id now; None if there is none."""
    sample = operating_system.PROCESSES.sample(pid)
    return None if sample is None else Process(pid, sample.started)


def read_pid_file(path: Path) -> Process | None:
    """Return the process named in a PID file (see tether.py), or None if there is no readable file."""
    try:
        pid, started = path.read_text().split()
        return Process(int(pid), int(started))
    except (OSError, ValueError):
        return None


def write_pid_file(path: Path, process: Process) -> None:
    """Write a PID file that `read_pid_file` reads."""
    path.write_text(f"{process.pid} {process.started}\n")


def lock_holder(path: Path, arguments: Sequence[str]) -> Process | None:
    """Return the process that holds an exclusive lock (flock) on a file or folder, or None.

    arguments: the first command line arguments of the program that takes this lock.
    """
    pid = operating_system.PROCESSES.lock_holder(path, arguments)
    return None if pid is None else process(pid)


def usage(pids: Iterable[int]) -> dict[int, Usage]:
    """Return the resource use of each process with its descendants. Processes that have ended are omitted."""
    samples = operating_system.PROCESSES.samples()
    children: dict[int, list[int]] = {}
    for pid, sample in samples.items():
        children.setdefault(sample.parent, []).append(pid)
    used = {}
    for pid in pids:
        tree = [member for member in (pid, *_descendants(pid, children)) if member in samples]
        resident_bytes = sum(map(operating_system.PROCESSES.resident_bytes, tree))
        used[pid] = Usage(resident_bytes, sum(samples[member].cpu_s for member in tree))
    return used


def end(processes: Iterable[Process], *, grace_s: float) -> Sequence[Process]:
    """End processes with SIGTERM, then SIGKILL. Return those that had to be killed.

    If a process leads a process group, the signals go to the whole group. grace_s: the wait after each signal at most.
    """
    alive = [process for process in processes if process.alive]
    for process in alive:
        _signal(process, signal.SIGTERM)
    wait_until(lambda: not any(process.alive for process in alive), grace_s)
    remaining = [process for process in alive if process.alive]
    for process in remaining:
        _signal(process, signal.SIGKILL)
    wait_until(lambda: not any(process.alive for process in remaining), grace_s)
    return remaining


def _signal(process: Process, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        if os.getpgid(process.pid) == process.pid:
            os.killpg(process.pid, number)
        else:
            os.kill(process.pid, number)


def _descendants(pid: int, children: Mapping[int, Sequence[int]]) -> list[int]:
    descendants, pending = list[int](), [pid]
    while pending:
        child_pids = children.get(pending.pop(), [])
        descendants += child_pids
        pending += child_pids
    return descendants
