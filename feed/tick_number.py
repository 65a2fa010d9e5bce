"""The reader of numbers: whole columns of prices and volumes as 64-bit floats, and which of them are not held exactly.

A float holds a decimal number exactly when the shortest decimal that represents the float is that number. So it does
for every number of up to 15 digits, and for some longer ones. A binary float, as in a Parquet file, counts as its
shortest decimal.
"""

from decimal import Decimal

import polars as pl

# All numbers of up to so many digits are held exactly; a shorter text has no more.
_ALWAYS_HELD_DIGITS = 15
_MAY_UNDERFLOW_BELOW = 1e-300
# Floats differ from the decimals they stand for by half of this share at most; more is a difference in digits.
_NOISE = 2.0**-50


def read_numbers(column: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Return (the numbers, Float64, null for what is none; which were read but are not held exactly, Boolean)."""
    dtype = column.dtype
    if isinstance(dtype, pl.Decimal | pl.Float32 | pl.Categorical | pl.Enum):
        column = column.cast(pl.String)
    if column.dtype == pl.String:
        texts = column.str.strip_chars()
        numbers = texts.cast(pl.Float64, strict=False)
        return numbers, _inexact(texts, numbers)
    read = column.cast(pl.Float64, strict=False) if dtype.is_numeric() else pl.repeat(None, len(column), eager=True)
    # Whole numbers that a float cannot hold are too large to be added up in any case.
    return read.cast(pl.Float64), pl.repeat(False, len(column), dtype=pl.Boolean, eager=True)


def finer_than(value: pl.Expr, units: float) -> pl.Expr:
    """Tell whether a non-negative amount has digits below 1/units among the 15 that a float surely holds."""
    scaled = value * units
    return (scaled - scaled.round()).abs() > scaled * _NOISE


def _inexact(texts: pl.Series, numbers: pl.Series) -> pl.Series:
    suspects = texts.str.len_bytes() > _ALWAYS_HELD_DIGITS
    tiny = numbers.abs() < _MAY_UNDERFLOW_BELOW
    if tiny.any():
        suspects |= tiny & texts.str.contains("[1-9]")
    suspects = (suspects & numbers.is_finite()).fill_null(False)
    found = [
        Decimal(text) != Decimal(repr(number))
        for text, number in zip(texts.filter(suspects), numbers.filter(suspects), strict=True)
    ]
    mask = pl.repeat(False, len(texts), dtype=pl.Boolean, eager=True)
    return mask.scatter(suspects.arg_true(), pl.Series(found, dtype=pl.Boolean)) if found else mask
