"""Limits on connections: their number, the times to send a request and read its response, and the size of headers.

By default, uvicorn limits none of these: it waits forever for the headers of a request, so a few hundred idle
connections would use up all file descriptors before any sign-in.
"""

import asyncio
import resource
from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any, ClassVar, Generic, TypeVar

from uvicorn.config import HTTP_PROTOCOLS
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from barmill.auth.sign_in import network_of

K = TypeVar("K", bound=Hashable)

# A complete request, with headers and body, must arrive within this time, counted from the connection or the last
# response.
REQUEST_TIMEOUT_S = 15.0
# A client that does not read its response for this long is disconnected.
STALL_TIMEOUT_S = 60.0
MAX_HEAD_BYTES = 64 * 1024
# A browser sends the values of widgets over the websocket; the longest is the text of a form.
MAX_MESSAGE_BYTES = 1024 * 1024
# A browser opens at most six connections, plus websockets, which the gate limits per account. All users of an office
# may share one address.
MAX_CONNECTIONS, MAX_PER_ADDRESS = 2_000, 200
_RESERVED_FILES = 256
_MAX_OPEN_FILES = 16_384


def _refusal(status: str, sentence: str, *headers: str) -> bytes:
    """Return a complete response, after which the connection is closed."""
    plain = "Content-Type: text/plain; charset=utf-8"
    lines = [f"HTTP/1.1 {status}", *headers, "Connection: close", plain, f"Content-Length: {len(sentence)}"]
    return "\r\n".join([*lines, "", sentence]).encode("ascii")


_TOO_MANY_CONNECTIONS = _refusal(
    "503 Service Unavailable", "Too many connections; try again in 5 seconds.", "Retry-After: 5"
)
_HEADERS_TOO_LARGE = _refusal("431 Request Header Fields Too Large", "The headers of this request are too large.")


@dataclass(frozen=True)
class Admission(Generic[K]):
    """The decision on a new connection: whether it is accepted, and which connection must be closed to make room."""

    admitted: bool
    evicted: K | None = None


class ConnectionTable(Generic[K]):
    """The open connections per network (see network_of), and those that wait for a request; without I/O.

    At a limit, a new connection replaces the one that has waited longest: of the same network at the limit per address,
    of any network at the total limit. If none waits, the new connection is refused. So idle connections cannot lock
    users out. proxy: an address or network whose connections are limited only in total, since many users share it.
    """

    def __init__(self, max_connections: int, max_per_address: int, proxy: str | None = None) -> None:
        self._max_connections, self._max_per_address = max_connections, max_per_address
        self._proxy = None if proxy is None else ip_network(proxy)
        self._networks: dict[K, str] = {}
        self._counts: Counter[str] = Counter()
        self._waiting: dict[K, None] = {}

    def __len__(self) -> int:
        return len(self._networks)

    @property
    def waiting(self) -> int:
        """Return the number of connections that wait for a request."""
        return len(self._waiting)

    def add(self, key: K, address: str) -> Admission[K]:
        """Add a connection, which waits for its first request, if there is room or room can be made."""
        network = network_of(address)
        is_address_full = self._counts[network] >= self._max_per_address and not self._is_proxy(address)
        evicted = None
        if is_address_full or len(self._networks) >= self._max_connections:
            candidates = (
                waiting for waiting in self._waiting if not is_address_full or self._networks[waiting] == network
            )
            evicted = next(candidates, None)
            if evicted is None:
                return Admission(False)
            self.remove(evicted)
        self._networks[key] = network
        self._counts[network] += 1
        self._waiting[key] = None
        return Admission(True, evicted)

    def wait(self, key: K) -> None:
        """Record that a connection waits for its next request."""
        if key in self._networks:
            self._waiting.pop(key, None)
            self._waiting[key] = None

    def start_request(self, key: K) -> None:
        """Record that a request has arrived, so the connection is no longer waiting."""
        self._waiting.pop(key, None)

    def remove(self, key: K) -> None:
        """Remove a connection; an unknown one is ignored."""
        self._waiting.pop(key, None)
        network = self._networks.pop(key, None)
        if network is not None:
            self._counts[network] -= 1
            if not self._counts[network]:
                del self._counts[network]

    def _is_proxy(self, address: str) -> bool:
        try:
            return self._proxy is not None and ip_address(address) in self._proxy
        except ValueError:
            return False


