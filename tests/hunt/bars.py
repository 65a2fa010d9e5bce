"""Bars of ticks by Decimal arithmetic, and how Barmill's differ from them."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Context, Decimal

import polars as pl

from tests.support.ticks import bars_of

FRAMES_MS = {"1s": 1_000, "1m": 60_000}
_EXACT = Context(prec=200)
_TOLERANCE = Decimal("2e-14")  # two units of the 15th digit, the last that is shown


@dataclass(frozen=True)
class Trade:
    """A tick as its source means it. place: its place in the source's order; rising_id: where such ids order ties."""

    time_ns: int
    instrument: str
    price: Decimal
    volume: Decimal | None
    place: int
    rising_id: int = 0


def bar_differences(trades: Sequence[Trade], ticks: pl.DataFrame) -> Iterator[str]:
    """Fold ticks by Barmill, and say where the bars are not those of the trades."""
    found = {(bar["instrument"], bar["frame"], bar["start_ms"]): bar for bar in _bars(ticks)}
    right = defaultdict[tuple[str, str, int], list[Trade]](list)
    for trade in trades:
        for frame, length_ms in FRAMES_MS.items():
            right[trade.instrument, frame, trade.time_ns // 10**6 // length_ms * length_ms].append(trade)
    yield from (f"bar {key} has no trade" for key in found.keys() - right.keys())
    for key, own in right.items():
        if key not in found:
            yield f"bar {key} is missing"
        else:
            yield from (f"bar {key}: {problem}" for problem in _problems(own, found[key]))


def _bars(ticks: pl.DataFrame) -> Iterator[dict[str, object]]:
    if ticks.is_empty():
        return iter(())
    numbered = ticks.with_columns(sequence=pl.int_range(pl.len(), dtype=pl.Int64))
    return bars_of(numbered, ",".join(FRAMES_MS)).iter_rows(named=True)


def _problems(own: list[Trade], bar: dict[str, object]) -> Iterator[str]:
    own.sort(key=lambda trade: (trade.time_ns, trade.rising_id, trade.place))
    prices = [trade.price for trade in own]
    exact = {"open": prices[0], "high": max(prices), "low": min(prices), "close": prices[-1]}
    for name, price in exact.items():
        if bar[name] != float(price):
            yield f"{name} is {bar[name]}, not {price}"
    if bar["ticks"] != len(own):
        yield f"ticks is {bar['ticks']}, not {len(own)}"
    traded = [(trade.price, trade.volume) for trade in own if trade.volume is not None]
    volume, turnover = Decimal(0), Decimal(0)
    for price, decimal in traded:
        volume = _EXACT.add(volume, decimal)
        turnover = _EXACT.add(turnover, _EXACT.multiply(price, decimal))
    yield from _amount("volume", bar["volume"], volume if traded else None)
    yield from _amount("vwap", bar["vwap"], _EXACT.divide(turnover, volume) if volume else None)
    if isinstance(bar["vwap"], float) and not float(min(prices)) <= bar["vwap"] <= float(max(prices)):
        yield f"vwap {bar['vwap']} is outside of low and high"


def _amount(name: str, found: object, exact: Decimal | None) -> Iterator[str]:
    if exact is None or not isinstance(found, float):
        if found is not None or exact is not None:
            yield f"{name} is {found}, not {exact}"
    elif abs(_EXACT.subtract(Decimal(found), exact)) > _EXACT.multiply(exact, _TOLERANCE):
        yield f"{name} is {found}, not {exact}"
