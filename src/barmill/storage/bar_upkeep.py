"""Upkeep of stored bars: moves into blocks, removal of bars that a longer frame contains, and compaction of the file.

Each move and each removal is one short transaction, so a publishing job waits only milliseconds. A removal first
records the time before which bars of the frame are removed. Publishing skips older bars, so removed bars never return.
"""

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from barmill.model.bar import BAR_SCHEMA, BarState
from barmill.model.frames import Frame
from barmill.platform.sqlite_file import Database, open_for_writing
from barmill.storage.bar_blocks import (
    BEGIN_MS,
    BLOCK_COLUMNS,
    ROW_SCHEMA,
    SERIES_SQL,
    Block,
    blocks_within,
    delete_block,
    insert_block,
    insert_rows,
    snapshot,
    thaw_for,
)
from barmill.storage.bar_store import upsert_sql
from barmill.storage.changes import next_change
from barmill.storage.cover_records import copy_seams
from barmill.storage.query import BarQuery, BarSource, splice_of

_RECORD_REMOVED = (
    "INSERT INTO removed VALUES (?, ?, 0, 0) ON CONFLICT (frame) DO UPDATE SET to_ms = max(to_ms, excluded.to_ms)"
)
_ADD_COUNTS = "UPDATE removed SET bars = bars + ?, ticks = ticks + ? WHERE frame = ?"


def remove_oldest(db: Database, instrument: str, frame: Frame, into: Frame, before_ms: int, limit: int) -> int:
    """Remove the oldest bars of an instrument that start before `before_ms`. Return their number.

    Removes about `limit` rows or one block, in whole bars of `into`, a longer frame that `frame` divides. Bars of
    `into` that are missing or contain fewer ticks are written. Bars from the first forming bar of `into` on are kept.
    The result is 0 if there is nothing left to remove.
    """
    before_ms = into.start_ms(before_ms)
    if not _has_older(db, instrument, frame, before_ms):
        return 0
    with db.atomic():
        db.conn.execute(_RECORD_REMOVED, (frame.text, before_ms))
        begin_ms, end_ms = _next_range(db, instrument, frame, into, before_ms, limit)
        rolled_up = BarSource(db, splice_of(frame)).read(BarQuery(instrument, into, begin_ms, end_ms))
        forming = rolled_up.filter(pl.col("state") == BarState.FORMING.value)
        if forming.height:
            end_ms = forming["start_ms"][0]
            rolled_up = rolled_up.filter(pl.col("start_ms") < end_ms)
        if _write_missing(
            db, rolled_up, BarSource(db, splice_of(into)).read(BarQuery(instrument, into, begin_ms, end_ms))
        ):
            copy_seams(db, instrument, frame, into, end_ms)
        range_sql, values = "instrument = ? AND frame = ? AND start_ms < ?", (instrument, frame.text, end_ms)
        removed = db.conn.execute(f"DELETE FROM bars WHERE {range_sql}", values).rowcount
        removed += _remove_from_blocks(db, instrument, frame, end_ms)
        db.conn.execute(f"DELETE FROM bar_revisions WHERE {range_sql}", values)
        db.conn.execute(_ADD_COUNTS, (removed, rolled_up["ticks"].sum(), frame.text))
    return removed


def _has_older(db: Database, instrument: str, frame: Frame, before_ms: int) -> bool:
    query = (
        "SELECT EXISTS (SELECT 1 FROM bars WHERE instrument = :instrument AND frame = :frame AND start_ms < :before_ms)"
        " OR EXISTS (SELECT 1 FROM bar_blocks WHERE instrument = :instrument AND frame = :frame"
        " AND first_start_ms < :before_ms)"
    )
    values = {"instrument": instrument, "frame": frame.text, "before_ms": before_ms}
    return bool(db.conn.execute(query, values).fetchone()[0])


