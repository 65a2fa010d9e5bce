"""Feeds of a few large exchanges by ccxt, ready to be added."""

from collections.abc import Mapping

from feed.providers.ready_made import ReadyMade


def _public(exchange: str, label: str, note: str) -> ReadyMade:
    return ReadyMade(f"{label}, all its markets, by ccxt", "ccxt", f'{{\n  "exchange": "{exchange}"\n}}', note=note)


_PICK = " Pick instruments on the Instruments page. No key is needed."
READY_MADE_CCXT: Mapping[str, ReadyMade] = {
    "ccxt-binance": _public(
        "binance", "Binance", "Spot and futures; fills of one order at one price as one trade, with ids." + _PICK
    ),
    "ccxt-kraken": _public("kraken", "Kraken", "Spot; every trade, with ids." + _PICK),
    "ccxt-coinbase": _public("coinbase", "Coinbase", "Spot and futures; every trade, with ids." + _PICK),
    "ccxt-bitstamp": _public("bitstamp", "Bitstamp", "Spot; every trade, with ids." + _PICK),
    "ccxt-okx": _public("okx", "OKX", "Spot, futures and swaps; every trade, with ids." + _PICK),
}
