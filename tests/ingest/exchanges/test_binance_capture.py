"""Our forming minute bars against the exchange's own, at each push of its klines in a recorded session."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import polars as pl

from barmill.ingest.connection.provider import Batch
from barmill.ingest.mapping.row_tables import table
from barmill.ingest.providers.websocket.messages import Kind, parse_message
from barmill.ingest.providers.websocket.ready_made import FEEDS
from tests.support.exchanges.captures import BINANCE, Bars, by_field, messages, needs_captures


@dataclass
class Recorded:
    """The trades of a session, each symbol's in its order, up to what the next kline has counted.

    A kline is often pushed before the last trade that it counts. `at`: the kline that what was delivered belongs to.
    """

    trades: dict[str, list[dict[str, Any]]]
    klines: list[dict[str, Any]]
    name: str = "binance"
    live: bool = True
    at: dict[str, Any] = field(default_factory=dict)

    def catalogue(self) -> None:
        return

    def batches(self, _cursor: str | None, _stop: threading.Event) -> Iterator[Batch]:
        for number, kline in enumerate(self.klines):
            waiting = self.trades[kline["s"]]
            count = next((n for n, message in enumerate(waiting) if message["l"] > kline["L"]), len(waiting))
            self.trades[kline["s"]] = waiting[count:]
            said = [parse_message(orjson.dumps(message), FEEDS["binance"]) for message in waiting[:count]]
            assert all(message.kind is Kind.PRICES for message in said)
            self.at = kline
            rows = [row for message in said for row in message.rows]
            yield Batch(table(rows) if rows else pl.DataFrame(), str(number))


def as_the_exchange_has_it(kline: dict[str, Any]) -> dict[str, float]:
    names = {"open": "o", "high": "h", "low": "l", "close": "c", "volume": "v"}
    return {ours: float(kline[theirs]) for ours, theirs in names.items()}


@needs_captures
def test_our_forming_minutes_are_the_exchanges_own_at_each_of_its_pushes(tmp_path: Path) -> None:
    sent = [message["data"] for message in messages(BINANCE)]
    trades = by_field((message for message in sent if message["e"] == "aggTrade"), "s")
    begun = {symbol: ours[0]["T"] for symbol, ours in trades.items()}
    # Of a minute that had begun before the recording, trades are missing.
    klines = [
        message["k"] for message in sent if message["e"] == "kline" and message["k"]["t"] > begun[message["k"]["s"]]
    ]
    straddled = {
        (kline["s"], kline["L"])
        for kline in klines
        if any(trade["f"] <= kline["L"] < trade["l"] for trade in trades[kline["s"]])
    }
    provider, bars = Recorded(dict(trades), klines), Bars(tmp_path)
    agree, differ = list[tuple[str, int]](), list[tuple[str, int]]()

    def compare() -> None:
        kline = provider.at
        [ours] = bars.reader.bars(kline["s"], "1m").filter(pl.col("start_ms") == kline["t"]).to_dicts()
        theirs = as_the_exchange_has_it(kline)
        same = {name: ours[name] for name in theirs} == theirs and ours["state"] == "forming"
        (agree if same else differ).append((kline["s"], kline["L"]))

    bars.take(provider, threading.Event(), compare)
    assert (len(klines), len(agree)) == (53, 51)
    # The other two: the exchange pushed its kline when it had counted only the first fills of an order. We get all the
    # fills of an order at one price as one trade, afterwards, so no bar of ours can hold a part of them.
    assert set(differ) == straddled == {("DOTUSDT", 63392713), ("ETHUSDT", 346711518)}
    assert bars.verdict().different == 0
