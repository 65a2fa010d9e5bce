"""Prices in, tick log out: providers, validation, ingest, and the bundled demo market."""
