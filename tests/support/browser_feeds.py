"""Helpers of test_feeds.py that other tests use too."""

from playwright.sync_api import Page


def choose(page: Page, label: str, option: str) -> None:
    """Choose from a selectbox of the dialog."""
    page.get_by_role("dialog").get_by_role("combobox", name=label).click()
    page.get_by_role("option", name=option).click()
