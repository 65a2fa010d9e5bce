"""The feeds page in a real browser: a feed is added, its state is shown, and it is deleted."""

from playwright.sync_api import expect

from barmill.ingest.connection.state import ConnectionState, Phase
from barmill.ingest.feeds.feed import feeds_of
from barmill.platform.clock import now_ms
from barmill.platform.home import Home
from tests.browser.conftest import Serve, Watched
from tests.support.browser_feeds import choose
from tests.support.feed_states import reported


def test_a_feed_is_added_seen_and_deleted(home: Home, serve: Serve, watched: Watched) -> None:
    page = watched.page
    dialog = page.get_by_role("dialog")
    with serve(home) as address:
        page.goto(f"{address}/feeds")
        expect(page.get_by_text("No feeds added yet")).to_be_visible()
        page.get_by_role("button", name="Add a feed").click()
        choose(page, "Feed type", "A topic on Kafka")
        page.locator("[role=dialog] input[aria-label='Name']").fill("office")
        dialog.get_by_role("button", name="Add", exact=True).click()
        expect(page.get_by_text("The feed office is added")).to_be_visible()
        expect(dialog).to_have_count(0)
        expect(page.get_by_text("No feeds added yet")).to_have_count(0)
        assert [feed.name for feed in feeds_of(home)] == ["market", "office"]

        # What ingest reports appears without a reload.
        state = ConnectionState(Phase.REFUSED, "The brokers refuse us.", now_ms())
        with reported(home, {"office": state}):
            expect(page.get_by_text("The brokers refuse us.").first).to_be_visible()

        row = page.locator(".st-key-feeds_row_office")
        row.get_by_role("button", name="Delete").click()
        dialog.get_by_role("button", name="Delete").click()
        expect(page.get_by_text("The feed office is deleted.")).to_be_visible()
        expect(dialog).to_have_count(0)
    assert [feed.name for feed in feeds_of(home)] == ["market"]
    assert watched.complaints == []
    assert watched.elsewhere == []
