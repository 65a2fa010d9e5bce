"""The measurement of charts in a real browser. Prints JSON.

python -m benchmarks.charts live --home FOLDER --warm-up S --window S
    Starts the processes of `barmill up` in a home whose store has history, with the demo market at about 2,500 ticks a
    second. Opens the 1 s chart of a busy instrument, zooms out to a thousand candles, and measures the time
    from the tick log to the screen for each tick, the bytes and the main-thread time of each update, and whether any of
    many screenshots taken afterwards is blank.
python -m benchmarks.charts first --home FOLDER BARS VISITS
    Creates a store of BARS bars and starts the app over it. Repeats VISITS times: opens the chart of a random
    instrument in a new browser, then that of another random instrument in the same browser, then a chart from another
    page by the menu. Measures the time from navigation to candles.
"""

import argparse
import io
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
import polars as pl
import requests
from PIL import Image
from playwright.sync_api import Page

from barmill.platform.clock import now_ms, wait_until
from barmill.platform.home import REPO_ROOT, Home
from barmill.platform.ports import LOOPBACK, free_ports
from barmill.storage.bar_store import BarStore, Progress
from barmill.storage.tick_log import TickLog
from benchmarks.browser import Cost, headless_browser, open_until_updated, signed_in_context
from benchmarks.latency import NEXT_IN_LOG, CounterReader, first_shown_ns, percentiles
from benchmarks.private_home import PrivateHomeError, print_result, running_barmill, wait_or_fail, wait_until_current
from benchmarks.queries import instruments, make_store
from control.jobs.specs import DEFAULT_JOB

_MARKET_OPTIONS = ("--rate", "21", "--past-minutes", "0")
_INSTRUMENT, _FRAME, _FRAME_MS = "OAKR/USD", "1s", 1_000
_CANVAS = ".barmill-candles canvas"
_CANDLES_IN_VIEW = 1_000
_HISTORY_BARS = 1_400
_MAX_ZOOMS = 60
_POLL_EVERY_S = 0.004
# Ticks of the window must be on the chart at most this long after its end.
_DRAIN_S = 5
# Records each update after the browser has painted it: in the second animation frame after its arrival.
_RECORDER = """
window.barmillRecord = {updates: [], longTasks: []};
const originalFetch = window.fetch;
window.fetch = async (path, ...rest) => {
  const response = await originalFetch(path, ...rest);
  if (!String(path).startsWith("/bar-changes.json") || !response.ok) return response;
  const text = await response.text(), message = JSON.parse(text);
  const bars = message.slot.map((slot, i) => [(message.first_slot + slot) * message.frame_ms, message.ticks[i]]);
  requestAnimationFrame(() => requestAnimationFrame(() => window.barmillRecord.updates.push(
    {at_ms: performance.timeOrigin + performance.now(), bars, bytes: text.length})));
  return new Response(text, response);
};
new PerformanceObserver((list) => {
  for (const task of list.getEntries()) window.barmillRecord.longTasks.push(task.duration);
}).observe({type: "longtask"});
"""
_FRAMES = ("1s", "1m", "5m", "1h")
_HAS_CANDLES = "() => Number(document.querySelector('.barmill-candles canvas')?.dataset.bars) > 0"
_SEED = 1


def measure_live_chart(home: Home, warm_up_s: float, window_s: float) -> dict[str, Any]:
    """Start all processes, measure the live chart, and stop them."""
    _write_history(home.create())
    with running_barmill(home, _MARKET_OPTIONS) as (_, ports), headless_browser() as browser:
        wait_until_current(home)
        app = f"http://{LOOPBACK}:{ports.app}"
        page = signed_in_context(browser, home, app).new_page()
        page.add_init_script(_RECORDER)
        address = f"{app}/chart?{urlencode({'instrument': _INSTRUMENT, 'frame': _FRAME})}"
        open_until_updated(page, address, _CANVAS)  # the first read after a start takes longer
        opened = time.monotonic()
        open_until_updated(page, address, _CANVAS)
        first_s = time.monotonic() - opened
        candles = _zoom_out(page)
        page.wait_for_timeout(warm_up_s * 1_000)
        return {
            "first_update_after_opening_s": round(first_s, 2),
            "candles_in_view": candles,
            **_measure_window(home, page, window_s),
            **_screenshots(page, window_s),
        }


