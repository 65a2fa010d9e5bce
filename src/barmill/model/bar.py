"""The bar: one row per (instrument, frame, start), as it is stored, displayed and exported; and gaps between bars."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import polars as pl

from barmill.model.frames import Frame


class BarState(StrEnum):
    """The state of a bar."""

    FORMING = "forming"  # still open: more ticks are expected
    CLOSED = "closed"  # its time is over, and it contains all ticks known by then
    REVISED = "revised"  # changed by another tick after it closed
    SYNTHETIC = "synthetic"  # never stored: fills a missing bar for readers that want no gaps


# Values that depend only on the ticks; the same in every run over the same ticks.
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

# revision counts the changes after closing. changed_ms is the wall-clock time of the last change.
BAR_SCHEMA: dict[str, pl.DataType] = {
    **BAR_VALUES,
    "state": pl.String(),
    "revision": pl.Int64(),
    "changed_ms": pl.Int64(),
}

BAR_KEY = ("instrument", "frame", "start_ms")


_PRICES = ("open", "high", "low", "close")


@dataclass(frozen=True)
class Gap:
    """A time range [from_ms, to_ms) without bars."""

    from_ms: int
    to_ms: int


def gaps(bars: pl.DataFrame, frame: Frame, to_ms: int | None = None) -> list[Gap]:
    """Return where bars of this frame are missing between the given bars (BAR_SCHEMA, oldest first), oldest first.

    to_ms: also report bars missing between the last bar and the bar that contains this time. Synthetic bars do not
    count as bars.
    """
    starts: Sequence[int] = bars.filter(pl.col("state") != BarState.SYNTHETIC.value)["start_ms"].to_list()
    ends = [start + frame.length_ms for start in starts]
    next_starts = [*starts[1:], *([] if to_ms is None else [frame.start_ms(to_ms)])]
    return [Gap(end, start) for end, start in zip(ends, next_starts, strict=False) if start > end]


def fill_gaps(bars: pl.DataFrame, before: pl.DataFrame, frame: Frame, from_ms: int, to_ms: int) -> pl.DataFrame:
    """Return a bar for every slot in [from_ms, to_ms): the given bars (BAR_SCHEMA), and flat bars where none exists.

    before: the last bar before from_ms, which gives the first flat bars their price, or no row. Without it, the result
    begins with the first given bar. A flat bar has no ticks, no tick times and no vwap; its volume is 0 if the bar
    before has a volume, otherwise null.
    """
    if not before.height:
        from_ms = bars["start_ms"][0] if bars.height else to_ms
    starts = pl.select(start_ms=pl.int_range(from_ms, to_ms, frame.length_ms, dtype=pl.Int64))
    bars_so_far = pl.concat([before, bars]).set_sorted("start_ms")
    last = starts.join_asof(bars_so_far, on="start_ms", strategy="backward", coalesce=False, suffix="_last")
    is_flat = pl.col("start_ms_last") < pl.col("start_ms")
    values: dict[str, pl.Expr] = {
        **{name: pl.col("close") for name in _PRICES},
        "end_ms": pl.col("start_ms") + frame.length_ms,
        "volume": pl.when(pl.col("volume").is_not_null()).then(0.0),
        "vwap": pl.lit(None, pl.Float64),
        "ticks": pl.lit(0, pl.Int64),
        "first_tick_ms": pl.lit(None, pl.Int64),
        "last_tick_ms": pl.lit(None, pl.Int64),
        "state": pl.lit(BarState.SYNTHETIC.value),
        "revision": pl.lit(0, pl.Int64),
    }
    return last.with_columns(
        **{name: pl.when(is_flat).then(value).otherwise(pl.col(name)) for name, value in values.items()}
    ).select(BAR_SCHEMA.keys())
