"""What has become of bars since they were as they are shown. Pure."""

import polars as pl

_COMPARED = ("open", "high", "low", "close", "volume", "ticks")


def revised_since(shown: pl.DataFrame, present: pl.DataFrame) -> int:
    """Return how many of the bars shown are no longer the same; both BAR_SCHEMA, of one instrument and frame."""
    both = shown.join(present, on="start_ms", suffix="_now")
    same = pl.all_horizontal(pl.col(name).eq_missing(pl.col(f"{name}_now")) for name in _COMPARED)
    return both.filter(~same).height
