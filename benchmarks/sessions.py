"""The measurement of many open browser sessions: python -m benchmarks.sessions MINUTES [--sessions N] [--home FOLDER].

Starts the processes of `barmill up` in a fresh home, with the demo market at its usual rate, opens N sessions,
alternating between a chart and the overview, and measures memory and CPU until the time is over. Prints the results as
JSON; the slopes are linear fits to the measurements after the warm-up, a sixth of the time.
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

from barmill.platform.home import Home
from barmill.platform.ports import LOOPBACK
from benchmarks.browser import Cost, headless_browser, open_until_updated, signed_in_context
from benchmarks.private_home import PrivateHomeError, pids, running_barmill, wait_until_current
from benchmarks.usage import children, cpu_seconds, machine, memory_mb

_PAGES = (("chart?frame=1s", ".barmill-candles canvas"), ("", ".barmill-watchlist"))
_MARKET_OPTIONS = ("--past-minutes", "5")
_WARM_UP_SHARE = 1 / 6
_SAMPLES = 60
_MIN_INTERVAL_S = 5.0


def measure_sessions(home: Home, minutes: float, sessions: int) -> dict[str, Any]:
    """Start all processes and sessions, measure, and stop them."""
    parameters = {"machine": machine(), "minutes": minutes, "sessions": sessions}
    with running_barmill(home, _MARKET_OPTIONS) as (supervisor, ports), headless_browser() as browser:
        wait_until_current(home)
        costs = _open_sessions(browser, home, f"http://{LOOPBACK}:{ports.app}", sessions)
        app = pids(home, supervisor)["app"]
        samples = _take_samples(app, costs, minutes * 60)
        if pids(home, supervisor)["app"] != app:
            raise PrivateHomeError("The app was restarted during the measurement; see log/app.log in the home.")
    return parameters | summary(samples)


def summary(samples: pl.DataFrame) -> dict[str, Any]:
    """Return a summary of samples (time_s, app_mb, heap_mb, app_cpu_s, browser_busy_s; the last two only rise)."""
    warm_s = float(samples["time_s"][-1]) * _WARM_UP_SHARE
    warm = samples.filter(pl.col("time_s") >= warm_s)
    hours = warm["time_s"].to_numpy() / 3_600

    def trend(name: str) -> dict[str, float]:
        slope = np.polyfit(hours, warm[name].to_numpy(), 1)[0]
        ends = {"at_first": warm[name][0], "at_last": warm[name][-1], "slope_per_hour": slope}
        return {key: round(float(value), 2) for key, value in ends.items()}

    def share(name: str) -> float:
        return round(float((warm[name][-1] - warm[name][0]) / (warm["time_s"][-1] - warm["time_s"][0])), 3)

    return {
        "looks": samples.height,
        "warm_up_s": round(warm_s),
        "app_resident_mb": trend("app_mb"),
        "browser_heap_mb_a_session": trend("heap_mb"),
        "app_share_of_a_core": share("app_cpu_s"),
        "browser_main_threads_share_of_a_core": share("browser_busy_s"),
    }


def _open_sessions(browser: Browser, home: Home, app: str, sessions: int) -> list[Cost]:
    costs = []
    for number in range(sessions):
        path, css = _PAGES[number % len(_PAGES)]
        page = signed_in_context(browser, home, app).new_page()
        open_until_updated(page, f"{app}/{path}", css)
        costs.append(Cost.of(page))
    return costs


def _take_samples(app: int, costs: Sequence[Cost], length_s: float) -> pl.DataFrame:
    """Measure all sessions at intervals; heaps are measured after a garbage collection."""
    every_s = max(_MIN_INTERVAL_S, length_s / _SAMPLES)
    started, rows = time.monotonic(), list[dict[str, float]]()
    while not rows or rows[-1]["time_s"] < length_s:
        rows.append(
            {
                "time_s": time.monotonic() - started,
                "app_mb": memory_mb(app)[0],
                "heap_mb": sum(cost.heap_mb() for cost in costs) / len(costs),
                "app_cpu_s": sum(cpu_seconds(pid) or 0 for pid in (app, *children(app))),
                "browser_busy_s": sum(cost.busy_ms() for cost in costs) / 1_000,
            }
        )
        costs[0].wait(every_s)
    return pl.DataFrame(rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and print the result."""
    parser = argparse.ArgumentParser(description="Keep many browser sessions open and measure memory and CPU.")
    parser.add_argument("minutes", type=float)
    parser.add_argument("--sessions", type=int, default=10)
    parser.add_argument("--home", type=Path, help="a folder to keep; by default a temporary folder")
    args = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # stops the started processes on exit
    with tempfile.TemporaryDirectory(prefix="barmill-sessions-") as folder:
        home = Home(args.home or Path(folder) / "home")
        try:
            print(json.dumps(measure_sessions(home, args.minutes, args.sessions), indent=2))
        except PrivateHomeError as error:
            sys.stderr.write(f"{error}\n")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
