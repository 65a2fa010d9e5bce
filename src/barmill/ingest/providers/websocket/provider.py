"""The provider `websocket`: prices sent by a provider's server over WebSocket, read by a mapping."""

import queue
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

from barmill.ingest.connection.catch_up import HoldLimits
from barmill.ingest.connection.guard import Guard
from barmill.ingest.connection.provider import Batch
from barmill.ingest.connection.reconnect import Jitter, ReconnectDelays
from barmill.ingest.connection.state import Report
from barmill.ingest.providers.websocket.session import Incoming, Session
from barmill.ingest.providers.websocket.settings import WebSocketFeed
from barmill.platform.clock import now_ms

_BATCH_S = 0.1
_MAX_BATCH_EVENTS = 5_000
_QUEUE_EVENTS = 20_000
_CHECK_EVERY_S = 0.1


class WebSocketProvider:
    """Prices over WebSocket, over as many connections as required, each of which reconnects when necessary.

    key_of: called for the key at each connection; the key is not stored. selected: called repeatedly for the
    instruments to read (None: those in the settings); its result may change. on_message: called with each message as
    received, by the threads of the connections.
    """

    live = True

    def __init__(
        self,
        name: str,
        settings: WebSocketFeed,
        key_of: Callable[[], str] | None,
        selected: Callable[[], frozenset[str] | None],
        report: Report,
        *,
        guard: Guard | None = None,
        reconnect_delays: ReconnectDelays | None = None,
        hold_limits: HoldLimits | None = None,
        clock_ms: Callable[[], int] = now_ms,
        jitter: Jitter = random.uniform,
        on_message: Callable[[bytes], None] = lambda _: None,
    ) -> None:
        self.name = name
        self._settings, self._key_of, self._selected, self._report = settings, key_of, selected, report
        self._guard, self._reconnect_delays = guard or Guard(), reconnect_delays or ReconnectDelays()
        self._hold_limits, self._clock_ms, self._jitter = hold_limits or _hold_limits(settings), clock_ms, jitter
        self._on_message = on_message

    def batches(self, cursor: str | None, stop: threading.Event) -> Iterator[Batch]:
        """Yield batches until `stop` is set; after a lost connection, missed ticks come first, if they can be fetched.

        Raise ProviderError for errors that need action by a person: a refused key, a mapping that does not fit, an
        address that feeds may not reach. Exceptions of key_of are passed on.
        """
        incoming: queue.Queue[Incoming] = queue.Queue(_QUEUE_EVENTS)
        closed = threading.Event()

        def emit(event: Incoming) -> None:
            while not closed.is_set():
                with suppress(queue.Full):
                    incoming.put(event, timeout=_CHECK_EVERY_S)
                    break

        session = Session(
            self._settings,
            self._key_of,
            self._report,
            emit,
            guard=self._guard,
            reconnect_delays=self._reconnect_delays,
            hold_limits=self._hold_limits,
            clock_ms=self._clock_ms,
            jitter=self._jitter,
            on_message=self._on_message,
        )
        try:
            session.restore(cursor)
            while not stop.is_set():
                session.follow(self._selected())
                session.take(_next_events(incoming))
                if (batch := session.batch()) is not None:
                    yield batch
                session.check()
        finally:
            closed.set()
            session.close()

    def catalogue(self) -> None:
        """Return None: only the instruments in the settings are known."""
        return


def _next_events(incoming: queue.Queue[Incoming]) -> list[Incoming]:
    """Return the events that arrive within the time limit of a batch."""
    events = list[Incoming]()
    deadline_s = time.monotonic() + _BATCH_S
    with suppress(queue.Empty):
        while len(events) < _MAX_BATCH_EVENTS and (remaining_s := deadline_s - time.monotonic()) > 0:
            events.append(incoming.get(timeout=remaining_s))
    return events


def _hold_limits(settings: WebSocketFeed) -> HoldLimits:
    backfill = settings.backfill
    return HoldLimits() if backfill is None else HoldLimits(longest_ms=int(backfill.longest_s * 1_000))
