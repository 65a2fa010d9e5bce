"""Which hosts a key may be sent to. Pure.

A host is a name or an address without a port, `*.example.com` for all below a name, or `ccxt:kraken` for the hosts that
the library ccxt has for an exchange.
"""

import ipaddress
import json
import re
from collections.abc import Iterable, Sequence
from urllib.parse import urlsplit

from control.keys.errors import KeyStoreError

MOST_HOSTS = 50
_HOST = re.compile(r"(?:\*\.)?[a-z0-9_](?:[a-z0-9_.-]{0,251}[a-z0-9_])?|ccxt:[a-z0-9_]{1,60}")
_LOOPBACK_NAMES = frozenset({"localhost"})
# Where a key goes whose provider is called like this, unless hosts are named.
_OF_PROVIDERS = {
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
    """The key may not be sent there; rotate it with the hosts that it is for."""


def hosts_of_provider(provider: str) -> tuple[str, ...]:
    """Return where keys of a provider usually go; nothing for a provider that is not known."""
    return _OF_PROVIDERS.get(provider, ())


def checked_hosts(hosts: Iterable[str]) -> tuple[str, ...]:
    """Return hosts as they are stored, without repeats; raise KeyStoreError for what is none."""
    found = tuple(dict.fromkeys(one.strip().lower() for one in hosts if one.strip()))
    if len(found) > MOST_HOSTS:
        raise KeyStoreError(f"A key is bound to {MOST_HOSTS} hosts at most.")
    for one in found:
        if _HOST.fullmatch(one) is None and not _is_ip(one):
            raise KeyStoreError(f'"{one[:80]}" is no host; write api.example.com, *.example.com or ccxt:kraken.')
    return found


def check_hosts(name: str, bound: Sequence[str], asked: Sequence[str]) -> None:
    """Raise KeyHostError where a key may not be sent to one of these; a key without hosts stays on this machine.

    The same where nothing is asked, since then it is not known where the key would go.
    """
    if not asked:
        raise KeyHostError(f"The key {name!r} is not sent, since the settings of the feed do not say to which host.")
    for host in (one.lower().strip("[]") for one in asked):
        if not any(_fits(host, one) for one in bound) and (bound or not is_loopback(host)):
            where = f"is bound to {', '.join(bound)}" if bound else "is bound to no host"
            raise KeyHostError(
                f"The key {name!r} {where} and is not sent to {host}; if it belongs there, enter it again with"
                f" ./barmill key rotate {name} --host {host}."
            )


def hosts_in(kind: str, settings: str) -> tuple[str, ...]:
    """Return the hosts that stored settings of a feed lead to; nothing where they cannot be read."""
    try:
        found = json.loads(settings)
    except json.JSONDecodeError:
        return ()
    if not isinstance(found, dict):
        return ()
    match kind:
        case "market":
            return ("127.0.0.1",)
        case "ccxt":
            return (f"ccxt:{found.get('exchange', '')}".lower(),)
        case "kafka":
            return hosts_of_brokers(str(found.get("bootstrap", "")))
    try:
        host = urlsplit(str(found.get("base_url") or found.get("url") or "")).hostname
    except ValueError:
        return ()
    return (host,) if host else ()


def hosts_of_brokers(bootstrap: str) -> tuple[str, ...]:
    """Return the hosts of "host:port,host:port", each read as librdkafka does: the port may be missing."""
    return tuple(_host_of_broker(one.strip()) for one in bootstrap.split(",") if one.strip())


def _host_of_broker(broker: str) -> str:
    _, scheme, address = broker.partition("://")
    address = address.partition("/")[0] if scheme else broker
    host, colon, _ = address.rpartition(":")
    with_port = colon and (":" not in host or host.endswith("]"))
    return (host if with_port else address).strip("[]").lower() or "localhost"


def _fits(host: str, bound: str) -> bool:
    return host.endswith(bound[1:]) if bound.startswith("*.") else host == bound


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Tell whether this is this machine, by name or address."""
    return host in _LOOPBACK_NAMES or (_is_ip(host) and ipaddress.ip_address(host).is_loopback)
