"""A real HTTP server on loopback that answers as a test says, and remembers what it was asked."""

import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

from barmill.ingest.connection.guard import FeedsAccess, Guard

NEAR = FeedsAccess(allow=("127.0.0.0/8",))


def near_guard() -> Guard:
    """Return a guard that lets a feed reach stand-ins."""
    return Guard(NEAR)


@dataclass(frozen=True)
class Asked:
    """One question, with the names of headers in lower case."""

    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Reply:
    """What is answered: bytes as they are, pieces one after the other, or anything else as JSON."""

    body: object = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    date_s: float | None = None  # the clock of the provider, None: ours

    def pieces(self) -> Iterable[bytes]:
        """Return the body as what goes over the wire."""
        if isinstance(self.body, bytes):
            return [self.body]
        return self.body if isinstance(self.body, Iterator) else [json.dumps(self.body).encode()]


class StandIn:
    """One running server; `answers` may be replaced at any time."""

    def __init__(self, url: str, answers: Callable[[Asked], Reply]) -> None:
        self.url, self.answers = url, answers
        self.asked: list[Asked] = []
        self.sent_bytes = 0


@contextmanager
def standing_in(answers: Callable[[Asked], Reply]) -> Iterator[StandIn]:
    """Run a server until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            headers = {name.lower(): value for name, value in self.headers.items()}
            asked = Asked(parts.path, dict(parse_qsl(parts.query)), headers)
            here.asked.append(asked)
            self._send(here.answers(asked))

        def _send(self, reply: Reply) -> None:
            sent = {"Content-Type": "application/json", "Date": formatdate(reply.date_s, usegmt=True), **reply.headers}
            try:
                self.send_response_only(reply.status)
                if isinstance(reply.body, Iterator):
                    self.close_connection = True
                    sent["Connection"] = "close"
                else:
                    sent["Content-Length"] = str(sum(map(len, reply.pieces())))
                for name, value in sent.items():
                    self.send_header(name, value)
                self.end_headers()
                for piece in reply.pieces():
                    self.wfile.write(piece)
                    here.sent_bytes += len(piece)
            except OSError:
                self.close_connection = True  # the client has disconnected

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    here = StandIn(f"http://127.0.0.1:{server.server_address[1]}", answers)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield here
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def always(reply: Reply) -> Callable[[Asked], Reply]:
    """Return what answers every question alike."""
    return lambda _: reply
