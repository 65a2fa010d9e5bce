"""The arithmetic of studies, by TA-Lib: from bars and the numbers of a study to its lines."""

from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np
import numpy.typing as npt
import polars as pl
import talib

LineKind = Literal["line", "histogram"]
Values = npt.NDArray[np.float64]
# What a line is called besides its study, how it is drawn, and its values: one for each bar, NaN where there is none.
Line = tuple[str, LineKind, Values]
# From bars (BAR_SCHEMA, oldest first), the numbers of the study, and what was traded earlier on the first bar's day.
Indicator = Callable[[pl.DataFrame, tuple[float, ...], pl.DataFrame | None], list[Line]]

_DAY_MS = 86_400_000
_SUMMED = ("start_ms", "vwap", "volume")


def _sma(bars: pl.DataFrame, numbers: tuple[float, ...], _earlier: pl.DataFrame | None) -> list[Line]:
    return [("", "line", talib.SMA(_column(bars, "close"), int(numbers[0])))]


def _ema(bars: pl.DataFrame, numbers: tuple[float, ...], _earlier: pl.DataFrame | None) -> list[Line]:
    return [("", "line", talib.EMA(_column(bars, "close"), int(numbers[0])))]


def _bands(bars: pl.DataFrame, numbers: tuple[float, ...], _earlier: pl.DataFrame | None) -> list[Line]:
    length, deviations = numbers
    found = talib.BBANDS(_column(bars, "close"), int(length), deviations, deviations)
    return [(name, "line", values) for name, values in zip(("upper", "middle", "lower"), found, strict=True)]


def _rsi(bars: pl.DataFrame, numbers: tuple[float, ...], _earlier: pl.DataFrame | None) -> list[Line]:
    return [("", "line", talib.RSI(_column(bars, "close"), int(numbers[0])))]


def _macd(bars: pl.DataFrame, numbers: tuple[float, ...], _earlier: pl.DataFrame | None) -> list[Line]:
    fast, slow, signal = map(int, numbers)
    line, smoothed, difference = talib.MACD(_column(bars, "close"), fast, slow, signal)
    return [("", "line", line), ("signal", "line", smoothed), ("histogram", "histogram", difference)]


def _atr(bars: pl.DataFrame, numbers: tuple[float, ...], _earlier: pl.DataFrame | None) -> list[Line]:
    high, low, close = (_column(bars, name) for name in ("high", "low", "close"))
    return [("", "line", talib.ATR(high, low, close, int(numbers[0])))]


def _volume_average(bars: pl.DataFrame, numbers: tuple[float, ...], _earlier: pl.DataFrame | None) -> list[Line]:
    volume = _column(bars, "volume")
    known = ~np.isnan(volume)
    average = np.full_like(volume, np.nan)
    # To TA-Lib one unknown value makes all later ones unknown.
    average[known] = talib.SMA(volume[known], int(numbers[0]))
    return [("", "line", average)]


def _vwap(bars: pl.DataFrame, _numbers: tuple[float, ...], earlier: pl.DataFrame | None) -> list[Line]:
    """Weigh each bar's own VWAP with its volume, anew each UTC day; a bar without volume leaves the line as it is."""
    before = bars.clear() if earlier is None else earlier
    summed = pl.concat([before.select(_SUMMED), bars.select(_SUMMED)])
    days = summed.group_by(pl.col("start_ms") // _DAY_MS, maintain_order=True)
    lines = [_vwap_of(day) for _, day in days]
    return [("", "line", np.concatenate(lines)[before.height :] if lines else np.empty(0))]


def _vwap_of(day: pl.DataFrame) -> Values:
    traded = (day["volume"].fill_null(0) > 0).to_numpy()
    line = np.full(day.height, np.nan)
    if traded.any():
        price, volume = _column(day, "vwap")[traded], _column(day, "volume")[traded]
        line[traded] = talib.VWAP(price, price, price, volume)
    return pl.Series(line).fill_nan(None).fill_null(strategy="forward").to_numpy()


def _column(bars: pl.DataFrame, name: str) -> Values:
    return bars[name].to_numpy()


INDICATORS: Mapping[str, Indicator] = {
    "sma": _sma,
    "ema": _ema,
    "bb": _bands,
    "vwap": _vwap,
    "rsi": _rsi,
    "macd": _macd,
    "atr": _atr,
    "volavg": _volume_average,
}
