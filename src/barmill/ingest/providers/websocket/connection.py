"""One connection to a provider in a separate thread, which reports everything as events.

The thread connects, subscribes to the selected instruments, sends pings, reads, and reconnects when necessary.
"""

import logging
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import httpx
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from barmill.ingest.connection.guard import parse_url, tls_context
from barmill.ingest.connection.http import error_text, redact_key, refusal, retry_after_s
from barmill.ingest.connection.provider import ProviderError
from barmill.ingest.connection.reconnect import (
    AddressRefusedError,
    Attempts,
    InvalidResponseError,
    KeyRefusedError,
    LimitedError,
    NotFoundError,
    RequestError,
    UnreachableError,
)
from barmill.ingest.connection.state import ConnectionState, Phase
from barmill.ingest.providers.websocket import settings as templates
from barmill.ingest.providers.websocket.protocol import (
    SHOWN_CHARACTERS,
    Connecting,
    Disconnected,
    MessageLoop,
    SharedSettings,
    ThreadEnded,
)

MAX_MESSAGE_BYTES = 4 * 1024 * 1024
OPEN_TIMEOUT_S = 10.0
CLOSE_TIMEOUT_S = 1.0
# At lower levels, the library logs what it sends and receives, including keys.
_library_logger = logging.getLogger("barmill.wire")
_library_logger.setLevel(logging.ERROR)
# Errors that a further attempt would not resolve.
_PERMANENT_ERRORS = (AddressRefusedError, InvalidResponseError, KeyRefusedError, NotFoundError)


class ConnectionWorker:
    """A thread that keeps one connection, and the instruments of this connection."""

    def __init__(self, number: int, shared: SharedSettings, attempts: Attempts) -> None:
        self.number, self.names = number, frozenset[str]()
        self._shared, self._attempts, self._settings = shared, attempts, shared.settings
        self._host = parse_url(shared.settings.url).host
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"connection-{number}", daemon=True)

    def start(self, names: frozenset[str]) -> None:
        """Start the thread, which connects for these instruments."""
        self.names = names
        self._thread.start()

    def stop(self) -> None:
        """Ask the thread to stop; do not wait."""
        self._stop.set()

    def join(self) -> None:
        """Wait until the thread has ended."""
        self._thread.join()

    def _run(self) -> None:
        error: Exception | None = None
        while not self._stop.is_set() and error is None:
            message_loop = MessageLoop(self.number, self._shared)
            try:
                self._connect(message_loop)
            except _PERMANENT_ERRORS as refused:
                error = refused
            except ProviderError as no_key:
                error = no_key
            except RequestError as lost:
                pause = self._attempts.next_pause(lost, message_loop.connected_s)
                self._shared.emit(Disconnected(self.number, lost, pause))
                self._stop.wait(pause.seconds)
        self._shared.emit(ThreadEnded(self.number, error))

    def _connect(self, message_loop: MessageLoop) -> None:
        """Make one connection and read it until it ends, which raises an error, or until the thread is stopped."""
        key = self._shared.key_of() if self._shared.key_of is not None else ""
        try:
            with self._shared.connect_lock:
                if self._stop.is_set():
                    return
                self._shared.emit(Connecting(self.number))
                opened = self._open(key)
            with opened as connection:
                message_loop.run(connection, key, lambda: self.names, self._stop)
        except ConnectionClosed as closed:
            raise self._closed_error(closed, key) from None
        except InvalidStatus as status:
            raise self._refusal(status, key) from None
        except ssl.SSLCertVerificationError:
            raise UnreachableError(
                f"The certificate of {self._host} is not trusted, so nothing was sent; check the address."
            ) from None
        except (InvalidHandshake, EOFError):
            raise UnreachableError(f"{self._host} closed the connection during the handshake.") from None
        except ValueError:  # the library raises this for a redirect to another address
            raise InvalidResponseError(
                f"{self._host} redirects to another address; use that address instead."
            ) from None
        except OSError as error:
            raise UnreachableError(f"{self._host} cannot be reached ({type(error).__name__}).") from None

    def _open(self, key: str) -> ClientConnection:
        settings = self._settings
        if key and not (key.isascii() and key.isprintable() and " " not in key):
            raise KeyRefusedError("The stored key contains characters that cannot be sent; store it again.")
        address = self._shared.guard.resolve(settings.url)
        return connect(
            templates.with_key(settings.url, settings.key, key),
            sock=address.connect(),
            ssl=tls_context() if address.encrypted else None,
            additional_headers=templates.headers_with_key(settings.key, key),
            user_agent_header="barmill",
            proxy=None,
            open_timeout=min(OPEN_TIMEOUT_S, settings.silence_s),
            close_timeout=CLOSE_TIMEOUT_S,
            ping_interval=None,
            max_size=MAX_MESSAGE_BYTES,
            logger=_library_logger,
        )

    def _closed_error(self, closed: ConnectionClosed, key: str) -> RequestError:
        frame = closed.rcvd
        if closed.sent is not None and closed.sent.code == 1009 and not closed.rcvd_then_sent:
            return UnreachableError(f"{self._host} sent a message of more than {MAX_MESSAGE_BYTES:,} bytes.")
        if frame is None:
            return UnreachableError(f"{self._host} closed the connection unexpectedly.")
        reason = f", {redact_key(frame.reason, key)[:SHOWN_CHARACTERS]}" if frame.reason else ""
        problem = f"{self._host} closed the connection (code {frame.code}{reason})."
        return LimitedError(problem, None) if frame.code in self._settings.limited_codes else UnreachableError(problem)

    def _refusal(self, error: InvalidStatus, key: str) -> RequestError:
        response = error.response
        detail = error_text(bytes(response.body), key)
        headers = httpx.Headers(list(response.headers.raw_items()))
        return refusal(response.status_code, self._host, detail, retry_after_s(headers))


