"""The guard of REST and WebSocket feeds: the addresses they may reach, and connections limited to these addresses.

A host name is resolved once, and the connection goes to exactly the addresses that were found and checked. So a name
that resolves to another address on the next lookup (DNS rebinding) gains nothing.
"""

import ipaddress
import socket
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from ssl import SSLContext
from typing import Any

import httpcore
import httpx
from pydantic import field_validator

from barmill.ingest.connection.reconnect import AddressRefusedError, UnreachableError
from barmill.platform.settings_file import SettingsFile

IP = ipaddress.IPv4Address | ipaddress.IPv6Address
Lookup = Callable[[str, int], Sequence[str]]

CONNECT_TIMEOUT_S = 5.0
_PORTS = {"http": 80, "ws": 80, "https": 443, "wss": 443}
_ENCRYPTED_SCHEMES = frozenset({"https", "wss"})
# A public address, but inside Azure it is the virtual machine's host, which serves certificates and settings.
_METADATA_SERVICES: frozenset[IP] = frozenset({ipaddress.ip_address("168.63.129.16")})
_GLOBAL_V6 = ipaddress.ip_network("2000::/3")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class FeedsAccess(SettingsFile):
    """The destinations that feeds may reach in addition to the public internet, from feeds-access.json in the home.

    allow: host names, addresses, or networks such as "10.1.0.0/16"; these may also be reached without TLS. For a Kafka
    feed, it only lists the hosts that may receive a password without TLS.
    """

    file_name = "feeds-access.json"

    allow: tuple[str, ...] = ()

    @field_validator("allow")
    @classmethod
    def _are_hosts_or_networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for allowed in value:
            if "/" in allowed:
                try:
                    ipaddress.ip_network(allowed)
                except ValueError:
                    raise ValueError(f'"{allowed}" is not a network such as "10.1.0.0/16"') from None
        return tuple(allowed.lower() for allowed in value)

    def allows(self, host: str, ip: IP) -> bool:
        """Return whether an address that this host name resolved to is allowed, by name or by network."""
        return host.lower() in self.allow or any(ip in network for network in _networks(self.allow))


@dataclass(frozen=True)
class Address:
    """A checked destination of a connection, with all addresses of the host."""

    host: str
    port: int
    encrypted: bool
    ips: tuple[str, ...]

    def connect(self, timeout_s: float = CONNECT_TIMEOUT_S) -> socket.socket:
        """Return a TCP connection to the first address that accepts one; raise UnreachableError if none does."""
        for ip in self.ips:
            with suppress(OSError):
                return socket.create_connection((ip, self.port), timeout_s)
        raise UnreachableError(f"{self.host} accepts no connection on port {self.port}; check the address.")


class Guard:
    """The check that every connection of a REST or WebSocket feed passes. Safe to share between threads."""

    def __init__(self, access: FeedsAccess | None = None, lookup: Lookup | None = None) -> None:
        self._access, self._lookup = access or FeedsAccess(), lookup or _resolve_host

    def resolve(self, url: str, timeout_s: float = CONNECT_TIMEOUT_S) -> Address:
        """Return the destination of an http, https, ws or wss URL; raise as `parse_url` and `address` do."""
        parts = parse_url(url)
        return self.address(parts.host, parts.port or _PORTS[parts.scheme], is_encrypted(parts), timeout_s)

    def address(self, host: str, port: int, encrypted: bool, timeout_s: float = CONNECT_TIMEOUT_S) -> Address:
        """Resolve and check a host; raise AddressRefusedError, or UnreachableError if the name cannot be resolved."""
        ips = [
            ipaddress.ip_address(address)
            for address in _resolve_in_time(lambda: self._lookup(host, port), host, timeout_s)
        ]
        private_ips = [ip for ip in ips if not is_public(ip)]
        if refused := [ip for ip in private_ips if not self._access.allows(host, ip)]:
            raise AddressRefusedError(
                f"{host} resolves to {refused[0]}, which is not a public address, so feeds may not connect to it;"
                f' correct it, or allow the address in {FeedsAccess.file_name}: {{"allow": ["{refused[0]}"]}}.'
            )
        if not encrypted and not all(self._access.allows(host, ip) for ip in ips):
            raise AddressRefusedError(
                f"The connection to {host} would not be encrypted, so others could read a key; use an address that"
                f" begins with https:// or wss://, or allow the host in {FeedsAccess.file_name}."
            )
        return Address(host, port, encrypted, tuple(str(ip) for ip in ips))


def parse_url(url: str) -> httpx.URL:
    """Parse a URL; raise AddressRefusedError, which does not repeat the URL, if no feed can request it."""
    try:
        parts = httpx.URL(url)
    except (httpx.InvalidURL, UnicodeError):
        raise AddressRefusedError("The address is invalid; write it like https://api.example.com.") from None
    if parts.scheme not in _PORTS or not parts.host:
        raise AddressRefusedError("The address must begin with https:// or wss://; correct it.")
    if parts.userinfo:
        raise AddressRefusedError("The address contains a user name or password; store it as an API key instead.")
    return parts


