"""Prices by asking again and again over HTTP, by a mapping that says what the answers mean."""
