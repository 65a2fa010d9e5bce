"""The processes of one home under supervisord, which restarts what dies."""

import hashlib
import http.client
import os
import shlex
import signal
import socket
import sys
import tempfile
import xmlrpc.client
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from control.home import REPO_ROOT, Home
from control.machine import supervising, tether
from control.machine.process_table import Process, Usage, end, lock_holder, process, read_note, usage, write_note
from control.waiting import wait_until

_GROUP = "barmill"
_RPC_TIMEOUT_S = 8.0
_STOP_TIMEOUT_S = 20.0
_GRACE_S = 5.0
# A unix socket's path has 108 bytes, and supervisord needs a few more than the final name while it starts.
_MAX_SOCKET_PATH = 90


class SupervisorError(RuntimeError):
    """The supervisor did not do what it was asked; the message says where to look."""


@dataclass(frozen=True)
class Program:
    """One supervised process.

    environment: all of it, or None to inherit the supervisor's less the variables in `hidden`.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] | None = None
    hidden: Sequence[str] = ()
    folder: Path = REPO_ROOT


@dataclass(frozen=True)
class ProcessStatus:
    """How one supervised process is.

    started_s: when it was started last (epoch), also if that failed. cpu_s: CPU time since then.
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
        """Tell whether the process is up."""
        return self.state in ("RUNNING", "STARTING") and self.pid is not None