def _write_history(home: Home) -> None:
    """Write more than a thousand past bars of the chart's instrument."""
    start_ms = (now_ms() // _FRAME_MS - pl.int_range(_HISTORY_BARS, 0, -1)) * _FRAME_MS
    close = 100 + (pl.int_range(_HISTORY_BARS) / 40).sin()
    bars = pl.select(
        instrument=pl.lit(_INSTRUMENT),
        frame=pl.lit(_FRAME),
        start_ms=start_ms,
        end_ms=start_ms + _FRAME_MS,
        open=close.round(2),
        high=(close + 0.1).round(2),
        low=(close - 0.1).round(2),
        close=close.round(2),
        volume=1.0,
        vwap=close,
        ticks=pl.lit(1, pl.Int64),
        first_tick_ms=start_ms,
        last_tick_ms=start_ms,
        state=pl.lit("closed"),
    )
    store = BarStore.open(home.bars_db)
    # The job of the same name replaces this progress with its first bars.
    store.publish(Progress(DEFAULT_JOB, 0, _FRAME, 0, 1, 1, 0, 0, 0, 0, None, False, 0), bars)
    store.close()


def _measure_window(home: Home, page: Page, window_s: float) -> dict[str, Any]:
    cost = Cost.of(page)
    with _polled_log(home) as log:
        page.evaluate("Object.assign(barmillRecord, {updates: [], longTasks: []})")
        started, busy_ms, received = time.monotonic(), [cost.busy_ms()], cost.received_bytes
        while time.monotonic() - started < window_s:
            page.wait_for_timeout(1_000)
            busy_ms.append(cost.busy_ms())
        wall_s, received, last = time.monotonic() - started, cost.received_bytes - received, log.newest
        record = page.evaluate("structuredClone(barmillRecord)")
        page.wait_for_timeout(_DRAIN_S * 1_000)
        updates = page.evaluate("barmillRecord.updates")
        first = log.observations[0][1]
    in_window = len(record["updates"])
    if not in_window or not updates:
        raise PrivateHomeError("The chart received no update; see log/app.log in the home.")
    delays, missing = _delays(home, (first, last), log, updates)
    main_thread = pl.DataFrame({"a_second_ms": [after - before for before, after in pairwise(busy_ms)]})
    messages = pl.DataFrame({"message_to_the_chart": [float(update["bytes"]) for update in record["updates"]]})
    return {
        "window_s": round(wall_s, 1),
        "ticks_per_s": round((last - first) / wall_s),
        "ticks_on_the_chart": delays.height,
        "ticks_never_on_the_chart": missing,
        "delay_ms": percentiles(delays),
        "updates": in_window,
        "main_thread_ms_per_update": round((busy_ms[-1] - busy_ms[0]) / in_window, 1),
        "main_thread_ms": percentiles(main_thread),
        "long_tasks": len(record["longTasks"]),
        "longest_task_ms": round(max(record["longTasks"], default=0)),
        "received_bytes_per_update": round(received / in_window),
        "bytes": percentiles(messages),
    }


def _screenshots(page: Page, window_s: float) -> dict[str, int]:
    """Take screenshots of the chart until the window is over, and count the nearly empty ones."""
    drawn_pixels, started = list[int](), time.monotonic()
    while time.monotonic() - started < window_s:
        with Image.open(io.BytesIO(page.locator(_CANVAS).screenshot())) as picture:
            pixels_gray = np.asarray(picture.convert("L"))
        drawn_pixels.append(int((pixels_gray != np.bincount(pixels_gray.ravel()).argmax()).sum()))
    # Screenshots of a live chart differ, but its lines and candles cover about the same area in all of them.
    blank = sum(pixels < max(drawn_pixels) / 2 for pixels in drawn_pixels)
    return {"pictures": len(drawn_pixels), "blank_pictures": blank}


def _zoom_out(page: Page) -> int:
    """Zoom out until a thousand candles are in view, or no more are possible; return their number."""

    def candles_in_view() -> int:
        view = page.locator(_CANVAS).evaluate("canvas => ({...canvas.dataset})")
        return int(min((float(view["to"]) - float(view["from"])) / _FRAME_MS, float(view["bars"])))

    page.locator(_CANVAS).focus()
    for _ in range(_MAX_ZOOMS):
        if (count := candles_in_view()) >= _CANDLES_IN_VIEW:
            return count
        page.keyboard.press("-")
        page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return candles_in_view()


@contextmanager
def _polled_log(home: Home) -> Iterator[CounterReader]:
    """Poll the end of the tick log in a separate thread, as another process would."""
    log, stop = CounterReader(home.ticks_db, NEXT_IN_LOG), threading.Event()
    log.poll()

    def poll() -> bool:
        log.poll()
        return stop.is_set()

    thread = threading.Thread(target=wait_until, args=(poll, 1e9), kwargs={"every_s": _POLL_EVERY_S})
    thread.start()
    try:
        yield log
    finally:
        stop.set()
        thread.join()


def _delays(
    home: Home, sequences: tuple[int, int], log: CounterReader, updates: Sequence[dict[str, Any]]
) -> tuple[pl.DataFrame, int]:
    """Return the delays of the window's ticks, and how many ticks never arrived.

    Columns: accepted_to_chart_ms (from the log) and stamp_to_chart_ms (from the time stamp).
    """
    ticks = _ticks(home)
    rows = [(start, count, round(update["at_ms"] * 1e6)) for update in updates for start, count in update["bars"]]
    table = pl.DataFrame(rows, {"start_ms": pl.Int64, "ticks": pl.Int64, "at_ns": pl.Int64}, orient="row")
    ticks = ticks.with_columns(first_shown_ns(ticks, _FRAME_MS, table).alias("shown_ns"))
    ticks = ticks.filter(pl.col("sequence").is_between(sequences[0], sequences[1] - 1))
    accepted = pl.DataFrame(log.observations, {"accepted_ns": pl.Int64, "sequence": pl.Int64}, orient="row")
    # A log with next sequence n holds everything below n.
    joined = ticks.join_asof(accepted.with_columns(pl.col("sequence") - 1), on="sequence", strategy="forward")
    on_chart = joined.drop_nulls("shown_ns")
    delays = on_chart.select(
        accepted_to_chart_ms=(pl.col("shown_ns") - pl.col("accepted_ns")) / 1e6,
        stamp_to_chart_ms=(pl.col("shown_ns") - pl.col("time_ns")) / 1e6,
    )
    return delays, joined.height - on_chart.height


def _ticks(home: Home) -> pl.DataFrame:
    """Return sequence and time_ns of all ticks of the instrument, in log order."""
    parts = []
    with TickLog.read_only(home.ticks_db) as log:
        for start, block in log.blocks():
            numbered = block.with_columns(sequence=pl.int_range(start, start + block.height, dtype=pl.Int64))
            parts.append(numbered.filter(pl.col("instrument") == _INSTRUMENT).select("sequence", "time_ns"))
    return pl.concat(parts)


def measure_first_charts(home: Home, bars: int, visits: int) -> dict[str, object]:
    """Create the store, start the app, measure how soon charts are shown, and stop the app."""
    make_store(home.create().bars_db, bars)
    rng, rows = random.Random(_SEED), list[dict[str, float]]()
    with _running_app(home) as app, headless_browser() as browser:
        _time_to_candles_ms(signed_in_context(browser, home, app).new_page(), app, rng, bars)  # warms up
        for _ in range(visits):
            context = signed_in_context(browser, home, app)
            page = context.new_page()
            new_browser_ms, same_browser_ms = (_time_to_candles_ms(page, app, rng, bars) for _ in range(2))
            by_menu_ms = _time_by_menu_ms(page)
            rows.append(
                {
                    "in_a_new_browser_ms": new_browser_ms,
                    "again_in_the_same_ms": same_browser_ms,
                    "from_another_page_ms": by_menu_ms,
                }
            )
            context.close()
    return {"bars": bars, "visits": visits, "candles_after_ms": percentiles(pl.DataFrame(rows))}


def _time_to_candles_ms(page: Page, app: str, rng: random.Random, bars: int) -> float:
    query = {"instrument": rng.choice(instruments(bars)), "frame": rng.choice(_FRAMES)}
    started = time.monotonic()
    page.goto(f"{app}/chart?{urlencode(query)}", wait_until="commit")
    page.wait_for_function(_HAS_CANDLES, polling="raf", timeout=60_000)
    return (time.monotonic() - started) * 1_000


def _time_by_menu_ms(page: Page) -> float:
    page.get_by_role("link", name="Compare", exact=True).click()
    # Loading Plotly takes a second, which must not count.
    page.locator(".js-plotly-plot .main-svg").first.wait_for()
    menu = page.get_by_role("link", name="Chart", exact=True).element_handle()
    started = time.monotonic()
    menu.dispatch_event("click")  # directly, without the driver's pointer movement
    page.wait_for_function(_HAS_CANDLES, polling="raf", timeout=60_000)
    return (time.monotonic() - started) * 1_000


@contextmanager
def _running_app(home: Home) -> Iterator[str]:
    port = free_ports(1)[0]
    address = f"http://{LOOPBACK}:{port}"
    command = [sys.executable, "-m", "web", "--home", str(home.root), "--port", str(port)]
    with (home.log / "app.log").open("ab") as log:
        app = subprocess.Popen(command, cwd=REPO_ROOT, stdout=log, stderr=subprocess.STDOUT)
    try:
        wait_or_fail(lambda: _is_up(address), "the app does not respond", 60)
        yield address
    finally:
        app.terminate()
        app.wait()


def _is_up(address: str) -> bool:
    try:
        requests.get(f"{address}/sign-in", timeout=2)
    except requests.RequestException:
        return False
    return True


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and print the result."""
    parser = argparse.ArgumentParser(description="Measure charts in a real browser.")
    commands = parser.add_subparsers(dest="command", required=True)
    live = commands.add_parser("live", help="measure a chart that is updated")
    live.add_argument("--warm-up", type=float, required=True, metavar="SECONDS")
    live.add_argument("--window", type=float, required=True, metavar="SECONDS")
    first = commands.add_parser("first", help="measure how soon a chart is shown, over a large store")
    first.add_argument("bars", type=int)
    first.add_argument("visits", type=int)
    for command in (live, first):
        command.add_argument("--home", type=Path, required=True)
    args = parser.parse_args(arguments)
    home = Home(args.home)
    if args.command == "live":
        return print_result(lambda: measure_live_chart(home, args.warm_up, args.window))
    return print_result(lambda: measure_first_charts(home, args.bars, args.visits))


if __name__ == "__main__":
    sys.exit(main())
