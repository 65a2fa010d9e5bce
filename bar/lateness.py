"""How late ticks come: behind the newest tick of their instrument, as the log has them."""

from collections.abc import Sequence

import numpy as np
import polars as pl

_NS_PER_MS = 1_000_000
# Upper ends of the classes that lateness is sorted into, in ms; what is above the last is a class of its own.
UP_TO_MS = (10, 100, 1_000, 10_000, 60_000, 300_000, 3_600_000)
SPREAD_SCHEMA: dict[str, pl.DataType] = {"over_ms": pl.Int64(), "ticks": pl.Int64()}


def behind_ms(ticks: pl.DataFrame) -> pl.Series:
    """Return by how many ms each tick (TICK_SCHEMA, in log order) was behind one of its instrument before it; 0: none.

    What came before these ticks does not count, so the first ones may look more punctual than they were.
    """
    newest_ns = pl.col("time_ns").cum_max().over("instrument")
    return ticks.select(behind_ms=(newest_ns - pl.col("time_ns")) / _NS_PER_MS)["behind_ms"]


def spread(late_ms: pl.Series, up_to_ms: Sequence[int] = UP_TO_MS) -> pl.DataFrame:
    """Count the late by class (SPREAD_SCHEMA): over_ms is where a class begins; what is on time is in none."""
    late = late_ms.cast(pl.Float64).filter(late_ms > 0).to_numpy()
    classes = np.searchsorted(np.array(up_to_ms, np.float64), late, side="left")
    counts = np.bincount(classes, minlength=len(up_to_ms) + 1)
    return pl.DataFrame({"over_ms": [0, *up_to_ms], "ticks": counts}, SPREAD_SCHEMA)
