"""The comparison of all bars with a recomputation, on request and beside everything else.

It runs in a process of its own, at the lowest priority: it may need a gigabyte and a core for minutes, and the app must
stay quick. There is one at a time; the process dies with the app.

    python -m control.quality.comparison --home FOLDER     what that process runs: JSON lines, the last is the verdict
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Any

from bar.clock import now_ms
from bar.sqlite_file import StoreMissingError
from bar.verification import Verdict, verify
from control.home import REPO_ROOT, Home
from control.jobs.views import known_jobs
from control.keys.settings import SECRET_VARIABLES
from control.machine.processes import tethered

LONGEST_S = 3_600.0


class State(StrEnum):
    """Where the comparison is."""

    NEVER = "never run"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    STOPPED = "stopped"


@dataclass(frozen=True)
class Standing:
    """How far the last comparison is, or what it found; share is 0 to 1, problem a sentence."""

    state: State = State.NEVER
    started_ms: int = 0
    ended_ms: int = 0
    share: float = 0.0
    verdict: Verdict | None = None
    problem: str = ""


class Comparison:
    """The comparisons of one home; any thread may call any method."""

    def __init__(self, home: Home, longest_s: float = LONGEST_S) -> None:
        self._home, self._longest_s = home, longest_s
        self._lock = threading.Lock()
        self._standing = Standing()
        self._number = 0
        self._process: subprocess.Popen[str] | None = None

    @property
    def standing(self) -> Standing:
        """Return how it stands."""
        return self._standing

    def start(self) -> None:
        """Start one, unless one is running."""
        with self._lock:
            if self._standing.state is State.RUNNING:
                return
            self._standing, self._number = Standing(State.RUNNING, now_ms()), self._number + 1
            # The kernel ties the process to the thread that starts it, so that thread stays until it has ended.
            threading.Thread(target=self._run, args=(self._number,), name="comparison", daemon=True).start()

    def stop(self) -> None:
        """End the running one."""
        self._change(self._number, state=State.STOPPED)
        with self._lock:
            if self._process is not None:
                self._process.kill()

    def _run(self, number: int) -> None:
        log = self._home.log / "comparison.log"
        with log.open("wb") as complaints:
            process = subprocess.Popen(
                [*tethered(signal.SIGKILL, os.getpid(), "-"), *_command(self._home)],
                env={name: value for name, value in os.environ.items() if name not in SECRET_VARIABLES},
                cwd=REPO_ROOT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=complaints,
                text=True,
            )
        overdue = threading.Timer(self._longest_s, process.kill)
        overdue.start()
        with self._lock:
            self._process = process
            if number != self._number or self._standing.state is not State.RUNNING:  # stopped before it had begun
                process.kill()
        with process:
            assert process.stdout is not None
            for line in process.stdout:
                self._change(number, **_read(line))
        overdue.cancel()
        problem = f"It ended without a result; its log is {log}."
        self._change(number, state=State.FAILED, problem=problem)

    def _change(self, number: int, **changes: Any) -> None:
        """Note what is new of this comparison, unless it is over already."""
        with self._lock:
            if number == self._number and self._standing.state is State.RUNNING:
                over = changes.get("state", State.RUNNING) is not State.RUNNING
                self._standing = replace(self._standing, **changes, ended_ms=now_ms() if over else 0)


@lru_cache(maxsize=8)
def comparison_of(home: Home) -> Comparison:
    """Return the one comparison of a home, which all visitors share."""
    return Comparison(home)


def _command(home: Home) -> list[str]:
    return [sys.executable, "-m", "control.quality.comparison", "--home", str(home.root)]


def _read(line: str) -> dict[str, Any]:
    """Return what a line of the process says, as fields of Standing."""
    said = json.loads(line)
    if "verdict" in said:
        return {"state": State.DONE, "share": 1.0, "verdict": Verdict(**said["verdict"])}
    return {"state": State.FAILED, **said} if "problem" in said else said


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare, and print one JSON object a line: shares done, and at the end the verdict or the problem."""
    parser = argparse.ArgumentParser(description="Compare all bars with a recomputation.")
    parser.add_argument("--home", type=Path, required=True)
    home = Home(parser.parse_args(arguments).home)
    os.nice(19)
    try:
        verdict = verify(home.ticks_db, home.bars_db, lambda share: _say(share=share), known_jobs(home))
    except StoreMissingError as error:
        _say(problem=str(error))
        return 1
    _say(verdict=asdict(verdict))
    return 0


def _say(**said: object) -> None:
    print(json.dumps(said), flush=True)


if __name__ == "__main__":
    sys.exit(main())
