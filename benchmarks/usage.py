"""CPU time and memory of processes and the machine, from Linux's /proc."""

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

from barmill.platform.home import PYTHON_PATH

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
# Positions in /proc/PID/stat, counted after the name; the last two are of ended children.
_USER, _SYSTEM, _CHILDREN_USER, _CHILDREN_SYSTEM = 11, 12, 13, 14
_IDLE = (3, 4)  # idle and I/O wait, in the first line of /proc/stat
_GUESTS_FROM = 8  # the fields from here on are already included in user and nice time


class CommandFailedError(Exception):
    """A measured command ended with an error, or cannot be run; the message is its last error line, or the reason."""


@dataclass(frozen=True)
class MeasuredCommand:
    """The output of a command, and the resources used by it and by the child processes it waited for.

    others_share: share of the time of all cores, 0 to 1, used by other programs and other virtual machines of the host.
    """

    output: str
    wall_s: float
    cpu_s: float
    others_share: float


def measure(
    command: Sequence[str], *, environment: Mapping[str, str] | None = None, exit_codes: Sequence[int] = (0,)
) -> MeasuredCommand:
    """Run a command to its end; raise CommandFailedError if its exit code is not in `exit_codes`."""
    busy_s, started = busy_seconds(), time.monotonic()
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        child = subprocess.Popen(
            command,
            env={**os.environ, "PYTHONPATH": PYTHON_PATH, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
        )
        try:
            # Unlike the wait of subprocess, this returns the resources that the child used.
            _, status, resource_usage = os.wait4(child.pid, 0)
        except BaseException:
            child.terminate()
            child.wait()
            raise
        child.returncode = os.waitstatus_to_exitcode(status)
        wall_s, cpu_s = time.monotonic() - started, resource_usage.ru_utime + resource_usage.ru_stime
        if child.returncode not in exit_codes:
            raise CommandFailedError((_read(errors).splitlines() or [f"exit code {child.returncode}"])[-1])
        return MeasuredCommand(_read(output), wall_s, cpu_s, others_share(busy_seconds() - busy_s, cpu_s, wall_s))


def python(module: str, *arguments: str) -> list[str]:
    """Return the command that runs a module of this project."""
    return [sys.executable, "-m", module, *arguments]


def busy_seconds() -> float:
    """Return the total non-idle time of all cores since the machine started, in seconds."""
    fields = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    return sum(int(value) for index, value in enumerate(fields[:_GUESTS_FROM]) if index not in _IDLE) / _TICKS_PER_S


def others_share(busy_s: float, own_s: float, wall_s: float) -> float:
    """Return the share of the time of all cores that other programs used, 0 to 1."""
    return min(1.0, max(0.0, busy_s - own_s) / (wall_s * (os.cpu_count() or 1)))


def children(pid: int) -> list[int]:
    """Return the ids of the running processes that a process has started."""
    child_lists = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for path in child_lists for child in _read_text(path).split()]


def cpu_seconds(pid: int, *, ended_children: bool = False) -> float | None:
    """Return the CPU time that a process has used, in seconds, or None if it has ended.

    ended_children: include that of the child processes for which it waited.
    """
    fields = _read_text(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
    used = (_USER, _SYSTEM, *((_CHILDREN_USER, _CHILDREN_SYSTEM) if ended_children else ()))
    return sum(int(fields[position]) for position in used) / _TICKS_PER_S if fields else None


def memory_mb(pid: int) -> tuple[float, float]:
    """Return resident and proportional memory in MB; the latter divides shared memory among processes."""
    lines = (line.split() for line in _read_text(Path(f"/proc/{pid}/smaps_rollup")).splitlines()[1:])
    kilobytes = {name: int(value) for name, value, *_ in lines}
    return kilobytes.get("Rss:", 0) * 1.024e-3, kilobytes.get("Pss:", 0) * 1.024e-3


def command_line(pid: int) -> str:
    """Return a process's command line, or '' if it has ended."""
    return _read_text(Path(f"/proc/{pid}/cmdline")).replace("\0", " ")


def machine() -> dict[str, Any]:
    """Return a description of the machine and its current load."""
    cpu = [line for line in _read_text(Path("/proc/cpuinfo")).splitlines() if line.startswith("model name")]
    return {
        "cores": os.cpu_count(),
        "cpu_model": cpu[0].partition(":")[2].strip() if cpu else platform.machine(),
        "memory_gb": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load_average_1min_at_start": round(os.getloadavg()[0], 2),
    }


def _read(stream: IO[bytes]) -> str:
    stream.seek(0)
    return stream.read().decode(errors="replace").strip()


def _read_text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:  # the process has ended
        return ""
