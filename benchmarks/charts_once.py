"""A chart in a real browser, measured: python -m benchmarks.charts_once --home FOLDER --warm-up S --window S.

Starts what `barmill up` starts, in a home whose store has a past, with the demo market at about 2,000 ticks a second,
opens the chart of a busy instrument second by second, zooms out to a thousand candles, and prints what it saw as JSON:
for each tick the time from the tick log to the picture, for each update its bytes and main-thread time, and whether any
of many pictures taken afterwards is blank.
"""

import argparse
import io
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
from PIL import Image
from playwright.sync_api import Page

from bar.clock import now_ms
from bar.store import BarStore, Progress
from benchmarks.browser import Cost, browsing, open_and_see, signed_in_context
from benchmarks.latency import percentiles, shown
from benchmarks.private_home import PrivateHomeError, printed, running, wait_until_current
from benchmarks.sightings import NEXT_IN_LOG, Sightings
from control.home import Home
from control.jobs.specs import DEFAULT_JOB
from control.machine.ports import LOOPBACK
from control.waiting import wait_until
from feed.ticklog import TickLog

_MARKET_OPTIONS = ("--rate", "21", "--past-minutes", "0")
_INSTRUMENT, _FRAME, _FRAME_MS = "OAKR/USD", "1s", 1_000
_CANVAS = ".barmill-candles canvas"
_CANDLES = 1_000
_PAST_BARS = 1_400
_MOST_ZOOMS = 60
_LOOK_EVERY_S = 0.004
# Ticks of the window must be on the chart at most this long after it.
_DRAIN_S = 5
# Notes each message that the chart asked for, once it has been painted: the second frame after it.
_WITNESS = """
window.barmillWitness = {updates: [], longTasks: []};
const fetched = window.fetch;
window.fetch = async (path, ...rest) => {
  const answer = await fetched(path, ...rest);
  if (!String(path).startsWith("/bar-changes.json") || !answer.ok) return answer;
  const text = await answer.text(), message = JSON.parse(text);
  const bars = message.slot.map((slot, i) => [(message.first_slot + slot) * message.frame_ms, message.ticks[i]]);
  requestAnimationFrame(() => requestAnimationFrame(() => window.barmillWitness.updates.push(
    {at_ms: performance.timeOrigin + performance.now(), bars, bytes: text.length})));
  return new Response(text, answer);
};
new PerformanceObserver((list) => {
  for (const one of list.getEntries()) window.barmillWitness.longTasks.push(one.duration);
}).observe({type: "longtask"});
"""


def measure_charts(home: Home, warm_up_s: float, window_s: float) -> dict[str, Any]:
    """Start everything, look, stop everything."""
    _write_past(home.create())
    with running(home, _MARKET_OPTIONS) as (_, ports), browsing() as browser:
        wait_until_current(home)
        app = f"http://{LOOPBACK}:{ports.app}"
        page = signed_in_context(browser, home, app).new_page()
        page.add_init_script(_WITNESS)
        address = f"{app}/chart?{urlencode({'instrument': _INSTRUMENT, 'frame': _FRAME})}"
        open_and_see(page, address, _CANVAS)  # what is read for the first time after a start takes longer
        opened = time.monotonic()
        open_and_see(page, address, _CANVAS)
        first_s = time.monotonic() - opened
        candles = _zoomed_out(page)
        page.wait_for_timeout(warm_up_s * 1_000)
        return {
            "first_update_after_opening_s": round(first_s, 2),
            "candles_in_view": candles,
            **_window(home, page, window_s),
            **_pictures(page, window_s),
        }


