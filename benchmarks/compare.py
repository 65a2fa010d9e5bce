"""Compare bars that two programs made of the same ticks."""

from pathlib import Path
from typing import Any

import polars as pl

from bar.model import BAR_KEY
from bar.reader import BarReader

# Open, high, low, close and the count must be the very same. Sums of floating-point numbers depend on the order of
# their terms, which other programs do not fix, so those may differ in the last digits.
_EXACT = ("open", "high", "low", "close", "ticks")
_SUMMED = ("volume", "vwap")
_RELATIVE_ERROR = 1e-9


def stored_bars(bars_db: Path) -> pl.DataFrame:
    """Return all bars of a store."""
    reader = BarReader.open(bars_db)
    try:
        return pl.concat(reader.everything())
    finally:
        reader.close()


def differences(ours: pl.DataFrame, theirs: pl.DataFrame) -> dict[str, Any]:
    """Count the bars, those that one side lacks, and those that differ, by field."""
    names = [*_EXACT, *_SUMMED]
    both = ours.select(*BAR_KEY, *names).join(theirs.select(*BAR_KEY, *names), on=BAR_KEY, suffix="_theirs")
    unequal = {name: pl.col(name).ne_missing(pl.col(f"{name}_theirs")) for name in _EXACT}
    for name in _SUMMED:
        mine, other = pl.col(name), pl.col(f"{name}_theirs")
        far = (mine - other).abs() > _RELATIVE_ERROR * mine.abs()
        unequal[name] = pl.when(mine.is_null() | other.is_null()).then(mine.is_null() != other.is_null()).otherwise(far)
    counts = both.select(**{name: value.sum() for name, value in unequal.items()}).row(0, named=True)
    return {
        "bars": ours.height,
        "only_in_barmill": ours.height - both.height,
        "only_in_the_other": theirs.height - both.height,
        "unequal": both.select(pl.any_horizontal(unequal.values()).sum()).item(),
        "unequal_by_field": {name: count for name, count in counts.items() if count},
    }
