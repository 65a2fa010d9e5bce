"""Helpers of test_ready_made.py that other tests use too."""

from tests.support.exchanges.exchange import Wire
from tests.support.exchanges.wires import Binance, Coinbase, Finnhub, Kraken, KrakenFutures

WIRES: list[Wire] = [Binance(), Coinbase(), Kraken(), KrakenFutures(), Finnhub()]
