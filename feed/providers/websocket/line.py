"""One connection to a provider, held up by a thread of its own, which tells what happens as events.

The thread connects, subscribes to what is wanted at that moment, pings, reads, and connects anew when it must.
"""

import logging
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import httpx
import orjson
from pydantic import JsonValue
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from feed.connection.errors import (
    AddressRefusedError,
    BrokenAnswerError,
    KeyRefusedError,
    LimitedError,
    NotFoundError,
    QuestionError,
    UnreachableError,
)
from feed.connection.guard import Guard, parsed, trusted
from feed.connection.http import redacted, refusal, retry_after_s, said_in, server_ms
from feed.connection.reconnect import Attempts, Pause
from feed.provider import ProviderError
from feed.providers.websocket import templates
from feed.providers.websocket.messages import Kind, Said, read
from feed.providers.websocket.settings import WebSocketFeed

MAX_MESSAGE_BYTES = 4 * 1024 * 1024
OPEN_TIMEOUT_S = 10.0
CLOSE_TIMEOUT_S = 1.0
_LOOK_S = 0.05
_ACK_WAIT_S = 5.0
# So many messages in a row that make no sense mean that the mapping does not fit the provider.
_MAX_GARBAGE = 50
_SHOWN_CHARACTERS = 200
# The library logs what it sends and receives, keys included, where it is let.
_wire = logging.getLogger("feed.wire")
_wire.setLevel(logging.ERROR)


@dataclass(frozen=True)
class Connecting:
    """The connection is being made."""

    line: int


@dataclass(frozen=True)
class Up:
    """The connection stands; date_ms is the Date of the handshake, if it had one."""

    line: int
    names: frozenset[str]
    heard_ms: int
    date_ms: int | None


@dataclass(frozen=True)
class Subscribed:
    """The provider sends prices of these from now on."""

    line: int
    names: frozenset[str]


@dataclass(frozen=True)
class Heard:
    """A message has come."""

    line: int
    said: Said
    heard_ms: int


@dataclass(frozen=True)
class CaughtUp:
    """Everything that the provider had sent when it answered a ping of `sent_ms`, by our clock, has been told."""

    line: int
    sent_ms: int


@dataclass(frozen=True)
class Down:
    """The connection is gone, or could not be made; the next attempt comes after the pause."""

    line: int
    error: QuestionError
    pause: Pause


@dataclass(frozen=True)
class Ended:
    """The thread has ended: as told, or because of something that a person must mend."""

    line: int
    error: Exception | None


Event = Connecting | Up | Subscribed | Heard | CaughtUp | Down | Ended
# What no further attempt would change.
_FOR_A_PERSON = (AddressRefusedError, BrokenAnswerError, KeyRefusedError, NotFoundError)


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


class Line:
    """A connection and the instruments that go over it."""

    def __init__(self, number: int, means: Means, attempts: Attempts) -> None:
        self.number, self.names = number, frozenset[str]()
        self._means, self._attempts, self._settings = means, attempts, means.settings
        self._host = parsed(means.settings.url).host
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"line-{number}", daemon=True)

    def start(self, names: frozenset[str]) -> None:
        """Begin to connect."""
        self.names = names
        self._thread.start()

    def stop(self) -> None:
        """Have the thread end soon."""
        self._stop.set()

    def join(self) -> None:
        """Wait until the thread has ended."""
        self._thread.join()

    def _run(self) -> None:
        error: Exception | None = None
        while not self._stop.is_set() and error is None:
            talk = _Talk(self.number, self._means)
            try:
                self._connect(talk)
            except _FOR_A_PERSON as refused:
                error = refused
            except ProviderError as no_key:
                error = no_key
            except QuestionError as lost:
                pause = self._attempts.failed(lost, talk.stood_s)
                self._means.tell(Down(self.number, lost, pause))
                self._stop.wait(pause.seconds)
        self._means.tell(Ended(self.number, error))

    def _connect(self, talk: "_Talk") -> None:
        """Make one connection and read it until it ends, which raises, or the thread is told to stop."""
        key = self._means.key_of() if self._means.key_of is not None else ""
        try:
            with self._means.one_at_a_time:
                if self._stop.is_set():
                    return
                self._means.tell(Connecting(self.number))
                opened = self._opened(key)
            with opened as connection:
                talk.read(connection, key, lambda: self.names, self._stop)
        except ConnectionClosed as closed:
            raise self._ended(closed, key) from None
        except InvalidStatus as status:
            raise self._not_taken(status, key) from None
        except ssl.SSLCertVerificationError:
            raise UnreachableError(
                f"The certificate of {self._host} is not trusted, so nothing was sent; is the address right?"
            ) from None
        except (InvalidHandshake, EOFError):
            raise UnreachableError(f"{self._host} broke off while the connection was being made.") from None
        except ValueError:  # how the library says that it was led on to another address
            raise BrokenAnswerError(f"{self._host} leads on to another address; give that one instead.") from None
        except OSError as error:
            raise UnreachableError(f"{self._host} cannot be reached ({type(error).__name__}).") from None

    def _opened(self, key: str) -> ClientConnection:
        settings = self._settings
        if key and not (key.isascii() and key.isprintable() and " " not in key):
            raise KeyRefusedError("The stored key has characters that no key has; store it again.")
        address = self._means.guard.resolved(settings.url)
        return connect(
            templates.with_key(settings.url, settings.key, key),
            sock=address.connect(),
            ssl=trusted() if address.encrypted else None,
            additional_headers=templates.headers_with_key(settings.key, key),
            user_agent_header="barmill",
            proxy=None,
            open_timeout=min(OPEN_TIMEOUT_S, settings.silence_s),
            close_timeout=CLOSE_TIMEOUT_S,
            ping_interval=None,
            max_size=MAX_MESSAGE_BYTES,
            logger=_wire,
        )

    def _ended(self, closed: ConnectionClosed, key: str) -> QuestionError:
        frame = closed.rcvd
        if closed.sent is not None and closed.sent.code == 1009 and not closed.rcvd_then_sent:
            return UnreachableError(f"{self._host} sent a message of more than {MAX_MESSAGE_BYTES:,} bytes.")
        if frame is None:
            return UnreachableError(f"{self._host} broke the connection off.")
        reason = f", {redacted(frame.reason, key)[:_SHOWN_CHARACTERS]}" if frame.reason else ""
        said = f"{self._host} closed the connection (code {frame.code}{reason})."
        return LimitedError(said, None) if frame.code in self._settings.limited_codes else UnreachableError(said)

    def _not_taken(self, error: InvalidStatus, key: str) -> QuestionError:
        response = error.response
        said = said_in(bytes(response.body), key)
        headers = httpx.Headers(list(response.headers.raw_items()))
        return refusal(response.status_code, self._host, said, retry_after_s(headers))


class _Talk:
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
        shown = redacted(said.text, self._key)[:_SHOWN_CHARACTERS]
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
