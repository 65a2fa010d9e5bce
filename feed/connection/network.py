"""Connections for httpcore that go through the guard, and that end with the time of the question they serve."""

import time
from collections.abc import Iterable
from ssl import SSLContext
from typing import Any

import httpcore

from feed.connection.guard import Address, Guard

_CHUNK_BYTES = 64 * 1024


class GuardedNetwork(httpcore.NetworkBackend):
    """Opens connections to checked addresses only, and lets nothing on them take longer than the question may.

    deadline_s: when the question in hand must be answered, by the monotonic clock. encrypted: whether it goes over TLS.
    """

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self.deadline_s = 0.0
        self.encrypted = True

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect to the first of the host's checked addresses that takes a connection."""
        address = self._guard.address(host, port, self.encrypted, self.left_s(timeout))
        return _BoundedStream(self, self._opened(address, local_address, socket_options))

    def left_s(self, at_most_s: float | None = None) -> float:
        """Return how long the question may still take; raise ReadTimeout once that is over."""
        left_s = self.deadline_s - time.monotonic()
        if left_s <= 0:
            raise httpcore.ReadTimeout
        return left_s if at_most_s is None else min(left_s, at_most_s)

    def _opened(
        self, address: Address, local_address: str | None, options: Iterable[httpcore.SOCKET_OPTION] | None
    ) -> httpcore.NetworkStream:
        backend = httpcore.SyncBackend()
        for ip in address.ips[:-1]:
            try:
                return backend.connect_tcp(ip, address.port, self.left_s() / 2, local_address, options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                continue
        return backend.connect_tcp(address.ips[-1], address.port, self.left_s(), local_address, options)


class _BoundedStream(httpcore.NetworkStream):
    """A connection on which each step gets what is left of the question's time."""

    def __init__(self, network: GuardedNetwork, stream: httpcore.NetworkStream) -> None:
        self._network, self._stream = network, stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Read what is there, in pieces small enough to be counted."""
        return self._stream.read(min(max_bytes, _CHUNK_BYTES), self._network.left_s(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Write all of it."""
        self._stream.write(buffer, self._network.left_s(timeout))

    def close(self) -> None:
        """Close the connection."""
        self._stream.close()

    def start_tls(
        self, ssl_context: SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        """Encrypt the connection."""
        encrypted = self._stream.start_tls(ssl_context, server_hostname, self._network.left_s(timeout))
        return _BoundedStream(self._network, encrypted)

    def get_extra_info(self, info: str) -> Any:
        """Return what httpcore wants to know of the connection, such as whether it was closed meanwhile."""
        return self._stream.get_extra_info(info)
