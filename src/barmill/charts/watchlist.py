"""The watchlist and the newest bars: the current state of each instrument, as plain values for a table.

    instrument                     the name
    last                           its last price, null before its first bar
    change_1m, change_1h, change_1d   change since a minute, hour or day ago as a ratio, null if unknown
    rate                           ticks per second over the last seconds
    age_ms                         age of its newest tick
    stale                          it has been silent for far longer than usual

Slowly changing values are separate, by instrument: the number of decimals of its prices, and the line of its last hour,
as heights from 0 to LINE_TOP.
"""

from collections.abc import Mapping

import polars as pl

from barmill.charts.candles import decimals_of, price_decimals
from barmill.platform.clock import MS_PER_DAY, MS_PER_HOUR, MS_PER_MINUTE
from barmill.platform.texts import number_text

SPANS_MS = {"change_1m": MS_PER_MINUTE, "change_1h": MS_PER_HOUR, "change_1d": MS_PER_DAY}
LINE_TOP = 40

Columns = dict[str, list[object]]
Sparklines = dict[str, dict[str, object]]


def watchlist(latest: pl.DataFrame, at_ms: int, rate_over_ms: int, stale_after_ms: Mapping[str, float]) -> Columns:
    """Return the columns from LATEST_SCHEMA with the prices of SPANS_MS, as read at `at_ms`.

    rate_over_ms: the time range of the tick counts. stale_after_ms: the silence after which an instrument is stale; an
    instrument that is not listed never is.
    """
    age_ms = at_ms - pl.col("last_tick_ms")
    limits_ms = pl.Series(list(stale_after_ms.values()), dtype=pl.Float64)
    limit_ms = pl.col("instrument").replace_strict(
        list(stale_after_ms), limits_ms, default=None, return_dtype=pl.Float64
    )
    table = latest.select(
        "instrument",
        "last",
        *((pl.col("last") / pl.col(name) - 1).round(6).alias(name) for name in SPANS_MS),
        rate=(pl.col("ticks") * 1_000 / rate_over_ms).round(2),
        age_ms=age_ms,
        stale=(age_ms > limit_ms).fill_null(value=False),
    )
    return table.to_dict(as_series=False)


def sparklines(closes: pl.DataFrame) -> Sparklines:
    """Return the decimals and the line of each instrument that has closes (CLOSES_SCHEMA, oldest first)."""
    return {
        str(name): {"decimals": decimals_of(group["close"]), "line": _heights(group["close"])}
        for (name,), group in closes.group_by("instrument", maintain_order=True)
    }


def _heights(prices: pl.Series) -> list[int]:
    low, high = min(prices), max(prices)
    if low == high:
        return [LINE_TOP // 2] * prices.len()
    return [round((price - low) / (high - low) * LINE_TOP) for price in prices]


_PRICES = ("Open", "High", "Low", "Close")
NUMBERS = (*_PRICES, "Volume", "VWAP", "Ticks", "Revision")


def newest_bars_table(bars: pl.DataFrame, count: int) -> pl.DataFrame:
    """Return the `count` bars (BAR_SCHEMA) that changed last, the newest change first, as texts for a table.

    Prices have the decimals of their instrument's bars. There must be at least one bar.
    """
    newest = bars.sort("changed_ms", "start_ms", "instrument", descending=[True, True, False]).head(count)
    instrument_bars = bars.filter(pl.col("instrument").is_in(newest["instrument"].unique().to_list()))
    decimals = {str(name): price_decimals(group) for (name,), group in instrument_bars.group_by("instrument")}
    rows = [
        {
            "Instrument": bar["instrument"],
            "Start, UTC": bar["start_ms"],
            **{name: number_text(bar[name.lower()], decimals[bar["instrument"]]) for name in _PRICES},
            "Volume": number_text(bar["volume"], grouped=True),
            "VWAP": number_text(bar["vwap"], decimals[bar["instrument"]]),
            "Ticks": f"{bar['ticks']:,}",
            "State": bar["state"],
            "Revision": str(bar["revision"]),
            "Changed, UTC": bar["changed_ms"],
        }
        for bar in newest.iter_rows(named=True)
    ]
    times = (pl.from_epoch(name, time_unit="ms").dt.strftime("%H:%M:%S") for name in ("Start, UTC", "Changed, UTC"))
    return pl.DataFrame(rows).with_columns(times)
