"""Volumes and turnovers that add up exactly, in any order and any number.

Floating-point sums depend on the order of their terms. Each tick's amount is therefore split once into integers, its
limbs, and only limbs are added: integer sums are the same in any order and at any parallelism. After every carry, all
limbs except the highest are below LIMB, so no sum overflows 64 bits. A finished sum is rounded to 15 significant
digits, which a 64-bit float holds exactly.

    high      units of 1e12
    whole     units of 1
    fraction  units of 1e-12, the smallest unit of a volume (barmill/model/tick.py rejects finer volumes)
    dust      units of 1e-24, for turnovers only: a small price times a small volume
"""

from collections.abc import Sequence

import polars as pl

LIMB = 10**12
VOLUME_LIMBS = ("volume_high", "volume_whole", "volume_fraction")
TURNOVER_LIMBS = ("turnover_high", "turnover_whole", "turnover_fraction", "turnover_dust")
_SIGNIFICANT_DIGITS = 15
_SCALED_EXACTLY_FROM = 1e-7


def volume_split(volume: pl.Expr) -> dict[str, pl.Expr]:
    """Return the limbs of a non-negative volume below 2^63, without `volume_high`. They are not carried yet."""
    fraction = ((volume - volume.floor()) * LIMB).round()
    return {"volume_whole": volume.floor().cast(pl.Int64), "volume_fraction": fraction.cast(pl.Int64)}


def turnover_split(turnover: pl.Expr) -> dict[str, pl.Expr]:
    """Return the limbs of a non-negative turnover below 2^63, without `turnover_high`. They are not carried yet."""
    fraction = (turnover - turnover.floor()) * LIMB
    return {
        "turnover_whole": turnover.floor().cast(pl.Int64),
        "turnover_fraction": fraction.floor().cast(pl.Int64),
        "turnover_dust": ((fraction - fraction.floor()) * LIMB).round().cast(pl.Int64),
    }


def carry_limbs(limbs: Sequence[str]) -> list[pl.Expr]:
    """Return expressions that move full units of each limb (highest first) to the next higher limb."""
    expressions, carry = list[pl.Expr](), pl.lit(0, pl.Int64)
    for name in reversed(limbs[1:]):
        total = pl.col(name) + carry
        expressions.append((total % LIMB).alias(name))
        carry = total // LIMB
    return [*expressions, (pl.col(limbs[0]) + carry).alias(limbs[0])]


def amount(limbs: Sequence[str]) -> pl.Expr:
    """Return limbs (highest first) as one float, not yet rounded to the displayed digits."""
    high, whole, *fractions = (pl.col(name) for name in limbs)
    parts = [part / float(LIMB) ** power for power, part in enumerate(fractions, 1)]
    return pl.sum_horizontal(*reversed(parts), whole.cast(pl.Float64), high * float(LIMB))


def round_to_displayed(value: pl.Expr) -> pl.Expr:
    """Round to the 15 significant digits that are displayed and stored."""
    return value.map_batches(_rounded, return_dtype=pl.Float64())


def _rounded(values: pl.Series) -> pl.Series:
    rounded = values.round_sig_figs(_SIGNIFICANT_DIGITS)
    # Polars scales by a power of ten, which is exact only between these limits.
    out_of_range = ((values > 0) & ((values < _SCALED_EXACTLY_FROM) | (values >= 10**_SIGNIFICANT_DIGITS))).fill_null(
        False
    )
    if not out_of_range.any():
        return rounded
    texts = (f"{value:.{_SIGNIFICANT_DIGITS}g}" for value in values.filter(out_of_range))
    return rounded.scatter(out_of_range.arg_true(), pl.Series([float(text) for text in texts]))


def displayed_vwap(turnover: pl.Expr, volume: pl.Expr) -> pl.Expr:
    """Return turnover divided by volume, rounded, then clipped to `low` and `high`; null if the volume is 0 or null."""
    return pl.when(volume > 0).then(round_to_displayed(turnover / volume).clip("low", "high"))


def mean_price() -> pl.Expr:
    """Return the price at which a tick's volume counts in its turnover: the mean of its two prices."""
    return (pl.col("price_open") + pl.col("price_close")) / 2
