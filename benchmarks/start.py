"""The measurement of start-up costs: a small replay, commands that only read, and `barmill up`.

python -m benchmarks.start --home FOLDER runs `barmill up` in a new home, and again in the same home, and measures when
the first live bar is readable. Prints JSON.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from barmill.platform.clock import now_ms
from barmill.platform.home import PYTHON_PATH, Home
from barmill.platform.ports import free_ports
from barmill.platform.sqlite_file import if_ready
from barmill.storage.reader import BarReader
from benchmarks.goals import COMMANDS
from benchmarks.private_home import PrivateHomeError, pids, print_result, wait_or_fail
from benchmarks.ticks import tick_file
from benchmarks.usage import busy_seconds, cpu_seconds, measure, others_share, python
from control.processes.supervisor import Supervisor

_RUNS = 3
_TICKS, _INSTRUMENTS = 2_000, 20
# `status` returns 1 if Barmill is not running.
_EXIT_CODES = (0, 1)
_OTHERS = "other_programs_share_of_all_cores"


def start(_scale: object, folder: Path, report: Callable[[str], None]) -> dict[str, Any]:
    """Replay a small file; the first run may also write the archive of Flink's classes."""
    report(f"Replaying {_TICKS:,} ticks {_RUNS} times.")
    ticks, out = tick_file(folder, _TICKS, _INSTRUMENTS), folder / "start.csv"
    figures = _best(["replay", str(ticks), "--out", str(out)], folder)
    out.unlink()
    return {"ticks": _TICKS, **figures}


def commands(_scale: object, folder: Path, report: Callable[[str], None]) -> dict[str, Any]:
    """Run commands that only read, in a home where nothing runs."""
    report(f"Running {len(COMMANDS)} commands {_RUNS} times.")
    return {"runs": {command: _best(command.split(), folder) for command in COMMANDS}}


def _best(arguments: Sequence[str], folder: Path) -> dict[str, float]:
    """Return wall and CPU time of the run with the least CPU time."""
    environment = {"BARMILL_HOME": str(folder / "start")}
    command = python("cli.main", *arguments)
    runs = [measure(command, environment=environment, exit_codes=_EXIT_CODES) for _ in range(_RUNS)]
    best = min(runs, key=lambda run: run.cpu_s)
    return {
        "wall_s": round(best.wall_s, 2),
        "cpu_s": round(best.cpu_s, 2),
        _OTHERS: round(best.others_share, 3),
    }


def measure_starts(home: Home) -> dict[str, Any]:
    """Start a new home and then the same home again, and stop it each time."""
    [port] = free_ports(1)
    starts = {name: _measure_start(home, port) for name in ("new_home", "existing_home")}
    return {**starts, _OTHERS: max(start[_OTHERS] for start in starts.values())}


def _measure_start(home: Home, port: int) -> dict[str, float]:
    """Return wall and CPU time until a bar has a tick from after the start, and the time until `up` returns."""
    environment = {**os.environ, "PYTHONPATH": PYTHON_PATH, "BARMILL_HOME": str(home.root)}
    options = ("--detach", "--no-browser", "--port", str(port))
    busy_s, started_s, since_ms = busy_seconds(), time.monotonic(), now_ms()
    with tempfile.TemporaryFile() as output:
        command = python("cli.main", "up", *options)
        up = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
        try:
            wait_or_fail(lambda: _has_bar_since(home, since_ms) or bool(up.poll()), "there is no live bar")
            live_s, processes = time.monotonic() - started_s, [up.pid, *pids(home, Supervisor(home)).values()]
            busy_s, used_s = (
                busy_seconds() - busy_s,
                sum(cpu_seconds(pid, ended_children=True) or 0 for pid in processes),
            )
            if up.wait():
                output.seek(0)
                raise PrivateHomeError(output.read().decode(errors="replace").strip().splitlines()[-1])
            returned_s = time.monotonic() - started_s
        finally:
            up.terminate()
            up.wait()
            measure(python("cli.main", "down"), environment=environment)
    return {
        "live_s": round(live_s, 2),
        "cpu_s": round(used_s, 1),
        "returned_s": round(returned_s, 2),
        _OTHERS: round(others_share(busy_s, used_s, live_s), 3),
    }


def _has_bar_since(home: Home, since_ms: int) -> bool:
    with if_ready(), BarReader.open(home.bars_db) as reader:
        return any((shard.newest_tick_ms or 0) >= since_ms for shard in reader.progress())
    return False


def main() -> int:
    """Parse the command line and print the result."""
    parser = argparse.ArgumentParser(description="Measure how long ./barmill up takes.")
    parser.add_argument("--home", type=Path, required=True)
    args = parser.parse_args()
    return print_result(lambda: measure_starts(Home(args.home)))


if __name__ == "__main__":
    sys.exit(main())
