"""Delays of ticks: readers of counters that other processes increment, and percentiles of the observations."""

import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from barmill.platform.clock import NS_PER_MS
from barmill.platform.sqlite_file import data_version

_PERCENTILES = (50, 95, 99)

# The time (wall clock, ns) of each poll that found a new next sequence number, and that number; both only rise.
Observations = Sequence[tuple[int, int]]


def overtaken(ticks: pl.DataFrame) -> pl.Series:
    """Return which ticks (instrument, id; by sequence) were delivered after a newer tick of their instrument.

    The market numbers each instrument's ticks in the order of their times, and delays a few on purpose. Only the
    ticks delayed on purpose arrive after a higher number, so this rule hides no delay of Barmill.
    """
    newest = pl.col("id").cum_max().over("instrument")
    return ticks.select(pl.col("id") < newest).to_series()


def delays(ticks: pl.DataFrame, committed: Observations, visible: Observations) -> pl.DataFrame:
    """Return, for each tick (sequence, time_ns), the delays in ms between three times.

    The times: its time stamp, when a reader first saw it in the log, and when a reader first saw it in the bars.
    Columns: stamp_to_visible_ms, stamp_to_log_ms, log_to_visible_ms.
    """
    sequence = ticks["sequence"].to_numpy()
    committed_ns, visible_ns = _first_seen(sequence, committed), _first_seen(sequence, visible)
    stamp_ns = ticks["time_ns"].to_numpy()
    return pl.DataFrame(
        {
            "stamp_to_visible_ms": (visible_ns - stamp_ns) / NS_PER_MS,
            "stamp_to_log_ms": (committed_ns - stamp_ns) / NS_PER_MS,
            "log_to_visible_ms": (visible_ns - committed_ns) / NS_PER_MS,
        }
    )


def first_shown_ns(ticks: pl.DataFrame, frame_ms: int, updates: pl.DataFrame) -> pl.Series:
    """Return when each tick was first on a chart, in ns; null for ticks that never were.

    ticks: all of one instrument (time_ns), in log order, from the beginning of the first bar on. updates: the number of
    ticks (ticks) that the chart showed for a bar (start_ms), and when (at_ns). Bars take their ticks in log order, so a
    bar of n ticks holds the first n.
    """
    numbered = ticks.select(start_ms=pl.col("time_ns") // NS_PER_MS // frame_ms * frame_ms).with_columns(
        position=pl.int_range(pl.len()), ticks=pl.int_range(1, pl.len() + 1).over("start_ms")
    )
    first = updates.group_by("start_ms", "ticks").agg(pl.col("at_ns").min()).sort("ticks")
    joined = numbered.sort("ticks").join_asof(
        first, on="ticks", by="start_ms", strategy="forward", check_sortedness=False
    )
    return joined.sort("position")["at_ns"]


def percentiles(table: pl.DataFrame) -> dict[str, dict[str, Any]]:
    """Return p50, p95, p99 and the maximum of each column."""
    result = {}
    for column in table:
        quantiles = {f"p{percent}": column.quantile(percent / 100, "higher") for percent in _PERCENTILES}
        result[column.name] = {name: round(float(value or 0), 1) for name, value in quantiles.items()}
        result[column.name]["max"] = round(float(str(column.max())), 1)
    return result


def _first_seen(sequence: np.ndarray[Any, np.dtype[np.int64]], observations: Observations) -> Any:
    """Return when each sequence number was first below an observed next sequence, in ns; each must have been."""
    at_ns = np.array([time_ns for time_ns, _ in observations], np.int64)
    next_sequence = np.array([next_value for _, next_value in observations], np.int64)
    return at_ns[np.searchsorted(next_sequence, sequence, side="right")]


NEXT_IN_LOG = "SELECT next_sequence FROM log"
NEXT_IN_BARS = "SELECT min(next_sequence) FROM progress"


class CounterReader:
    """A reader of a counter that another process increments: it records each change with its time."""

    def __init__(self, path: Path, query: str) -> None:
        self._connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, check_same_thread=False)
        self._query = query
        self._version: int | None = None
        self.observations: list[tuple[int, int]] = []
        self.polls = 0

    @property
    def newest(self) -> int:
        """Return the last value read."""
        return self.observations[-1][1]

    def poll(self) -> None:
        """Read the counter, and record it if it has changed."""
        self.polls += 1
        version = data_version(self._connection)
        if version == self._version:
            return
        self._version = version
        value = int(self._connection.execute(self._query).fetchone()[0])
        if not self.observations or value > self.newest:
            self.observations.append((time.time_ns(), value))
