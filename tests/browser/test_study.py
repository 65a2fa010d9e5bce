"""The study and the compare page in a real browser, over stores that never stand still."""

import csv
import io
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import GAP_S, HISTORY_S, LiveHome, Watched

PLOT = ".js-plotly-plot"
_PATIENCE_MS = 60_000


@pytest.fixture
def page(watched: Watched) -> Iterator[Page]:
    yield watched.page
    assert watched.complaints == []
    assert watched.elsewhere == []


def opened(page: Page, address: str) -> None:
    """Open a page and wait until its figure is drawn."""
    page.goto(address)
    page.wait_for_selector(f"{PLOT} .cartesianlayer", timeout=_PATIENCE_MS)


def of_figure(page: Page, what: str) -> Any:
    """Return what a JavaScript expression over `plot`, the figure, comes to."""
    return page.locator(PLOT).evaluate(f"plot => {what}")


def wait_for(page: Page, condition: str, argument: object = None) -> None:
    script = f"([css, given]) => {{ const plot = document.querySelector(css); return {condition}; }}"
    page.wait_for_function(script, arg=[PLOT, argument], timeout=_PATIENCE_MS)


def fixed(live_home: LiveHome) -> str:
    """Return the address of the history of a live home, which does not change any more."""
    end_ms = live_home.history_end_ms
    return f"study?instrument=AAA/USD&frame=1s&from={end_ms - HISTORY_S * 1_000}&to={end_ms}&studies=sma:20,rsi:14"


def test_a_fixed_range_is_drawn_with_its_studies_and_gaps(app: str, live_home: LiveHome, page: Page) -> None:
    opened(page, f"{app}/{fixed(live_home)}")
    traces = of_figure(page, "Object.fromEntries(plot.data.map(one => [one.name, one.x.length]))")
    bars = HISTORY_S - len(GAP_S)
    assert {name: traces[name] for name in ("bars", "volume", "no bars")} == {
        "bars": bars,
        "volume": bars,
        "no bars": 1,
    }
    assert traces["SMA 20"] == traces["RSI 14"] == bars + 1
    assert of_figure(page, "plot.closest('[role=figure]').ariaLabel").startswith(f"Candles of AAA/USD, {bars} bars")


def test_zoom_and_a_drawn_line_stay_while_the_page_lives(app: str, live_home: LiveHome, page: Page) -> None:
    opened(page, f"{app}/{fixed(live_home)}")
    page.locator(".modebar-btn[data-title='Zoom']").click()
    box = page.locator(f"{PLOT} .nsewdrag").first.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * 0.4, box["y"] + box["height"] * 0.3)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + box["height"] * 0.7, steps=5)
    page.mouse.up()
    before = of_figure(page, "plot.layout.xaxis.range")
    page.locator(".modebar-btn[data-title='Draw line']").click()
    page.mouse.move(box["x"] + 100, box["y"] + 100)
    page.mouse.down()
    page.mouse.move(box["x"] + 200, box["y"] + 150, steps=5)
    page.mouse.up()
    wait_for(page, "plot.layout.shapes?.length === 1")
    said = page.get_by_test_id("stSidebar").get_by_text("newest tick")
    for _ in range(3):
        expect(said).not_to_have_text(said.inner_text(), timeout=_PATIENCE_MS)
    assert of_figure(page, "plot.layout.xaxis.range") == before
    assert of_figure(page, "plot.layout.shapes.length") == 1
    assert f"to={live_home.history_end_ms}" in page.url


def test_what_is_on_screen_comes_along_as_a_file(app: str, live_home: LiveHome, page: Page) -> None:
    opened(page, f"{app}/{fixed(live_home)}")
    link = page.get_by_role("link", name="CSV")
    answer = page.request.get(f"{app}{link.get_attribute('href')}")
    rows = list(csv.DictReader(io.StringIO(answer.text())))
    assert len(rows) == HISTORY_S - len(GAP_S)
    assert rows[-1]["SMA 20"]
    assert [float(row["close"]) for row in rows] == of_figure(page, "plot.data[0].close")


def test_compared_prices_move_in_place(app: str, page: Page) -> None:
    opened(page, f"{app}/compare?instruments=AAA/USD,BBB&range=15m")
    assert of_figure(page, "plot.data.map(one => one.name)") == ["AAA/USD", "BBB"]
    page.locator(PLOT).evaluate("plot => { plot.dataset.mark = 'the same'; }")
    newest = of_figure(page, "plot.data[0].x.at(-1)")
    wait_for(page, "plot.data[0].x.at(-1) > given", newest)
    newest = of_figure(page, "plot.data[0].x.at(-1)")
    wait_for(page, "plot.data[0].x.at(-1) > given", newest)
    assert page.locator(PLOT).get_attribute("data-mark") == "the same"


def test_compared_prices_that_stop_are_greyed_until_they_move_again(app: str, live_home: LiveHome, page: Page) -> None:
    opened(page, f"{app}/compare?instruments=AAA/USD,BBB&range=15m")
    figure = page.locator(".st-key-compare_indexed")
    expect(figure).to_have_css("filter", "none")
    live_home.pause.set()
    try:
        expect(figure).to_have_css("filter", "grayscale(1)")
        expect(page.get_by_test_id("stMain").get_by_text("silent for")).to_be_visible()
    finally:
        live_home.pause.clear()
    expect(figure).to_have_css("filter", "none")
