"""Roll-up: bars of a longer frame, made from stored bars of a shorter frame that divides it. Pure functions, no state.

The result equals the fold of the ticks: open, high, low, close, ticks and times always; the volume exactly while no
short bar's volume needs more than the 15 stored digits, and to one unit of the 15th digit otherwise. The vwap is
weighted from stored vwaps, which are rounded too, so its 15th digit may differ by two.

    state     forming until the jobs have read ticks up to its end, and while one of its short bars is forming;
              otherwise revised if one of them has changed since it closed, and closed if none has
    revision  the total number of changes to its short bars after they closed
"""

from collections.abc import Iterable, Sequence
from functools import cache

import polars as pl

from barmill.model.amounts import (
    LIMB,
    TURNOVER_LIMBS,
    VOLUME_LIMBS,
    amount,
    carry_limbs,
    displayed_vwap,
    round_to_displayed,
)
from barmill.model.bar import BAR_SCHEMA, BarState
from barmill.model.frames import Frame

# From the first value on, floats have no fraction; below the second, they fit 64-bit integers.
_WHOLE_FROM, _BEYOND_INTEGERS = 9.1e15, 9e18


def rolled_up(bars: pl.DataFrame, instrument: str, frame: Frame, reached_ms: int | None) -> pl.DataFrame:
    """Roll stored bars of an instrument (BAR_SCHEMA, oldest first) up to bars of a longer frame, oldest first.

    The bars may have different frames, which divide `frame`. reached_ms: the time up to which the jobs have read ticks;
    None when no more ticks are expected.
    """
    end_ms = pl.col("start_ms") + frame.length_ms
    is_open = pl.col("forming") | (pl.lit(False) if reached_ms is None else end_ms > reached_ms)
    return (
        bars.with_columns(start_ms=frame.start_ms(pl.col("start_ms")), turnover=pl.col("volume") * pl.col("vwap"))
        .group_by("start_ms", maintain_order=True)
        .agg(_totals(any_large=_may_be_large(bars)))
        .with_columns(_carried())
        .with_columns(
            *_averages(),
            instrument=pl.lit(instrument),
            frame=pl.lit(frame.text),
            end_ms=end_ms,
            state=pl.when(is_open)
            .then(pl.lit(BarState.FORMING.value))
            .when(pl.col("revision") > 0)
            .then(pl.lit(BarState.REVISED.value))
            .otherwise(pl.lit(BarState.CLOSED.value)),
        )
        .select(BAR_SCHEMA.keys())
    )


def _may_be_large(bars: pl.DataFrame) -> bool:
    """Return whether an amount of a bar may exceed 64-bit integers."""
    volume, vwap = (float(bars[name].max() or 0.0) for name in ("volume", "vwap"))  # type: ignore[arg-type]
    return max(volume, volume * vwap) >= _BEYOND_INTEGERS


# Making these expressions takes as long as evaluating them for 10,000 bars.
@cache
def _totals(*, any_large: bool) -> Sequence[pl.Expr]:
    """Return the values of a longer bar that are values of its short bars, or sums over them."""
    return [
        pl.first("open"),
        pl.max("high"),
        pl.min("low"),
        pl.last("close"),
        *(limb.sum().alias(name) for name, limb in _limbs("volume", VOLUME_LIMBS, any_large=any_large)),
        *(limb.sum().alias(name) for name, limb in _limbs("turnover", TURNOVER_LIMBS, any_large=any_large)),
        pl.col("volume").is_not_null().any().alias("traded"),
        (pl.col("state") == BarState.FORMING.value).any().alias("forming"),
        pl.sum("ticks"),
        pl.min("first_tick_ms"),
        pl.max("last_tick_ms"),
        pl.sum("revision"),
        pl.max("changed_ms"),
    ]


@cache
def _carried() -> Sequence[pl.Expr]:
    return [*carry_limbs(VOLUME_LIMBS), *carry_limbs(TURNOVER_LIMBS)]


@cache
def _averages() -> Sequence[pl.Expr]:
    """Return the volume and the vwap of a longer bar."""
    volume, turnover = amount(VOLUME_LIMBS), amount(TURNOVER_LIMBS)
    return [
        pl.when(pl.col("traded")).then(round_to_displayed(volume)).alias("volume"),
        displayed_vwap(turnover, volume).alias("vwap"),
    ]


def _limbs(value_name: str, limbs: Sequence[str], *, any_large: bool) -> Iterable[tuple[str, pl.Expr]]:
    """Return an amount split into limbs, as amounts.py does; if `any_large`, even one that exceeds 64-bit integers."""
    value = pl.col(value_name)
    is_large = value >= _BEYOND_INTEGERS
    units = (pl.when(~is_large).then(value) if any_large else value).cast(pl.Int64)
    fraction = (value < _WHOLE_FROM).cast(pl.Float64) * (value - units) * float(LIMB)
    high, whole = units // LIMB, units % LIMB
    if any_large:
        large = pl.when(is_large).then(value).cast(pl.Int128)
        high = pl.when(is_large).then((large // LIMB).cast(pl.Int64)).otherwise(high)
        whole = pl.when(is_large).then((large % LIMB).cast(pl.Int64)).otherwise(whole)
    split = [
        high,
        whole,
        *(fraction.cast(pl.Int64) for _ in limbs[2:-1]),
        (_last_part(fraction, len(limbs)) + 0.5).cast(pl.Int64),
    ]
    return zip(limbs, split, strict=True)


def _last_part(fraction: pl.Expr, limbs: int) -> pl.Expr:
    """Return the remainder for the last of three or four limbs."""
    return fraction if limbs == 3 else (fraction - fraction.cast(pl.Int64)) * float(LIMB)