def _write_past(home: Home) -> None:
    """Give the chart's instrument a past of a thousand bars and more, which nobody then has to wait for."""
    start_ms = (now_ms() // _FRAME_MS - pl.int_range(_PAST_BARS, 0, -1)) * _FRAME_MS
    close = 100 + (pl.int_range(_PAST_BARS) / 40).sin()
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
    # The job of the same name takes this place over with its first bars.
    store.publish(Progress(DEFAULT_JOB, 0, _FRAME, 0, 1, 1, 0, 0, 0, 0, None, False, 0), bars)
    store.close()


def _window(home: Home, page: Page, window_s: float) -> dict[str, Any]:
    cost = Cost.of(page)
    with _watched_log(home) as log:
        page.evaluate("Object.assign(barmillWitness, {updates: [], longTasks: []})")
        started, busy_ms, received = time.monotonic(), [cost.busy_ms()], cost.received_bytes
        while time.monotonic() - started < window_s:
            page.wait_for_timeout(1_000)
            busy_ms.append(cost.busy_ms())
        wall_s, received, last = time.monotonic() - started, cost.received_bytes - received, log.newest
        witness = page.evaluate("structuredClone(barmillWitness)")
        page.wait_for_timeout(_DRAIN_S * 1_000)
        updates = page.evaluate("barmillWitness.updates")
        first = log.seen[0][1]
    in_window = len(witness["updates"])
    if not in_window or not updates:
        raise PrivateHomeError("The chart took no update; the log of the app is in the home's folder log.")
    delays, missing = _delays(home, (first, last), log, updates)
    work = pl.DataFrame({"a_second_ms": [after - before for before, after in pairwise(busy_ms)]})
    messages = pl.DataFrame({"message_to_the_chart": [float(one["bytes"]) for one in witness["updates"]]})
    return {
        "window_s": round(wall_s, 1),
        "ticks_per_s": round((last - first) / wall_s),
        "ticks_on_the_chart": delays.height,
        "ticks_never_on_the_chart": missing,
        "delay_ms": percentiles(delays),
        "updates": in_window,
        "main_thread_ms_per_update": round((busy_ms[-1] - busy_ms[0]) / in_window, 1),
        "main_thread_ms": percentiles(work),
        "long_tasks": len(witness["longTasks"]),
        "longest_task_ms": round(max(witness["longTasks"], default=0)),
        "received_bytes_per_update": round(received / in_window),
        "bytes": percentiles(messages),
    }


def _pictures(page: Page, window_s: float) -> dict[str, int]:
    """Take pictures of the chart, one after the other, and count those that show next to nothing."""
    drawn, started = list[int](), time.monotonic()
    while time.monotonic() - started < window_s:
        with Image.open(io.BytesIO(page.locator(_CANVAS).screenshot())) as picture:
            grey = np.asarray(picture.convert("L"))
        drawn.append(int((grey != np.bincount(grey.ravel()).argmax()).sum()))
    # A chart is never drawn the same twice, but about as much of it.
    return {"pictures": len(drawn), "blank_pictures": sum(one < max(drawn) / 2 for one in drawn)}


def _zoomed_out(page: Page) -> int:
    """Zoom out until a thousand candles are in view, or no more can be; return how many there are."""

    def in_view() -> int:
        seen = page.locator(_CANVAS).evaluate("canvas => ({...canvas.dataset})")
        return int(min((float(seen["to"]) - float(seen["from"])) / _FRAME_MS, float(seen["bars"])))

    page.locator(_CANVAS).focus()
    for _ in range(_MOST_ZOOMS):
        if (count := in_view()) >= _CANDLES:
            return count
        page.keyboard.press("-")
        page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return in_view()


@contextmanager
def _watched_log(home: Home) -> Iterator[Sightings]:
    """Watch the tick log grow in a thread of its own, as another process would."""
    log, stop = Sightings(home.ticks_db, NEXT_IN_LOG), threading.Event()
    log.look()

    def look() -> bool:
        log.look()
        return stop.is_set()

    thread = threading.Thread(target=wait_until, args=(look, 1e9), kwargs={"every_s": _LOOK_EVERY_S})
    thread.start()
    try:
        yield log
    finally:
        stop.set()
        thread.join()


def _delays(
    home: Home, sequences: tuple[int, int], log: Sightings, updates: Sequence[dict[str, Any]]
) -> tuple[pl.DataFrame, int]:
    """Return from the log to the chart, for each tick of the chart in the window, and how many never got there."""
    ticks = _ticks(home)
    rows = [(start, count, round(one["at_ms"] * 1e6)) for one in updates for start, count in one["bars"]]
    table = pl.DataFrame(rows, {"start_ms": pl.Int64, "ticks": pl.Int64, "at_ns": pl.Int64}, orient="row")
    ticks = ticks.with_columns(shown(ticks, _FRAME_MS, table).alias("shown_ns"))
    ticks = ticks.filter(pl.col("sequence").is_between(sequences[0], sequences[1] - 1))
    accepted = pl.DataFrame(log.seen, {"accepted_ns": pl.Int64, "sequence": pl.Int64}, orient="row")
    # A log that goes on at n holds everything below n.
    joined = ticks.join_asof(accepted.with_columns(pl.col("sequence") - 1), on="sequence", strategy="forward")
    seen = joined.drop_nulls("shown_ns")
    found = seen.select(
        accepted_to_chart_ms=(pl.col("shown_ns") - pl.col("accepted_ns")) / 1e6,
        stamp_to_chart_ms=(pl.col("shown_ns") - pl.col("time_ns")) / 1e6,
    )
    return found, joined.height - seen.height


def _ticks(home: Home) -> pl.DataFrame:
    """Return all ticks of the instrument, in the order of the log."""
    parts = []
    with TickLog.read_only(home.ticks_db) as log:
        for start, block in log.blocks():
            numbered = block.with_columns(sequence=pl.int_range(start, start + block.height, dtype=pl.Int64))
            parts.append(numbered.filter(pl.col("instrument") == _INSTRUMENT).select("sequence", "time_ns"))
    return pl.concat(parts)


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line and print the result."""
    parser = argparse.ArgumentParser(description="Measure a chart in a real browser.")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--warm-up", type=float, required=True, metavar="SECONDS")
    parser.add_argument("--window", type=float, required=True, metavar="SECONDS")
    given = parser.parse_args(arguments)
    return printed(lambda: measure_charts(Home(given.home), given.warm_up, given.window))


if __name__ == "__main__":
    sys.exit(main())
