"""Picking instruments in a real browser, with a real market and a real feed behind it."""

import re

from playwright.sync_api import Locator, Page, expect

from barmill.platform.clock import wait_until
from barmill.platform.home import Home
from tests.browser.conftest import Serve, Watched
from tests.support.feeds import TIMEOUT_S, RunningFeed, running_feed

PICKED = "OAKR/USD"
# The position of a row's box in the canvas of the table.
_BOX_X, _ROW_HEIGHT = 16, 31


def open_instruments(page: Page, app: str, query: str = "") -> Locator:
    """Open the page and return its table of picks."""
    page.goto(f"{app}/instruments?{query}")
    expect(page.get_by_role("button", name="Enable selected")).to_be_visible()
    table = page.locator(".stDataFrameGlideDataEditor").first
    expect(table).to_be_visible()
    return table


def tick(page: Page, table: Locator, *rows: int) -> None:
    """Tick the boxes of rows, waiting each time for the page to know."""
    for count, row in enumerate(rows, 1):
        table.click(position={"x": _BOX_X, "y": (row + 1.5) * _ROW_HEIGHT})
        expect(page.get_by_role("button", name=f"Disable {count} selected")).to_be_enabled()


def newest(feed: RunningFeed) -> set[str]:
    return set(feed.ticks(max(1, feed.end_sequence() - 100))["instrument"])


def test_what_is_disabled_and_enabled_in_the_browser_stops_and_starts_in_the_feed(
    serve: Serve, home: Home, watched: Watched
) -> None:
    page = watched.page
    with running_feed(home, "--rate", "20") as feed, serve(home) as app:
        names = {instrument["instrument"] for instrument in feed.market.get("/v1/instruments").json()}
        table = open_instruments(page, app, "instruments_search=oakr")
        tick(page, table, 0)
        page.get_by_role("button", name="Disable 1 selected").click()
        expect(page.get_by_text("Done: 1 disabled.")).to_be_visible()
        expect(page.get_by_text("19 of 20 enabled")).to_be_visible()
        feed.wait_until_only(names - {PICKED})

        page.get_by_text("Paste a list of names").click()
        pasted = page.get_by_placeholder("One name per line")
        pasted.fill("oakr/usd\nnobody/usd")
        pasted.press("Control+Enter")
        expect(page.get_by_role("button", name="Enable 1")).to_be_disabled()
        page.get_by_text("Skip 1 name that is not an instrument of market").click()
        page.get_by_role("button", name="Enable 1").click()
        expect(page.get_by_text("Done: 1 enabled, 1 unknown.")).to_be_visible()
        assert wait_until(lambda: PICKED in newest(feed), TIMEOUT_S)
        assert feed.process.poll() is None
    assert watched.complaints == []
    assert watched.elsewhere == []


def test_the_live_part_disturbs_neither_a_selection_nor_a_text_that_is_being_written(
    serve: Serve, home: Home, page: Page
) -> None:
    with running_feed(home) as feed, serve(home) as app:
        table = open_instruments(page, app)
        page.get_by_text("Paste a list of names").click()
        tick(page, table, 0, 2)
        chosen = page.get_by_text("BRBP/USD, DCTS/FLRN")
        expect(chosen).to_be_visible()
        pasted = page.get_by_placeholder("One name per line")
        pasted.press_sequentially("OAKR/U")
        age = page.get_by_text(re.compile("20 of 20 enabled, catalogue fetched"))
        for _ in range(3):
            before = age.inner_text()
            expect(age).not_to_have_text(before)
        expect(pasted).to_be_focused()
        pasted.press_sequentially("SD")
        expect(pasted).to_have_value("OAKR/USD")
        expect(chosen).to_be_visible()
        expect(page.get_by_role("button", name="Disable 2 selected")).to_be_enabled()

        # Changes by another user appear without a reload, and clear the selection, whose rows may have moved.
        feed.pick("GLFN/USD", enable=False)
        expect(page.get_by_text("19 of 20 enabled")).to_be_visible()
        expect(page.get_by_role("button", name="Disable selected")).to_be_disabled()
        expect(pasted).to_have_value("OAKR/USD")


def test_the_page_waits_for_the_catalogue_and_shows_it_by_itself(serve: Serve, home: Home, page: Page) -> None:
    with serve(home) as app:
        page.goto(f"{app}/instruments")
        expect(page.get_by_text("No catalogue yet")).to_be_visible()
        with running_feed(home):
            expect(page.get_by_text("20 of 20 enabled")).to_be_visible()
