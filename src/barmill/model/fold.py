"""The fold: ticks into partial bars, partial bars into bars. Pure functions.

A partial bar (PARTIAL_SCHEMA) holds what some ticks contribute to one bar. Open and close carry the (time, id,
sequence) of their ticks, so partials can be merged in any order and in any number of steps. Ticks without an id count
as id -1.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from barmill.model.amounts import (
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
from barmill.model.frames import Frame
from barmill.platform.clock import NS_PER_MS

NO_ID = -1
# A tick's offset in its bucket and its row number share one 64-bit key: 42 bits hold an hour in ns, 21 the row.
_ROW_BITS = 21
MAX_ROWS_AT_ONCE = 1 << _ROW_BITS

_MAX_IN_MEMORY_ROWS = 50_000

_KEY = ("instrument", "frame_ms", "start_ms")
_LIMBS = (*VOLUME_LIMBS, *TURNOVER_LIMBS)
_SUMS = (*_LIMBS, "volume_ticks", "ticks")
# Sums of whole units up to this size stay well below 2^63.
_MAX_SUM = 4e18
_OPEN = ("open_time_ns", "open_id", "open_sequence", "open")
_CLOSE = ("close_time_ns", "close_id", "close_sequence", "close")

PARTIAL_SCHEMA: dict[str, pl.DataType] = {
    "instrument": pl.String(),
    "frame_ms": pl.Int64(),
    "start_ms": pl.Int64(),
    "open_time_ns": pl.Int64(),
    "open_id": pl.Int64(),
    "open_sequence": pl.Int64(),
    "open": pl.Float64(),
    "close_time_ns": pl.Int64(),
    "close_id": pl.Int64(),
    "close_sequence": pl.Int64(),
    "close": pl.Float64(),
    "high": pl.Float64(),
    "low": pl.Float64(),
    **{name: pl.Int64() for name in _SUMS},
}


def fold_ticks(ticks: pl.DataFrame, length_ms: int) -> pl.DataFrame:
    """Fold ticks (TICK_SCHEMA plus `sequence`) into partials (PARTIAL_SCHEMA) of `length_ms`, at most one hour.

    Takes at most MAX_ROWS_AT_ONCE rows, in the order of their sequences. Returns one partial per instrument and start.
    """
    ticks = _in_tie_order(ticks)
    if ticks.height > 1 and _may_overflow(ticks):
        half = ticks.height // 2
        return merge(pl.concat([fold_ticks(ticks[:half], length_ms), fold_ticks(ticks[half:], length_ms)]))
    length_ns = length_ms * NS_PER_MS
    time, price = pl.col("time_ns"), mean_price()
    volume = pl.col("volume")
    split = {**volume_split(volume), **turnover_split(price * volume)}
    has_volume = ticks["volume"].null_count() < ticks.height
    folded = (
        ticks.lazy()
        .select(
            "instrument",
            start_ms=time // length_ns * length_ms,
            # The smallest and largest keys identify the rows of open and close without sorting.
            key=(time % length_ns) * MAX_ROWS_AT_ONCE + pl.int_range(pl.len(), dtype=pl.Int64),
            high=pl.max_horizontal("price_open", "price_close"),
            low=pl.min_horizontal("price_open", "price_close"),
            volume_ticks=volume.is_not_null().cast(pl.Int64),
            **split if has_volume else {},
        )
        .group_by("instrument", "start_ms")
        .agg(
            pl.min("key").alias("first"),
            pl.max("key").alias("last"),
            pl.max("high"),
            pl.min("low"),
            *(pl.sum(name) for name in (split if has_volume else ())),
            pl.sum("volume_ticks"),
            pl.len().cast(pl.Int64).alias("ticks"),
        )
        .with_columns(
            *(pl.lit(0, pl.Int64).alias(name) for name in _LIMBS if not has_volume or name not in split),
            frame_ms=pl.lit(length_ms, pl.Int64),
        )
        .with_columns(*carry_limbs(VOLUME_LIMBS), *carry_limbs(TURNOVER_LIMBS))
        .collect(engine=_engine(ticks))
    )
    opens = _ticks_at(ticks, folded["first"], "price_open", _OPEN)
    closes = _ticks_at(ticks, folded["last"], "price_close", _CLOSE)
    return pl.concat([folded, opens, closes], how="horizontal").select(PARTIAL_SCHEMA.keys())


def merge(partials: pl.DataFrame) -> pl.DataFrame:
    """Merge the partials of each bar into one."""
    if not partials.height:
        return partials
    by_open, by_close = (_order(partials, names[:3]) for names in (_OPEN, _CLOSE))
    merged = (
        partials.lazy()
        .with_columns(first=_ranks(by_open), last=_ranks(by_close))
        .group_by(_KEY)
        .agg(pl.min("first"), pl.max("last"), pl.max("high"), pl.min("low"), *(pl.sum(name) for name in _SUMS))
        .with_columns(*carry_limbs(VOLUME_LIMBS), *carry_limbs(TURNOVER_LIMBS))
        .collect(engine=_engine(partials))
    )
    opens: pl.DataFrame = partials.select(_OPEN)[by_open[merged["first"].to_numpy()]]
    closes: pl.DataFrame = partials.select(_CLOSE)[by_close[merged["last"].to_numpy()]]
    return pl.concat([merged, opens, closes], how="horizontal").select(PARTIAL_SCHEMA.keys())


def merge_distinct(some: pl.DataFrame, others: pl.DataFrame) -> pl.DataFrame:
    """Merge the partials of two tables, each with one partial per bar.

    Only bars whose start is in both tables are compared.
    """
    starts = some["start_ms"].unique()
    starts = starts.filter(starts.is_in(others["start_ms"].unique().implode()))
    is_shared = pl.col("start_ms").is_in(starts.implode())
    shared = pl.concat([some.filter(is_shared), others.filter(is_shared)])
    return pl.concat([some.filter(~is_shared), others.filter(~is_shared), merge(shared)])


def upgrade_partials(partials: pl.DataFrame) -> pl.DataFrame:
    """Return partials stored by any version in the format of this version (PARTIAL_SCHEMA).

    Versions before 0.2 had no limb above whole units and none below 1e-12.
    """
    missing = [pl.lit(0, pl.Int64).alias(name) for name in _LIMBS if name not in partials.columns]
    if not missing:
        return partials
    widened = partials.with_columns(missing).with_columns(*carry_limbs(VOLUME_LIMBS), *carry_limbs(TURNOVER_LIMBS))
    return widened.select(PARTIAL_SCHEMA.keys())


def roll_up(partials: pl.DataFrame, frames: Sequence[Frame]) -> pl.DataFrame:
    """Return the partials of every frame, made from merged partials of one length that divides all of them.

    Each frame is made from the longest frame that divides it, so an hour is the merge of its minutes.
    """
    bars_of_frame: dict[Frame, pl.DataFrame] = {}
    for frame in sorted(frames):
        shorter = max((finer for finer in bars_of_frame if finer.divides(frame)), default=None)
        bars_of_frame[frame] = _lengthen(partials if shorter is None else bars_of_frame[shorter], frame)
    return pl.concat(bars_of_frame.values())


def _lengthen(partials: pl.DataFrame, frame: Frame) -> pl.DataFrame:
    if not partials.height or partials["frame_ms"][0] == frame.length_ms:
        return partials
    start_ms = frame.start_ms(pl.col("start_ms"))
    return merge(partials.with_columns(frame_ms=pl.lit(frame.length_ms, pl.Int64), start_ms=start_ms))


def finish(partials: pl.DataFrame, *others: pl.Expr) -> pl.DataFrame:
    """Turn merged partials into bars (BAR_VALUES of barmill/model/bar.py), in no particular order.

    others: further columns, made from those of `partials`.
    """
    volume, turnover = amount(VOLUME_LIMBS), amount(TURNOVER_LIMBS)
    traded = pl.col("volume_ticks") > 0
    names = {ms: Frame(ms).text for ms in set(partials["frame_ms"].to_numpy().tolist())}
    return partials.select(
        "instrument",
        pl.col("frame_ms").replace_strict(names, return_dtype=pl.String).alias("frame"),
        "start_ms",
        (pl.col("start_ms") + pl.col("frame_ms")).alias("end_ms"),
        "open",
        "high",
        "low",
        "close",
        pl.when(traded).then(round_to_displayed(volume)).alias("volume"),
        pl.when(traded).then(displayed_vwap(turnover, volume)).alias("vwap"),
        "ticks",
        (pl.col("open_time_ns") // NS_PER_MS).alias("first_tick_ms"),
        (pl.col("close_time_ns") // NS_PER_MS).alias("last_tick_ms"),
        *others,
    )


def _engine(rows: pl.DataFrame) -> Literal["in-memory", "streaming"]:
    """Choose the Polars engine: streaming uses all cores but takes several times as long to start."""
    return "streaming" if rows.height > _MAX_IN_MEMORY_ROWS else "in-memory"


def _may_overflow(ticks: pl.DataFrame) -> bool:
    """Return whether the whole units of these ticks could add up to more than a 64-bit integer holds."""
    volume = pl.col("volume").max()
    largest = ticks.select(pl.max_horizontal(volume, (mean_price() * pl.col("volume")).max())).item()
    return largest is not None and largest * ticks.height > _MAX_SUM


def _in_tie_order(ticks: pl.DataFrame) -> pl.DataFrame:
    """Sort rows by id, ticks without an id first. Rows with equal ids stay in the order of their sequences."""
    ids = ticks["id"]
    if ids.null_count() == ticks.height or (ids.null_count() == 0 and ids.is_sorted()):
        return ticks
    return ticks.sort("id", maintain_order=True, nulls_last=False)


def _ticks_at(ticks: pl.DataFrame, keys: pl.Series, price: str, names: Sequence[str]) -> pl.DataFrame:
    """Return time, id, sequence and price of the ticks that these keys (see fold_ticks) identify."""
    rows = ticks.select("time_ns", "id", "sequence", price)[keys.to_numpy() % MAX_ROWS_AT_ONCE]
    return rows.rename(dict(zip(rows.columns, names, strict=True))).with_columns(pl.col(names[1]).fill_null(NO_ID))


def _order(partials: pl.DataFrame, columns: Sequence[str]) -> NDArray[np.int64]:
    """Return the row numbers in the order of `columns`."""
    return partials.select(pl.arg_sort_by(columns).cast(pl.Int64)).to_series().to_numpy()


def _ranks(order: NDArray[np.int64]) -> pl.Series:
    """Return the position of each row in this order of row numbers."""
    ranks = np.empty(len(order), np.int64)
    ranks[order] = np.arange(len(order))
    return pl.Series(ranks)
