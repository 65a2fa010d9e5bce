"""Bars in a row for the tests of studies and figures, made from what a test says about them."""

from collections.abc import Sequence

import polars as pl

from barmill.model.bar import BAR_SCHEMA

DAY_MS = 86_400_000
MIDNIGHT_MS = 1_764_028_800_000  # 2025-11-25 00:00:00 UTC


def bars_of(
    closes: Sequence[float],
    *,
    volumes: Sequence[float | None] | None = None,
    from_ms: int = MIDNIGHT_MS,
    length_ms: int = 60_000,
    instrument: str = "AAA/USD",
) -> pl.DataFrame:
    """Return one bar for each closing price: it opens at the one before and reaches half a unit beyond both.

    Without volumes every bar has a volume of 1; the VWAP of a bar is its closing price.
    """
    closing = list(closes)
    opening = closing[:1] + closing[:-1]
    starts = [from_ms + place * length_ms for place in range(len(closing))]
    traded: list[float | None] = [1.0] * len(closing) if volumes is None else list(volumes)
    return pl.DataFrame(
        {
            "instrument": instrument,
            "frame": "1m" if length_ms == 60_000 else "1s",
            "start_ms": starts,
            "end_ms": [start + length_ms for start in starts],
            "open": opening,
            "high": [max(pair) + 0.5 for pair in zip(opening, closing, strict=True)],
            "low": [min(pair) - 0.5 for pair in zip(opening, closing, strict=True)],
            "close": closing,
            "volume": traded,
            "vwap": [None if volume is None else close for close, volume in zip(closing, traded, strict=True)],
            "ticks": 1,
            "first_tick_ms": starts,
            "last_tick_ms": starts,
            "state": "closed",
            "revision": 0,
            "changed_ms": [start + length_ms for start in starts],
        },
        schema=BAR_SCHEMA,
    )
