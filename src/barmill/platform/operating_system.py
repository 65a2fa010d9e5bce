"""What differs between operating systems: facts about processes, and how a file is written to the disk.

On Linux, the facts come from /proc; on other systems, such as macOS, from psutil.
"""

import fcntl
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Protocol

from barmill.platform.clock import US_PER_S
from barmill.platform.locks import is_held

_STAT_PARENT, _STAT_STATE, _STAT_STARTED = 1, 0, 19
_STAT_USER, _STAT_SYSTEM = 11, 12
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Sample(NamedTuple):
    """A process at one moment.

    started: start time, only comparable on one machine (Linux: clock ticks since the boot; elsewhere: µs since the
    epoch). cpu_s: its own CPU time, without its children's. ended: it is a zombie, whose parent has not waited for it
    yet.
    """

    parent: int
    started: int
    cpu_s: float
    ended: bool


class ProcessSource(Protocol):
    """The facts that an operating system reports about its processes."""

    def sample(self, pid: int) -> Sample | None:
        """Return the process with this id, or None."""

    def samples(self) -> Mapping[int, Sample]:
        """Return all visible processes by id."""

    def resident_bytes(self, pid: int) -> int:
        """Return the resident memory of a process, 0 if it has ended."""

    def lock_holder(self, path: Path, arguments: Sequence[str]) -> int | None:
        """Return the id of the process that holds an exclusive lock (flock) on a file or folder, or None.

        arguments: the first command line arguments of the program that takes this lock.
        """


class LinuxProcesses:
    """Processes as /proc reports them. Start times count from the boot, so setting the clock does not change them."""

    def sample(self, pid: int) -> Sample | None:
        """Return the process with this id, or None."""
        try:
            # The name, in parentheses, may contain anything. The numbered fields begin after the last parenthesis.
            fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        except OSError:
            return None
        ticks = int(fields[_STAT_USER]) + int(fields[_STAT_SYSTEM])
        return Sample(
            int(fields[_STAT_PARENT]), int(fields[_STAT_STARTED]), ticks / _TICKS_PER_S, fields[_STAT_STATE] == "Z"
        )

    def samples(self) -> Mapping[int, Sample]:
        """Return all visible processes by id."""
        pids = (int(folder.name) for folder in Path("/proc").iterdir() if folder.name.isdigit())
        return {pid: sample for pid in pids if (sample := self.sample(pid)) is not None}

    def resident_bytes(self, pid: int) -> int:
        """Return the resident memory of a process, 0 if it has ended."""
        with suppress(OSError, IndexError):
            return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES
        return 0

    def lock_holder(self, path: Path, arguments: Sequence[str]) -> int | None:  # noqa: ARG002
        """Return the id of the process that holds an exclusive lock (flock) on a file or folder, or None."""
        try:
            inode = path.stat().st_ino
            lines = Path("/proc/locks").read_text().splitlines()
        except OSError:
            return None
        for line in lines:
            # "1: FLOCK ADVISORY WRITE 4711 fd:00:1234 0 EOF"; the device may differ from that of stat.
            fields = line.split()
            if fields[1] == "FLOCK" and fields[3] == "WRITE" and fields[5].rpartition(":")[2] == str(inode):
                pid = int(fields[4])
                if self._has_open(pid, path):
                    return pid
        return None

    def _has_open(self, pid: int, path: Path) -> bool:
        """Return whether a process has a file or folder open."""
        try:
            return any(descriptor.samefile(path) for descriptor in Path(f"/proc/{pid}/fd").iterdir())
        except OSError:
            return False


class PortableProcesses:
    """Processes as psutil reports them, for systems without /proc. Processes of other users may be missing."""

    def __init__(self) -> None:
        import psutil  # takes 20 ms, and Linux does not need it

        self._psutil = psutil

    def sample(self, pid: int) -> Sample | None:
        """Return the process with this id, or None."""
        try:
            process = self._psutil.Process(pid)
            with process.oneshot():
                cpu_times = process.cpu_times()
                return Sample(
                    process.ppid(),
                    # The public method corrects for changes of the clock since psutil was imported, so two processes
                    # could see different start times.
                    round(process._proc.create_time(monotonic=True) * US_PER_S),
                    cpu_times.user + cpu_times.system,
                    process.status() == self._psutil.STATUS_ZOMBIE,
                )
        except self._psutil.ZombieProcess as error:
            return Sample(error.ppid or 0, 0, 0.0, ended=True)
        except (self._psutil.NoSuchProcess, self._psutil.AccessDenied):
            return None

    def samples(self) -> Mapping[int, Sample]:
        """Return all visible processes by id."""
        return {pid: sample for pid in self._psutil.pids() if (sample := self.sample(pid)) is not None}

    def resident_bytes(self, pid: int) -> int:
        """Return the resident memory of a process, 0 if it has ended."""
        try:
            return int(self._psutil.Process(pid).memory_info().rss)
        except (self._psutil.NoSuchProcess, self._psutil.AccessDenied):
            return 0

    def lock_holder(self, path: Path, arguments: Sequence[str]) -> int | None:
        """Return the id of the process that holds an exclusive lock (flock) on a file or folder, or None.

        Only Linux can tell which process holds a lock, so look for the program that takes this one.
        """
        if not is_held(path):
            return None
        for process in self._psutil.process_iter(["cmdline"]):
            # The interpreter's own path differs: on macOS, Python starts another executable.
            if (process.info["cmdline"] or [])[1 : len(arguments) + 1] == list(arguments):
                return int(process.pid)
        return None


def sync(descriptor: int) -> None:
    """Write a file or folder to the disk, so that it survives a power failure."""
    if full_sync := getattr(fcntl, "F_FULLFSYNC", None):
        # On macOS, fsync leaves the data in the cache of the disk. Some network file systems refuse the stronger call.
        with suppress(OSError):
            fcntl.fcntl(descriptor, full_sync)
            return
    os.fsync(descriptor)


# Whether the kernel sends a signal to a process whose parent dies; see tether.py.
KERNEL_TETHERS = sys.platform == "linux"
PROCESSES: ProcessSource = LinuxProcesses() if sys.platform == "linux" else PortableProcesses()
