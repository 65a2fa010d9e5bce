"""Repeats of a tick, found by its identity (instrument, id) within a window of event time, and ids that come again.

An id is compared as it was sent, as text: 7 and "7" are one id, "07" is another. A tick is a repeat where its
instrument had one with the same id, prices and volume at the same time, or at a time that is the same but for its
precision, as when one of two ways in cuts it to milliseconds. Within one batch it is at the same time. The same id with
anything else is no repeat: its counter has started again, or is unique only together with something else. Such ticks
are kept and counted, so no counter swallows trades.

Never by content alone, since identical trades are real, and never by "lower than the last id", since ticks arrive out
of order. Ticks without an id are never repeats.
"""

from collections.abc import Iterable

import polars as pl

from feed.connection.ids import id_of

_CONTENT = ["instrument", "key", "price_open", "price_close", "volume"]
_KEPT = [*_CONTENT, "time_ns"]
# Joining many small pieces costs more than the rows in them.
_MAX_PIECES = 64
_NO_VOLUME = -1.0
_NS_PER_S = 1_000_000_000
_PRECISIONS_NS = (_NS_PER_S, 1_000_000, 1_000)
# By instrument: the highest id, the newest time, and the id of the tick with that time; ids only where they rise.
_NEWEST_SCHEMA = {"instrument": pl.String, "newest_id": pl.Int64, "newest_ns": pl.Int64, "last_id": pl.Int64}


class RecentIds:
    """The ids accepted lately, per instrument.

    An id is remembered until its instrument's newest tick is `window_ns` younger. Most batches of rising ids only carry
    ids above the newest of their instrument; those need no look into the past.

    reused: how many ticks were new although their id had been seen. restarted: how often the rising ids of an
    instrument fell although time went on.
    """

    def __init__(self, window_ns: int) -> None:
        self.reused = self.restarted = 0
        self._window_ns = window_ns
        self._pieces: list[pl.DataFrame] = []
        self._recalls_numbers = False
        self._newest = pl.DataFrame(schema=_NEWEST_SCHEMA)

    def split(self, ticks: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Return (new ticks, repeats), both in their order, and remember the new ones."""
        if ticks["id"].null_count() == ticks["id_text"].null_count() == ticks.height:
            return ticks, ticks.clear()
        keyed = _keyed(ticks).join(self._newest, on="instrument", how="left", maintain_order="left")
        fallen = keyed.filter((pl.col("id") < pl.col("last_id")) & (pl.col("time_ns") > pl.col("newest_ns")))
        self.restarted += fallen["instrument"].n_unique()
        repeated, reused = self._judged(keyed)
        self.reused += reused
        self._remember(keyed.filter(~repeated) if repeated.any() else keyed)
        if not repeated.any():
            return ticks, ticks.clear()
        return ticks.filter(~repeated), ticks.filter(repeated)

    def remember(self, accepted: Iterable[pl.DataFrame]) -> None:
        """Take note of ticks that are in the log already, such as after a restart."""
        for ticks in accepted:
            self._recalls_numbers |= ticks["id"].null_count() < ticks.height
            self._remember(_keyed(ticks))

    def _remember(self, keyed: pl.DataFrame) -> None:
        piece = keyed.filter(pl.col("key").is_not_null())
        self._pieces.append(piece.select(_KEPT))
        newest = piece.select("instrument", newest_id="id", newest_ns="time_ns", last_id="id")
        self._newest = (
            pl.concat([self._newest, newest])
            .group_by("instrument")
            .agg(pl.max("newest_id"), pl.max("newest_ns"), pl.col("last_id").sort_by("newest_ns").last())
        )
        if len(self._pieces) > _MAX_PIECES:
            self._forget()

    def _judged(self, keyed: pl.DataFrame) -> tuple[pl.Series, int]:
        """Return which rows are repeats, and how many of the others have an id that was seen before."""
        known = pl.col("key").is_not_null()
        seen = keyed.select(known & ~pl.struct("instrument", "key").is_first_distinct()).to_series()
        repeated = pl.repeat(False, keyed.height, dtype=pl.Boolean, eager=True)
        if seen.any():
            alike = keyed.filter(pl.col("key").is_in(keyed.filter(seen)["key"].unique().implode()))
            same = alike.filter(~pl.struct(_KEPT).is_first_distinct())
            repeated = keyed["row"].is_in(same["row"].implode())
        suspects = self._suspects(keyed)
        if suspects.height:
            keys = suspects["key"].unique()
            past = self._past(keys)
            seen |= keyed["row"].is_in(suspects.join(past, on=["instrument", "key"], how="semi")["row"].implode())
            repeated |= keyed["row"].is_in(_matching(suspects, past).implode())
        texts = suspects.filter(pl.col("id").is_null())
        if self._recalls_numbers and texts.height:
            # Versions before 0.2 kept a number for each text; the ticks of the window before an update have these.
            numbers = texts.with_columns(pl.col("key").map_elements(lambda text: str(id_of(text)), pl.String))
            repeated |= keyed["row"].is_in(_matching(numbers, self._past(numbers["key"].unique())).implode())
        return repeated, int((seen & ~repeated).sum())

    def _past(self, keys: pl.Series) -> pl.DataFrame:
        """Return what is remembered with any of these ids."""
        return pl.concat(piece.filter(pl.col("key").is_in(keys.implode())) for piece in self._pieces)

    def _suspects(self, keyed: pl.DataFrame) -> pl.DataFrame:
        """Return the rows whose id may have been seen before this batch."""
        if not self._pieces:
            return keyed.clear()
        above = (pl.col("id") > pl.col("newest_id")).fill_null(False)
        return keyed.filter(pl.col("key").is_not_null() & ~above)

    def _forget(self) -> None:
        kept = pl.concat(self._pieces).join(self._newest.select("instrument", "newest_ns"), on="instrument")
        inside = pl.col("time_ns") > pl.col("newest_ns") - self._window_ns
        self._pieces = [kept.filter(inside).select(_KEPT)]


def _keyed(ticks: pl.DataFrame) -> pl.DataFrame:
    """Return what ticks are compared by: `key` is the id as text; `id` the number, where it rises per instrument."""
    return ticks.select(
        "instrument",
        "price_open",
        "price_close",
        "time_ns",
        "id",
        pl.col("volume").fill_null(_NO_VOLUME),
        key=pl.coalesce("id_text", pl.col("id").cast(pl.String)),
    ).with_row_index("row")


def _matching(suspects: pl.DataFrame, past: pl.DataFrame) -> pl.Series:
    """Return the row numbers of those that were there before with all their content, at a time that fits."""
    right = past.select(*_CONTENT, "time_ns", past_ns="time_ns").sort("time_ns")
    nearest = suspects.sort("time_ns").join_asof(
        right, on="time_ns", by=_CONTENT, strategy="nearest", check_sortedness=False
    )
    time, was = pl.col("time_ns"), pl.col("past_ns")
    apart_ns = (time - was).abs()
    fits = [(apart_ns < step) & ((time % step == 0) | (was % step == 0)) for step in _PRECISIONS_NS]
    return nearest.filter(((time == was) | pl.any_horizontal(fits)).fill_null(False))["row"]
