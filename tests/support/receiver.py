"""A webhook receiver: a real HTTP server with given answers that records what it receives."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from barmill.platform.ports import LOOPBACK

TOKEN = "s3cr3t-t0ken-of-the-webhook"


@dataclass
class Receiver:
    """answers: the status of each answer to come, 200 when there are no more; 0 is none at all until `release`.

    endless: an answer has a body without end, of which sent_bytes were taken. slow: its head has no end, byte by byte.
    """

    port: int = 0
    answers: list[int] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[str | None] = field(default_factory=list)
    endless: bool = False
    slow: bool = False
    sent_bytes: int = 0
    release: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}/services/{TOKEN}?key={TOKEN}"

    @property
    def events(self) -> list[str]:
        return [body["event"] for body in self.bodies]

    @property
    def ids(self) -> list[str]:
        return [body["id"] for body in self.bodies]


@contextmanager
def receiving() -> Iterator[Receiver]:
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            receiver.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            receiver.headers.append(self.headers["X-Barmill-Delivery"])
            status = receiver.answers.pop(0) if receiver.answers else 200
            if status == 0:
                receiver.release.wait(60)
                return
            self.send_response(status)
            self.send_header("Location", "/elsewhere")
            if not receiver.endless and not receiver.slow:
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            try:
                if receiver.endless:
                    self.end_headers()
                self.flush_headers()
                while not receiver.release.wait(0.05 if receiver.slow else 0):
                    self.wfile.write(b"x" * (1 if receiver.slow else 65_536))
                    receiver.sent_bytes += 65_536
            except ConnectionError:
                receiver.release.set()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer((LOOPBACK, 0), Handler)
    receiver.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield receiver
    finally:
        receiver.release.set()
        server.shutdown()
        thread.join()
        server.server_close()
