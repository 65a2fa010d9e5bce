"""The bar: one row per (instrument, frame, start), as it is stored, shown and exported."""

from enum import StrEnum

import polars as pl


class BarState(StrEnum):
    """Where a bar is in its life."""

    FORMING = "forming"  # still open: more ticks are expected
    CLOSED = "closed"  # its time is over and all ticks known by then are in it
    REVISED = "revised"  # changed after it had closed, by a late tick
    SYNTHETIC = "synthetic"  # never stored: stands where there is no bar, for a reader who wants gaps filled


# What the ticks alone decide; the same in every run over the same ticks.
BAR_VALUES: dict[str, pl.DataType] = {
    "instrument": pl.String(),
    "frame": pl.String(),
    "start_ms": pl.Int64(),
    "end_ms": pl.Int64(),
    "open": pl.Float64(),
    "high": pl.Float64(),
    "low": pl.Float64(),
    "close": pl.Float64(),
    "volume": pl.Float64(),
    "vwap": pl.Float64(),
    "ticks": pl.Int64(),
    "first_tick_ms": pl.Int64(),
    "last_tick_ms": pl.Int64(),
}

# revision counts the changes after closing; changed_ms is the wall clock of the last change.
BAR_SCHEMA: dict[str, pl.DataType] = {
    **BAR_VALUES,
    "state": pl.String(),
    "revision": pl.Int64(),
    "changed_ms": pl.Int64(),
}

BAR_KEY = ("instrument", "frame", "start_ms")
