"""Limits on connections: how many there may be, how long a request may take to arrive, and how large it may be.

uvicorn bounds none of this: it waits without end for the head of a request, so a few hundred idle connections take all
file descriptors before anybody has signed in.
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

from control.people.slowdown import place_of

K = TypeVar("K", bound=Hashable)

# A whole request, head and body, has to arrive within this time, counted from the connection or the last answer.
REQUEST_WITHIN_S = 15.0
# A client that takes nothing of its answer for so long is given up.
STALLED_AFTER_S = 60.0
MAX_HEAD_BYTES = 64 * 1024
# What a browser sends over the websocket are the values of widgets; the largest is a form's text.
MAX_MESSAGE_BYTES = 1024 * 1024
# A browser holds at most six, besides websockets, which the gate counts by account; an office may share one address.
MAX_CONNECTIONS, MAX_OF_ADDRESS = 2_000, 200
_OTHER_FILES = 256
_WANTED_FILES = 16_384


def _refusal(status: str, sentence: str, *headers: str) -> bytes:
    """Return a whole answer, for a connection that is closed with it."""
    plain = "Content-Type: text/plain; charset=utf-8"
    lines = [f"HTTP/1.1 {status}", *headers, "Connection: close", plain, f"Content-Length: {len(sentence)}"]
    return "\r\n".join([*lines, "", sentence]).encode("ascii")


_FULL = _refusal("503 Service Unavailable", "Too many connections; try again in 5 seconds.", "Retry-After: 5")
_TOO_LARGE = _refusal("431 Request Header Fields Too Large", "The head of this request is too large.")


@dataclass(frozen=True)
class Admission(Generic[K]):
    """Whether a connection may stay, and which one has to make room for it."""

    admitted: bool
    evicted: K | None = None


class ConnectionTable(Generic[K]):
    """The open connections of each address, and which of them wait for a request. Pure.

    When there is no room, a newcomer takes the place of the connection that has waited longest: of the same address
    where that has too many, of any address where there are too many in all. So idle connections keep no visitor out.
    proxy: an address or a network whose connections are bounded only in all, since many visitors share them.
    """

    def __init__(self, most: int, most_of_address: int, proxy: str | None = None) -> None:
        self._most, self._most_of_address = most, most_of_address
        self._proxy = None if proxy is None else ip_network(proxy)
        self._places: dict[K, str] = {}
        self._counts: Counter[str] = Counter()
        self._waiting: dict[K, None] = {}

    def __len__(self) -> int:
        return len(self._places)

    @property
    def waiting(self) -> int:
        """Return how many connections wait for a request."""
        return len(self._waiting)

    def enter(self, key: K, address: str) -> Admission[K]:
        """Take a connection in, which waits for its first request, if there is room or room can be made."""
        place = place_of(address)
        crowded = self._counts[place] >= self._most_of_address and not self._is_proxy(address)
        evicted = None
        if crowded or len(self._places) >= self._most:
            candidates = (one for one in self._waiting if not crowded or self._places[one] == place)
            evicted = next(candidates, None)
            if evicted is None:
                return Admission(False)
            self.leave(evicted)
        self._places[key] = place
        self._counts[place] += 1
        self._waiting[key] = None
        return Admission(True, evicted)

    def wait(self, key: K) -> None:
        """Note that a connection waits for its next request."""
        if key in self._places:
            self._waiting.pop(key, None)
            self._waiting[key] = None

    def work(self, key: K) -> None:
        """Note that a request has arrived, so the connection is not idle."""
        self._waiting.pop(key, None)

    def leave(self, key: K) -> None:
        """Forget a connection; nothing happens where it is not known."""
        self._waiting.pop(key, None)
        place = self._places.pop(key, None)
        if place is not None:
            self._counts[place] -= 1
            if not self._counts[place]:
                del self._counts[place]

    def _is_proxy(self, address: str) -> bool:
        try:
            return self._proxy is not None and ip_address(address) in self._proxy
        except ValueError:
            return False


class BoundedConnection(HttpToolsProtocol):
    """uvicorn's connection, with the limits of this module."""

    table: ClassVar["ConnectionTable[BoundedConnection]"]

    def __init__(self, config: Any, *args: Any, **more: Any) -> None:
        super().__init__(config, *args, **more)
        config.ws_max_size = MAX_MESSAGE_BYTES
        self._late: asyncio.TimerHandle | None = None
        self._stalled: asyncio.TimerHandle | None = None
        self._head_bytes: int | None = 0  # None while a body arrives

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the connection in, or refuse it."""
        super().connection_made(transport)
        admission = self.table.enter(self, self.client[0] if self.client else "unknown")
        if admission.evicted is not None:
            admission.evicted.transport.abort()
        if not admission.admitted:
            transport.write(_FULL)
            transport.close()
            return
        self._expect_request()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._forget()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read a part of a request, unless its head is too large."""
        if self._head_bytes is not None:
            if self._head_bytes > MAX_HEAD_BYTES:
                self.transport.write(_TOO_LARGE)
                self.transport.close()
                return
            self._head_bytes += len(data)
        super().data_received(data)

    def on_message_begin(self) -> None:
        """Note that a request begins, which may be before the last one is answered."""
        super().on_message_begin()
        self._head_bytes = 0
        if self._late is None:
            self._expect_request()

    def on_headers_complete(self) -> None:
        """Begin to answer."""
        self._head_bytes = None
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Note that the whole request is here."""
        self._head_bytes = 0
        self._on_time()
        self.table.work(self)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        if not self.transport.is_closing() and not self.pipeline and self._late is None:
            self._expect_request()

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection over; the gate counts it from now on."""
        self._forget()
        super().handle_websocket_upgrade()

    def pause_writing(self) -> None:
        """Wait for a client that takes its answer slowly, but not for ever."""
        super().pause_writing()
        if self._stalled is None:
            self._expect_taking()

    def resume_writing(self) -> None:
        """Note that the client has taken a part of its answer."""
        super().resume_writing()
        self._going_on()

    def _expect_request(self) -> None:
        self.table.wait(self)
        self._late = self.loop.call_later(REQUEST_WITHIN_S, self.transport.abort)

    def _expect_taking(self) -> None:
        left = self.transport.get_write_buffer_size()
        self._stalled = self.loop.call_later(STALLED_AFTER_S, self._look_whether_taken, left)

    def _look_whether_taken(self, left_before: int) -> None:
        if self.transport.get_write_buffer_size() < left_before:
            self._expect_taking()
        else:
            self.transport.abort()

    def _on_time(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _going_on(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def _forget(self) -> None:
        self._on_time()
        self._going_on()
        self.table.leave(self)


def limit_connections(proxy: str | None) -> None:
    """Let uvicorn's servers of this process have bounded connections. proxy: see ConnectionTable."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = _WANTED_FILES if hard == resource.RLIM_INFINITY else min(hard, _WANTED_FILES)
    if soft == resource.RLIM_INFINITY or soft > files:
        files = _WANTED_FILES
    else:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
    most = max(min(MAX_CONNECTIONS, files - _OTHER_FILES), _OTHER_FILES // 4)
    BoundedConnection.table = ConnectionTable(most, min(MAX_OF_ADDRESS, most // 2), proxy)
    HTTP_PROTOCOLS["auto"] = f"{__name__}:{BoundedConnection.__name__}"
