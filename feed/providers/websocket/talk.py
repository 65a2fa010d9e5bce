"""What is said over one connection: subscriptions, pings, and what comes in."""

import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import httpx
import orjson
from pydantic import JsonValue
from websockets.sync.client import ClientConnection

from feed.connection.errors import BrokenAnswerError, KeyRefusedError, LimitedError, UnreachableError
from feed.connection.guard import Guard
from feed.connection.http import redacted, server_ms
from feed.providers.websocket import templates
from feed.providers.websocket.events import CaughtUp, Event, Heard, Subscribed, Up
from feed.providers.websocket.messages import Kind, Said, read
from feed.providers.websocket.settings import WebSocketFeed

_LOOK_S = 0.05
_ACK_WAIT_S = 5.0
# So many messages in a row that make no sense mean that the mapping does not fit the provider.
_MAX_GARBAGE = 50
SHOWN_CHARACTERS = 200


@dataclass(frozen=True)
class Means:
    """What all connections of a provider share.

    one_at_a_time: held while connecting, so that many connections do not storm a provider that is just coming back.
    overhear: told of every message as it came, before it is understood.
    """

    settings: WebSocketFeed
    guard: Guard
    key_of: Callable[[], str] | None
    tell: Callable[[Event], None]
    clock_ms: Callable[[], int]
    one_at_a_time: AbstractContextManager[object]
    overhear: Callable[[bytes], None] = lambda _: None


class Talk:
    """What is said over one connection, from the first subscription to its end."""

    def __init__(self, line: int, means: Means) -> None:
        self._line, self._means, self._settings = line, means, means.settings
        self._key = ""
        self._outbox: deque[JsonValue] = deque()
        self._subscribed: frozenset[str] = frozenset()
        self._awaited: frozenset[str] = frozenset()
        self._acks_left = self._number = self._garbage = 0
        self._heard_s = self._send_at_s = self._ack_until_s = 0.0
        self._ping_at_s = self._began_s = 0.0
        self._pinged: tuple[threading.Event, int] | None = None

    @property
    def stood_s(self) -> float:
        """Return for how long messages have been coming."""
        return self._heard_s - self._began_s if self._began_s else 0.0

    def read(
        self,
        connection: ClientConnection,
        key: str,
        wanted: Callable[[], frozenset[str]],
        stop: threading.Event,
    ) -> None:
        """Talk until told to stop; raise when the connection ends, or when it has to."""
        self._key = key
        self._began_s = self._heard_s = time.monotonic()
        date_ms = None
        if connection.response is not None:
            date_ms = server_ms(httpx.Headers(list(connection.response.headers.raw_items())))
        self._means.tell(Up(self._line, wanted(), self._means.clock_ms(), date_ms))
        while not stop.is_set():
            self._follow(wanted())
            self._send(connection)
            try:
                data = connection.recv(timeout=_LOOK_S, decode=False)
            except TimeoutError:
                self._quiet()
                continue
            self._heard_s = time.monotonic()
            self._means.overhear(data)
            self._understand(read(data, self._settings))

    def _follow(self, wanted: frozenset[str]) -> None:
        """Subscribe to what is new and unsubscribe from what is no longer wanted."""
        new, gone = wanted - self._subscribed, self._subscribed - wanted
        if gone and not self._settings.unsubscribe:
            raise UnreachableError("Less is wanted than before; connecting anew without it.")
        for templates_, names in ((self._settings.unsubscribe, gone), (self._settings.subscribe, new)):
            filled = list(
                templates.messages(templates_, sorted(names), self._settings.per_message, self._key, self._number)
            )
            self._number += len(filled)
            self._outbox.extend(filled)
            if names is new and new:
                self._acks_left += len(new) if self._settings.acks_per == "instrument" else len(filled)
        self._awaited |= new
        self._subscribed = wanted

    def _send(self, connection: ClientConnection) -> None:
        now_s = time.monotonic()
        if self._outbox and now_s >= self._send_at_s:
            connection.send(orjson.dumps(self._outbox.popleft()).decode())
            self._send_at_s = now_s + 1 / self._settings.messages_per_s
            self._ack_until_s = now_s + _ACK_WAIT_S
        if self._awaited and not self._outbox:
            answered = self._acks_left <= 0 or not self._settings.acks
            if answered or now_s >= self._ack_until_s:
                self._means.tell(Subscribed(self._line, self._awaited))
                self._awaited, self._acks_left = frozenset(), 0
        if now_s >= self._ping_at_s:
            self._ping_at_s = now_s + self._settings.ping_s
            if self._settings.ping is not None:
                self._number += 1
                self._outbox.append(templates.message(self._settings.ping, self._key, self._number))
            elif self._pinged is None:
                self._pinged = (connection.ping(), self._means.clock_ms())

    def _quiet(self) -> None:
        """See to it that silence is told from a dead connection: nothing is left to read at this moment."""
        if self._pinged is not None and self._pinged[0].is_set():
            self._heard_s = time.monotonic()
            self._means.tell(CaughtUp(self._line, self._pinged[1]))
            self._pinged = None
        if time.monotonic() - self._heard_s > self._settings.silence_s:
            raise UnreachableError(f"Nothing has been heard for {self._settings.silence_s:g} s.")

    def _understand(self, said: Said) -> None:
        shown = redacted(said.text, self._key)[:SHOWN_CHARACTERS]
        if said.kind is Kind.LIMITED:
            raise LimitedError(f"The provider asks for fewer questions: {shown}", None)
        if said.kind is Kind.REFUSED:
            raise KeyRefusedError(f"The provider refuses the key, or what was asked for with it: {shown}")
        if said.kind in (Kind.ACK, Kind.COMPLAINT):
            self._acks_left -= 1
        self._garbage = self._garbage + 1 if said.kind is Kind.GARBAGE else 0
        if self._garbage >= _MAX_GARBAGE:
            raise BrokenAnswerError(
                f"The last {_MAX_GARBAGE} messages make no sense by the mapping; the newest is {said.problem}: {shown}"
            )
        told = Said(said.kind, said.rows, said.server_time, shown, said.problem)
        self._means.tell(Heard(self._line, told, self._means.clock_ms()))
