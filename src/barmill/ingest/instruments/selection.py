"""The instruments that a running feed reads: follows changes of the selection, and fetches the catalogue.

A thread checks for changes every half second, which costs one pragma if there are none. It fetches the catalogue at the
start, every ten minutes, on request, and after a problem of the provider.
"""

import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from barmill.ingest.connection.provider import Provider, ProviderError
from barmill.ingest.instruments.names import prefix_of, without_prefix
from barmill.ingest.instruments.store import WITHOUT_CATALOGUE, Instruments
from barmill.platform.clock import backoff
from barmill.platform.sqlite_file import data_version

logger = logging.getLogger(__name__)

CHECK_EVERY_S = 0.5
FETCH_EVERY_S = 600.0
FIRST_PAUSE_S = 1.0
MAX_PAUSE_S = 60.0


class InstrumentSelection:
    """The selected instruments of one provider, which has the name of its feed, while the feed runs."""

    def __init__(self, instruments: Instruments, provider: str) -> None:
        self._instruments, self._provider = instruments, provider
        self._names = self._selected_names()
        self._version: int | None = None
        self._request_trace_id: str | None = None
        self._fetch_at_s, self._failures = 0.0, 0

    def names(self) -> frozenset[str] | None:
        """Return the provider's names of the selected instruments, as last read; None for everything.

        Any thread may call this.
        """
        return self._names

    def fetch_soon(self) -> None:
        """Fetch the catalogue at the next check; an outdated catalogue may be the reason why the provider failed."""
        self._fetch_at_s = 0.0

    @contextmanager
    def follow(self, provider: Provider, stop: threading.Event) -> Iterator[None]:
        """Check for changes and fetch this provider's catalogue in a thread until the block ends.

        Set `stop` at the end, or if the thread fails. A provider in WITHOUT_CATALOGUE needs no thread.
        """
        if self._provider in WITHOUT_CATALOGUE:
            yield
            return
        thread = threading.Thread(
            target=self._check_until_stopped, args=(provider, stop), name="selection", daemon=True
        )
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def check_for_changes(self, provider: Provider) -> None:
        """Read changes, and fetch the catalogue if it is due."""
        version = data_version(self._instruments.db.conn)
        if version != self._version:  # another connection has written to the control database
            self._names = self._selected_names()
            self._request_trace_id = self._instruments.state(self._provider).trace_id
            self._version = version
        if self._request_trace_id is not None or time.monotonic() >= self._fetch_at_s:
            self._fetch(provider, self._request_trace_id)
            self._request_trace_id = None
            self._names = self._selected_names()

    def _selected_names(self) -> frozenset[str] | None:
        return without_prefix(self._instruments.enabled_names(self._provider), prefix_of(self._provider))

    def _check_until_stopped(self, provider: Provider, stop: threading.Event) -> None:
        try:
            while not stop.is_set():
                try:
                    self.check_for_changes(provider)
                except sqlite3.Error as error:
                    logger.warning("The enabled instruments cannot be read now (%s); the previous ones remain.", error)
                stop.wait(CHECK_EVERY_S)
        finally:
            stop.set()  # a feed that no longer follows the selection must not appear to follow it

    def _fetch(self, provider: Provider, request: str | None) -> None:
        try:
            catalogue = provider.catalogue()
        except ProviderError as error:
            logger.warning("The catalogue cannot be fetched: %s", error)
            self._instruments.save_problem(self._provider, str(error), request)
            self._failures += 1
            self._fetch_at_s = time.monotonic() + backoff(self._failures, FIRST_PAUSE_S, MAX_PAUSE_S)
        else:
            self._instruments.save_catalogue(self._provider, catalogue, request)
            self._fetch_at_s, self._failures = time.monotonic() + FETCH_EVERY_S, 0


SelectedNames = Callable[[], frozenset[str] | None]
