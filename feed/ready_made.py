"""Feeds that are ready to be added: all that is left to say is a name, and a key where one is needed."""

from collections.abc import Mapping

from feed.providers.ccxt.ready_made import READY_MADE_CCXT
from feed.providers.ready_made import ReadyMade
from feed.providers.rest.ready_made import READY_MADE_REST
from feed.providers.websocket import ready_made as websocket

__all__ = ["READY_MADE", "ReadyMade"]


def _websocket(name: str, label: str, note: str, *, needs_key: bool = False) -> ReadyMade:
    settings = websocket.FEEDS[name].model_dump_json(indent=2, exclude_defaults=True)
    return ReadyMade(label, "websocket", settings, needs_key, note)


READY_MADE: Mapping[str, ReadyMade] = {
    "demo-market": ReadyMade(
        "Another demo market",
        "market",
        '{\n  "port": 8600\n}',
        needs_key=True,
        note="The demo market of another Barmill on this machine; write the port that its status shows, and store a key"
        " that it knows. Its prices are made up.",
    ),
    "kafka-topic": ReadyMade(
        "A topic on Kafka",
        "kafka",
        '{\n  "bootstrap": "localhost:9092",\n  "topic": "prices"\n}',
        note="One JSON object a message, with time, instrument and price; columns renames what is called otherwise.",
    ),
    **READY_MADE_REST,
    "binance": _websocket(
        "binance",
        "Binance spot trades",
        "Every trade, fills of one order at one price as one; what is missed while the connection is away is fetched"
        " afterwards. Instruments are written as BTCUSDT. No key is needed.",
    ),
    "coinbase": _websocket(
        "coinbase",
        "Coinbase Exchange trades",
        "Every trade, with its id: what is missed while the connection is away is fetched afterwards. Instruments are"
        " written as BTC-USD. No key is needed.",
    ),
    "kraken": _websocket(
        "kraken",
        "Kraken spot trades",
        "Every trade; what is missed while the connection is away is fetched by time, at a question a second."
        " Instruments are written as BTC/USD. No key is needed.",
    ),
    "kraken-futures": _websocket(
        "kraken-futures",
        "Kraken Futures trades",
        "Every trade; a new connection brings the newest hundred of each product, which fills short gaps. Instruments"
        " are written as PI_XBTUSD. No key is needed.",
    ),
    "finnhub": _websocket(
        "finnhub",
        "Finnhub trades",
        "Stocks, currencies and crypto, as far as the key goes; one connection for each key. Its trades carry no ids"
        " and cannot be fetched afterwards, so what is missed while the connection is away stays missing.",
        needs_key=True,
    ),
    **READY_MADE_CCXT,
}
