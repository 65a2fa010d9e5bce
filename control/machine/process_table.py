"""What the kernel says about processes (Linux's /proc)."""

import os
import signal
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from control.waiting import wait_until

_STAT_PARENT, _STAT_STATE, _STAT_STARTED = 1, 0, 19
_STAT_USER, _STAT_SYSTEM = 11, 12
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Usage:
    """What a process and its descendants hold of the memory, and the CPU time of those that still run."""

    resident_bytes: int = 0
    cpu_s: float = 0.0


@dataclass(frozen=True)
class Process:
    """One process. A process id alone may long belong to another process; with its start time it cannot."""

    pid: int
    started: int

    @property
    def alive(self) -> bool:
        """Tell whether this very process still runs."""
        fields = _stat(self.pid)
        return fields is not None and int(fields[_STAT_STARTED]) == self.started and fields[_STAT_STATE] != "Z"


def process(pid: int) -> Process | None:
    """Return the process that has this id now."""
    fields = _stat(pid)
    return None if fields is None else Process(pid, int(fields[_STAT_STARTED]))


def read_note(path: Path) -> Process | None:
    """Return the process that a note (see tether.py) names, or None if there is no readable note."""
    try:
        pid, started = path.read_text().split()
        return Process(int(pid), int(started))
    except (OSError, ValueError):
        return None


def write_note(path: Path, one: Process) -> None:
    """Leave a note that `read_note` reads."""
    path.write_text(f"{one.pid} {one.started}\n")


def lock_holder(path: Path) -> Process | None:
    """Return the process that holds an exclusive lock (flock) on a file or folder, or None."""
    try:
        inode = path.stat().st_ino
        lines = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        fields = (
            line.split()
        )  # "1: FLOCK ADVISORY WRITE 4711 fd:00:1234 0 EOF"; the device is not that of stat everywhere
        if fields[1] == "FLOCK" and fields[3] == "WRITE" and fields[5].rpartition(":")[2] == str(inode):
            found = process(int(fields[4]))
            if found is not None and _holds(found.pid, path):
                return found
    return None


def _holds(pid: int, path: Path) -> bool:
    """Tell whether a process has a file or folder open."""
    try:
        return any(descriptor.samefile(path) for descriptor in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return False


def usage(pids: Iterable[int]) -> dict[int, Usage]:
    """Return what each of these processes uses together with its descendants; nothing for one that is gone."""
    stats = {
        int(folder.name): fields
        for folder in Path("/proc").iterdir()
        if folder.name.isdigit() and (fields := _stat(int(folder.name)))
    }
    children: dict[int, list[int]] = {}
    for pid, fields in stats.items():
        children.setdefault(int(fields[_STAT_PARENT]), []).append(pid)
    used = {}
    for pid in pids:
        family = [one for one in (pid, *_descendants(pid, children)) if one in stats]
        ticks = sum(int(stats[one][_STAT_USER]) + int(stats[one][_STAT_SYSTEM]) for one in family)
        used[pid] = Usage(sum(map(_resident_bytes, family)), ticks / _TICKS_PER_S)
    return used


def end(processes: Iterable[Process], *, grace_s: float) -> Sequence[Process]:
    """End processes with their groups: asked first, then killed; return those that had to be killed."""
    alive = [one for one in processes if one.alive]
    for one in alive:
        _signal(one, signal.SIGTERM)
    wait_until(lambda: not any(one.alive for one in alive), grace_s)
    stubborn = [one for one in alive if one.alive]
    for one in stubborn:
        _signal(one, signal.SIGKILL)
    wait_until(lambda: not any(one.alive for one in stubborn), grace_s)
    return stubborn


def _signal(one: Process, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        if os.getpgid(one.pid) == one.pid:
            os.killpg(one.pid, number)
        else:
            os.kill(one.pid, number)


def _stat(pid: int) -> list[str] | None:
    try:
        # The name, in brackets, may hold anything; the numbered fields begin behind the last bracket.
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None


def _resident_bytes(pid: int) -> int:
    with suppress(OSError, IndexError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES
    return 0


def _descendants(pid: int, children: Mapping[int, Sequence[int]]) -> list[int]:
    found, look_at = list[int](), [pid]
    while look_at:
        below = children.get(look_at.pop(), [])
        found += below
        look_at += below
    return found
