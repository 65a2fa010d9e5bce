"""The settings of a ccxt feed: the exchange, among those available, and how to read it."""

from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from barmill.ingest.connection.provider import ReadyMade

# Exchanges with a WebSocket class but without trades over it, and exchanges without any public trades.
_WITHOUT_STREAM = frozenset({"bydfi"})
_WITHOUT_TRADES = frozenset({"mudrex", "onetrading"})
# Exchanges whose past trades cannot be fetched, so missed trades are lost.
_WITHOUT_HISTORY = frozenset({"blockchaincom", "coinbaseinternational"})


@cache
def exchanges() -> tuple[str, ...]:
    """Return the ids of all exchanges whose public trades can be read, sorted alphabetically."""
    return tuple(sorted(_module_names("async_support") - _WITHOUT_TRADES))


@cache
def streaming_exchanges() -> frozenset[str]:
    """Return the ids of the exchanges that send trades over WebSocket; all others are polled."""
    return frozenset(exchanges()) & _module_names("pro") - _WITHOUT_STREAM


def has_history(exchange: str) -> bool:
    """Return whether past trades can be fetched."""
    return exchange not in _WITHOUT_HISTORY


def _module_names(package: str) -> frozenset[str]:
    spec = find_spec("ccxt")
    assert spec is not None
    assert spec.origin is not None
    return frozenset(path.stem for path in (Path(spec.origin).parent / package).glob("[!_]*.py"))


class CcxtFeed(BaseModel):
    """Public trades of an exchange; the symbols are selected on the Instruments page.

    exchange: its id in ccxt. poll_s: polling interval in seconds for exchanges without WebSocket trades. sandbox: use
    the exchange's test environment, which has separate prices.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["ccxt"] = "ccxt"
    exchange: str
    poll_s: float = Field(default=2.0, ge=0.1, le=3_600)
    sandbox: bool = False

    @field_validator("exchange")
    @classmethod
    def _is_known(cls, value: str) -> str:
        if value not in exchanges():
            similar = [exchange for exchange in exchanges() if exchange[:3] == value[:3].lower()]
            hint = f"perhaps {', '.join(similar)}" if similar else "see the list of exchanges at docs.ccxt.com"
            raise ValueError(f"ccxt has no exchange with this id; {hint}")
        return value


def _ready_made(exchange: str, label: str, note: str) -> ReadyMade:
    return ReadyMade(f"{label}, all markets, through ccxt", "ccxt", f'{{\n  "exchange": "{exchange}"\n}}', note=note)


_ENABLE_NOTE = " Enable instruments on the Instruments page. No key is needed."
READY_MADE_CCXT: Mapping[str, ReadyMade] = {
    "ccxt-binance": _ready_made(
        "binance", "Binance", "Spot and futures; fills of one order at one price count as one trade." + _ENABLE_NOTE
    ),
    "ccxt-kraken": _ready_made("kraken", "Kraken", "Spot; every trade." + _ENABLE_NOTE),
    "ccxt-coinbase": _ready_made("coinbase", "Coinbase", "Spot and futures; every trade." + _ENABLE_NOTE),
    "ccxt-bitstamp": _ready_made("bitstamp", "Bitstamp", "Spot; every trade." + _ENABLE_NOTE),
    "ccxt-okx": _ready_made("okx", "OKX", "Spot, futures and swaps; every trade." + _ENABLE_NOTE),
}
