"""Helpers of test_overview.py that other tests use too."""

ROW = ".barmill-watchlist tr[data-instrument='AAA/USD']"
