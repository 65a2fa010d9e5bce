"""A server that answers one request as it is told to, byte for byte."""

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Thread

OK = b"HTTP/1.1 200 OK\r\nConnection: close\r\n"


@contextmanager
def answering(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """Lend the address of a server that answers one request as it is told to."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            connection, _ = listening.accept()
            with connection, suppress(ConnectionError):
                connection.recv(65_536)
                answer(connection)

        thread = Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        thread.join()


def endless(one: socket.socket) -> None:
    """Answer with a body that has no end."""
    one.sendall(OK + b"\r\n")
    while True:
        one.sendall(b"x" * 65_536)
