"""The hosts to which a key may be sent. Pure.

A host is a name or an address without a port, `*.example.com` for all names below a domain, or `ccxt:kraken` for the
hosts that the library ccxt defines for an exchange.
"""

import ipaddress
import json
import re
from collections.abc import Iterable, Sequence
from urllib.parse import urlsplit

from barmill.secrets.info import KeyStoreError

MAX_HOSTS = 50
_HOST = re.compile(r"(?:\*\.)?[a-z0-9_](?:[a-z0-9_.-]{0,251}[a-z0-9_])?|ccxt:[a-z0-9_]{1,60}")
_LOOPBACK_NAMES = frozenset({"localhost"})
# Default hosts by provider name, if no hosts are given.
_PROVIDER_HOSTS = {
    "market": ("127.0.0.1", "localhost"),
    "finnhub": ("finnhub.io", "*.finnhub.io"),
    "twelve-data": ("api.twelvedata.com", "ws.twelvedata.com"),
    "twelvedata": ("api.twelvedata.com", "ws.twelvedata.com"),
    "alpaca": ("*.alpaca.markets",),
    "oanda": ("api-fxpractice.oanda.com", "api-fxtrade.oanda.com"),
    "massive": ("*.massive.com", "*.polygon.io"),
    "polygon": ("*.massive.com", "*.polygon.io"),
    "binance": ("*.binance.com", "ccxt:binance"),
    "coinbase": ("*.coinbase.com", "ccxt:coinbase"),
    "kraken": ("*.kraken.com", "ccxt:kraken"),
}


class KeyHostError(KeyStoreError):
    """The key may not be sent to this host; to change its hosts, rotate it."""


def hosts_of_provider(provider: str) -> tuple[str, ...]:
    """Return the usual hosts for keys of a provider; empty for an unknown provider."""
    return _PROVIDER_HOSTS.get(provider, ())


def normalized_hosts(hosts: Iterable[str]) -> tuple[str, ...]:
    """Return hosts in their stored form, without repeats. Raise KeyStoreError for an invalid host."""
    normalized = tuple(dict.fromkeys(host.strip().lower() for host in hosts if host.strip()))
    if len(normalized) > MAX_HOSTS:
        raise KeyStoreError(f"A key may be bound to at most {MAX_HOSTS} hosts.")
    for host in normalized:
        if _HOST.fullmatch(host) is None and not _is_ip(host):
            raise KeyStoreError(f'"{host[:80]}" is not a host; write api.example.com, *.example.com or ccxt:kraken.')
    return normalized


def check_hosts(name: str, allowed: Sequence[str], used: Sequence[str]) -> None:
    """Raise KeyHostError if a key may not be sent to one of these hosts. A key without hosts may only go to loopback.

    Also raise it if `used` is empty, since then the destination is unknown.
    """
    if not used:
        raise KeyHostError(f"The key {name!r} is not sent, because the settings of the feed name no host.")
    for host in (text.lower().strip("[]") for text in used):
        if not any(_matches(host, pattern) for pattern in allowed) and (allowed or not is_loopback(host)):
            binding = f"is bound to {', '.join(allowed)}" if allowed else "is bound to no host"
            raise KeyHostError(
                f"The key {name!r} {binding} and is not sent to {host}; if it belongs there, enter it again with"
                f" ./barmill key rotate {name} --host {host}."
            )


def hosts_in(kind: str, settings: str) -> tuple[str, ...]:
    """Return the hosts to which stored settings of a feed connect; empty if the settings are unreadable."""
    try:
        fields = json.loads(settings)
    except json.JSONDecodeError:
        return ()
    if not isinstance(fields, dict):
        return ()
    match kind:
        case "market":
            return ("127.0.0.1",)
        case "ccxt":
            return (f"ccxt:{fields.get('exchange', '')}".lower(),)
        case "kafka":
            return hosts_of_brokers(str(fields.get("bootstrap", "")))
    try:
        host = urlsplit(str(fields.get("base_url") or fields.get("url") or "")).hostname
    except ValueError:
        return ()
    return (host,) if host else ()


def hosts_of_brokers(bootstrap: str) -> tuple[str, ...]:
    """Return the hosts of "host:port,host:port", parsed as librdkafka does: the port is optional."""
    return tuple(_host_of_broker(address.strip()) for address in bootstrap.split(",") if address.strip())


def _host_of_broker(broker: str) -> str:
    _, scheme, address = broker.partition("://")
    address = address.partition("/")[0] if scheme else broker
    host, colon, _ = address.rpartition(":")
    with_port = colon and (":" not in host or host.endswith("]"))
    return (host if with_port else address).strip("[]").lower() or "localhost"


def _matches(host: str, pattern: str) -> bool:
    return host.endswith(pattern[1:]) if pattern.startswith("*.") else host == pattern


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Return whether a name or address refers to this machine."""
    return host in _LOOPBACK_NAMES or (_is_ip(host) and ipaddress.ip_address(host).is_loopback)
