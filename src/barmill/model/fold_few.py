"""The fold of a few ticks in plain Python: the same partial bars as barmill/model/fold.py, without the cost of queries.

A query costs a fraction of a millisecond, however few rows it has, and a fold takes dozens of queries. A quiet market
delivers a handful of ticks many times a second.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import polars as pl

from barmill.model.amounts import LIMB, mean_price, turnover_split, volume_split
from barmill.model.fold import NO_ID, PARTIAL_SCHEMA
from barmill.model.frames import Frame
from barmill.platform.clock import NS_PER_MS

BarKey = tuple[str, int, int]


class Partial(NamedTuple):
    """One row of PARTIAL_SCHEMA."""

    instrument: str
    frame_ms: int
    start_ms: int
    open_time_ns: int
    open_id: int
    open_sequence: int
    open: float
    close_time_ns: int
    close_id: int
    close_sequence: int
    close: float
    high: float
    low: float
    volume_high: int
    volume_whole: int
    volume_fraction: int
    turnover_high: int
    turnover_whole: int
    turnover_fraction: int
    turnover_dust: int
    volume_ticks: int
    ticks: int

    @property
    def key(self) -> BarKey:
        """Return what identifies the bar: instrument, length of the frame in ms, start in ms."""
        return self[:3]


def fold_few(ticks: pl.DataFrame, frames: Sequence[Frame]) -> dict[BarKey, Partial]:
    """Fold ticks (TICK_SCHEMA plus `sequence`) into one partial for each bar of these frames that they touch."""
    volume = pl.col("volume")
    split = {**volume_split(volume), **turnover_split(mean_price() * volume)}
    rows = ticks.select(
        "instrument",
        "time_ns",
        pl.col("id").fill_null(NO_ID),
        "sequence",
        "price_open",
        "price_close",
        *(limb.fill_null(0).alias(name) for name, limb in split.items()),
        volume_ticks=volume.is_not_null().cast(pl.Int64),
    ).rows()
    partials = dict[BarKey, Partial]()
    for name, time_ns, tick_id, sequence, price_open, price_close, *limbs, volume_ticks in rows:
        order = (time_ns, tick_id, sequence)
        high, low = max(price_open, price_close), min(price_open, price_close)
        amounts = (*_carry(0, *limbs[:2]), *_carry(0, *limbs[2:]), volume_ticks, 1)
        for frame in frames:
            start_ms = frame.start_ms(time_ns // NS_PER_MS)
            partial = Partial(
                name, frame.length_ms, start_ms, *order, price_open, *order, price_close, high, low, *amounts
            )
            before = partials.get(partial.key)
            partials[partial.key] = partial if before is None else merge_pair(before, partial)
    return partials


def merge_pair(first: Partial, second: Partial) -> Partial:
    """Merge two partials of one bar."""
    opening = first if first[3:6] <= second[3:6] else second
    closing = first if first[7:10] >= second[7:10] else second
    sums = [first_sum + second_sum for first_sum, second_sum in zip(first[13:], second[13:], strict=True)]
    return Partial(
        *opening[:7],
        *closing[7:11],
        max(first.high, second.high),
        min(first.low, second.low),
        *_carry(*sums[:3]),
        *_carry(*sums[3:7]),
        *sums[7:],
    )


def table_of(partials: Iterable[Partial]) -> pl.DataFrame:
    """Return partials as a table (PARTIAL_SCHEMA)."""
    return pl.DataFrame([*partials], PARTIAL_SCHEMA, orient="row")


def _carry(*limbs: int) -> list[int]:
    """Return limbs, highest first, with full units of each moved to the next higher limb (see amounts.py)."""
    carried, carry = list[int](), 0
    for limb in reversed(limbs[1:]):
        carry, rest = divmod(limb + carry, LIMB)
        carried.insert(0, rest)
    return [limbs[0] + carry, *carried]
