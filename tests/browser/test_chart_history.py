"""Scrolling back: older bars come over plain HTTP, without a page run, and nothing jumps."""

import time
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, Request, expect

from barmill.platform.home import Home
from tests.browser.conftest import Serve
from tests.support.candles import CANVAS, after_updates, open_chart, seen, wait_for
from tests.support.stores import Stores
from views.chart_bars import HISTORY_BARS

HISTORY_S = 4_000
GAP_S = range(3_000, 3_040)
QUERY = "instrument=AAA%2FUSD&frame=1s"


@pytest.fixture(scope="module")
def end_ms(home: Home) -> int:
    """Write more than an hour of seconds, more than a page hands to a chart; return where they end."""
    end_ms = time.time_ns() // 1_000_000 // 1_000 * 1_000
    stores = Stores(home)
    ago = [s for s in range(HISTORY_S, 0, -1) if s not in GAP_S]
    stores.write([(end_ms - 1_000 * s + 500, "AAA/USD", 100 + s % 60 / 10, 2.0) for s in ago], closed_to_ms=end_ms)
    # One late tick revises one bar.
    stores.write([(end_ms - 20_000 + 600, "AAA/USD", 101.0, 1.0)], closed_to_ms=end_ms)
    stores.close()
    return end_ms


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return Home(tmp_path_factory.mktemp("history") / "home").create()


@pytest.fixture(scope="module")
def app(serve: Serve, home: Home, end_ms: int) -> Iterator[str]:
    assert end_ms
    with serve(home) as address:
        yield address


def asked_for(page: Page, path: str) -> list[str]:
    """Return a list to which every request for this path is added."""
    asked: list[str] = []

    def note(request: Request) -> None:
        if f"{path}?" in request.url:
            asked.append(request.url)

    page.on("request", note)
    return asked


def back(page: Page) -> None:
    """Go to the oldest bar that is held, and wait until that is drawn."""
    page.locator(CANVAS).press("Home")
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def test_older_bars_load_as_one_scrolls_and_nothing_jumps(app: str, page: Page, end_ms: int) -> None:
    asked = asked_for(page, "/bars.json")
    open_chart(page, app, QUERY)
    held, whole = HISTORY_BARS, HISTORY_S - len(GAP_S)
    while held < whole:
        back(page)
        before = seen(page)
        wait_for(page, f"Number(data.bars) >= {min(held + 1_000, whole)}")
        assert seen(page).from_ms == before.from_ms
        held = min(held + 1_000, whole)
    fetched = len(asked)
    assert fetched == -(-(whole - HISTORY_BARS) // 1_000)
    back(page)
    wait_for(page, f"Number(data.from) === {end_ms - HISTORY_S * 1_000}")
    after_updates(page, 2)
    assert len(asked) == fetched  # the beginning was found once, and is not asked for again


def test_zooming_out_loads_what_comes_into_view(app: str, page: Page) -> None:
    open_chart(page, app, QUERY)
    # One can zoom out only as far as there are bars, so how many bars are loaded first depends on the time it takes.
    for least in (HISTORY_BARS + 1, HISTORY_S - len(GAP_S)):
        for _ in range(14):
            page.locator(CANVAS).press("-")
        wait_for(page, f"Number(data.bars) >= {least}")
    assert page.locator(CANVAS).get_attribute("data-bars") == str(HISTORY_S - len(GAP_S))


def test_studies_go_on_over_the_bars_that_were_fetched(app: str, page: Page) -> None:
    open_chart(page, app, f"{QUERY}&studies=sma:5,rsi:5")
    asked = asked_for(page, "/bars.json")
    back(page)
    wait_for(page, f"Number(data.bars) > {HISTORY_BARS}")
    assert "studies=sma%3A5%2Crsi%3A5" in asked[0]
    assert page.locator(CANVAS).get_attribute("data-panes") == "price volume rsi:5"


def test_a_link_to_a_range_long_ago_shows_it_and_leads_on_to_now(app: str, page: Page, end_ms: int) -> None:
    from_ms, to_ms = end_ms - 3_600_000, end_ms - 3_300_000
    open_chart(page, app, f"{QUERY}&from={from_ms}&to={to_ms}")
    now = seen(page)
    assert (now.from_ms, now.to_ms) == (from_ms, to_ms)
    wait_for(page, "data.live === 'false'")
    after_updates(page, 2)
    assert (seen(page).from_ms, seen(page).to_ms) == (from_ms, to_ms)
    page.get_by_role("button", name="Newest bar").click()
    wait_for(page, f"data.live === 'true' && Number(data.to) >= {end_ms}")


def test_a_chart_that_was_brought_to_now_keeps_its_newest_bars(app: str, page: Page, end_ms: int) -> None:
    open_chart(page, app, f"{QUERY}&from={end_ms - 3_600_000}&to={end_ms - 3_300_000}")
    wait_for(page, "data.live === 'false'")
    page.get_by_role("button", name="Newest bar").click()
    wait_for(page, f"data.live === 'true' && Number(data.to) >= {end_ms}")
    bars = page.locator(CANVAS).get_attribute("data-bars")
    page.get_by_role("button", name="Display").click()
    page.get_by_role("radio", name="OHLC", exact=True).click()
    wait_for(page, "data.kind === 'ohlc'")
    after_updates(page, 2)
    assert page.locator(CANVAS).get_attribute("data-bars") == bars
    assert seen(page).to_ms >= end_ms


def test_scrolling_on_from_long_ago_loads_newer_bars_up_to_now(app: str, page: Page, end_ms: int) -> None:
    open_chart(page, app, f"{QUERY}&from={end_ms - 3_600_000}&to={end_ms - 1_200_000}")
    page.locator(CANVAS).press("ArrowRight")
    for _ in range(12):
        page.locator(CANVAS).press("ArrowRight")
    wait_for(page, "data.live === 'true'")


def test_what_cannot_be_loaded_is_said_and_tried_again(app: str, page: Page) -> None:
    page.route("**/bars.json?**", lambda route: route.abort())
    open_chart(page, app, QUERY)
    back(page)
    expect(page.locator(".barmill-pulse")).to_contain_text("could not be loaded")
    page.unroute("**/bars.json?**")
    wait_for(page, f"Number(data.bars) > {HISTORY_BARS}")
    expect(page.locator(".barmill-pulse")).not_to_contain_text("could not be loaded")


def test_a_revised_bar_shows_its_history_fetched_once(app: str, page: Page) -> None:
    asked = asked_for(page, "/bar-history.json")
    open_chart(page, app, QUERY)
    page.locator(CANVAS).focus()
    for _ in range(20):
        page.keyboard.press("Shift+ArrowLeft")
    tip = page.locator(".barmill-tip")
    expect(tip).to_contain_text("revised 1×")
    rows = tip.locator("tbody tr")
    expect(rows).to_have_count(2)
    assert rows.locator("td:last-child").all_inner_texts() == ["1", "2"]  # ticks
    page.keyboard.press("Shift+ArrowLeft")
    expect(tip).not_to_contain_text("revised")
    page.keyboard.press("Shift+ArrowRight")
    expect(rows).to_have_count(2)
    assert len(asked) == 1


def test_the_keys_read_the_bars_aloud(app: str, page: Page) -> None:
    open_chart(page, app, QUERY)
    page.locator(CANVAS).focus()
    page.keyboard.press("Shift+ArrowLeft")
    expect(page.get_by_role("status")).to_contain_text("Close")
    page.keyboard.press("Escape")
    expect(page.locator(".barmill-tip")).to_be_hidden()
