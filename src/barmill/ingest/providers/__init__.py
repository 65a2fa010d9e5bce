"""Providers: one module or package per kind of source."""
