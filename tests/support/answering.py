"""A server that answers one request with given bytes."""

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Thread

OK = b"HTTP/1.1 200 OK\r\nConnection: close\r\n"
# Without a request after this time, the server fails and so does the test.
_LONGEST_WAIT_S = 20


@contextmanager
def answering(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """Yield the address of a server that answers one request with given bytes."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(_LONGEST_WAIT_S)

        def serve() -> None:
            connection, _ = listening.accept()
            with connection, suppress(ConnectionError):
                connection.recv(65_536)
                answer(connection)

        thread = Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        thread.join()


def endless(connection: socket.socket) -> None:
    """Answer with a body that has no end."""
    connection.sendall(OK + b"\r\n")
    while True:
        connection.sendall(b"x" * 65_536)


def dripping(connection: socket.socket) -> None:
    """Answer with a body that comes byte by byte, until the client closes the connection."""
    connection.sendall(OK + b"\r\n")
    connection.settimeout(0.05)
    while True:
        connection.sendall(b"x")
        with suppress(TimeoutError):
            if not connection.recv(1):
                return
