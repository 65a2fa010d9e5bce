"""Numbers and times as words: for pages, and for readers who do not see the picture."""

from datetime import UTC, datetime

import polars as pl

from bar.frames import Frame
from bar.number_text import number_text
from charts.candles import price_decimals
from control.texts import age, moment

__all__ = ["age", "change", "chart_in_words", "duration", "moment", "plain", "utc_time"]

_S, _MIN, _HOUR, _DAY = 1_000, 60_000, 3_600_000, 86_400_000

_MARKDOWN = frozenset("\\`*_[]<>#:$~|@")


def duration(length_ms: int) -> str:
    """Print a length of time in the largest unit that needs no decimals."""
    units = ((_DAY, "d"), (_HOUR, "h"), (_MIN, "min"), (_S, "s"))
    fits = (f"{length_ms // ms} {unit}" for ms, unit in units if length_ms and length_ms % ms == 0)
    return next(fits, f"{length_ms} ms")


def utc_time(time_ms: int, frame: Frame) -> str:
    """Print the start of a bar in UTC, no finer than its frame needs."""
    start = datetime.fromtimestamp(time_ms / _S, UTC)
    if frame.length_ms >= _DAY:
        return start.strftime("%Y-%m-%d")
    return start.strftime("%H:%M:%S" if frame.length_ms < _MIN else "%H:%M")


def change(ratio: float) -> str:
    """Print a relative change with an arrow and a sign, so that it reads without colours."""
    moved = round(ratio * 100, 2) + 0.0  # one that is too small to show has no direction, and no minus before a zero
    arrow = "▲" if moved > 0 else "▼" if moved < 0 else "■"
    return f"{arrow} {moved:+.2f} %".replace("-", "\N{MINUS SIGN}")


def plain(text: str) -> str:
    """Keep text from elsewhere from being read as Markdown."""
    return "".join(f"\\{character}" if character in _MARKDOWN else character for character in text)


def chart_in_words(bars: pl.DataFrame, instrument: str, frame: Frame) -> str:
    """Say in one sentence what a chart of these bars (BAR_SCHEMA, oldest first) shows."""
    if not bars.height:
        return f"A chart of {instrument} in {frame.text} bars; there are none yet."
    decimals = price_decimals(bars)
    first, last = bars.row(0, named=True), bars.row(-1, named=True)
    high, low = max(bars["high"]), min(bars["low"])
    moved = last["close"] / first["open"] - 1
    direction = "up" if moved > 0 else "down" if moved < 0 else "unchanged at"
    return (
        f"Candles of {instrument}, {bars.height} bars of {frame.text} from {utc_time(first['start_ms'], frame)}"
        f" to {utc_time(last['start_ms'], frame)} UTC: {direction} {abs(moved) * 100:.2f} percent"
        f" to {number_text(last['close'], decimals)}, between {number_text(low, decimals)} and"
        f" {number_text(high, decimals)};"
        f" the newest bar is {last['state']}."
    )
