"""The feeds page in a real browser: a feed is added, is shown as it stands, and goes again."""

from playwright.sync_api import Page, expect

from bar.clock import now_ms
from control.feeds.store import feeds_of
from control.home import Home
from feed.connection.state import ConnectionState, Phase
from tests.browser.conftest import Serve, Watched
from tests.standings import reported

WAIT_MS = 30_000


def test_a_feed_is_added_seen_and_deleted(home: Home, serve: Serve, watched: Watched) -> None:
    page = watched.page
    dialog = page.get_by_role("dialog")
    with serve(home) as address:
        page.goto(f"{address}/feeds")
        expect(page.get_by_text("No feed of your own yet")).to_be_visible(timeout=WAIT_MS)
        page.get_by_role("button", name="Add a feed").click()
        choose(page, "What", "A topic on Kafka")
        page.locator("[role=dialog] input[aria-label='Name']").fill("desk")
        dialog.get_by_role("button", name="Add", exact=True).click()
        expect(page.get_by_text("The feed desk is added")).to_be_visible(timeout=WAIT_MS)
        expect(dialog).to_have_count(0)
        expect(page.get_by_text("No feed of your own yet")).to_have_count(0)
        assert [feed.name for feed in feeds_of(home)] == ["market", "desk"]

        # What ingest says comes by itself.
        state = ConnectionState(Phase.REFUSED, "The brokers refuse us.", now_ms())
        with reported(home, {"desk": state}):
            expect(page.get_by_text("The brokers refuse us.").first).to_be_visible(timeout=WAIT_MS)

        row = page.locator(".st-key-feeds_row_desk")
        row.get_by_role("button", name="Delete").click()
        dialog.get_by_role("button", name="Delete").click()
        expect(page.get_by_text("The feed desk is deleted.")).to_be_visible(timeout=WAIT_MS)
        expect(dialog).to_have_count(0)
    assert [feed.name for feed in feeds_of(home)] == ["market"]
    assert watched.complaints == []
    assert watched.elsewhere == []


def choose(page: Page, label: str, option: str) -> None:
    """Choose from a selectbox of the dialog."""
    page.get_by_role("dialog").get_by_role("combobox", name=label).click()
    page.get_by_role("option", name=option).click()
