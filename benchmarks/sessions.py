"""Many browsers left open: python -m benchmarks.sessions MINUTES [--sessions N] [--home FOLDER].

Starts what `barmill up` starts, in a fresh home, with the demo market at its usual rate, opens N sessions by turns on a
chart and on the overview, and looks at memory and CPU until the time is over. Prints what it saw as JSON; the slopes
are straight lines through what was seen after warming up, a sixth of the time.
"""

import argparse
import json
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from playwright.sync_api import Browser

from benchmarks.browser import Cost, browsing, open_and_see, signed_in_context
from benchmarks.private_home import PrivateHomeError, pids, running, wait_until_current
from benchmarks.usage import children, cpu_seconds, machine, memory_mb
from control.home import Home
from control.machine.ports import LOOPBACK

_PAGES = (("chart?frame=1s", ".barmill-candles canvas"), ("", ".barmill-watchlist"))
_MARKET_OPTIONS = ("--past-minutes", "5")
_WARM_UP_SHARE = 1 / 6
_LOOKS = 60
_LOOK_EVERY_AT_LEAST_S = 5.0


def measure_sessions(home: Home, minutes: float, sessions: int) -> dict[str, Any]:
    """Start everything, look on, stop everything."""
    about = {"machine": machine(), "minutes": minutes, "sessions": sessions}
    with running(home, _MARKET_OPTIONS) as (supervisor, ports), browsing() as browser:
        wait_until_current(home)
        costs = _opened(browser, home, f"http://{LOOPBACK}:{ports.app}", sessions)
        app = pids(home, supervisor)["app"]
        looks = _watched(app, costs, minutes * 60)
        if pids(home, supervisor)["app"] != app:
            raise PrivateHomeError("The app was restarted meanwhile; its log is in the home's folder log.")
    return about | summary(looks)


def summary(looks: pl.DataFrame) -> dict[str, Any]:
    """Sum up looks (time_s, app_mb, heap_mb, app_cpu_s, browser_busy_s; the last two only rise)."""
    warm_s = float(looks["time_s"][-1]) * _WARM_UP_SHARE
    warm = looks.filter(pl.col("time_s") >= warm_s)
    hours = warm["time_s"].to_numpy() / 3_600

    def course(name: str) -> dict[str, float]:
        slope = np.polyfit(hours, warm[name].to_numpy(), 1)[0]
        ends = {"at_first": warm[name][0], "at_last": warm[name][-1], "slope_per_hour": slope}
        return {key: round(float(value), 2) for key, value in ends.items()}

    def share(name: str) -> float:
        return round(float((warm[name][-1] - warm[name][0]) / (warm["time_s"][-1] - warm["time_s"][0])), 3)

    return {
        "looks": looks.height,
        "warm_up_s": round(warm_s),
        "app_resident_mb": course("app_mb"),
        "browser_heap_mb_a_session": course("heap_mb"),
        "app_share_of_a_core": share("app_cpu_s"),
        "browser_main_threads_share_of_a_core": share("browser_busy_s"),
    }


def _opened(browser: Browser, home: Home, app: str, sessions: int) -> list[Cost]:
    costs = []
    for number in range(sessions):
        path, css = _PAGES[number % len(_PAGES)]
        page = signed_in_context(browser, home, app).new_page()
        open_and_see(page, f"{app}/{path}", css)
        costs.append(Cost.of(page))
    return costs


def _watched(app: int, costs: Sequence[Cost], length_s: float) -> pl.DataFrame:
    """Look at all sessions from time to time; a heap is looked at when its garbage is gone."""
    every_s = max(_LOOK_EVERY_AT_LEAST_S, length_s / _LOOKS)
    started, rows = time.monotonic(), list[dict[str, float]]()
    while not rows or rows[-1]["time_s"] < length_s:
        rows.append(
            {
                "time_s": time.monotonic() - started,
                "app_mb": memory_mb(app)[0],
                "heap_mb": sum(one.heap_mb() for one in costs) / len(costs),
                "app_cpu_s": sum(cpu_seconds(pid) or 0 for pid in (app, *children(app))),
                "browser_busy_s": sum(one.busy_ms() for one in costs) / 1_000,
            }
        )
        costs[0].wait(every_s)
    return pl.DataFrame(rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line and print the result."""
    parser = argparse.ArgumentParser(description="Leave many browser sessions open and look at memory and CPU.")
    parser.add_argument("minutes", type=float)
    parser.add_argument("--sessions", type=int, default=10)
    parser.add_argument("--home", type=Path, help="a folder to keep; without it, one that is removed afterwards")
    given = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what was started is stopped on the way out
    with tempfile.TemporaryDirectory(prefix="barmill-sessions-") as folder:
        home = Home(given.home or Path(folder) / "home")
        try:
            print(json.dumps(measure_sessions(home, given.minutes, given.sessions), indent=2))
        except PrivateHomeError as error:
            sys.stderr.write(f"{error}\n")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
