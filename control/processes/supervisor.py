"""The processes of a home, run by supervisord, which restarts processes that die."""

import hashlib
import http.client
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import xmlrpc.client
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from barmill.platform import operating_system, tether
from barmill.platform.clock import wait_until
from barmill.platform.home import REPO_ROOT, Home
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

_GROUP = "barmill"
# A path and not an import, because importing supervisord takes longer than a command should run.
_SUPERVISORD_SCRIPT = Path(tether.__file__).with_name("supervising.py")
_RPC_TIMEOUT_S = 8.0
_STOP_TIMEOUT_S = 20.0
_GRACE_S = 5.0
# The path of a Unix socket has at most 108 bytes, and supervisord uses a slightly longer name while it starts.
_MAX_SOCKET_PATH = 90


class SupervisorError(RuntimeError):
    """The supervisor could not carry out a request; the message says what to do."""


@dataclass(frozen=True)
class Program:
    """One supervised process.

    environment: the complete environment, or None to inherit the supervisor's without the variables in `hidden`.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] | None = None
    hidden: Sequence[str] = ()
    folder: Path = REPO_ROOT


@dataclass(frozen=True)
class ProcessStatus:
    """The state of one supervised process.

    started_s: time of the last start (epoch), even if that start failed. cpu_s: CPU time since then.
    """

    name: str
    state: str
    pid: int | None
    uptime_s: int
    resident_bytes: int
    cpu_s: float = 0.0
    started_s: int = 0

    @property
    def running(self) -> bool:
        """Return whether the process is up."""
        return self.state in ("RUNNING", "STARTING") and self.pid is not None


class Supervisor:
    """The supervisord of a home."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._configuration = home.run / "supervisord.conf"
        self._pid_file = home.run / "supervisord.pid"
        self._stop_request = home.run / "stop-requested"

    @property
    def socket(self) -> Path:
        """Return the socket of supervisord: in the home, or in a private folder of the user if its path is too long."""
        in_home = self._home.run / "supervisor.sock"
        if len(os.fsencode(in_home)) <= _MAX_SOCKET_PATH:
            return in_home
        name = hashlib.sha256(os.fsencode(self._home.root)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"barmill-{os.getuid()}" / f"{name}.sock"

    @property
    def running(self) -> bool:
        """Return whether this home's supervisord is alive."""
        return self._process() is not None

    @property
    def stopped_on_request(self) -> bool:
        """Return whether the last supervisord of this home received a request to stop, from this or another process."""
        return self._stop_request.exists()

    def start(self, programs: Sequence[Program], *, ends_with_parent: bool) -> None:
        """Start supervisord and all programs. ends_with_parent: they end when this process ends, for whatever reason.

        Raise SupervisorError if it does not start, or if another supervisor uses the home.
        """
        if (other := self._lock_holder()) is not None:
            raise SupervisorError(
                f"Another supervisor, process {other.pid}, is running for this home; stop it with ./barmill down."
            )
        self._end_leftovers()
        self._stop_request.unlink(missing_ok=True)
        self._prepare_socket_folder()
        self._configuration.write_text(self._configuration_text(programs))
        self._configuration.chmod(0o600)
        output = self._home.log / "supervisord.out"
        uses_pipe = ends_with_parent and not operating_system.KERNEL_TETHERS
        # supervisord outlives this object and often this process, so the pid file is the only reference to it.
        pid = os.posix_spawn(
            sys.executable,
            [
                *tether_prefix(signal.SIGTERM if ends_with_parent else None, os.getpid(), "-"),
                *(sys.executable, *_supervisord_arguments(self._home)),
                *("--nodaemon", "--silent", "-c", str(self._configuration)),
            ],
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_DUP2, tether_stdin(), 0)
                if uses_pipe
                else (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, str(output), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
        )
        supervisord = process(pid)
        if supervisord is not None:
            write_pid_file(self._pid_file, supervisord)
        wait_until(lambda: not self.running or self._is_responding(), _RPC_TIMEOUT_S)
        if not self._is_responding():
            self.stop()
            raise SupervisorError(f"The supervisor did not start; see {output}.")

    def stop(self) -> Sequence[str]:
        """End all processes of this home and return the names of those that had to be killed."""
        if self.running:
            with suppress(OSError):  # a full disk or a deleted folder must not prevent the stop
                self._stop_request.touch()
            try:
                self._call("shutdown")
            except SupervisorError:
                pass  # it may be exiting already, or hang; in both cases the pid files identify its processes
            else:
                wait_until(lambda: not self.running, _STOP_TIMEOUT_S)
        return self._end_leftovers()

    def _process(self) -> Process | None:
        """Return the live supervisord, if any: from the pid file, or else the holder of the lock of the home."""
        recorded = read_pid_file(self._pid_file)
        return recorded if recorded is not None and recorded.alive else self._lock_holder()

    def _lock_holder(self) -> Process | None:
        """Return the supervisord that holds the lock of the home."""
        return lock_holder(self._home.root, _supervisord_arguments(self._home))

    def status(self) -> list[ProcessStatus]:
        """Return the state of each process, by name; empty if the supervisor is not running.

        Raise SupervisorError if it does not respond.
        """
        if not self.running:
            return []
        infos = self._call("getAllProcessInfo")
        used = usage(info["pid"] for info in infos if info["pid"])
        return [_status(info, used.get(info["pid"], Usage())) for info in infos]

    def _is_responding(self) -> bool:
        try:
            return bool(self._call("getState"))
        except SupervisorError:
            return False

    def _call(self, method: str) -> Any:
        with xmlrpc.client.ServerProxy("http://localhost", transport=_UnixTransport(self.socket)) as proxy:
            try:
                return getattr(proxy.supervisor, method)()
            except (OSError, http.client.HTTPException, xmlrpc.client.Error) as error:
                raise SupervisorError(
                    "The supervisor does not respond; stop everything with ./barmill down."
                ) from error

    def _end_leftovers(self) -> Sequence[str]:
        """End processes that a killed supervisor left running, found by the pid files that its programs wrote."""
        recorded = {path: read_pid_file(path) for path in self._home.run.glob("*.pid")}
        alive: dict[Process, str] = {
            process: path.stem for path, process in recorded.items() if process is not None and process.alive
        }
        if (holder := self._lock_holder()) is not None:  # its pid file may have been deleted
            alive[holder] = self._pid_file.stem
        killed = end(alive, grace_s=_GRACE_S)
        if (supervisor := recorded.get(self._pid_file)) is not None:
            with suppress(ChildProcessError):  # another process started it
                os.waitpid(supervisor.pid, os.WNOHANG)
        for path in recorded:
            path.unlink(missing_ok=True)
        self.socket.unlink(missing_ok=True)
        return [alive[process] for process in killed]

    def _prepare_socket_folder(self) -> None:
        folder = self.socket.parent
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.stat().st_uid != os.getuid():
            raise SupervisorError(f"{folder} belongs to another user; set BARMILL_HOME to a shorter path.")

    def _configuration_text(self, programs: Sequence[Program]) -> str:
        """Return the text of supervisord.conf."""
        log, run = self._home.log, self._home.run
        sections = {
            "unix_http_server": {"file": str(self.socket), "chmod": "0600"},
            "supervisord": {
                "directory": str(REPO_ROOT),
                "logfile": str(log / "supervisord.log"),
                "logfile_maxbytes": "1MB",
                "logfile_backups": "1",
                "pidfile": str(run / "supervisord.own"),
            },
            "rpcinterface:supervisor": {
                "supervisor.rpcinterface_factory": "supervisor.rpcinterface:make_main_rpcinterface"
            },
            # One group: its members stop at the same time instead of one after the other.
            f"group:{_GROUP}": {"programs": ",".join(program.name for program in programs)},
        }
        for priority, program in enumerate(programs):
            # The program's standard input is a pipe from supervisord, which no other program inherits.
            tether_to_supervisord = tether_prefix(signal.SIGKILL, 0, str(run / f"{program.name}.pid"))
            sections[f"program:{program.name}"] = {
                "command": shlex.join([*tether_to_supervisord, *restricted_command(program)]),
                "directory": str(program.folder),
                "priority": str(priority),
                "autorestart": "true",
                "startsecs": "2",
                # Each retry waits a second longer than the previous one; only a user decides to give up.
                "startretries": "1000000",
                "stopasgroup": "true",
                "killasgroup": "true",
                "stopwaitsecs": "8",
                "redirect_stderr": "true",
                # This is the only setting that supervisord expands twice.
                "stdout_logfile": str(log / f"{program.name}.log").replace("%", "%%"),
                "stdout_logfile_maxbytes": "5MB",
                "stdout_logfile_backups": "2",
            }
        lines = []
        for name, settings in sections.items():
            lines.append(f"[{name}]")
            # supervisord expands %(name)s in every value.
            lines += [f"{key}={value.replace('%', '%%')}" for key, value in settings.items()]
        return "\n".join(lines) + "\n"


def _supervisord_arguments(home: Home) -> list[str]:
    """Return the arguments of Python that run supervisord for a home."""
    # Not as a module, because that would depend on the caller's PYTHONPATH.
    return ["-P", str(_SUPERVISORD_SCRIPT), str(home.root)]


def tether_prefix(number: signal.Signals | None, parent_pid: int, pid_file: str) -> list[str]:
    """Return the prefix of a command that runs it under src/barmill/platform/tether.py.

    number: the signal that the command gets when its parent ends, or None. parent_pid: 0 if it is unknown. pid_file:
    where to write the process id, or "-". With a signal, the command must get `tether_stdin()` or another pipe from its
    parent as standard input.
    """
    # Only the portable implementation needs installed packages; without them, the start is faster.
    arguments = (
        ["-S", str(tether.__file__), "kernel"] if operating_system.KERNEL_TETHERS else [str(tether.__file__), "pipe"]
    )
    return [sys.executable, "-I", *arguments, str(int(number or 0)), str(parent_pid), pid_file]


def tether_stdin() -> int:
    """Return the standard input (`stdin=` of Popen) of a tethered command; it closes when this process ends."""
    return subprocess.DEVNULL if operating_system.KERNEL_TETHERS else _tether_pipe()[0]


@cache
def _tether_pipe() -> tuple[int, int]:
    """Return the two ends of a pipe. Children inherit the first as standard input, and none inherits the second."""
    return os.pipe()


def restricted_command(program: Program) -> list[str]:
    """Return the command, restricted to the environment that it may see."""
    if program.environment is not None:
        settings = (f"{name}={value}" for name, value in program.environment.items())
        return ["/usr/bin/env", "-i", *settings, *program.command]
    if program.hidden:
        return ["/usr/bin/env", *(part for name in program.hidden for part in ("-u", name)), *program.command]
    return list(program.command)


def _status(info: Mapping[str, Any], used: Usage) -> ProcessStatus:
    pid = info["pid"] or None
    return ProcessStatus(
        name=info["name"],
        state=info["statename"],
        pid=pid,
        uptime_s=max(0, info["now"] - info["start"]) if pid else 0,
        resident_bytes=used.resident_bytes,
        cpu_s=used.cpu_s,
        started_s=info["start"],
    )


class _UnixConnection(http.client.HTTPConnection):
    """A connection to supervisord with a timeout.

    `supervisor.xmlrpc.SupervisorTransport` has none, so a supervisord that hangs would block `status` and `down`
    forever, and importing it takes 0.1 s longer.
    """

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=_RPC_TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        try:
            self.sock.connect(str(self._path))
        except OSError:
            self.sock.close()
            raise


class _UnixTransport(xmlrpc.client.Transport):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def make_connection(self, _host: object) -> http.client.HTTPConnection:
        connection = _UnixConnection(self._path)
        self._connection = "", connection  # the base class closes this
        return connection
