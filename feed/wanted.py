"""Which instruments the feed is to read: people's picks as they are now, and the catalogue they are picked from.

A thread looks every half second whether anything was changed, which costs one pragma where nothing was, and fetches
the catalogue at the start, every ten minutes, and when somebody asks for it.
"""

import logging
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from control.instruments.store import DELIVERS_WHAT_IT_HAS, Instruments
from feed.names import prefix_of, without_prefix
from feed.provider import Provider, ProviderError

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 0.5
FETCH_EVERY_S = 600.0
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 60.0


class Wanted:
    """What is wanted of one provider, named like its feed, for as long as the feed runs."""

    def __init__(self, instruments: Instruments, provider: str) -> None:
        self._instruments, self._provider = instruments, provider
        self._names = self._picked()
        self._version: int | None = None
        self._request: str | None = None
        self._fetch_at_s, self._failures = 0.0, 0

    def names(self) -> frozenset[str] | None:
        """Return what to ask the provider for, as it calls it and as last seen; None for everything it has.

        Any thread may call this.
        """
        return self._names

    def fetch_soon(self) -> None:
        """Have the catalogue fetched at the next look: what it said may be why the provider refused to deliver."""
        self._fetch_at_s = 0.0

    @contextmanager
    def followed(self, provider: Provider, stop: threading.Event) -> Iterator[None]:
        """Keep looking, and fetching from this provider, until the block ends."""
        if self._provider in DELIVERS_WHAT_IT_HAS:
            yield
            return
        thread = threading.Thread(target=self._follow, args=(provider, stop), name="wanted", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def look(self, provider: Provider) -> None:
        """Read what was changed, and fetch the catalogue if it is due."""
        version = self._instruments.db.conn.execute("PRAGMA data_version").fetchone()[0]
        if version != self._version:  # somebody else has written to the control database
            self._names = self._picked()
            self._request = self._instruments.state(self._provider).trace_id
            self._version = version
        if self._request is not None or time.monotonic() >= self._fetch_at_s:
            self._fetch(provider, self._request)
            self._request = None
            self._names = self._picked()

    def _picked(self) -> frozenset[str] | None:
        return without_prefix(self._instruments.wanted(self._provider), prefix_of(self._provider))

    def _follow(self, provider: Provider, stop: threading.Event) -> None:
        try:
            while not stop.is_set():
                try:
                    self.look(provider)
                except sqlite3.Error as error:
                    logger.warning("The picked instruments cannot be read now (%s); the last ones stay.", error)
                stop.wait(LOOK_EVERY_S)
        finally:
            stop.set()  # a feed that no longer follows what is picked must not look as if it did

    def _fetch(self, provider: Provider, request: str | None) -> None:
        try:
            listed = provider.catalogue()
        except ProviderError as error:
            logger.warning("The catalogue cannot be fetched: %s", error)
            self._instruments.keep_problem(self._provider, str(error), request)
            self._fetch_at_s = time.monotonic() + min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2**self._failures)
            self._failures = min(self._failures + 1, 10)
        else:
            self._instruments.keep_catalogue(self._provider, listed, request)
            self._fetch_at_s, self._failures = time.monotonic() + FETCH_EVERY_S, 0
