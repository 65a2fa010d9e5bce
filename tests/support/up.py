"""Helpers of test_up.py that other tests use too."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from barmill.platform.clock import wait_until
from barmill.platform.home import PYTHON_PATH, Home
from barmill.platform.process_table import read_pid_file
from barmill.storage.reader import BarReader
from control.jobs.model import JobRun
from control.jobs.repository import JobRepository

TIMEOUT_S = 150


PROGRAMS = {"jobmanager", "taskmanager", "market", "ingest", "controller", "app"}


@dataclass(frozen=True)
class Barmill:
    """One home and how to call the command line on it."""

    home: Home
    port: int

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-P", "-m", "cli.main", *arguments]

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {"PYTHONPATH": PYTHON_PATH, "BARMILL_HOME": str(self.home.root)}

    def call(self, *arguments: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
        """Call a command, with this on standard input."""
        command, environment = self.command(*arguments), self.environment
        return subprocess.run(
            command, input=given, capture_output=True, text=True, check=False, env=environment, cwd="/"
        )

    def up(self) -> subprocess.CompletedProcess[str]:
        return self.call("up", "--detach", "--no-browser", "--port", str(self.port))

    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = json.loads(self.call("status", "--json").stdout)
        return status

    def processes(self) -> list[str]:
        """Return the command lines of all processes of this home, also those that others started."""
        mark, found = os.fsencode(self.home.root), []
        for folder in Path("/proc").iterdir():
            try:
                if folder.name.isdigit() and any(
                    mark in (folder / name).read_bytes() for name in ("cmdline", "environ")
                ):
                    found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode())
            except OSError:  # it ended meanwhile
                continue
        return found

    def runs(self) -> list[JobRun]:
        with JobRepository.read_only(self.home) as repository:
            return repository.runs("bars", 9)

    def bars_move(self) -> bool:
        """Tell whether everything is well and the newest tick in a bar is new."""
        status = self.status()
        age_s = status["newest_tick_age_s"]
        return bool(status["healthy"]) and age_s is not None and age_s < 5


def kill(home: Home, program: str) -> None:
    noted = read_pid_file(home.run / f"{program}.pid")
    assert noted
    assert noted.alive
    os.kill(noted.pid, signal.SIGKILL)
    assert wait_until(lambda: read_pid_file(home.run / f"{program}.pid") != noted, TIMEOUT_S)


def newest_tick_ms(home: Home) -> int:
    reader = BarReader.open(home.bars_db)
    newest = max(shard.newest_tick_ms or 0 for shard in reader.progress())
    reader.close()
    return newest