@dataclass
class ConnectionSlot:
    """A connection and its state; complete_ms: everything up to this time, by the provider's clock, was delivered."""

    worker: ConnectionWorker
    state: ConnectionState = field(default_factory=lambda: ConnectionState(Phase.CONNECTING, "Connecting.", 0))
    connected_names: frozenset[str] = frozenset()
    subscribed: bool = False
    complete_ms: int | None = None

    def record_complete_to(self, provider_ms: int) -> None:
        """Record that everything up to this time, by the provider's clock, has arrived."""
        self.complete_ms = max(self.complete_ms or 0, provider_ms)


class Allocation:
    """The connections of a provider with a limit of instruments each; an allocated instrument keeps its connection."""

    def __init__(self, per_connection: int, make_worker: Callable[[int], ConnectionWorker]) -> None:
        self._per_connection, self._make_worker = per_connection, make_worker
        self._slots: dict[int, ConnectionSlot] = {}
        self._workers: list[ConnectionWorker] = []

    def __iter__(self) -> Iterator[ConnectionSlot]:
        return iter(self._slots.values())

    def slot_of(self, number: int) -> ConnectionSlot | None:
        """Return a connection that is still in use, or None."""
        return self._slots.get(number)

    def assign(self, names: frozenset[str]) -> None:
        """Allocate each name to a connection; create connections that are needed and stop those that are not."""
        for number, slot in list(self._slots.items()):
            slot.worker.names &= names
            if not slot.worker.names:
                self._slots.pop(number).worker.stop()
        assigned = frozenset[str]().union(*(slot.worker.names for slot in self))
        unassigned = sorted(names - assigned)
        for slot in self:
            free_places = self._per_connection - len(slot.worker.names)
            slot.worker.names |= frozenset(unassigned[:free_places])
            unassigned = unassigned[free_places:]
        for start in range(0, len(unassigned), self._per_connection):
            worker = self._make_worker(len(self._workers))
            self._workers.append(worker)
            self._slots[worker.number] = ConnectionSlot(worker)
            worker.start(frozenset(unassigned[start : start + self._per_connection]))

    def close(self) -> None:
        """Stop all connections and wait until their threads end."""
        for worker in self._workers:
            worker.stop()
        for worker in self._workers:
            worker.join()
