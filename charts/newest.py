"""The bars that changed last, of all instruments together, as a table of texts to look at."""

import polars as pl

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
            **{name: f"{bar[name.lower()]:.{decimals[bar['instrument']]}f}" for name in _PRICES},
            "Volume": "–" if bar["volume"] is None else f"{bar['volume']:,.15g}",
            "VWAP": "–" if bar["vwap"] is None else f"{bar['vwap']:.{decimals[bar['instrument']] + 1}f}",
            "Ticks": f"{bar['ticks']:,}",
            "State": bar["state"],
            "Revision": str(bar["revision"]),
            "Changed, UTC": bar["changed_ms"],
        }
        for bar in newest.iter_rows(named=True)
    ]
    times = (pl.from_epoch(name, time_unit="ms").dt.strftime("%H:%M:%S") for name in ("Start, UTC", "Changed, UTC"))
    return pl.DataFrame(rows).with_columns(times)
