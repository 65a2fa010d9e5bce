"""From what was seen to how long ticks took: pure functions."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

_NS_PER_MS = 1_000_000
_PERCENTILES = (50, 95, 99)

# When something was looked at (wall clock, ns) and the sequence number that came next then; both only rise.
Sightings = Sequence[tuple[int, int]]


def overtaken(ticks: pl.DataFrame) -> pl.Series:
    """Tell which ticks (instrument, id; by sequence) were handed out after a newer one of their instrument.

    The market numbers each instrument's ticks in the order of their times and holds a few back on purpose. Only those
    come after a higher number; a tick that merely took long comes in its place, so this rule hides no delay of ours.
    """
    newest = pl.col("id").cum_max().over("instrument")
    return ticks.select(pl.col("id") < newest).to_series()


def delays(ticks: pl.DataFrame, committed: Sightings, visible: Sightings) -> pl.DataFrame:
    """Return, for each tick (sequence, time_ns), the delays between three moments in ms.

    The moments: its time stamp, when the log was first seen to hold it, when the bars were first seen to hold it.
    """
    sequence = ticks["sequence"].to_numpy()
    committed_ns, visible_ns = _first_seen(sequence, committed), _first_seen(sequence, visible)
    stamp_ns = ticks["time_ns"].to_numpy()
    return pl.DataFrame(
        {
            "stamp_to_visible_ms": (visible_ns - stamp_ns) / _NS_PER_MS,
            "stamp_to_log_ms": (committed_ns - stamp_ns) / _NS_PER_MS,
            "log_to_visible_ms": (visible_ns - committed_ns) / _NS_PER_MS,
        }
    )


def shown(ticks: pl.DataFrame, frame_ms: int, updates: pl.DataFrame) -> pl.Series:
    """Return when each tick was first on a chart, in ns; null for one that never was.

    ticks: all of one instrument (time_ns), in the order of the log, from the beginning of the first bar on.
    updates: how many ticks (ticks) the chart said a bar (start_ms) holds, and when (at_ns). Bars take their ticks in
    the order of the log, so a bar of n ticks holds the first n.
    """
    numbered = ticks.select(start_ms=pl.col("time_ns") // _NS_PER_MS // frame_ms * frame_ms).with_columns(
        place=pl.int_range(pl.len()), ticks=pl.int_range(1, pl.len() + 1).over("start_ms")
    )
    first = updates.group_by("start_ms", "ticks").agg(pl.col("at_ns").min()).sort("ticks")
    found = numbered.sort("ticks").join_asof(
        first, on="ticks", by="start_ms", strategy="forward", check_sortedness=False
    )
    return found.sort("place")["at_ns"]


def percentiles(table: pl.DataFrame) -> dict[str, dict[str, Any]]:
    """Return p50, p95, p99 and the largest of each column."""
    found = {}
    for column in table:
        quantiles = {f"p{percent}": column.quantile(percent / 100, "higher") for percent in _PERCENTILES}
        found[column.name] = {name: round(float(value or 0), 1) for name, value in quantiles.items()}
        found[column.name]["max"] = round(float(str(column.max())), 1)
    return found


def _first_seen(sequence: np.ndarray[Any, np.dtype[np.int64]], seen: Sightings) -> Any:
    """Return when each sequence number was first behind the next one; all of them must have been seen."""
    at_ns = np.array([moment for moment, _ in seen], np.int64)
    next_sequence = np.array([following for _, following in seen], np.int64)
    return at_ns[np.searchsorted(next_sequence, sequence, side="right")]