class BoundedConnection(HttpToolsProtocol):
    """A connection of uvicorn with the limits of this module."""

    table: ClassVar["ConnectionTable[BoundedConnection]"]

    def __init__(self, config: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(config, *args, **kwargs)
        config.ws_max_size = MAX_MESSAGE_BYTES
        self._request_timeout: asyncio.TimerHandle | None = None
        self._read_timeout: asyncio.TimerHandle | None = None
        self._head_bytes: int | None = 0  # None while a body arrives

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept or refuse the connection."""
        super().connection_made(transport)
        admission = self.table.add(self, self.client[0] if self.client else "unknown")
        if admission.evicted is not None:
            admission.evicted.transport.abort()
        if not admission.admitted:
            transport.write(_TOO_MANY_CONNECTIONS)
            transport.close()
            return
        self._start_request_timeout()

    def connection_lost(self, exc: Exception | None) -> None:
        """Remove the connection."""
        self._remove()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse received bytes; close the connection if the headers are too large."""
        if self._head_bytes is not None:
            if self._head_bytes > MAX_HEAD_BYTES:
                self.transport.write(_HEADERS_TOO_LARGE)
                self.transport.close()
                return
            self._head_bytes += len(data)
        super().data_received(data)

    def on_message_begin(self) -> None:
        """Record the start of a request, possibly before the response to the previous one."""
        super().on_message_begin()
        self._head_bytes = 0
        if self._request_timeout is None:
            self._start_request_timeout()

    def on_headers_complete(self) -> None:
        """Record that the headers are complete."""
        self._head_bytes = None
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Record that the complete request has arrived."""
        self._head_bytes = 0
        self._cancel_request_timeout()
        self.table.start_request(self)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        if not self.transport.is_closing() and not self.pipeline and self._request_timeout is None:
            self._start_request_timeout()

    def handle_websocket_upgrade(self) -> None:
        """Stop limiting the connection; the gate counts websockets."""
        self._remove()
        super().handle_websocket_upgrade()

    def pause_writing(self) -> None:
        """Start the timeout for a client that does not read its response."""
        super().pause_writing()
        if self._read_timeout is None:
            self._start_read_timeout()

    def resume_writing(self) -> None:
        """Cancel the timeout, since the client has read a part of its response."""
        super().resume_writing()
        self._cancel_read_timeout()

    def _start_request_timeout(self) -> None:
        self.table.wait(self)
        self._request_timeout = self.loop.call_later(REQUEST_TIMEOUT_S, self.transport.abort)

    def _start_read_timeout(self) -> None:
        unread = self.transport.get_write_buffer_size()
        self._read_timeout = self.loop.call_later(STALL_TIMEOUT_S, self._check_read, unread)

    def _check_read(self, unread_before: int) -> None:
        if self.transport.get_write_buffer_size() < unread_before:
            self._start_read_timeout()
        else:
            self.transport.abort()

    def _cancel_request_timeout(self) -> None:
        if self._request_timeout is not None:
            self._request_timeout.cancel()
            self._request_timeout = None

    def _cancel_read_timeout(self) -> None:
        if self._read_timeout is not None:
            self._read_timeout.cancel()
            self._read_timeout = None

    def _remove(self) -> None:
        self._cancel_request_timeout()
        self._cancel_read_timeout()
        self.table.remove(self)


def limit_connections(proxy: str | None) -> None:
    """Make uvicorn's servers in this process use bounded connections, and set the limit of open files for them.

    proxy: see ConnectionTable.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = _MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _MAX_OPEN_FILES)
    if soft == resource.RLIM_INFINITY or soft > files:
        files = _MAX_OPEN_FILES
    else:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
    max_connections = max(min(MAX_CONNECTIONS, files - _RESERVED_FILES), _RESERVED_FILES // 4)
    BoundedConnection.table = ConnectionTable(max_connections, min(MAX_PER_ADDRESS, max_connections // 2), proxy)
    HTTP_PROTOCOLS["auto"] = f"{__name__}:{BoundedConnection.__name__}"
