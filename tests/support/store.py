"""Helpers of test_store.py that other tests use too."""

from barmill.storage.bar_store import Progress

PROGRESS = Progress("bars", 0, "1s", 0, 1, 1, 0, 0, 0, 0, None, False, 0)
