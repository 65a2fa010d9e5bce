"""Bars recomputed independently: sort all ticks, group them, take first and last. Slow, simple, and the reference.

This module shares the job's definitions (what a tick is, when it is too late, how amounts add up) but none of its
methods: no partials, no merging, no state.
"""

from collections.abc import Iterator

import polars as pl

from barmill.model.amounts import (
    LIMB,
    TURNOVER_LIMBS,
    VOLUME_LIMBS,
    amount,
    carry_limbs,
    displayed_vwap,
    mean_price,
    round_to_displayed,
    turnover_split,
    volume_split,
)
from barmill.model.bar import BAR_VALUES
from barmill.model.frames import Frame
from barmill.platform.clock import NS_PER_MS


def accepted_ticks(ticks: pl.DataFrame, lateness_ms: int) -> pl.DataFrame:
    """Return the ticks that did not come too late. `ticks` is TICK_SCHEMA plus sequence, from the start of the log."""
    newest_ns = pl.col("time_ns").cum_max().over("instrument", order_by="sequence")
    return ticks.filter(newest_ns - pl.col("time_ns") <= lateness_ms * NS_PER_MS)


def bars(ticks: pl.DataFrame, frame: Frame) -> pl.DataFrame:
    """Return the bars (BAR_VALUES) of one frame, sorted by instrument and start. ticks: TICK_SCHEMA plus sequence."""
    return bars_to_verify(ticks, frame).select(BAR_VALUES.keys())


def bars_to_verify(ticks: pl.DataFrame, frame: Frame) -> pl.DataFrame:
    """Return bars as `bars` does, plus a column `earlier_vwap`: the vwap that versions before 0.2 published."""
    volume, turnover = pl.col("volume"), mean_price() * pl.col("volume")
    split = {**volume_split(volume), **turnover_split(turnover)}
    length_ns = frame.length_ms * NS_PER_MS
    return (
        ticks.sort("time_ns", pl.col("id").fill_null(-1), "sequence")
        .with_columns(start_ns=_bar_start_ns(frame))
        .group_by("instrument", "start_ns", maintain_order=True)
        .agg(
            open=pl.first("price_open"),
            high=pl.max_horizontal("price_open", "price_close").max(),
            low=pl.min_horizontal("price_open", "price_close").min(),
            close=pl.last("price_close"),
            traded=volume.is_not_null().any(),
            ticks=pl.len().cast(pl.Int64),
            first_tick_ms=pl.first("time_ns") // NS_PER_MS,
            last_tick_ms=pl.last("time_ns") // NS_PER_MS,
            volume_high=pl.lit(0, pl.Int128),
            turnover_high=pl.lit(0, pl.Int128),
            earlier_turnover=_amount_units(turnover).sum(),
            # 128 bits hold any sum of these limbs.
            **{name: limb.cast(pl.Int128).sum() for name, limb in split.items()},
        )
        .with_columns(*carry_limbs(VOLUME_LIMBS), *carry_limbs(TURNOVER_LIMBS))
        .with_columns(
            frame=pl.lit(frame.text),
            start_ms=pl.col("start_ns") // NS_PER_MS,
            end_ms=(pl.col("start_ns") + length_ns) // NS_PER_MS,
            volume=pl.when("traded").then(amount(VOLUME_LIMBS)),
            turnover=amount(TURNOVER_LIMBS),
        )
        .with_columns(
            volume=round_to_displayed(pl.col("volume")),
            vwap=displayed_vwap(pl.col("turnover"), pl.col("volume")),
            earlier_vwap=pl.when(pl.col("volume") > 0).then(
                round_to_displayed(
                    (pl.col("earlier_turnover") // LIMB + pl.col("earlier_turnover") % LIMB / LIMB) / pl.col("volume")
                )
            ),
        )
        .select(*BAR_VALUES.keys(), "earlier_vwap")
        .sort("instrument", "start_ms")
    )


def bars_of_first(ticks: pl.DataFrame, published: pl.DataFrame, frame: Frame) -> pl.DataFrame:
    """Recompute published bars of one frame, as `bars_to_verify` does.

    Each bar is computed from the first of its ticks in the log, as many as the published bar contains.
    """
    key = ["instrument", "start_ms"]
    bar_ticks = ticks.with_columns(start_ms=_bar_start_ns(frame) // NS_PER_MS).join(
        published.select(*key, contained="ticks"), on=key, how="inner"
    )
    first = bar_ticks.filter(pl.col("sequence").rank("ordinal").over(key) <= pl.col("contained"))
    return bars_to_verify(first.select(ticks.columns), frame)


def differences(recomputed: pl.DataFrame, published: pl.DataFrame) -> Iterator[tuple[dict[str, object], str]]:
    """Yield (key of the bar, what is wrong) for every bar that differs between the two (BAR_VALUES).

    If `recomputed` has a column `earlier_vwap`, that value is accepted as well.
    """
    key = ["instrument", "frame", "start_ms"]
    joined = recomputed.join(published, on=key, how="full", suffix="_published", coalesce=True)
    values = [name for name in BAR_VALUES if name not in key]
    if "earlier_vwap" in joined.columns:
        is_earlier_vwap = pl.col("vwap_published") == pl.col("earlier_vwap")
        joined = joined.with_columns(vwap=pl.when(is_earlier_vwap).then("earlier_vwap").otherwise("vwap"))
    is_same = pl.all_horizontal(pl.col(name).eq_missing(pl.col(f"{name}_published")) for name in values)
    for row in joined.filter(~is_same).sort(key).iter_rows(named=True):
        bar_key = {name: row[name] for name in key}
        if row["ticks"] is None:
            yield bar_key, "is published, but the log has no tick for it"
        elif row["ticks_published"] is None:
            yield bar_key, f"is not published; number of its ticks in the log: {row['ticks']}"
        else:
            differing = [n for n in values if row[n] != row[f"{n}_published"]]
            yield bar_key, "; ".join(f"{n} is {row[f'{n}_published']}, should be {row[n]}" for n in differing)


def _bar_start_ns(frame: Frame) -> pl.Expr:
    since_first = pl.col("time_ns") - frame.offset_ms * NS_PER_MS
    return pl.col("time_ns") - since_first % (frame.length_ms * NS_PER_MS)


def _amount_units(amount: pl.Expr) -> pl.Expr:
    """Return an amount as an integer in units of 1e-12."""
    limbs = volume_split(amount)
    return limbs["volume_whole"].cast(pl.Int128) * LIMB + limbs["volume_fraction"].cast(pl.Int128)
