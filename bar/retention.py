"""Retention: old bars of a short frame go once a longer frame holds what they add up to.

One call is one short transaction, so a job that publishes meanwhile waits for milliseconds. What is written down first
is up to when bars of the frame go: publishing leaves out what is older, so nothing that went comes back.
"""

import polars as pl

from bar.frames import Frame
from bar.model import BAR_SCHEMA, BarState
from bar.query import BarQuery, read, splice_of
from bar.seams import hand_on
from bar.sqlite import Database
from bar.store import upsert_sql

_MARK = "INSERT INTO removed VALUES (?, ?, 0, 0) ON CONFLICT (frame) DO UPDATE SET to_ms = max(to_ms, excluded.to_ms)"
_COUNT = "UPDATE removed SET bars = bars + ?, ticks = ticks + ? WHERE frame = ?"


def remove_some(db: Database, instrument: str, frame: Frame, into: Frame, before_ms: int, most: int) -> int:
    """Remove the oldest bars of an instrument that start before `before_ms`; return how many went, 0 when all are gone.

    At most about `most`, but whole bars of `into`, a longer frame that `frame` divides; those are written where they
    are missing or hold fewer ticks. What still forms stays, and so does all that is newer.
    """
    before_ms = into.start_ms(before_ms)
    if not _has_older(db, instrument, frame, before_ms):
        return 0
    with db.atomic():
        db.conn.execute(_MARK, (frame.text, before_ms))
        begin_ms, end_ms = _next_range(db, instrument, frame, into, before_ms, most)
        rolled = read(db, BarQuery(instrument, into, begin_ms, end_ms), splice_of(frame))
        forming = rolled.filter(pl.col("state") == BarState.FORMING.value)
        if forming.height:
            end_ms = forming["start_ms"][0]
            rolled = rolled.filter(pl.col("start_ms") < end_ms)
        if _write_missing(db, rolled, read(db, BarQuery(instrument, into, begin_ms, end_ms), splice_of(into))):
            hand_on(db, instrument, frame, into, end_ms)
        range_sql, values = "instrument = ? AND frame = ? AND start_ms < ?", (instrument, frame.text, end_ms)
        removed = db.conn.execute(f"DELETE FROM bars WHERE {range_sql}", values).rowcount
        db.conn.execute(f"DELETE FROM bar_revisions WHERE {range_sql}", values)
        db.conn.execute(_COUNT, (removed, rolled["ticks"].sum(), frame.text))
    return removed


def _has_older(db: Database, instrument: str, frame: Frame, before_ms: int) -> bool:
    query = "SELECT EXISTS (SELECT 1 FROM bars WHERE instrument = ? AND frame = ? AND start_ms < ?)"
    return bool(db.conn.execute(query, (instrument, frame.text, before_ms)).fetchone()[0])


def _next_range(db: Database, instrument: str, frame: Frame, into: Frame, before_ms: int, most: int) -> tuple[int, int]:
    """Return the range of the oldest bars, in whole bars of `into`."""
    starts = "SELECT start_ms FROM bars WHERE instrument = ? AND frame = ? ORDER BY start_ms LIMIT 1 OFFSET ?"
    first, beyond = (
        row and into.start_ms(row[0])
        for row in (db.conn.execute(starts, (instrument, frame.text, offset)).fetchone() for offset in (0, most))
    )
    return first, before_ms if beyond is None else min(before_ms, max(beyond, first + into.length_ms))


def _write_missing(db: Database, rolled: pl.DataFrame, stored: pl.DataFrame) -> int:
    """Write those bars that are not stored, or with fewer ticks; return how many.

    None while one job makes both frames.
    """
    ticks_stored = pl.col("ticks_stored").fill_null(0)
    missing = (
        rolled.join(stored.select("start_ms", ticks_stored="ticks"), on="start_ms", how="left")
        .filter(ticks_stored < pl.col("ticks"))
        .with_columns(state=pl.lit(BarState.CLOSED.value), revision=pl.lit(0, pl.Int64))
        .select(BAR_SCHEMA.keys())
    )
    db.conn.executemany(upsert_sql(), missing.iter_rows())
    return missing.height
