"""Volumes and turnovers that add up exactly, whatever the order.

Floating-point sums depend on the order of their terms. Each tick's amount is therefore split once into whole units
and fractions of 1e-12, both 64-bit integers, and only those are added: integer sums are the same in any order, at any
parallelism. A finished sum is printed with 15 significant digits, all of which a 64-bit float holds.
"""

import polars as pl

FRACTIONS_PER_UNIT = 10**12
_SIGNIFICANT_DIGITS = 15


def whole(amount: pl.Expr) -> pl.Expr:
    """Return the whole units of a non-negative amount."""
    return amount.floor().cast(pl.Int64)


def fraction(amount: pl.Expr) -> pl.Expr:
    """Return what is left of a non-negative amount, in units of 1e-12."""
    return ((amount - amount.floor()) * FRACTIONS_PER_UNIT).round().cast(pl.Int64)


def amount(whole_column: str, fraction_column: str) -> pl.Expr:
    """Return a pair of summed columns as one float, unrounded."""
    return pl.col(whole_column) + pl.col(fraction_column) / FRACTIONS_PER_UNIT


def printed(value: pl.Expr) -> pl.Expr:
    """Round to the 15 significant digits that are shown and stored."""
    return value.round_sig_figs(_SIGNIFICANT_DIGITS)


def mean_price() -> pl.Expr:
    """Return the price a tick's volume is weighted with: the mean of its two prices."""
    return (pl.col("price_open") + pl.col("price_close")) / 2
