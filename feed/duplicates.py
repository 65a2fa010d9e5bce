"""Repeats of a tick, found by exact (instrument, id) within a window of event time.

Never by content, since identical trades are real, and never by "lower than the last id", since ticks arrive out of
order. Ticks without an id are never repeats.
"""

from collections.abc import Iterable

import polars as pl

_KEY = ("instrument", "id")
# Joining many small pieces costs more than the rows in them.
_MAX_PIECES = 64


class RecentIds:
    """The ids accepted lately, per instrument.

    An id is remembered until its instrument's newest tick is `window_ns` younger. Most batches only carry ids above
    the newest of their instrument; those need no look into the past.
    """

    def __init__(self, window_ns: int) -> None:
        self._window_ns = window_ns
        self._pieces: list[pl.DataFrame] = []
        self._newest = pl.DataFrame(schema={"instrument": pl.String, "newest_id": pl.Int64, "newest_ns": pl.Int64})

    def split(self, ticks: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Return (new ticks, repeats), both in their order, and remember the new ones."""
        if ticks["id"].null_count() == ticks.height:
            return ticks, ticks.clear()
        repeated = self._repeated(ticks)
        new, repeats = (ticks.filter(~repeated), ticks.filter(repeated)) if repeated.any() else (ticks, ticks.clear())
        self.remember([new])
        return new, repeats

    def remember(self, accepted: Iterable[pl.DataFrame]) -> None:
        """Take note of ticks that are in the log already, such as after a restart."""
        for ticks in accepted:
            piece = ticks.select(*_KEY, "time_ns").drop_nulls("id")
            self._pieces.append(piece)
            newest = piece.group_by("instrument").agg(newest_id=pl.max("id"), newest_ns=pl.max("time_ns"))
            self._newest = (
                pl.concat([self._newest, newest]).group_by("instrument").agg(pl.max("newest_id"), pl.max("newest_ns"))
            )
        if len(self._pieces) > _MAX_PIECES:
            self._forget()

    def _repeated(self, ticks: pl.DataFrame) -> pl.Series:
        keys = ticks.select(*_KEY).with_row_index("row")
        repeated = keys.select((~pl.struct(_KEY).is_first_distinct() & pl.col("id").is_not_null()).alias("r"))["r"]
        suspects = keys.join(self._newest, on="instrument").filter(pl.col("id") <= pl.col("newest_id"))
        if suspects.height:
            seen = suspects.join(pl.concat(self._pieces), on=_KEY, how="semi")["row"]
            repeated = repeated | keys["row"].is_in(seen.implode())
        return repeated

    def _forget(self) -> None:
        kept = pl.concat(self._pieces).join(self._newest.drop("newest_id"), on="instrument")
        inside = pl.col("time_ns") > pl.col("newest_ns") - self._window_ns
        self._pieces = [kept.filter(inside).select(*_KEY, "time_ns")]
