"""The data quality page in a real browser, over stores that never stand still."""

import re

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Watched

_PATIENCE_MS = 60_000


@pytest.mark.parametrize(
    ("view", "shows"),
    [
        ("Rejects", "No rejects yet."),
        ("Late+ticks", "arrived in the time order of its instrument."),
        ("Revisions", "History of one bar"),
        ("Comparison", "Bars have not been compared since the app started."),
    ],
)
def test_each_view_opens_by_its_address_and_the_account_moves_by_itself(
    app: str, watched: Watched, view: str, shows: str
) -> None:
    page = watched.page
    page.goto(f"{app}/quality?quality_view={view}")
    expect(page.get_by_text(shows).first).to_be_visible(timeout=_PATIENCE_MS)
    account = page.get_by_text(re.compile(r"[\d,]+ read = [\d,]+ in bars"))
    before = account.inner_text()
    expect(account).not_to_have_text(before, timeout=_PATIENCE_MS)
    assert watched.complaints == []
    assert watched.elsewhere == []
