"""The fold: ticks into partial bars, partial bars into bars. Pure functions; every one gives the same for any order.

A partial bar (PARTIAL_SCHEMA) is what is known of one bar from some of its ticks. Open and close carry the
(time, id, sequence) they came from, so partials can be merged in any order and any number of steps. Ticks without an
id count as id -1.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from bar.amounts import (
    TURNOVER_LIMBS,
    VOLUME_LIMBS,
    amount,
    carried,
    mean_price,
    printed,
    printed_vwap,
    turnover_split,
    volume_split,
)
from bar.frames import Frame

NO_ID = -1
NS_PER_MS = 1_000_000
# A tick's place inside its bucket and its row share one 64-bit key: 42 bits hold an hour in ns, 21 the row.
_ROW_BITS = 21
MAX_ROWS_AT_ONCE = 1 << _ROW_BITS

_FEW_ROWS = 50_000

_KEY = ("instrument", "frame_ms", "start_ms")
_LIMBS = (*VOLUME_LIMBS, *TURNOVER_LIMBS)
_SUMS = (*_LIMBS, "volume_ticks", "ticks")
# Sums of whole units of so much stay below 2^63 with room to spare.
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
    """Fold ticks (TICK_SCHEMA plus `sequence`) into partials of `length_ms`, which is an hour at most.

    Takes up to MAX_ROWS_AT_ONCE rows.
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
            # Smallest and largest key name the rows of open and close without sorting anything.
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
        .with_columns(*carried(VOLUME_LIMBS), *carried(TURNOVER_LIMBS))
        .collect(engine=_engine(ticks))
    )
    opens = _at_rows(ticks, folded["first"], "price_open", _OPEN)
    closes = _at_rows(ticks, folded["last"], "price_close", _CLOSE)
    return pl.concat([folded, opens, closes], how="horizontal").select(PARTIAL_SCHEMA.keys())


def merge(partials: pl.DataFrame) -> pl.DataFrame:
    """Merge partials of the same bar into one each."""
    if not partials.height:
        return partials
    by_open, by_close = (_order(partials, names[:3]) for names in (_OPEN, _CLOSE))
    merged = (
        partials.lazy()
        .with_columns(first=_ranks(by_open), last=_ranks(by_close))
        .group_by(_KEY)
        .agg(pl.min("first"), pl.max("last"), pl.max("high"), pl.min("low"), *(pl.sum(name) for name in _SUMS))
        .with_columns(*carried(VOLUME_LIMBS), *carried(TURNOVER_LIMBS))
        .collect(engine=_engine(partials))
    )
    opens: pl.DataFrame = partials.select(_OPEN)[by_open[merged["first"].to_numpy()]]
    closes: pl.DataFrame = partials.select(_CLOSE)[by_close[merged["last"].to_numpy()]]
    return pl.concat([merged, opens, closes], how="horizontal").select(PARTIAL_SCHEMA.keys())


def upgraded(partials: pl.DataFrame) -> pl.DataFrame:
    """Return partials that any version has kept as those of this one (PARTIAL_SCHEMA).

    Before version 0.2 there was no limb above whole units, nor one below 1e-12.
    """
    missing = [pl.lit(0, pl.Int64).alias(name) for name in _LIMBS if name not in partials.columns]
    if not missing:
        return partials
    widened = partials.with_columns(missing).with_columns(*carried(VOLUME_LIMBS), *carried(TURNOVER_LIMBS))
    return widened.select(PARTIAL_SCHEMA.keys())


def roll_up(partials: pl.DataFrame, frames: Sequence[Frame]) -> pl.DataFrame:
    """Make the partials of every frame from merged ones of one length that divides them all.

    Each frame is made from the longest one that divides it, so an hour is the merge of its minutes.
    """
    made: dict[Frame, pl.DataFrame] = {}
    for frame in sorted(frames):
        shorter = max((one for one in made if one.divides(frame)), default=None)
        made[frame] = _lengthen(partials if shorter is None else made[shorter], frame)
    return pl.concat(made.values())


def _lengthen(partials: pl.DataFrame, frame: Frame) -> pl.DataFrame:
    if not partials.height or partials["frame_ms"][0] == frame.length_ms:
        return partials
    start_ms = frame.start_ms(pl.col("start_ms"))
    return merge(partials.with_columns(frame_ms=pl.lit(frame.length_ms, pl.Int64), start_ms=start_ms))


def finish(partials: pl.DataFrame) -> pl.DataFrame:
    """Turn merged partials into bars: BAR_VALUES of bar/model.py, in no particular order."""
    volume, turnover = amount(VOLUME_LIMBS), amount(TURNOVER_LIMBS)
    traded = pl.col("volume_ticks") > 0
    names = set(partials["frame_ms"].to_numpy().tolist())
    return partials.select(
        "instrument",
        pl.col("frame_ms").replace_strict({ms: Frame(ms).text for ms in names}, return_dtype=pl.String).alias("frame"),
        "start_ms",
        (pl.col("start_ms") + pl.col("frame_ms")).alias("end_ms"),
        "open",
        "high",
        "low",
        "close",
        pl.when(traded).then(printed(volume)).alias("volume"),
        pl.when(traded).then(printed_vwap(turnover, volume)).alias("vwap"),
        "ticks",
        (pl.col("open_time_ns") // NS_PER_MS).alias("first_tick_ms"),
        (pl.col("close_time_ns") // NS_PER_MS).alias("last_tick_ms"),
    )


def _engine(rows: pl.DataFrame) -> Literal["in-memory", "streaming"]:
    """Choose how Polars works: streaming uses all cores, but takes several times as long to start."""
    return "streaming" if rows.height > _FEW_ROWS else "in-memory"


def _may_overflow(ticks: pl.DataFrame) -> bool:
    """Tell whether whole units of these ticks could add up to more than 64 bits hold."""
    volume = pl.col("volume").max()
    largest = ticks.select(pl.max_horizontal(volume, (mean_price() * pl.col("volume")).max())).item()
    return largest is not None and largest * ticks.height > _MAX_SUM


def _in_tie_order(ticks: pl.DataFrame) -> pl.DataFrame:
    """Order rows so that of two ticks at one time the one with the smaller (id, sequence) stands first."""
    ids = ticks["id"]
    if ids.null_count() == ticks.height or (ids.null_count() == 0 and ids.is_sorted()):
        return ticks
    return ticks.sort("id", maintain_order=True, nulls_last=False)


def _at_rows(ticks: pl.DataFrame, keys: pl.Series, price: str, names: Sequence[str]) -> pl.DataFrame:
    """Return time, id, sequence and price of the ticks that these keys (see fold_ticks) stand for."""
    picked = ticks.select("time_ns", "id", "sequence", price)[keys.to_numpy() % MAX_ROWS_AT_ONCE]
    return picked.rename(dict(zip(picked.columns, names, strict=True))).with_columns(pl.col(names[1]).fill_null(NO_ID))


def _order(partials: pl.DataFrame, columns: Sequence[str]) -> NDArray[np.int64]:
    """Return the row numbers in the order of `columns`."""
    return partials.select(pl.arg_sort_by(columns).cast(pl.Int64)).to_series().to_numpy()


def _ranks(order: NDArray[np.int64]) -> pl.Series:
    """Return each row's place in that order."""
    ranks = np.empty(len(order), np.int64)
    ranks[order] = np.arange(len(order))
    return pl.Series(ranks)
