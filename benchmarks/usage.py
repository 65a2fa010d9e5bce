"""What processes and the machine used: CPU time and memory, as the kernel counts them (Linux's /proc)."""

import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from control.home import REPO_ROOT

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_USER, _SYSTEM = 11, 12  # in /proc/PID/stat, counted behind the name
_IDLE = (3, 4)  # idle and waiting for the disk, in the first line of /proc/stat
_GUESTS_FROM = 8  # what virtual machines used is in the fields before, too


class CommandFailedError(Exception):
    """A measured command ended with an error; the message is the last it said."""


@dataclass(frozen=True)
class Measured:
    """What a command printed and used, with all processes it started and waited for.

    others_share: how much of all cores' time went to other programs (and other machines of the same host) meanwhile.
    """

    output: str
    wall_s: float
    cpu_s: float
    others_share: float


def measure(command: Sequence[str], *, environment: Mapping[str, str] | None = None) -> Measured:
    """Run a command to its end; raise CommandFailedError if it fails."""
    busy_s, started = busy_seconds(), time.monotonic()
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as complaints:
        child = subprocess.Popen(
            command,
            env={**os.environ, "PYTHONPATH": str(REPO_ROOT), **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=complaints,
        )
        try:
            # Unlike the waiting of subprocess, this one tells what the child used.
            _, status, used = os.wait4(child.pid, 0)
        except BaseException:
            child.terminate()
            child.wait()
            raise
        child.returncode = os.waitstatus_to_exitcode(status)
        wall_s, cpu_s = time.monotonic() - started, used.ru_utime + used.ru_stime
        if child.returncode:
            raise CommandFailedError((_written(complaints).splitlines() or [f"exit code {child.returncode}"])[-1])
        return Measured(_written(output), wall_s, cpu_s, others_share(busy_seconds() - busy_s, cpu_s, wall_s))


def python(module: str, *arguments: str) -> list[str]:
    """Return the command that runs one of our modules."""
    return [sys.executable, "-m", module, *arguments]


def busy_seconds() -> float:
    """Return how long the cores were not idle, all together, since the machine started."""
    fields = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    return sum(int(value) for place, value in enumerate(fields[:_GUESTS_FROM]) if place not in _IDLE) / _TICKS_PER_S


def others_share(busy_s: float, own_s: float, wall_s: float) -> float:
    """Return the part of all cores' time that others used, 0 to 1."""
    return min(1.0, max(0.0, busy_s - own_s) / (wall_s * (os.cpu_count() or 1)))


def children(pid: int) -> list[int]:
    """Return the processes that a process has started and that still run."""
    lists = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for one in lists for child in _text(one).split()]


def cpu_seconds(pid: int) -> float | None:
    """Return the CPU time a process has used so far, or None if it is gone."""
    fields = _text(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
    return (int(fields[_USER]) + int(fields[_SYSTEM])) / _TICKS_PER_S if fields else None


def memory_mb(pid: int) -> tuple[float, float]:
    """Return resident and proportional memory; the latter splits among processes what they share."""
    lines = (line.split() for line in _text(Path(f"/proc/{pid}/smaps_rollup")).splitlines()[1:])
    kilobytes = {name: int(value) for name, value, *_ in lines}
    return kilobytes.get("Rss:", 0) * 1.024e-3, kilobytes.get("Pss:", 0) * 1.024e-3


def command_line(pid: int) -> str:
    """Return a process's command line, or '' if it is gone."""
    return _text(Path(f"/proc/{pid}/cmdline")).replace("\0", " ")


def machine() -> dict[str, Any]:
    """Describe the machine and how busy it is at this moment."""
    cpu = [line for line in _text(Path("/proc/cpuinfo")).splitlines() if line.startswith("model name")]
    return {
        "cores": os.cpu_count(),
        "cpu_model": cpu[0].partition(":")[2].strip() if cpu else platform.machine(),
        "memory_gb": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load_average_1min_at_start": round(os.getloadavg()[0], 2),
    }


def _written(stream: IO[bytes]) -> str:
    stream.seek(0)
    return stream.read().decode(errors="replace").strip()


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:  # the process has ended
        return ""
