"""Bars for the tests of figures, as the store gives them out."""

import polars as pl

from barmill.model.bar import BAR_SCHEMA

NOON_MS = 1_764_072_000_000  # 2025-11-25 12:00:00 UTC

# The second minute has no bar; the third was revised twice; the last one is still forming and has no volume.
THREE_BARS = pl.DataFrame(
    {
        "instrument": ["AAA/USD"] * 3,
        "frame": ["1m"] * 3,
        "start_ms": [NOON_MS, NOON_MS + 120_000, NOON_MS + 180_000],
        "end_ms": [NOON_MS + 60_000, NOON_MS + 180_000, NOON_MS + 240_000],
        "open": [10.5, 11.0, 10.25],
        "high": [11.25, 11.0, 10.5],
        "low": [10.0, 10.125, 10.25],
        "close": [11.0, 10.25, 10.5],
        "volume": [30.0, 2.5, None],
        "vwap": [10.7, 10.5, None],
        "ticks": [3, 2, 1],
        "first_tick_ms": [NOON_MS, NOON_MS + 120_000, NOON_MS + 181_000],
        "last_tick_ms": [NOON_MS + 59_000, NOON_MS + 130_000, NOON_MS + 182_000],
        "state": ["closed", "revised", "forming"],
        "revision": [0, 2, 0],
        "changed_ms": [NOON_MS + 61_000, NOON_MS + 200_000, NOON_MS + 182_500],
    },
    schema=BAR_SCHEMA,
)
NO_BARS = THREE_BARS.clear()


def of(instrument: str, close: float, changed_ms: int) -> pl.DataFrame:
    """Return one bar of an instrument without volume."""
    values = {
        "instrument": instrument,
        "open": 10.0,
        "high": 12.0,
        "low": 8.0,
        "close": close,
        "changed_ms": changed_ms,
    }
    return THREE_BARS[:1].with_columns(
        *(pl.lit(value).alias(name) for name, value in values.items()),
        volume=pl.lit(None, pl.Float64),
        vwap=pl.lit(None, pl.Float64),
        ticks=pl.lit(4, pl.Int64),
    )
