"""A running Barmill, measured: python -m benchmarks.live_once --home FOLDER --warm-up S --window S --rate FACTOR.

Starts what `barmill up` starts, in a fresh home, with the demo market's rate raised by the factor, watches tick
log and bar store as any reader can, and prints what it saw as JSON.
"""

import argparse
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks.latency import delays, overtaken, percentiles
from benchmarks.private_home import PrivateHomeError, pids, printed, running, wait_until_current
from benchmarks.sightings import NEXT_IN_BARS, NEXT_IN_LOG, Sightings
from benchmarks.usage import busy_seconds, cpu_seconds, memory_mb, others_share
from control.home import Home
from control.machine.processes import Supervisor
from control.waiting import wait_until
from feed.ticklog import TickLog

_LOOK_EVERY_S = 0.002
# Ticks of the window must be visible at most this long after it, or they will never be.
_DRAIN_S = 30.0


def measure_live(home: Home, warm_up_s: float, window_s: float, rate: float) -> dict[str, Any]:
    """Start everything, measure, stop everything."""
    started = time.monotonic()
    # It has no past, so that there is nothing to catch up with first.
    with running(home, ("--rate", str(rate), "--past-minutes", "0")) as (supervisor, _):
        startup_s = time.monotonic() - started
        threading.Event().wait(warm_up_s)
        wait_until_current(home)
        return {"startup_s": round(startup_s, 1), **_window(home, supervisor, window_s)}


def _window(home: Home, supervisor: Supervisor, window_s: float) -> dict[str, Any]:
    processes = pids(home, supervisor)
    log = Sightings(home.ticks_db, NEXT_IN_LOG)
    bars = Sightings(home.bars_db, NEXT_IN_BARS)
    busy_s, cpu_s, started = busy_seconds(), _cpu(processes), time.monotonic()
    _look(lambda: time.monotonic() - started > window_s, log, bars)
    wall_s, last = time.monotonic() - started, log.newest
    used = {name: spent - cpu_s[name] for name, spent in _cpu(processes).items()}
    others = others_share(busy_seconds() - busy_s, sum(used.values()) + time.process_time(), wall_s)
    if not _look(lambda: bars.newest >= last, log, bars, timeout_s=_DRAIN_S):
        raise PrivateHomeError(f"After {_DRAIN_S:.0f} s ticks are still not in the bars; the job does not keep up.")
    if pids(home, supervisor) != processes:
        raise PrivateHomeError("A process was restarted while it was measured; its log is in the home's folder log.")
    first = log.seen[0][1]
    ticks = _ticks(home, first, last)
    counted = ticks.filter(~pl.col("overtaken"))
    return {
        "window_s": round(wall_s, 1),
        "ticks": ticks.height,
        "ticks_per_s": round(ticks.height / wall_s),
        "left_out_as_late_on_purpose": ticks.height - counted.height,
        "delay_ms": percentiles(delays(counted, log.seen, bars.seen)),
        "look_every_ms": round(wall_s * 1_000 / log.looks, 2),
        "processes": {name: _process(pid, used[name] / wall_s) for name, pid in processes.items()},
        "other_programs_share_of_all_cores": round(others, 3),
    }


def _look(done: Callable[[], bool], *counters: Sightings, timeout_s: float = 1e9) -> bool:
    def look() -> bool:
        for counter in counters:
            counter.look()
        return done()

    return wait_until(look, timeout_s, every_s=_LOOK_EVERY_S)


def _ticks(home: Home, first: int, last: int) -> pl.DataFrame:
    """Return the ticks with sequence in [first, last) and whether the market had held them back."""
    parts = []
    with TickLog.read_only(home.ticks_db) as log:
        for start, block in log.blocks():
            numbered = block.with_columns(sequence=pl.int_range(start, start + block.height, dtype=pl.Int64))
            parts.append(numbered.select("sequence", "instrument", "time_ns", "id"))
    ticks = pl.concat(parts)
    return ticks.with_columns(overtaken=overtaken(ticks)).filter(pl.col("sequence").is_between(first, last - 1))


def _cpu(pids: dict[str, int]) -> dict[str, float]:
    return {name: cpu_seconds(pid) or 0.0 for name, pid in pids.items()}


def _process(pid: int, cores: float) -> dict[str, float]:
    resident_mb, proportional_mb = memory_mb(pid)
    return {
        "resident_mb": round(resident_mb, 1),
        "proportional_mb": round(proportional_mb, 1),
        "cpu_share_of_one_core": round(cores, 3),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line and print the result."""
    parser = argparse.ArgumentParser(description="Measure a running Barmill.")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--warm-up", type=float, required=True, metavar="SECONDS")
    parser.add_argument("--window", type=float, required=True, metavar="SECONDS")
    parser.add_argument("--rate", type=float, required=True, metavar="FACTOR")
    given = parser.parse_args(arguments)
    return printed(lambda: measure_live(Home(given.home), given.warm_up, given.window, given.rate))


if __name__ == "__main__":
    sys.exit(main())