def _next_range(
    db: Database, instrument: str, frame: Frame, into: Frame, before_ms: int, limit: int
) -> tuple[int, int]:
    """Return the range of the oldest bars, in whole bars of `into`: about `limit` rows, or one block."""
    starts = "SELECT start_ms FROM bars WHERE instrument = ? AND frame = ? ORDER BY start_ms LIMIT 1 OFFSET ?"
    rows = [db.conn.execute(starts, (instrument, frame.text, offset)).fetchone() for offset in (0, limit)]
    oldest_ms, next_ms = (before_ms if row is None else row[0] for row in rows)
    block = db.conn.execute(
        "SELECT first_start_ms, last_start_ms FROM bar_blocks WHERE instrument = ? AND frame = ?"
        " ORDER BY first_start_ms LIMIT 1",
        (instrument, frame.text),
    ).fetchone()
    if block is not None:
        next_ms = min(next_ms, block[1] if block[0] < oldest_ms else block[0])
        oldest_ms = min(oldest_ms, block[0])
    first_ms = into.start_ms(oldest_ms)
    return first_ms, min(before_ms, max(into.start_ms(next_ms), first_ms + into.length_ms))


def _remove_from_blocks(db: Database, instrument: str, frame: Frame, before_ms: int) -> int:
    """Remove the bars that start before `before_ms` from blocks. Return their number.

    The later bars of these blocks become rows.
    """
    removed = 0
    for block in [*blocks_within(db, instrument, frame.text, BEGIN_MS, before_ms)]:
        removed += block.bars
        if block.last_start_ms >= before_ms:
            rest = block.read(db).filter(pl.col("start_ms") >= before_ms)
            insert_rows(db, rest)
            removed -= rest.height
        delete_block(db, block)
    return removed


def _write_missing(db: Database, rolled_up: pl.DataFrame, stored: pl.DataFrame) -> int:
    """Write the bars (BAR_SCHEMA) that are not stored, or are stored with fewer ticks. Return their number.

    The number is 0 as long as one job makes both frames.
    """
    ticks_stored = pl.col("ticks_stored").fill_null(0)
    missing = (
        rolled_up.join(stored.select("start_ms", ticks_stored="ticks"), on="start_ms", how="left")
        .filter(ticks_stored < pl.col("ticks"))
        .with_columns(state=pl.lit(BarState.CLOSED.value), revision=pl.lit(0, pl.Int64))
        .select(BAR_SCHEMA.keys())
    )
    missing = thaw_for(db, missing)
    if missing.height:
        change = next_change(db)
        db.conn.executemany(upsert_sql(), ((*row, change) for row in missing.iter_rows()))
    return missing.height


@dataclass(frozen=True)
class MoveSizes:
    """The sizes of a move into blocks.

    keep: how many of the newest rows of a series are not moved. least: the fewest bars that become a new block; fewer
    are only added to the block before. block: the bars of a full block; such an addition may fill it up to twice this
    number.
    """

    keep: int = 500
    least: int = 256
    block: int = 4_096


USUAL_SIZES = MoveSizes()


