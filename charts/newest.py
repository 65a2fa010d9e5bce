"""The bars that changed last, of all instruments together, as a table of texts to look at."""

import polars as pl

from bar.number_text import number_text
from charts.candles import price_decimals

_PRICES = ("Open", "High", "Low", "Close")
NUMBERS = (*_PRICES, "Volume", "VWAP", "Ticks", "Revision")


def newest_bars(bars: pl.DataFrame, count: int) -> pl.DataFrame:
    """Return the last `count` bars that changed, the newest change first, prices with their instrument's decimals."""
    newest = bars.sort("changed_ms", "start_ms", "instrument", descending=[True, True, False]).head(count)
    shown = bars.filter(pl.col("instrument").is_in(newest["instrument"].unique().to_list()))
    decimals = {str(name): price_decimals(one) for (name,), one in shown.group_by("instrument")}
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
