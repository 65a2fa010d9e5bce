"""Which addresses a feed may reach: the public internet over TLS, and what an admin allows beside it.

A name is looked up once and the connection goes to exactly what was found and checked, so a name that leads elsewhere
at the next look-up gains nothing.
"""

import ipaddress
import socket
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from ssl import SSLContext

import httpx
from pydantic import field_validator

from control.settings_file import SettingsFile
from feed.connection.errors import AddressRefusedError, UnreachableError

IP = ipaddress.IPv4Address | ipaddress.IPv6Address
Lookup = Callable[[str, int], Sequence[str]]

CONNECT_TIMEOUT_S = 5.0
_PORTS = {"http": 80, "ws": 80, "https": 443, "wss": 443}
_ENCRYPTED = frozenset({"https", "wss"})
# A public address, but inside Azure it is the machine's own host, which hands out certificates and settings.
_METADATA: frozenset[IP] = frozenset({ipaddress.ip_address("168.63.129.16")})
_GLOBAL_V6 = ipaddress.ip_network("2000::/3")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class FeedsAccess(SettingsFile):
    """Where feeds may go beside the public internet, read from feeds-access.json in the home.

    allow: names of hosts, addresses, or networks such as "10.1.0.0/16"; these may also be reached without TLS.
    """

    file_name = "feeds-access.json"

    allow: tuple[str, ...] = ()

    @field_validator("allow")
    @classmethod
    def _are_hosts_or_networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for one in value:
            if "/" in one:
                try:
                    ipaddress.ip_network(one)
                except ValueError:
                    raise ValueError(f'"{one}" is no network such as "10.1.0.0/16"') from None
        return tuple(one.lower() for one in value)

    def allows(self, host: str, ip: IP) -> bool:
        """Tell whether an address, found under this name, is allowed by name or by network."""
        return host.lower() in self.allow or any(ip in network for network in _networks(self.allow))


@dataclass(frozen=True)
class Address:
    """Where a connection may go: the addresses a host was found under, all of them checked."""

    host: str
    port: int
    encrypted: bool
    ips: tuple[str, ...]

    def connect(self, timeout_s: float = CONNECT_TIMEOUT_S) -> socket.socket:
        """Return a TCP connection to the first of the addresses that takes one; raise UnreachableError."""
        for ip in self.ips:
            with suppress(OSError):
                return socket.create_connection((ip, self.port), timeout_s)
        raise UnreachableError(f"{self.host} takes no connection on port {self.port}; is the address right?")


class Guard:
    """The gate that every connection of a feed goes through. Safe to share between threads."""

    def __init__(self, access: FeedsAccess | None = None, lookup: Lookup | None = None) -> None:
        self._access, self._lookup = access or FeedsAccess(), lookup or _looked_up

    def resolved(self, url: str, timeout_s: float = CONNECT_TIMEOUT_S) -> Address:
        """Return where this http, https, ws or wss address leads; raise a QuestionError where nothing may go there."""
        parts = parsed(url)
        return self.address(parts.host, parts.port or _PORTS[parts.scheme], is_encrypted(parts), timeout_s)

    def address(self, host: str, port: int, encrypted: bool, timeout_s: float = CONNECT_TIMEOUT_S) -> Address:
        """Look up and check a host; raise AddressRefusedError, or UnreachableError where it has no address."""
        found = [ipaddress.ip_address(one) for one in _in_time(lambda: self._lookup(host, port), host, timeout_s)]
        inside = [ip for ip in found if not is_public(ip)]
        if refused := [ip for ip in inside if not self._access.allows(host, ip)]:
            raise AddressRefusedError(
                f"{host} leads to {refused[0]}, which is not on the public internet, so no feed may go there; correct"
                f' the address, or allow it in {FeedsAccess.file_name}, such as {{"allow": ["{refused[0]}"]}}.'
            )
        if not encrypted and not all(self._access.allows(host, ip) for ip in found):
            raise AddressRefusedError(
                f"{host} would be reached without TLS, where a key could be read on the way; begin the address with"
                f" https:// or wss://, or allow the host in {FeedsAccess.file_name}."
            )
        return Address(host, port, encrypted, tuple(str(ip) for ip in found))


def parsed(url: str) -> httpx.URL:
    """Take an address apart; raise AddressRefusedError, which does not repeat it, where no feed can ask it."""
    try:
        parts = httpx.URL(url)
    except (httpx.InvalidURL, UnicodeError):
        raise AddressRefusedError("The address cannot be read; it looks like https://api.example.com.") from None
    if parts.scheme not in _PORTS or not parts.host:
        raise AddressRefusedError("The address begins with neither https:// nor wss://; correct it.")
    if parts.userinfo:
        raise AddressRefusedError("The address holds a name or password; keep it in the key store instead.")
    return parts


def is_encrypted(url: httpx.URL) -> bool:
    """Tell whether what goes to this address is encrypted."""
    return url.scheme in _ENCRYPTED


def is_public(ip: IP) -> bool:
    """Tell whether an address is one of the public internet, also behind the prefixes that wrap IPv4 into IPv6."""
    if isinstance(ip, ipaddress.IPv4Address):
        return ip.is_global and not ip.is_multicast and ip not in _METADATA
    if wrapped := _wrapped(ip):
        return all(is_public(one) for one in wrapped)
    return ip in _GLOBAL_V6 and ip.is_global and not ip.is_multicast


@cache
def trusted() -> SSLContext:
    """Return what checks the certificates of providers: always, and by no setting of the environment."""
    return httpx.create_ssl_context(trust_env=False)


def _wrapped(ip: ipaddress.IPv6Address) -> tuple[ipaddress.IPv4Address, ...]:
    if ip in _NAT64:
        return (ipaddress.IPv4Address(int(ip) & 0xFFFF_FFFF),)
    if ip.teredo is not None:
        return ip.teredo
    return tuple(one for one in (ip.ipv4_mapped, ip.sixtofour) if one is not None)


@cache
def _networks(allow: tuple[str, ...]) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    networks = []
    for one in allow:
        with suppress(ValueError):  # the name of a host
            networks.append(ipaddress.ip_network(one))
    return tuple(networks)


def _looked_up(host: str, port: int) -> Sequence[str]:
    # A scope such as %eth0 belongs to link-local addresses alone, which are refused with or without it.
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]).partition("%")[0] for *_, address in found))


def _in_time(work: Callable[[], Sequence[str]], host: str, timeout_s: float) -> Sequence[str]:
    """Look up in a thread of its own, since the system's resolver knows no time limit of ours."""
    answer: Future[Sequence[str]] = Future()

    def look_up() -> None:
        try:
            answer.set_result(work())
        except (OSError, UnicodeError) as error:
            answer.set_exception(error)

    threading.Thread(target=look_up, name="look-up", daemon=True).start()
    try:
        return answer.result(timeout_s)
    except TimeoutError:
        raise UnreachableError(f"The name {host} was not found in time; is this machine on the network?") from None
    except (OSError, UnicodeError):
        raise UnreachableError(f"There is no host {host}; check the address for typing errors.") from None
