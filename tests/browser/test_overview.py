import re
import time

from playwright.sync_api import Page, expect

from barmill.audit.accounts import open_audited_db
from barmill.audit.roles import Role
from barmill.auth.preferences import preferences
from barmill.platform.clock import wait_until
from barmill.platform.home import Home
from tests.browser.conftest import LiveHome, Serve, Watched, sign_in
from tests.support.candles import after_updates, seen
from tests.support.overview import ROW
from tests.support.stores import Stores

NAMES = ".barmill-watchlist tbody tr:not([hidden]) a"


def test_the_watchlist_moves_by_itself_and_complains_of_nothing(app: str, watched: Watched) -> None:
    page = watched.page
    page.goto(app)
    row = page.locator(ROW)
    expect(row).to_be_visible()
    row.evaluate("row => { row.marked = true; }")
    last = row.locator("td").nth(2)
    before = last.inner_text()
    expect(last).not_to_have_text(before)
    assert row.evaluate("row => row.marked"), "the row was replaced, not changed"
    expect(row.locator("td").last).to_have_text(re.compile(r"^\d\.\d s ago$"))
    expect(row.locator("polyline")).to_have_attribute("points", re.compile(r"^0\.0,\d+ .*100\.0,\d+$"))
    expect(page.get_by_text("Simulated data").first).to_be_visible()
    expect(page.locator(".barmill-facts div", has_text="Ticks per second").locator("b")).to_have_text(
        re.compile(r"^\d+$")
    )
    assert watched.complaints == []
    assert watched.elsewhere == []


def test_a_row_opens_its_chart(app: str, page: Page) -> None:
    page.goto(app)
    expect(page.locator(f"{ROW} a")).to_have_attribute("href", "chart?instrument=AAA%2FUSD&frame=1m")
    page.locator(ROW).click()
    page.wait_for_url("**/chart?instrument=AAA**")
    after_updates(page, 1)
    assert seen(page).view == "AAA/USD 1m"


def test_every_column_sorts_by_click_and_by_keyboard_and_says_so(app: str, page: Page) -> None:
    page.goto(app)
    expect(page.locator(NAMES)).to_have_text(["AAA/USD", "BBB"])
    heads = page.locator(".barmill-watchlist th[data-column]")
    assert heads.count() == 7
    for head in heads.all():
        head.get_by_role("button").click()
        first = head.get_attribute("aria-sort")
        assert first in ("ascending", "descending")
        page.keyboard.press("Enter")
        assert {first, head.get_attribute("aria-sort")} == {"ascending", "descending"}
        assert page.locator(".barmill-watchlist th[data-column]:not([aria-sort=none])").count() == 1
    page.get_by_role("button", name="Last", exact=True).click()
    expect(page.locator(NAMES)).to_have_text(["AAA/USD", "BBB"])
    page.keyboard.press("Space")
    expect(page.locator(NAMES)).to_have_text(["BBB", "AAA/USD"])


def test_the_filter_leaves_what_has_its_letters(app: str, page: Page) -> None:
    page.goto(app)
    expect(page.locator(NAMES)).to_have_count(2)
    page.get_by_role("searchbox", name="Filter the watchlist").fill("usd")
    expect(page.locator(NAMES)).to_have_text(["AAA/USD"])
    expect(page.locator(".barmill-watchlist output")).to_have_text("1 of 2 instruments")


def test_a_star_puts_a_row_first_and_lasts_beyond_signing_out(app: str, live_home: LiveHome, page: Page) -> None:
    sign_in(page, live_home.home, Role.TRADER, "starry")
    page.goto(app)
    expect(page.locator(NAMES)).to_have_text(["AAA/USD", "BBB"])
    page.get_by_role("button", name="Favourite BBB").click()
    page.mouse.move(0, 0)
    page.get_by_role("searchbox").focus()
    expect(page.locator(NAMES)).to_have_text(["BBB", "AAA/USD"])

    def kept() -> tuple[str, ...]:
        with open_audited_db(live_home.home) as db:
            return preferences(db, "starry").favourites

    assert wait_until(lambda: kept() == ("BBB",), 60)
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/sign-in")
    sign_in(page, live_home.home, Role.TRADER, "starry")
    page.goto(app)
    expect(page.locator(NAMES)).to_have_text(["BBB", "AAA/USD"])
    expect(page.get_by_role("button", name="Favourite BBB")).to_have_attribute("aria-pressed", "true")
    page.get_by_role("button", name="Favourite BBB").click()
    assert wait_until(lambda: kept() == (), 60)


def test_arrows_walk_along_the_rows(app: str, page: Page) -> None:
    page.goto(app)
    page.locator(f"{ROW} a").focus()
    page.keyboard.press("ArrowDown")
    expect(page.locator(".barmill-watchlist tr[data-instrument='BBB'] a")).to_be_focused()
    page.keyboard.press("Enter")
    page.wait_for_url("**/chart?instrument=BBB**")


def test_what_has_stopped_is_grey_and_says_so(app: str, live_home: LiveHome, page: Page) -> None:
    page.goto(app)
    box, notice = page.locator(".barmill-watchlist"), page.locator(".barmill-watchlist p")
    expect(box).to_have_attribute("data-stale", "false")
    live_home.pause.set()
    try:
        expect(box).to_have_attribute("data-stale", "true")
        expect(notice).to_have_text(re.compile("has been silent for"))
    finally:
        live_home.pause.clear()
    expect(box).to_have_attribute("data-stale", "false")
    expect(notice).to_be_hidden()
    page.context.set_offline(True)
    expect(notice).to_have_text("Barmill does not respond; the page is reconnecting.")


def test_back_and_forth_between_the_pages(app: str, watched: Watched) -> None:
    page = watched.page
    page.goto(app)
    page.locator(ROW).click()
    after_updates(page, 1)
    page.get_by_role("link", name="Overview").click()
    expect(page.locator(ROW)).to_be_visible()
    page.get_by_role("link", name="Chart").click()
    after_updates(page, 1)
    assert watched.complaints == []


def test_the_very_first_visit_may_be_a_link_to_a_page(serve: Serve, live_home: LiveHome, page: Page) -> None:
    """Streamlit would run a file in pages/ without app.py then, navigation and later sign-in with it."""
    with serve(live_home.home) as fresh_app:
        page.goto(f"{fresh_app}/chart?instrument=AAA%2FUSD&frame=1s")
        after_updates(page, 1)
        expect(page.get_by_role("link", name="Overview")).to_be_visible()
        expect(page.get_by_role("link", name="app", exact=True)).to_have_count(0)


def test_the_first_bars_appear_by_themselves(serve: Serve, home: Home, page: Page) -> None:
    with serve(home) as new_app:
        page.goto(new_app)
        expect(page.get_by_text("./barmill up", exact=True)).to_be_visible()
        stores = Stores(home)
        now_ms = time.time_ns() // 1_000_000
        stores.write([(now_ms, "AAA/USD", 5.0, 1.0)], closed_to_ms=now_ms)
        stores.close()
        expect(page.locator(ROW)).to_be_visible()
