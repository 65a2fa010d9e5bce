"""An exchange on loopback: trades that it makes, clients that it sends them to, an archive over HTTP, and its moods."""

import itertools
import json
import logging
import random
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.utils import formatdate
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection, serve

from barmill.platform.clock import now_ms

_quiet = logging.getLogger("tests.exchange")
_quiet.setLevel(logging.CRITICAL)


@dataclass(frozen=True)
class Trade:
    """A trade as the exchange has it; prices and sizes are the digits that it writes."""

    instrument: str
    id: int
    time_us: int
    price: str
    size: str


class Wire:
    """How a provider writes things; what most have in common is here."""

    name = ""
    instruments: tuple[str, ...] = ()
    ids = archive = True
    history = 0  # how many trades of an instrument come on a connect
    unit_us = 1_000
    refusal: object = None  # the message to a client without the right key; None where the handshake is refused

    def asked(self, _message: Mapping[str, object]) -> tuple[list[str], list[str]]:
        """Return the instruments that a message subscribes to and unsubscribes from."""
        raise LookupError(f"{self.name} does not stream")

    def answers(self, _message: Mapping[str, object], _now_us: int) -> list[object]:
        """Return what is answered to a message."""
        return []

    def trades(self, _trades: list[Trade], _now_us: int) -> list[object]:
        """Return the messages that carry trades."""
        raise LookupError(f"{self.name} does not stream")

    def snapshot(self, _trades: list[Trade]) -> list[object]:
        """Return what comes right after a subscription, given the trades so far of one instrument."""
        return []

    def heartbeats(self, _newest: list[Trade], _now_us: int) -> list[object]:
        """Return what comes every second, given the newest trade of each instrument."""
        return []

    def page(self, _path: str, _query: Mapping[str, str], _trades: Mapping[str, list[Trade]]) -> object:
        """Return the archive's answer to a question, as JSON or as its text."""
        raise LookupError(f"{self.name} has no archive")


@dataclass
class Client:
    """A connection and what it gets."""

    connection: ServerConnection
    instruments: set[str] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def send(self, *messages: object) -> None:
        with suppress(ConnectionClosed), self.lock:
            for message in messages:
                self.connection.send(message if isinstance(message, str) else json.dumps(message))


class _Line(ServerConnection):
    """A connection that can be made to say nothing more, not even pong, without being closed."""

    mute: Callable[[], bool]

    def send_data(self) -> None:
        if type(self).mute():
            self.protocol.data_to_send()
            return
        super().send_data()