def is_encrypted(url: httpx.URL) -> bool:
    """Return whether connections to this URL are encrypted."""
    return url.scheme in _ENCRYPTED_SCHEMES


def is_public(ip: IP) -> bool:
    """Return whether an address belongs to the public internet; IPv4 addresses wrapped in IPv6 are unwrapped first."""
    if isinstance(ip, ipaddress.IPv4Address):
        return ip.is_global and not ip.is_multicast and ip not in _METADATA_SERVICES
    if wrapped := _wrapped(ip):
        return all(is_public(inner) for inner in wrapped)
    return ip in _GLOBAL_V6 and ip.is_global and not ip.is_multicast


@cache
def tls_context() -> SSLContext:
    """Return the TLS context that verifies providers' certificates; no environment variable can change it."""
    return httpx.create_ssl_context(trust_env=False)


def _wrapped(ip: ipaddress.IPv6Address) -> tuple[ipaddress.IPv4Address, ...]:
    if ip in _NAT64:
        return (ipaddress.IPv4Address(int(ip) & 0xFFFF_FFFF),)
    if ip.teredo is not None:
        return ip.teredo
    return tuple(inner for inner in (ip.ipv4_mapped, ip.sixtofour) if inner is not None)


@cache
def _networks(allow: tuple[str, ...]) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    networks = []
    for allowed in allow:
        with suppress(ValueError):  # a host name
            networks.append(ipaddress.ip_network(allowed))
    return tuple(networks)


def _resolve_host(host: str, port: int) -> Sequence[str]:
    # Only link-local addresses have a scope such as %eth0, and these are never public.
    resolved = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]).partition("%")[0] for *_, address in resolved))


def _resolve_in_time(work: Callable[[], Sequence[str]], host: str, timeout_s: float) -> Sequence[str]:
    """Resolve in a separate thread, as the system resolver accepts no timeout; raise UnreachableError on failure."""
    result: Future[Sequence[str]] = Future()

    def look_up() -> None:
        try:
            result.set_result(work())
        except (OSError, UnicodeError) as error:
            result.set_exception(error)

    threading.Thread(target=look_up, name="look-up", daemon=True).start()
    try:
        return result.result(timeout_s)
    except TimeoutError:
        raise UnreachableError(
            f"The name {host} could not be resolved in time; check this machine's network connection."
        ) from None
    except (OSError, UnicodeError):
        raise UnreachableError(
            f"The host {host} was not found; check the address, and the network of this machine."
        ) from None


_CHUNK_BYTES = 64 * 1024


class GuardedNetwork(httpcore.NetworkBackend):
    """A network backend that connects to checked addresses only and enforces the request's deadline on every step.

    deadline_s: when the current request must be complete, by the monotonic clock, in seconds. encrypted: whether it
    uses TLS.
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
        """Connect to the first checked address of the host that accepts a connection."""
        address = self._guard.address(host, port, self.encrypted, self.remaining_s(timeout))
        return _BoundedStream(self, self._open(address, local_address, socket_options))

    def remaining_s(self, at_most_s: float | None = None) -> float:
        """Return how many seconds are left for the request; raise ReadTimeout if none are."""
        remaining_s = self.deadline_s - time.monotonic()
        if remaining_s <= 0:
            raise httpcore.ReadTimeout
        return remaining_s if at_most_s is None else min(remaining_s, at_most_s)

    def _open(
        self, address: Address, local_address: str | None, options: Iterable[httpcore.SOCKET_OPTION] | None
    ) -> httpcore.NetworkStream:
        backend = httpcore.SyncBackend()
        for ip in address.ips[:-1]:
            try:
                return backend.connect_tcp(ip, address.port, self.remaining_s() / 2, local_address, options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                continue
        return backend.connect_tcp(address.ips[-1], address.port, self.remaining_s(), local_address, options)


class _BoundedStream(httpcore.NetworkStream):
    """A connection on which each step is limited to the time left for the request."""

    def __init__(self, network: GuardedNetwork, stream: httpcore.NetworkStream) -> None:
        self._network, self._stream = network, stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Read at most `_CHUNK_BYTES`, so that the deadline and the size limit are checked often."""
        return self._stream.read(min(max_bytes, _CHUNK_BYTES), self._network.remaining_s(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Write the whole buffer."""
        self._stream.write(buffer, self._network.remaining_s(timeout))

    def close(self) -> None:
        """Close the connection."""
        self._stream.close()

    def start_tls(
        self, ssl_context: SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        """Encrypt the connection."""
        encrypted = self._stream.start_tls(ssl_context, server_hostname, self._network.remaining_s(timeout))
        return _BoundedStream(self._network, encrypted)

    def get_extra_info(self, info: str) -> Any:
        """Return connection details for httpcore, such as whether the connection was closed."""
        return self._stream.get_extra_info(info)
