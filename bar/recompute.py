"""Bars recomputed by other means: sort all ticks, group them, take first and last. Slow, plain, and the reference.

This shares the definitions with the job (what a tick is, when it is too late, how amounts add up) but none of its
ways: no partials, no merging, no state.
"""

from collections.abc import Iterator

import polars as pl

from bar.amounts import (
    LIMB,
    TURNOVER_LIMBS,
    VOLUME_LIMBS,
    amount,
    carried,
    mean_price,
    printed,
    printed_vwap,
    turnover_split,
    volume_split,
)
from bar.frames import Frame
from bar.model import BAR_VALUES

_NS_PER_MS = 1_000_000


def accepted(ticks: pl.DataFrame, lateness_ms: int) -> pl.DataFrame:
    """Leave out the ticks that came too late; `ticks` is TICK_SCHEMA plus sequence, from the start of the log."""
    newest_ns = pl.col("time_ns").cum_max().over("instrument", order_by="sequence")
    return ticks.filter(newest_ns - pl.col("time_ns") <= lateness_ms * _NS_PER_MS)


def bars(ticks: pl.DataFrame, frame: Frame) -> pl.DataFrame:
    """Make the bars (BAR_VALUES) of one frame, by instrument and start."""
    return bars_to_verify(ticks, frame).select(BAR_VALUES.keys())


def bars_to_verify(ticks: pl.DataFrame, frame: Frame) -> pl.DataFrame:
    """Make the bars of one frame (BAR_VALUES), with `earlier_vwap`, what versions before 0.2 published as vwap."""
    volume, turnover = pl.col("volume"), mean_price() * pl.col("volume")
    split = {**volume_split(volume), **turnover_split(turnover)}
    length_ns = frame.length_ms * _NS_PER_MS
    return (
        ticks.sort("time_ns", pl.col("id").fill_null(-1), "sequence")
        .with_columns(start_ns=_start_ns(frame))
        .group_by("instrument", "start_ns", maintain_order=True)
        .agg(
            open=pl.first("price_open"),
            high=pl.max_horizontal("price_open", "price_close").max(),
            low=pl.min_horizontal("price_open", "price_close").min(),
            close=pl.last("price_close"),
            traded=volume.is_not_null().any(),
            ticks=pl.len().cast(pl.Int64),
            first_tick_ms=pl.first("time_ns") // _NS_PER_MS,
            last_tick_ms=pl.last("time_ns") // _NS_PER_MS,
            volume_high=pl.lit(0, pl.Int128),
            turnover_high=pl.lit(0, pl.Int128),
            earlier_turnover=_rounded(turnover).sum(),
            # 128 bits hold any sum of these.
            **{name: limb.cast(pl.Int128).sum() for name, limb in split.items()},
        )
        .with_columns(*carried(VOLUME_LIMBS), *carried(TURNOVER_LIMBS))
        .with_columns(
            frame=pl.lit(frame.text),
            start_ms=pl.col("start_ns") // _NS_PER_MS,
            end_ms=(pl.col("start_ns") + length_ns) // _NS_PER_MS,
            volume=pl.when("traded").then(amount(VOLUME_LIMBS)),
            turnover=amount(TURNOVER_LIMBS),
        )
        .with_columns(
            volume=printed(pl.col("volume")),
            vwap=printed_vwap(pl.col("turnover"), pl.col("volume")),
            earlier_vwap=pl.when(pl.col("volume") > 0).then(
                printed(
                    (pl.col("earlier_turnover") // LIMB + pl.col("earlier_turnover") % LIMB / LIMB) / pl.col("volume")
                )
            ),
        )
        .select(*BAR_VALUES.keys(), "earlier_vwap")
        .sort("instrument", "start_ms")
    )


def bars_of_first(ticks: pl.DataFrame, published: pl.DataFrame, frame: Frame) -> pl.DataFrame:
    """Make published bars of one frame again, as `bars_to_verify`, each of as many of its first ticks as it holds."""
    place = ["instrument", "start_ms"]
    of_these = ticks.with_columns(start_ms=_start_ns(frame) // _NS_PER_MS).join(
        published.select(*place, most="ticks"), on=place, how="inner"
    )
    first = of_these.filter(pl.col("sequence").rank("ordinal").over(place) <= pl.col("most"))
    return bars_to_verify(first.select(ticks.columns), frame)


def differences(recomputed: pl.DataFrame, published: pl.DataFrame) -> Iterator[tuple[dict[str, object], str]]:
    """Yield (key of the bar, what is wrong) for every bar that is not the same in both (BAR_VALUES).

    recomputed may have `earlier_vwap`, which then is right as well.
    """
    key = ["instrument", "frame", "start_ms"]
    both = recomputed.join(published, on=key, how="full", suffix="_published", coalesce=True)
    values = [name for name in BAR_VALUES if name not in key]
    if "earlier_vwap" in both.columns:
        was_right = pl.col("vwap_published") == pl.col("earlier_vwap")
        both = both.with_columns(vwap=pl.when(was_right).then("earlier_vwap").otherwise("vwap"))
    same = pl.all_horizontal(pl.col(name).eq_missing(pl.col(f"{name}_published")) for name in values)
    for row in both.filter(~same).sort(key).iter_rows(named=True):
        at = {name: row[name] for name in key}
        if row["ticks"] is None:
            yield at, "is published, but no tick of the log belongs to it"
        elif row["ticks_published"] is None:
            yield at, f"is not published, but {row['ticks']} ticks of the log belong to it"
        else:
            wrong = [n for n in values if row[n] != row[f"{n}_published"]]
            yield at, "; ".join(f"{n} is {row[f'{n}_published']}, should be {row[n]}" for n in wrong)


def _start_ns(frame: Frame) -> pl.Expr:
    since_first = pl.col("time_ns") - frame.offset_ms * _NS_PER_MS
    return pl.col("time_ns") - since_first % (frame.length_ms * _NS_PER_MS)


def _rounded(amount: pl.Expr) -> pl.Expr:
    """Return an amount as a whole number of 1e-12."""
    limbs = volume_split(amount)
    return limbs["volume_whole"].cast(pl.Int128) * LIMB + limbs["volume_fraction"].cast(pl.Int128)
