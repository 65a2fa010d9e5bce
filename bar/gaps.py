"""Gaps: where bars are missing, and bars that fill them. Pure functions."""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from bar.frames import Frame
from bar.model import BAR_SCHEMA, BarState

_PRICES = ("open", "high", "low", "close")


@dataclass(frozen=True)
class Gap:
    """A stretch of time [from_ms, to_ms) without a single tick in the bars."""

    from_ms: int
    to_ms: int


def gaps(bars: pl.DataFrame, frame: Frame, to_ms: int | None = None) -> list[Gap]:
    """Return where bars of this frame are missing between those given (BAR_SCHEMA, oldest first), oldest first.

    to_ms: bars are also missing from the last one to there. Synthetic bars are no bars.
    """
    starts: Sequence[int] = bars.filter(pl.col("state") != BarState.SYNTHETIC.value)["start_ms"].to_list()
    ends = [start + frame.length_ms for start in starts]
    until = [*starts[1:], *([] if to_ms is None else [frame.start_ms(to_ms)])]
    return [Gap(end, start) for end, start in zip(ends, until, strict=False) if start > end]


def filled(bars: pl.DataFrame, before: pl.DataFrame, frame: Frame, from_ms: int, to_ms: int) -> pl.DataFrame:
    """Return a bar for every place in [from_ms, to_ms): those given (BAR_SCHEMA), and flat ones where there is none.

    before: the last bar before from_ms, from which the first flat ones have their price; without one, the result begins
    with the first bar given. A flat bar has no ticks, no times of ticks and no vwap; its volume is 0 where the bar
    before has a volume at all.
    """
    if not before.height:
        from_ms = bars["start_ms"][0] if bars.height else to_ms
    starts = pl.select(start_ms=pl.int_range(from_ms, to_ms, frame.length_ms, dtype=pl.Int64))
    known = pl.concat([before, bars]).set_sorted("start_ms")
    last = starts.join_asof(known, on="start_ms", strategy="backward", coalesce=False, suffix="_last")
    flat = pl.col("start_ms_last") < pl.col("start_ms")
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
        **{name: pl.when(flat).then(value).otherwise(pl.col(name)) for name, value in values.items()}
    ).select(BAR_SCHEMA.keys())
