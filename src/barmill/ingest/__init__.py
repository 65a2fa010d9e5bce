"""Ingest: reads prices from the providers of all feeds, checks them and appends them to the tick log."""
