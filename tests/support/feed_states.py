"""States of feeds written as the ingest process writes them, for tests that run none."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from barmill.ingest.connection.state import ConnectionState, FeedStates, write_feed_states
from barmill.platform.clock import now_ms
from barmill.platform.home import Home

_EVERY_S = 0.5


@contextmanager
def reported(home: Home, states: Mapping[str, ConnectionState]) -> Iterator[None]:
    """Report these states again and again while the block runs; what is older than some seconds counts for nothing."""
    ended = threading.Event()

    def report() -> None:
        write_feed_states(home, FeedStates(now_ms(), states))

    def repeat() -> None:
        while not ended.wait(_EVERY_S):
            report()

    report()
    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
