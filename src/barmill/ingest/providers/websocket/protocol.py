"""The protocol of one connection: subscriptions, pings, and incoming messages, reported as events."""

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

from barmill.ingest.connection.guard import Guard
from barmill.ingest.connection.http import redact_key, server_ms
from barmill.ingest.connection.reconnect import (
    InvalidResponseError,
    KeyRefusedError,
    LimitedError,
    Pause,
    RequestError,
    UnreachableError,
)
from barmill.ingest.providers.websocket import settings as templates
from barmill.ingest.providers.websocket.messages import Kind, ProviderMessage, parse_message
from barmill.ingest.providers.websocket.settings import WebSocketFeed


@dataclass(frozen=True)
class Connecting:
    """The connection is being made."""

    connection: int


@dataclass(frozen=True)
class Connected:
    """The connection is established; date_ms: the Date header of the handshake in epoch ms, or None."""

    connection: int
    names: frozenset[str]
    heard_ms: int
    date_ms: int | None


@dataclass(frozen=True)
class Subscribed:
    """The provider sends prices of these instruments from now on: it has confirmed them, or has had time to do so."""

    connection: int
    names: frozenset[str]


@dataclass(frozen=True)
class MessageArrived:
    """A message has arrived."""

    connection: int
    message: ProviderMessage
    heard_ms: int


@dataclass(frozen=True)
class PongReceived:
    """Everything sent before the pong has been reported; sent_ms: when the ping was sent, by this machine's clock."""

    connection: int
    sent_ms: int


@dataclass(frozen=True)
class Disconnected:
    """The connection ended or could not be made; the next attempt follows after the pause."""

    connection: int
    error: RequestError
    pause: Pause


@dataclass(frozen=True)
class ThreadEnded:
    """The thread has ended, because it was stopped or because an error needs action by a person."""

    connection: int
    error: Exception | None


Event = Connecting | Connected | Subscribed | MessageArrived | PongReceived | Disconnected | ThreadEnded


_CHECK_EVERY_S = 0.05
_ACK_WAIT_S = 5.0
# This many unreadable messages in a row mean that the mapping does not fit the provider.
_MAX_UNREADABLE = 50
SHOWN_CHARACTERS = 200


@dataclass(frozen=True)
class SharedSettings:
    """The settings and callbacks that all connections of a provider share.

    connect_lock: held while connecting, so that many connections do not overload a provider that has just recovered.
    on_message: called with every message as received, before it is interpreted.
    """

    settings: WebSocketFeed
    guard: Guard
    key_of: Callable[[], str] | None
    emit: Callable[[Event], None]
    clock_ms: Callable[[], int]
    connect_lock: AbstractContextManager[object]
    on_message: Callable[[bytes], None] = lambda _: None


