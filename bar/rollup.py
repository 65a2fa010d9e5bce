"""Roll-up: bars of a longer frame made from stored ones of a shorter frame that divides it. Pure functions, no state.

SQLite groups and adds up (tens of thousands of short bars in some 50 ms), Polars finishes. The result is what the fold
makes of the ticks themselves: open, high, low, close, ticks and times always; the volume as long as no short bar's own
volume needed more than the 15 digits that are stored, and to a unit of the 15th digit else. The vwap is weighted with
stored vwaps, which are rounded too, so its 15th digit may be off by two.

    state     forming until the time the jobs have reached passes its end, and as long as one of its bars forms;
              revised when one of them is
    revision  how often its bars changed after they had closed, all together
"""

from collections.abc import Sequence

import polars as pl

from bar.amounts import LIMB, TURNOVER_LIMBS, VOLUME_LIMBS, amount, carried, printed, printed_vwap
from bar.frames import Frame
from bar.model import BAR_SCHEMA, BarState

# Floats from the first on have no fraction, and from the second on do not fit SQLite's integers.
_WHOLE_FROM, _BEYOND_INTEGERS = "9.1e15", "9e18"

_GROUPED: dict[str, pl.DataType] = {
    "start_ms": pl.Int64(),
    "open": pl.Float64(),
    "high": pl.Float64(),
    "low": pl.Float64(),
    "close": pl.Float64(),
    **{name: pl.Int64() for name in (*VOLUME_LIMBS, *TURNOVER_LIMBS)},
    "traded": pl.Int64(),
    "ticks": pl.Int64(),
    "first_tick_ms": pl.Int64(),
    "last_tick_ms": pl.Int64(),
    "forming": pl.Int64(),
    "revision": pl.Int64(),
    "changed_ms": pl.Int64(),
}


def grouping(bars: str, open_at: str, close_at: str) -> str:
    """Return the SQL that groups the rows of the query `bars` into the newest :newest ones, newest first.

    They start at multiples of :length_ms after :offset_ms.

    open_at, close_at: expressions for the open of the bar that starts at first_ms, and the close of that at last_ms.
    """
    return (
        f"SELECT bucket_ms, {open_at}, high, low, {close_at}, {', '.join((*VOLUME_LIMBS, *TURNOVER_LIMBS))},"
        " traded, ticks, first_tick_ms, last_tick_ms, forming, revision, changed_ms FROM ("
        "SELECT (start_ms - :offset_ms) / :length_ms * :length_ms + :offset_ms AS bucket_ms,"
        " min(start_ms) AS first_ms, max(start_ms) AS last_ms,"
        " max(high) AS high, min(low) AS low,"
        f" {_sums('volume', VOLUME_LIMBS)}, {_sums('(volume * vwap)', TURNOVER_LIMBS)},"
        " count(volume) AS traded, sum(ticks) AS ticks,"
        " min(first_tick_ms) AS first_tick_ms, max(last_tick_ms) AS last_tick_ms,"
        " max(state = 'forming') AS forming, sum(revision) AS revision, max(changed_ms) AS changed_ms"
        f" FROM ({bars}) GROUP BY 1 ORDER BY 1 DESC LIMIT :newest)"
    )


def grouped(rows: list[tuple[object, ...]], *, settled: bool) -> pl.DataFrame:
    """Return what `grouping` found as a table; settled: none of its bars forms any more, whatever is stored."""
    table = pl.DataFrame(rows, _GROUPED, orient="row")
    return table.with_columns(forming=pl.lit(0, pl.Int64)) if settled else table


def joined(groups: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Join groups of neighboring stretches of time, the newest stretch first, where parts of one bar are in several."""
    sums = (*VOLUME_LIMBS, *TURNOVER_LIMBS, "traded", "ticks", "revision")
    if len(groups) == 1:
        return groups[0]
    return (
        pl.concat(groups)
        .group_by("start_ms", maintain_order=True)
        .agg(
            pl.last("open"),
            pl.first("close"),
            *(pl.max(name) for name in ("high", "last_tick_ms", "forming", "changed_ms")),
            *(pl.min(name) for name in ("low", "first_tick_ms")),
            *(pl.sum(name) for name in sums),
        )
        .select(_GROUPED.keys())
    )


def finish(groups: pl.DataFrame, instrument: str, frame: Frame, reached_ms: int | None) -> pl.DataFrame:
    """Turn what `grouping` found into bars (BAR_SCHEMA), oldest first.

    reached_ms: up to when the jobs have seen ticks; None when nothing more is expected.
    """
    end_ms = pl.col("start_ms") + frame.length_ms
    volume, turnover = amount(VOLUME_LIMBS), amount(TURNOVER_LIMBS)
    open_still = (pl.col("forming") > 0) | (pl.lit(False) if reached_ms is None else end_ms > reached_ms)
    return (
        groups.reverse()
        .with_columns(*carried(VOLUME_LIMBS), *carried(TURNOVER_LIMBS))
        .with_columns(
            instrument=pl.lit(instrument),
            frame=pl.lit(frame.text),
            end_ms=end_ms,
            volume=pl.when(pl.col("traded") > 0).then(printed(volume)),
            vwap=printed_vwap(turnover, volume),
            state=pl.when(open_still)
            .then(pl.lit(BarState.FORMING.value))
            .when(pl.col("revision") > 0)
            .then(pl.lit(BarState.REVISED.value))
            .otherwise(pl.lit(BarState.CLOSED.value)),
        )
        .select(BAR_SCHEMA.keys())
    )


def longest_divisor(frame: Frame, stored: Sequence[Frame]) -> Frame | None:
    """Return the longest of the stored frames that divides this one: itself where it is stored; None without one."""
    return max((one for one in stored if one.divides(frame)), default=None)


def _sums(value: str, limbs: Sequence[str]) -> str:
    """Add up an amount limb by limb, as bar/amounts.py splits it; no sum can pass the 64 bits of SQLite's integers."""
    units, fine = (
        f"CAST({value} AS INTEGER)",
        f"({value} < {_WHOLE_FROM}) * ({value} - CAST({value} AS INTEGER)) * {LIMB}.0",
    )
    high, beyond = f"CAST({value} / {LIMB}.0 AS INTEGER)", f"{value} >= {_BEYOND_INTEGERS}"
    split = [
        f"iif({beyond}, {high}, {units} / {LIMB})",
        f"iif({beyond}, CAST({value} - {high} * {LIMB}.0 AS INTEGER), {units} % {LIMB})",
        *(f"CAST({fine} AS INTEGER)" for _ in limbs[2:-1]),
        f"CAST(round({_last_part(fine, len(limbs))}) AS INTEGER)",
    ]
    return ", ".join(f"coalesce(sum({limb}), 0) AS {name}" for name, limb in zip(limbs, split, strict=True))


def _last_part(fine: str, limbs: int) -> str:
    """Return what is left for the last of three or four limbs."""
    return fine if limbs == 3 else f"({fine} - CAST({fine} AS INTEGER)) * {LIMB}.0"
