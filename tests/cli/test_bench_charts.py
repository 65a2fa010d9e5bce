"""The benchmarks of the pages: their arithmetic, and that they measure the real thing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from barmill.platform.home import PYTHON_PATH
from benchmarks.latency import first_shown_ns
from benchmarks.report import as_text
from benchmarks.sessions import summary
from tests.support.bench import bench

MS = 1_000_000


def test_a_tick_is_on_the_chart_with_the_first_update_whose_bar_holds_as_many() -> None:
    # Two bars of a second; the last tick of all came late, for the first of them.
    ticks = pl.DataFrame({"time_ns": [100 * MS, 900 * MS, 1_200 * MS, 1_300 * MS, 950 * MS]})
    updates = pl.DataFrame(
        [(0, 1, 10), (0, 2, 20), (1_000, 1, 20), (0, 2, 30), (0, 3, 40)],
        {"start_ms": pl.Int64, "ticks": pl.Int64, "at_ns": pl.Int64},
        orient="row",
    )
    assert first_shown_ns(ticks, 1_000, updates).to_list() == [10, 20, 20, None, 40]


def test_slopes_are_those_of_the_time_after_warming_up() -> None:
    minutes = range(61)
    looks = pl.DataFrame(
        {
            "time_s": [60.0 * minute for minute in minutes],
            "app_mb": [100.0 + 20 * min(minute, 10) + minute / 60 for minute in minutes],
            "heap_mb": [30.0] * 61,
            "app_cpu_s": [15.0 * minute for minute in minutes],
            "browser_busy_s": [6.0 * minute for minute in minutes],
        }
    )
    assert summary(looks) == {
        "looks": 61,
        "warm_up_s": 600,
        "app_resident_mb": {"at_first": 300.17, "at_last": 301.0, "slope_per_hour": 1.0},
        "browser_heap_mb_a_session": {"at_first": 30.0, "at_last": 30.0, "slope_per_hour": pytest.approx(0)},
        "app_share_of_a_core": 0.25,
        "browser_main_threads_share_of_a_core": 0.1,
    }


@pytest.mark.slow
@pytest.mark.browser
def test_chart_figures_come_from_a_chart_in_a_browser(tmp_path: Path) -> None:
    result = bench(tmp_path, "charts")
    part = result["charts"]
    assert part["ticks_on_the_chart"] > 50
    assert part["candles_in_view"] >= 1_000
    assert part["updates"] >= 2
    for column in part["delay_ms"].values():
        assert 0 < column["p50"] <= column["p95"] <= column["max"]
    assert part["main_thread_ms_per_update"] > 0
    assert part["received_bytes_per_update"] > part["bytes"]["message_to_the_chart"]["p50"] > 0
    assert part["pictures"] > 1
    assert part["blank_pictures"] == 0
    assert "accepted to chart" in as_text(result)
    assert not (tmp_path / "bench" / "charts").exists()


@pytest.mark.slow
@pytest.mark.browser
def test_sessions_left_open_are_looked_at(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.sessions", "0.3", "--sessions", "2", "--home", str(tmp_path / "home")]
    environment = {**os.environ, "PYTHONPATH": PYTHON_PATH}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["sessions"] == 2
    assert found["app_resident_mb"]["at_last"] > 50
    assert found["browser_heap_mb_a_session"]["at_last"] > 1
    assert found["app_share_of_a_core"] > 0


@pytest.mark.slow
@pytest.mark.browser
def test_first_charts_are_opened_over_a_store_of_so_many_bars(tmp_path: Path) -> None:
    result = bench(tmp_path, "first_chart")
    part = result["first_chart"]
    assert part["bars"] > 1_000
    for found in part["candles_after_ms"].values():
        assert 0 < found["p50"] <= found["max"]
    assert "in a new browser" in as_text(result)
    assert not (tmp_path / "bench" / "first_chart").exists()
