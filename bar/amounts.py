"""Volumes and turnovers that add up exactly, whatever the order and however many.

Floating-point sums depend on the order of their terms. Each tick's amount is therefore split once into whole numbers,
its limbs, and only those are added: integer sums are the same in any order, at any parallelism. All limbs but the
highest are below LIMB after every carry, so no sum of them overflows 64 bits. A finished sum is printed with 15
significant digits, all of which a 64-bit float holds.

    high      units of 1e12
    whole     units of 1
    fraction  units of 1e-12, which is as fine as a volume may be (feed/tick.py refuses finer ones)
    dust      units of 1e-24, of turnovers only: a small price times a small volume
"""

from collections.abc import Sequence

import polars as pl

LIMB = 10**12
VOLUME_LIMBS = ("volume_high", "volume_whole", "volume_fraction")
TURNOVER_LIMBS = ("turnover_high", "turnover_whole", "turnover_fraction", "turnover_dust")
_SIGNIFICANT_DIGITS = 15
_SCALED_EXACTLY_FROM = 1e-7


def volume_split(volume: pl.Expr) -> dict[str, pl.Expr]:
    """Return the limbs of a non-negative volume below 2^63; `volume_whole` may be LIMB and above until carried."""
    fraction = ((volume - volume.floor()) * LIMB).round()
    return {"volume_whole": volume.floor().cast(pl.Int64), "volume_fraction": fraction.cast(pl.Int64)}


def turnover_split(turnover: pl.Expr) -> dict[str, pl.Expr]:
    """Return the limbs of a non-negative turnover below 2^63; `turnover_whole` may be LIMB and above until carried."""
    fine = (turnover - turnover.floor()) * LIMB
    return {
        "turnover_whole": turnover.floor().cast(pl.Int64),
        "turnover_fraction": fine.floor().cast(pl.Int64),
        "turnover_dust": ((fine - fine.floor()) * LIMB).round().cast(pl.Int64),
    }


def carried(limbs: Sequence[str]) -> list[pl.Expr]:
    """Move full units of each limb to the next higher one."""
    expressions, carry = list[pl.Expr](), pl.lit(0, pl.Int64)
    for name in reversed(limbs[1:]):
        total = pl.col(name) + carry
        expressions.append((total % LIMB).alias(name))
        carry = total // LIMB
    return [*expressions, (pl.col(limbs[0]) + carry).alias(limbs[0])]


def amount(limbs: Sequence[str]) -> pl.Expr:
    """Return summed limbs as one float, unrounded."""
    high, whole, *fractions = (pl.col(name) for name in limbs)
    parts = [part / float(LIMB) ** place for place, part in enumerate(fractions, 1)]
    return pl.sum_horizontal(*reversed(parts), whole.cast(pl.Float64), high * float(LIMB))


def printed(value: pl.Expr) -> pl.Expr:
    """Round to the 15 significant digits that are shown and stored."""
    return value.map_batches(_rounded, return_dtype=pl.Float64())


def _rounded(values: pl.Series) -> pl.Series:
    rounded = values.round_sig_figs(_SIGNIFICANT_DIGITS)
    # Polars scales by a power of ten, which is exact in this range only.
    beyond = ((values > 0) & ((values < _SCALED_EXACTLY_FROM) | (values >= 10**_SIGNIFICANT_DIGITS))).fill_null(False)
    if not beyond.any():
        return rounded
    texts = (f"{value:.{_SIGNIFICANT_DIGITS}g}" for value in values.filter(beyond))
    return rounded.scatter(beyond.arg_true(), pl.Series([float(text) for text in texts]))


def printed_vwap(turnover: pl.Expr, volume: pl.Expr) -> pl.Expr:
    """Return turnover by volume, empty without volume; rounding never takes it beyond the bar's `low` and `high`."""
    return pl.when(volume > 0).then(printed(turnover / volume).clip("low", "high"))


def mean_price() -> pl.Expr:
    """Return the price a tick's volume is weighted with: the mean of its two prices."""
    return (pl.col("price_open") + pl.col("price_close")) / 2