class MessageLoop:
    """The exchange of messages over one connection, from the first subscription to the end of the connection."""

    def __init__(self, number: int, shared: SharedSettings) -> None:
        self._connection_number, self._shared, self._settings = number, shared, shared.settings
        self._key = ""
        self._outbox: deque[JsonValue] = deque()
        self._subscribed: frozenset[str] = frozenset()
        self._awaited: frozenset[str] = frozenset()
        self._acks_left = self._message_number = self._unreadable = 0
        self._heard_s = self._send_at_s = self._ack_until_s = 0.0
        self._ping_at_s = self._began_s = 0.0
        self._pending_ping: tuple[threading.Event, int] | None = None

    @property
    def connected_s(self) -> float:
        """Return for how many seconds messages have been arriving."""
        return self._heard_s - self._began_s if self._began_s else 0.0

    def run(
        self,
        connection: ClientConnection,
        key: str,
        selected: Callable[[], frozenset[str]],
        stop: threading.Event,
    ) -> None:
        """Send and receive messages until `stop` is set.

        Raise ConnectionClosed when the connection ends, and a RequestError when it must end.
        """
        self._key = key
        self._began_s = self._heard_s = time.monotonic()
        date_ms = None
        if connection.response is not None:
            date_ms = server_ms(httpx.Headers(list(connection.response.headers.raw_items())))
        self._shared.emit(Connected(self._connection_number, selected(), self._shared.clock_ms(), date_ms))
        while not stop.is_set():
            self._update_subscriptions(selected())
            self._send(connection)
            try:
                data = connection.recv(timeout=_CHECK_EVERY_S, decode=False)
            except TimeoutError:
                self._check_silence()
                continue
            self._heard_s = time.monotonic()
            self._shared.on_message(data)
            self._handle_message(parse_message(data, self._settings))

    def _update_subscriptions(self, selected: frozenset[str]) -> None:
        """Subscribe to new instruments and unsubscribe from those no longer selected."""
        new, removed = selected - self._subscribed, self._subscribed - selected
        if removed and not self._settings.unsubscribe:
            raise UnreachableError("Fewer instruments are enabled than before; reconnecting without the others.")
        for message_templates, names in ((self._settings.unsubscribe, removed), (self._settings.subscribe, new)):
            messages = list(
                templates.messages(
                    message_templates, sorted(names), self._settings.per_message, self._key, self._message_number
                )
            )
            self._message_number += len(messages)
            self._outbox.extend(messages)
            if names is new and new:
                self._acks_left += len(new) if self._settings.acks_per == "instrument" else len(messages)
        self._awaited |= new
        self._subscribed = selected

    def _send(self, connection: ClientConnection) -> None:
        now_s = time.monotonic()
        if self._outbox and now_s >= self._send_at_s:
            connection.send(orjson.dumps(self._outbox.popleft()).decode())
            self._send_at_s = now_s + 1 / self._settings.messages_per_s
            self._ack_until_s = now_s + _ACK_WAIT_S
        if self._awaited and not self._outbox:
            is_confirmed = self._acks_left <= 0 or not self._settings.acks
            if is_confirmed or now_s >= self._ack_until_s:
                self._shared.emit(Subscribed(self._connection_number, self._awaited))
                self._awaited, self._acks_left = frozenset(), 0
        if now_s >= self._ping_at_s:
            self._ping_at_s = now_s + self._settings.ping_s
            if self._settings.ping is not None:
                self._message_number += 1
                self._outbox.append(templates.message(self._settings.ping, self._key, self._message_number))
            elif self._pending_ping is None:
                self._pending_ping = (connection.ping(), self._shared.clock_ms())

    def _check_silence(self) -> None:
        """Distinguish silence from a dead connection; called when there is nothing to read."""
        if self._pending_ping is not None and self._pending_ping[0].is_set():
            self._heard_s = time.monotonic()
            self._shared.emit(PongReceived(self._connection_number, self._pending_ping[1]))
            self._pending_ping = None
        if time.monotonic() - self._heard_s > self._settings.silence_s:
            raise UnreachableError(f"No message has arrived for {self._settings.silence_s:g} s.")

    def _handle_message(self, message: ProviderMessage) -> None:
        text = redact_key(message.text, self._key)[:SHOWN_CHARACTERS]
        if message.kind is Kind.LIMITED:
            raise LimitedError(f"The provider reports a rate limit: {text}", None)
        if message.kind is Kind.REFUSED:
            raise KeyRefusedError(f"The provider rejects the key, or the key does not permit this request: {text}")
        if message.kind in (Kind.ACK, Kind.ERROR):
            self._acks_left -= 1
        self._unreadable = self._unreadable + 1 if message.kind is Kind.UNREADABLE else 0
        if self._unreadable >= _MAX_UNREADABLE:
            raise InvalidResponseError(
                f"The last {_MAX_UNREADABLE} messages do not match the mapping; the newest is {message.problem}: {text}"
            )
        reported = ProviderMessage(message.kind, message.rows, message.server_time, text, message.problem)
        self._shared.emit(MessageArrived(self._connection_number, reported, self._shared.clock_ms()))
