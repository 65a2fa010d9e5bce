"""How soon a chart is there: python -m benchmarks.first_chart_once --home FOLDER BARS VISITS.

Makes a store of so many bars, starts the app over it and opens the charts of random instruments in Chromium: each in a
browser that has never been here, again in the same one, and from another page by the menu. Prints the times from
navigation to candles, as JSON.
"""

import argparse
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode

import polars as pl
import requests
from playwright.sync_api import Page

from benchmarks.browser import browsing, signed_in_context
from benchmarks.latency import percentiles
from benchmarks.private_home import printed, wait_or_fail
from benchmarks.queries_once import instruments, make_store
from control.home import REPO_ROOT, Home
from control.machine.ports import LOOPBACK, free_ports

_FRAMES = ("1s", "1m", "5m", "1h")
_CANDLES = "() => Number(document.querySelector('.barmill-candles canvas')?.dataset.bars) > 0"
_SEED = 1


def measure_first_charts(home: Home, bars: int, visits: int) -> dict[str, object]:
    """Make the store, open the charts, stop the app."""
    make_store(home.create().bars_db, bars)
    choose, rows = random.Random(_SEED), list[dict[str, float]]()
    with _app(home) as app, browsing() as browser:
        _opened_ms(signed_in_context(browser, home, app).new_page(), app, choose, bars)  # the app's own first time
        for _ in range(visits):
            context = signed_in_context(browser, home, app)
            page = context.new_page()
            fresh_ms, again_ms = (_opened_ms(page, app, choose, bars) for _ in range(2))
            by_menu_ms = _opened_by_menu_ms(page)
            rows.append(
                {"in_a_new_browser_ms": fresh_ms, "again_in_the_same_ms": again_ms, "from_another_page_ms": by_menu_ms}
            )
            context.close()
    return {"bars": bars, "visits": visits, "candles_after_ms": percentiles(pl.DataFrame(rows))}


def _opened_ms(page: Page, app: str, choose: random.Random, bars: int) -> float:
    asked = {"instrument": choose.choice(instruments(bars)), "frame": choose.choice(_FRAMES)}
    started = time.monotonic()
    page.goto(f"{app}/chart?{urlencode(asked)}", wait_until="commit")
    page.wait_for_function(_CANDLES, polling="raf", timeout=60_000)
    return (time.monotonic() - started) * 1_000


def _opened_by_menu_ms(page: Page) -> float:
    page.get_by_role("link", name="Compare", exact=True).click()
    page.locator(".js-plotly-plot .main-svg").first.wait_for()  # with Plotly's own code read, which takes a second
    menu = page.get_by_role("link", name="Chart", exact=True).element_handle()
    started = time.monotonic()
    menu.dispatch_event("click")  # as it reaches the page, without the driver's own way of aiming at it
    page.wait_for_function(_CANDLES, polling="raf", timeout=60_000)
    return (time.monotonic() - started) * 1_000


@contextmanager
def _app(home: Home) -> Iterator[str]:
    port = free_ports(1)[0]
    address = f"http://{LOOPBACK}:{port}"
    command = [sys.executable, "-m", "front", "--home", str(home.root), "--port", str(port)]
    with (home.log / "app.log").open("ab") as log:
        app = subprocess.Popen(command, cwd=REPO_ROOT, stdout=log, stderr=subprocess.STDOUT)
    try:
        wait_or_fail(lambda: _answers(address), "the app does not answer", 60)
        yield address
    finally:
        app.terminate()
        app.wait()


def _answers(address: str) -> bool:
    try:
        requests.get(f"{address}/sign-in", timeout=2)
    except requests.RequestException:
        return False
    return True


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line and print the result."""
    parser = argparse.ArgumentParser(description="Measure how soon a chart is there, over a large store.")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("bars", type=int)
    parser.add_argument("visits", type=int)
    given = parser.parse_args(arguments)
    return printed(lambda: measure_first_charts(Home(given.home), given.bars, given.visits))


if __name__ == "__main__":
    sys.exit(main())
