"""The audit page in a real browser: it follows what happens, and leaves alone who is searching."""

from contextlib import closing
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from barmill.audit.accounts import account_migrations
from barmill.audit.actions import action
from barmill.audit.roles import Actor
from barmill.audit.trail import audit_migrations
from barmill.platform.home import Home
from barmill.platform.sqlite_file import Database, open_control_db
from tests.browser.conftest import Serve, Watched


def add(db: Database, actor: str, subject: str) -> None:
    with action(db, Actor(actor), "thing.add", subject, needs=None):
        pass


def counts(page: Page, records: int) -> None:
    expect(page.get_by_text(f"{records} records, newest hash")).to_be_visible()


@pytest.mark.timeout(300)
def test_the_trail_is_followed_searched_verified_and_taken_away(serve: Serve, home: Home, watched: Watched) -> None:
    page = watched.page
    with closing((db := open_control_db(home, audit_migrations, account_migrations)).conn), serve(home) as app:
        add(db, "ada", "one")
        page.goto(f"{app}/audit")
        counts(page, 1)

        search = page.get_by_role("searchbox", name="Search")
        search.click()
        search.type("tw")
        add(db, "bo", "two")
        counts(page, 2)  # the page was rerun automatically
        assert search.input_value() == "tw"
        assert search.evaluate("field => field === document.activeElement")
        search.type("o")
        search.press("Enter")
        page.wait_for_url("**/audit?audit_text=two")
        expect(page.locator("table[role=grid]")).to_have_attribute("aria-rowcount", "2")

        page.get_by_text("Follow", exact=True).click()
        expect(page.locator("iframe")).to_have_count(0)
        with page.expect_download() as download:
            page.get_by_role("button", name="CSV", exact=True).click()
        lines = Path(download.value.path()).read_text().splitlines()
        assert len(lines) == 2
        assert lines[1].startswith("2,")

        page.get_by_role("button", name="Verify the chain").click()
        expect(page.get_by_text("complete and unchanged, from its first record to number 2.")).to_be_visible()
        page.goto(page.url)  # the link opens the search again
        expect(search).to_have_value("two")
    assert watched.complaints == []
    assert watched.elsewhere == []