def move_oldest(
    db: Database, instrument: str, frame: str, from_ms: int, lateness_ms: int, sizes: MoveSizes = USUAL_SIZES
) -> tuple[int, int | None]:
    """Move the oldest rows of closed bars that start from `from_ms` on into a block, in one transaction.

    Return (number moved, from_ms of the next call), with None if nothing more is to be moved. Bars that end less than
    `lateness_ms` before the newest tick stay rows. The rows are read and encoded before the write lock is taken. If
    another process holds it then, or has written since, raise sqlite3.OperationalError (SQLITE_BUSY, or
    SQLITE_BUSY_SNAPSHOT) and change nothing.
    """
    newest = f"FROM bars WHERE {SERIES_SQL} ORDER BY start_ms DESC LIMIT 1"
    values = {
        "instrument": instrument,
        "frame": frame,
        "from_ms": from_ms,
        "lateness_ms": lateness_ms,
        "keep": sizes.keep,
        "limit": sizes.block,
    }
    rows_sql = (
        f"SELECT {', '.join(ROW_SCHEMA)} FROM bars WHERE {SERIES_SQL} AND start_ms >= :from_ms"
        f" AND start_ms < (SELECT start_ms {newest} OFFSET :keep - 1)"
        f" AND end_ms <= (SELECT last_tick_ms {newest}) - :lateness_ms ORDER BY start_ms LIMIT :limit"
    )
    with snapshot(db):
        rows = pl.DataFrame(db.conn.execute(rows_sql, values).fetchall(), ROW_SCHEMA, orient="row")
        bars = _first_run(db, instrument, frame, rows)
        if not bars.height:
            return 0, None
        values |= {"first_ms": int(bars["start_ms"][0]), "last_ms": int(bars["start_ms"][-1])}
        next_ms = int(bars["start_ms"][-1]) + 1
        is_newest = rows.height < sizes.block and bars["start_ms"][-1] == rows["start_ms"][-1]
        before = None if is_newest and bars.height < sizes.least else _block_before(db, values)
        room = 2 * sizes.block if bars.height < sizes.least else sizes.block
        if before is not None and before.bars + bars.height <= room:
            block_bars = pl.concat([before.read(db), bars])
            delete_block(db, before)
        elif bars.height < sizes.least:
            return 0, None if is_newest else next_ms
        else:
            block_bars = bars
        insert_block(db, block_bars)
        db.conn.execute(f"DELETE FROM bars WHERE {SERIES_SQL} AND start_ms BETWEEN :first_ms AND :last_ms", values)
    return bars.height, next_ms


def _first_run(db: Database, instrument: str, frame: str, rows: pl.DataFrame) -> pl.DataFrame:
    """Return the first closed bars without a forming bar or a block between them."""
    closed = rows.filter((pl.col("state") != BarState.FORMING.value).cum_max())
    if not closed.height:
        return closed
    next_block = f"SELECT min(first_start_ms) FROM bar_blocks WHERE {SERIES_SQL} AND first_start_ms > :first_ms"
    values = {"instrument": instrument, "frame": frame, "first_ms": int(closed["start_ms"][0])}
    [next_ms] = db.conn.execute(next_block, values).fetchone()
    ends = pl.col("state") == BarState.FORMING.value
    if next_ms is not None:
        ends |= pl.col("start_ms") > next_ms
    return closed.filter(~ends.cum_max())


def _block_before(db: Database, values: dict[str, object]) -> Block | None:
    """Return the block before the row that starts at :first_ms; None if there is none, or a row between them."""
    row = db.conn.execute(
        f"SELECT {BLOCK_COLUMNS} FROM bar_blocks WHERE {SERIES_SQL} AND first_start_ms < :first_ms"
        " ORDER BY first_start_ms DESC LIMIT 1",
        values,
    ).fetchone()
    if row is None:
        return None
    block = Block(str(values["instrument"]), str(values["frame"]), *row)
    between = f"SELECT EXISTS (SELECT 1 FROM bars WHERE {SERIES_SQL} AND start_ms > :after_ms AND start_ms < :first_ms)"
    is_apart = db.conn.execute(between, values | {"after_ms": block.last_start_ms}).fetchone()[0]
    return None if is_apart else block


# A move into blocks leaves most of the file free; a smaller share is soon used for later bars.
_COMPACT_FROM_SHARE = 0.25


def compact(path: Path) -> int:
    """Return the free pages of an unused bar store to the file system, if they are at least a quarter of the file.

    Return the number of bytes by which the file shrank. Needs free space for the remaining pages twice: in the folder
    for temporary files, and next to the file. Raise sqlite3.OperationalError and change nothing if there is too little.
    """
    with closing(open_for_writing(path).conn) as connection:
        free, pages, page_bytes = (
            connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("freelist_count", "page_count", "page_size")
        )
        if free < pages * _COMPACT_FROM_SHARE:
            return 0
        connection.execute("VACUUM")
        [pages_left] = connection.execute("PRAGMA page_count").fetchone()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    return int((pages - pages_left) * page_bytes)
