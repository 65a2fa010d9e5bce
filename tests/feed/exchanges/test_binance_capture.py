"""Our forming minute bars against the exchange's own, at each push of its klines in a recorded session."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import polars as pl

from feed.mapping.table import table
from feed.provider import Batch
from feed.providers.websocket.messages import Kind, read
from feed.providers.websocket.ready_made import FEEDS
from tests.feed.exchanges.captures import BINANCE, Bars, by_field, messages, needs_captures


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
            count = next((n for n, one in enumerate(waiting) if one["l"] > kline["L"]), len(waiting))
            self.trades[kline["s"]] = waiting[count:]
            said = [read(orjson.dumps(one), FEEDS["binance"]) for one in waiting[:count]]
            assert all(one.kind is Kind.PRICES for one in said)
            self.at = kline
            rows = [row for one in said for row in one.rows]
            yield Batch(table(rows) if rows else pl.DataFrame(), str(number))


def as_the_exchange_has_it(kline: dict[str, Any]) -> dict[str, float]:
    names = {"open": "o", "high": "h", "low": "l", "close": "c", "volume": "v"}
    return {ours: float(kline[theirs]) for ours, theirs in names.items()}


@needs_captures
def test_our_forming_minutes_are_the_exchanges_own_at_each_of_its_pushes(tmp_path: Path) -> None:
    sent = [message["data"] for message in messages(BINANCE)]
    trades = by_field((one for one in sent if one["e"] == "aggTrade"), "s")
    begun = {symbol: ours[0]["T"] for symbol, ours in trades.items()}
    # Of a minute that had begun before the recording, trades are missing.
    klines = [one["k"] for one in sent if one["e"] == "kline" and one["k"]["t"] > begun[one["k"]["s"]]]
    straddled = {
        (kline["s"], kline["L"])
        for kline in klines
        if any(one["f"] <= kline["L"] < one["l"] for one in trades[kline["s"]])
    }
    provider, bars = Recorded(dict(trades), klines), Bars(tmp_path)
    agree, differ = [], []

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