class Supervisor:
    """The supervisord of one home."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._configuration = home.run / "supervisord.conf"
        self._note = home.run / "supervisord.pid"

    @property
    def socket(self) -> Path:
        """Where supervisord listens: in the home, or in a private folder of this user where that path is too long."""
        inside = self._home.run / "supervisor.sock"
        if len(os.fsencode(inside)) <= _MAX_SOCKET_PATH:
            return inside
        name = hashlib.sha256(os.fsencode(self._home.root)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"barmill-{os.getuid()}" / f"{name}.sock"

    @property
    def running(self) -> bool:
        """Tell whether this home's supervisord is alive."""
        return self._process() is not None

    def start(self, programs: Sequence[Program], *, tied: bool) -> None:
        """Start supervisord and all programs; with `tied` they end when this process does, whatever ends it.

        Raise SupervisorError where it does not start, or another one is at work on the home.
        """
        if (other := lock_holder(self._home.root)) is not None:
            raise SupervisorError(
                f"Another supervisor, process {other.pid}, is at work on this home; stop it with ./barmill down."
            )
        self._end_leftovers()
        self._prepare_socket_folder()
        self._configuration.write_text(self._render(programs))
        self._configuration.chmod(0o600)
        output = self._home.log / "supervisord.out"
        # It outlives this object, and often this process: so nothing here holds on to it but its note.
        pid = os.posix_spawn(
            sys.executable,
            [
                *tethered(signal.SIGTERM if tied else None, os.getpid(), "-"),
                # Not as a module, which would depend on the caller's PYTHONPATH.
                *(sys.executable, "-P", str(supervising.__file__), str(self._home.root)),
                *("--nodaemon", "--silent", "-c", str(self._configuration)),
            ],
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, str(output), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
        )
        started = process(pid)
        if started is not None:
            write_note(self._note, started)
        wait_until(lambda: not self.running or self._answers(), _RPC_TIMEOUT_S)
        if not self._answers():
            self.stop()
            raise SupervisorError(f"The supervisor did not start; the reason stands in {output}.")

    def stop(self) -> Sequence[str]:
        """End all processes of this home and return the names of those that had to be killed."""
        if self.running:
            try:
                self._ask("shutdown")
            except SupervisorError:
                pass  # it may be on its way out already, or hang; either way the notes below know its processes
            else:
                wait_until(lambda: not self.running, _STOP_TIMEOUT_S)
        return self._end_leftovers()

    def _process(self) -> Process | None:
        """Return the supervisord that is alive: the one noted, or else the one that holds the home."""
        noted = read_note(self._note)
        return noted if noted is not None and noted.alive else lock_holder(self._home.root)

    def status(self) -> list[ProcessStatus]:
        """Return how each process is, by name; nothing if the supervisor is not running."""
        if not self.running:
            return []
        answers = self._ask("getAllProcessInfo")
        used = usage(answer["pid"] for answer in answers if answer["pid"])
        return [_status(answer, used.get(answer["pid"], Usage())) for answer in answers]

    def _answers(self) -> bool:
        try:
            return bool(self._ask("getState"))
        except SupervisorError:
            return False

    def _ask(self, method: str) -> Any:
        with xmlrpc.client.ServerProxy("http://localhost", transport=_UnixTransport(self.socket)) as proxy:
            try:
                return getattr(proxy.supervisor, method)()
            except (OSError, http.client.HTTPException, xmlrpc.client.Error) as error:
                raise SupervisorError("The supervisor does not answer; stop everything with ./barmill down.") from error

    def _end_leftovers(self) -> Sequence[str]:
        """End what a killed supervisor left behind, known by the notes its programs wrote."""
        noted = {path: read_note(path) for path in self._home.run.glob("*.pid")}
        alive: dict[Process, str] = {one: path.stem for path, one in noted.items() if one is not None and one.alive}
        if (holder := lock_holder(self._home.root)) is not None:  # whose note may have been deleted
            alive[holder] = self._note.stem
        stubborn = end(alive, grace_s=_GRACE_S)
        if (ours := noted.get(self._note)) is not None:
            with suppress(ChildProcessError):  # it was started by another process
                os.waitpid(ours.pid, os.WNOHANG)
        for path in noted:
            path.unlink(missing_ok=True)
        self.socket.unlink(missing_ok=True)
        return [alive[one] for one in stubborn]

    def _prepare_socket_folder(self) -> None:
        folder = self.socket.parent
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.stat().st_uid != os.getuid():
            raise SupervisorError(f"{folder} belongs to somebody else; set BARMILL_HOME to a shorter path.")

    def _render(self, programs: Sequence[Program]) -> str:
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
            # One group: its members stop all at once, not one after the other.
            f"group:{_GROUP}": {"programs": ",".join(program.name for program in programs)},
        }
        for place, program in enumerate(programs):
            tether_to_supervisord = tethered(signal.SIGKILL, 0, str(run / f"{program.name}.pid"))
            sections[f"program:{program.name}"] = {
                "command": shlex.join([*tether_to_supervisord, *bare(program)]),
                "directory": str(program.folder),
                "priority": str(place),
                "autorestart": "true",
                "startsecs": "2",
                # Each try waits a second longer than the one before; giving up is for people to decide.
                "startretries": "1000000",
                "stopasgroup": "true",
                "killasgroup": "true",
                "stopwaitsecs": "8",
                "redirect_stderr": "true",
                # Of all settings, supervisord expands this one twice.
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


def tethered(number: signal.Signals | None, parent_pid: int, pid_file: str) -> list[str]:
    """Return how to run a command that follows through tether.py."""
    return [sys.executable, "-I", "-S", str(tether.__file__), str(int(number or 0)), str(parent_pid), pid_file]


def bare(program: Program) -> list[str]:
    """Return the command with only the environment it may see."""
    if program.environment is not None:
        settings = (f"{name}={value}" for name, value in program.environment.items())
        return ["/usr/bin/env", "-i", *settings, *program.command]
    if program.hidden:
        return ["/usr/bin/env", *(part for name in program.hidden for part in ("-u", name)), *program.command]
    return list(program.command)


def _status(answer: Mapping[str, Any], used: Usage) -> ProcessStatus:
    pid = answer["pid"] or None
    return ProcessStatus(
        name=answer["name"],
        state=answer["statename"],
        pid=pid,
        uptime_s=max(0, answer["now"] - answer["start"]) if pid else 0,
        resident_bytes=used.resident_bytes,
        cpu_s=used.cpu_s,
        started_s=answer["start"],
    )


class _UnixConnection(http.client.HTTPConnection):
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
        self._connection = "", connection  # what the base class closes
        return connection
