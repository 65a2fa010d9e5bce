import json

import polars as pl
import pytest

from barmill.charts.candles import candles, price_decimals
from barmill.model.frames import parse_frame
from tests.support.page_bars import NO_BARS, NOON_MS, THREE_BARS

FRAME = parse_frame("1m")


def test_three_bars_become_exactly_this() -> None:
    assert candles(THREE_BARS, "AAA/USD", FRAME, read_ms=NOON_MS + 183_000) == {
        "view": "AAA/USD 1m",
        "frame_ms": 60_000,
        "offset_ms": 0,
        "read_ms": 1_764_072_183_000,
        "decimals": 3,
        "first_slot": 29_401_200,
        "slot": [0, 2, 3],
        "open": [10.5, 11.0, 10.25],
        "high": [11.25, 11.0, 10.5],
        "low": [10.0, 10.125, 10.25],
        "close": [11.0, 10.25, 10.5],
        "volume": [30.0, 2.5, None],
        "vwap": [10.7, 10.5, None],
        "ticks": [3, 2, 1],
        "revision": [0, 2, 0],
        "state": "crf",
        "studies": [],
        "gaps": [],
    }


def test_no_bars_are_no_candles() -> None:
    empty = candles(NO_BARS, "AAA/USD", FRAME, read_ms=5)
    assert empty["slot"] == []
    assert empty["state"] == ""
    assert empty["decimals"] == 0


def test_values_reach_the_browser_unchanged() -> None:
    odd = THREE_BARS.with_columns(pl.lit(0.1 + 0.2).alias("close"), pl.lit(1e-9).alias("low"))
    read_back = json.loads(json.dumps(candles(odd, "AAA/USD", FRAME, read_ms=5)))
    assert read_back["close"] == [0.1 + 0.2] * 3
    assert read_back["low"] == [1e-9] * 3


@pytest.mark.parametrize(
    ("price", "decimals"), [(100.0, 0), (0.5, 1), (84.205, 3), (1e-7, 7), (1234567.25, 2), (0.1 + 0.2, 10)]
)
def test_decimals_are_as_many_as_the_price_needs_but_at_most_ten(price: float, decimals: int) -> None:
    same = (pl.lit(price).alias(name) for name in ("open", "high", "low", "close"))
    assert price_decimals(THREE_BARS.with_columns(same)) == decimals
