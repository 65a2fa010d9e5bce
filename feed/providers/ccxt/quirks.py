"""Where an exchange needs to be asked in its own way, so that what streams and what is fetched are the same trades."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Quirks:
    """How to ask an exchange.

    watch: what goes with a subscription. from_id: the parameter that fetches from an id on. after_ns: the parameter
    that fetches what is later than a time in nanoseconds, where ccxt itself would ask by the second. consecutive: the
    ids of an instrument rise one by one, so that a missing one shows.
    """

    watch: Mapping[str, str] = field(default_factory=dict)
    from_id: str | None = None
    after_ns: str | None = None
    consecutive: bool = False


# Its history is of aggregated trades (fills of one order at one price as one), so the stream has to be, too.
_BINANCE = Quirks({"name": "aggTrade"}, from_id="fromId", consecutive=True)
_QUIRKS: Mapping[str, Quirks] = {
    "binance": _BINANCE,
    "binancecoinm": _BINANCE,
    "binanceus": _BINANCE,
    "binanceusdm": _BINANCE,
    "kraken": Quirks(after_ns="since", consecutive=True),
}


def quirks(exchange: str) -> Quirks:
    """Return how to ask an exchange."""
    return _QUIRKS.get(exchange, Quirks())
