"""The line above a chart: last price, how it moved, and which bar is the newest. Pure."""

import polars as pl

from bar.frames import Frame
from bar.model import BarState
from bar.number_text import number_text
from charts.candles import price_decimals
from charts.texts import change, utc_time

BARS_COMPARED = 60


def quote(newest: pl.DataFrame, frame: Frame) -> dict[str, str]:
    """Return the parts of the line, of the newest bars (BAR_SCHEMA, oldest first): how the price moved over them all.

    price: the last one with all its decimals. direction: up, down or flat. Nothing where there are no bars.
    """
    if not newest.height:
        return {}
    bar = newest.row(-1, named=True)
    moved = bar["close"] / newest["open"][0] - 1
    state = bar["state"] if bar["state"] != BarState.REVISED.value else f"revised {bar['revision']}×"
    return {
        "price": number_text(bar["close"], price_decimals(newest)),
        "change": change(moved),
        "direction": "up" if moved > 0 else "down" if moved < 0 else "flat",
        "over": f"over {newest.height} {'bar' if newest.height == 1 else 'bars'}",
        "bar": f"bar {utc_time(bar['start_ms'], frame)} UTC {state}",
    }
