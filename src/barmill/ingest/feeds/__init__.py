"""Feeds added by users: their settings, changes and current state, and trials of settings."""