class Exchange:
    """One exchange; every trade it ever made is in `made`."""

    def __init__(self, wire: Wire, clock_ms: Callable[[], int] = now_ms) -> None:
        self.wire, self._clock_ms = wire, clock_ms
        self.made: dict[str, list[Trade]] = {name: [] for name in wire.instruments}
        self.unsent: set[tuple[str, int]] = set()
        self.skew_ms = 0
        self.key: str | None = None
        self.down = self.mute = self.archive_down = False
        self.limits: list[str] = []
        self.archive_limits: list[str] = []
        self.forgets_before: int = 0
        self.connects = self.refused = self.questions = 0
        self.subscriptions: list[object] = []
        self.url = self.archive_url = ""
        self._clients: list[Client] = []
        self._ids = {name: itertools.count(1_000 * (1 + number)) for number, name in enumerate(wire.instruments)}
        self._random = random.Random(7)
        self._lock = threading.RLock()

    @property
    def now_us(self) -> int:
        return (self._clock_ms() + self.skew_ms) * 1_000

    @property
    def clients(self) -> list[Client]:
        return [client for client in self._clients if client.instruments]

    def trade(self, instrument: str, count: int = 1, *, sent: bool = True, at_us: int | None = None) -> list[Trade]:
        """Make trades and send them to who wants them, one message each as the wire has it."""
        with self._lock:
            unit = self.wire.unit_us
            new = [
                Trade(
                    instrument,
                    next(self._ids[instrument]),
                    (at_us if at_us is not None else self.now_us) // unit * unit,
                    f"{self._random.uniform(1, 99_999):.8f}",
                    f"{self._random.uniform(0.00000001, 9):.8f}",
                )
                for _ in range(count)
            ]
            self.made[instrument] += new
            if sent:
                self.send(new)
        return new

    def send(self, trades: list[Trade]) -> None:
        """Send trades, again or in another order as it may be."""
        for client in list(self._clients):
            mine = [trade for trade in trades if trade.instrument in client.instruments]
            if mine:
                client.send(*self.wire.trades(mine, self.now_us))

    def say(self, *messages: object) -> None:
        """Send everybody something."""
        for client in list(self._clients):
            client.send(*messages)

    def beat(self) -> None:
        """Send the heartbeats of a moment."""
        with self._lock:
            for client in list(self._clients):
                newest = [self.made[name][-1] for name in sorted(client.instruments) if self.made[name]]
                client.send(*self.wire.heartbeats(newest, self.now_us))

    def drop(self, code: int | None = None, reason: str = "") -> None:
        """End all connections: with a code, or as a cable that is cut."""
        for client in list(self._clients):
            if code is not None:
                client.connection.close(code, reason)
            with suppress(OSError):
                client.connection.socket.shutdown(socket.SHUT_RDWR)

    def admit(self, connection: ServerConnection, request: Request) -> Response | None:
        """Let a client in, or say why not."""
        if self.down:
            return connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, "maintenance")
        if self.limits:
            self.refused += 1
            answer = connection.respond(HTTPStatus.TOO_MANY_REQUESTS, "slow down")
            answer.headers["Retry-After"] = self.limits.pop(0)
            return answer
        if not self._key_fits(request.path) and self.wire.refusal is None:
            self.refused += 1
            return connection.respond(HTTPStatus.UNAUTHORIZED, f"bad token in {request.path}")
        return None

    def dated(self, _connection: ServerConnection, _request: Request, response: Response) -> None:
        """Let the handshake say the exchange's own time."""
        del response.headers["Date"]
        response.headers["Date"] = formatdate(self.now_us / 1_000_000, usegmt=True)

    def serve(self, connection: ServerConnection) -> None:
        """Talk to a client until it goes."""
        client = Client(connection)
        self.connects += 1
        assert connection.request is not None
        if not self._key_fits(connection.request.path):
            client.send(self.wire.refusal)
            connection.close()
            return
        self._clients.append(client)
        try:
            for data in connection:
                message = json.loads(data)
                added, removed = self.wire.asked(message)
                self.subscriptions.append(message)
                with self._lock:
                    client.send(*self.wire.answers(message, self.now_us))
                    for name in added:
                        client.send(*self.wire.snapshot(self.made.get(name, [])))
                    client.instruments |= set(added)
                    client.instruments -= set(removed)
        except ConnectionClosed:
            pass
        finally:
            self._clients.remove(client)

    def answer(self, target: str) -> tuple[int, dict[str, str], bytes]:
        """Answer a question to the archive."""
        self.questions += 1
        if self.archive_down:
            return 503, {}, b"maintenance"
        if self.archive_limits:
            return 429, {"Retry-After": self.archive_limits.pop(0)}, b"slow down"
        parts = urlsplit(target)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        with self._lock:
            kept = {
                name: [trade for trade in trades if trade.id >= self.forgets_before]
                for name, trades in self.made.items()
            }
            page = self.wire.page(parts.path, query, kept)
        return 200, {}, page.encode() if isinstance(page, str) else json.dumps(page).encode()

    def _key_fits(self, path: str) -> bool:
        return self.key is None or parse_qs(urlsplit(path).query).get("token") == [self.key]


@contextmanager
def running(exchange: Exchange) -> Iterator[Exchange]:
    """Run an exchange's two servers until the block ends."""

    class Archive(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            status, headers, body = exchange.answer(self.path)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def date_time_string(self, timestamp: float | None = None) -> str:
            return formatdate(exchange.now_us / 1_000_000 if timestamp is None else timestamp, usegmt=True)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    class Line(_Line):
        mute = staticmethod(lambda: exchange.mute)

    archive = ThreadingHTTPServer(("127.0.0.1", 0), Archive)
    archive.daemon_threads = True
    server = serve(
        exchange.serve,
        "127.0.0.1",
        0,
        process_request=exchange.admit,
        process_response=exchange.dated,
        create_connection=Line,
        ping_interval=None,
        close_timeout=0.2,
        logger=_quiet,
    )
    threads = [threading.Thread(target=service.serve_forever) for service in (archive, server)]
    for thread in threads:
        thread.start()
    exchange.url = f"ws://127.0.0.1:{server.socket.getsockname()[1]}/ws"
    exchange.archive_url = f"http://127.0.0.1:{archive.server_address[1]}"
    try:
        yield exchange
    finally:
        exchange.drop()
        server.shutdown()
        archive.shutdown()
        archive.server_close()
        for thread in threads:
            thread.join(30)
