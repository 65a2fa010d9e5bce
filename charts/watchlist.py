"""The watchlist: where each picked instrument stands, as columns of plain values for the browser.

    instrument                     the name
    last                           its last price, null before its first bar
    change_1m, change_1h, change_1d   relative to the price so long ago, null where that is not known
    rate                           ticks per second over the last seconds
    age_ms                         how old its newest tick is
    stale                          it has been silent for far longer than it usually is

What changes slowly comes apart from that, by instrument: how many decimals its prices have, and the line of its last
hour, as heights from 0 to LINE_TOP.
"""

from collections.abc import Mapping

import polars as pl

from charts.candles import decimals_of

SPANS_MS = {"change_1m": 60_000, "change_1h": 3_600_000, "change_1d": 86_400_000}
LINE_TOP = 40

Columns = dict[str, list[object]]
Lines = dict[str, dict[str, object]]


def watchlist(standing: pl.DataFrame, at_ms: int, rate_over_ms: int, patience_ms: Mapping[str, float]) -> Columns:
    """Build the columns from STANDING_SCHEMA with the prices of SPANS_MS, as they were read at `at_ms`.

    rate_over_ms: how much time the ticks are of. patience_ms: after how long a silence an instrument is stale; one that
    is not named there never is.
    """
    age_ms = at_ms - pl.col("last_tick_ms")
    after_ms = pl.Series(list(patience_ms.values()), dtype=pl.Float64)
    patience = pl.col("instrument").replace_strict(list(patience_ms), after_ms, default=None, return_dtype=pl.Float64)
    table = standing.select(
        "instrument",
        "last",
        *((pl.col("last") / pl.col(name) - 1).round(6).alias(name) for name in SPANS_MS),
        rate=(pl.col("ticks") * 1_000 / rate_over_ms).round(2),
        age_ms=age_ms,
        stale=(age_ms > patience).fill_null(value=False),
    )
    return table.to_dict(as_series=False)


def lines(closes: pl.DataFrame) -> Lines:
    """Build the decimals and the line of each instrument that has closes (CLOSES_SCHEMA, oldest first)."""
    return {
        str(name): {"decimals": decimals_of(one["close"]), "line": _heights(one["close"])}
        for (name,), one in closes.group_by("instrument", maintain_order=True)
    }


def _heights(prices: pl.Series) -> list[int]:
    low, high = min(prices), max(prices)
    if low == high:
        return [LINE_TOP // 2] * prices.len()
    return [round((price - low) / (high - low) * LINE_TOP) for price in prices]
