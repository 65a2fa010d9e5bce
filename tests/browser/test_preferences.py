"""What one prefers, in a real browser: it comes along to another one."""

from playwright.sync_api import Browser, Page, expect

from barmill.audit.accounts import open_audited_db
from barmill.audit.roles import Actor, Role
from barmill.auth.preferences import save_preferences
from tests.browser.conftest import LiveHome, sign_in, watching
from tests.support.candles import after_updates
from tests.support.overview import ROW

LIGHT, DARK = "rgb(255, 255, 255)", "rgb(13, 18, 24)"


def expect_background(page: Page, color: str) -> None:
    expect(page.locator(".stApp")).to_have_css("background-color", color)


def test_a_look_that_was_chosen_is_worn_at_once_and_in_the_next_browser(
    app: str, live_home: LiveHome, chromium: Browser, page: Page
) -> None:
    sign_in(page, live_home.home, Role.TRADER, "lookful")
    page.goto(f"{app}/account")
    expect_background(page, DARK)  # as the system says
    page.get_by_role("radio", name="Light").click()
    page.get_by_role("button", name="Save preferences").click()
    expect_background(page, LIGHT)
    page.get_by_role("link", name="Overview").click()
    expect(page.locator(ROW)).to_be_visible()
    page.reload()
    expect(page.locator(ROW)).to_be_visible()
    expect_background(page, LIGHT)
    with watching(chromium) as other:
        sign_in(other.page, live_home.home, Role.TRADER, "lookful")
        other.page.goto(f"{app}/chart?instrument=AAA%2FUSD")
        expect_background(other.page, LIGHT)
        after_updates(other.page, 1)
        other.page.goto(app)
        expect(other.page.locator(ROW)).to_be_visible()
        expect_background(other.page, LIGHT)
        # The next account that signs in here without this preference has the system's theme again.
        sign_in(other.page, live_home.home, Role.TRADER, "plain")
        other.page.goto(app)
        expect_background(other.page, DARK)
        assert other.complaints == []


def test_one_lands_where_one_wants_to(app: str, live_home: LiveHome, page: Page) -> None:
    sign_in(page, live_home.home, Role.TRADER, "chartist")
    with open_audited_db(live_home.home) as db:
        save_preferences(db, Actor("os:root"), "chartist", {"start_page": "chart"})
    page.goto(app)
    after_updates(page, 1)
    page.get_by_role("link", name="Overview").click()
    expect(page.locator(ROW)).to_be_visible()
