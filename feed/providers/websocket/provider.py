"""The provider `websocket`: prices as somebody else's server sends them, by a mapping."""

import queue
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

from bar.clock import now_ms
from feed.connection.catch_up import Holding
from feed.connection.guard import Guard
from feed.connection.reconnect import Patience, Spread
from feed.connection.state import Report
from feed.provider import Batch
from feed.providers.websocket.session import Incoming, Session
from feed.providers.websocket.settings import WebSocketFeed

_BATCH_S = 0.05
_MAX_BATCH_EVENTS = 5_000
_QUEUE_EVENTS = 20_000
_LOOK_S = 0.1


class WebSocketProvider:
    """Prices over WebSocket, over as many connections as the provider needs, each renewed as often as needed.

    key_of is asked for the key at each connect and the key is kept nowhere. wanted is asked again and again which
    instruments to read (None: those of the settings) and may answer differently each time. overhear: given each message
    as it came, by the threads of the connections.
    """

    live = True

    def __init__(
        self,
        name: str,
        settings: WebSocketFeed,
        key_of: Callable[[], str] | None,
        wanted: Callable[[], frozenset[str] | None],
        report: Report,
        *,
        guard: Guard | None = None,
        patience: Patience | None = None,
        holding: Holding | None = None,
        clock_ms: Callable[[], int] = now_ms,
        spread: Spread = random.uniform,
        overhear: Callable[[bytes], None] = lambda _: None,
    ) -> None:
        self.name = name
        self._settings, self._key_of, self._wanted, self._report = settings, key_of, wanted, report
        self._guard, self._patience = guard or Guard(), patience or Patience()
        self._holding, self._clock_ms, self._spread = holding or _holding(settings), clock_ms, spread
        self._overhear = overhear

    def batches(self, cursor: str | None, stop: threading.Event) -> Iterator[Batch]:
        """Yield what comes until `stop` is set; after a lost connection, first what was missed, where it can be had.

        Raise ProviderError for what a person must mend: a refused key, a mapping that does not fit, an address that may
        not be reached; whatever key_of raises passes through.
        """
        incoming: queue.Queue[Incoming] = queue.Queue(_QUEUE_EVENTS)
        over = threading.Event()

        def tell(event: Incoming) -> None:
            while not over.is_set():
                with suppress(queue.Full):
                    incoming.put(event, timeout=_LOOK_S)
                    break

        session = Session(
            self._settings,
            self._key_of,
            self._report,
            tell,
            guard=self._guard,
            patience=self._patience,
            holding=self._holding,
            clock_ms=self._clock_ms,
            spread=self._spread,
            overhear=self._overhear,
        )
        try:
            session.restore(cursor)
            while not stop.is_set():
                session.follow(self._wanted())
                session.take(_next_events(incoming))
                if (batch := session.batch()) is not None:
                    yield batch
                session.check()
        finally:
            over.set()
            session.close()

    def catalogue(self) -> None:
        """Return None: what was typed into the settings is all there is."""
        return


def _next_events(incoming: queue.Queue[Incoming]) -> list[Incoming]:
    """Return what comes within the time that a batch may take."""
    events = list[Incoming]()
    until_s = time.monotonic() + _BATCH_S
    with suppress(queue.Empty):
        while len(events) < _MAX_BATCH_EVENTS and (left_s := until_s - time.monotonic()) > 0:
            events.append(incoming.get(timeout=left_s))
    return events


def _holding(settings: WebSocketFeed) -> Holding:
    backfill = settings.backfill
    return Holding() if backfill is None else Holding(longest_ms=int(backfill.longest_s * 1_000))
