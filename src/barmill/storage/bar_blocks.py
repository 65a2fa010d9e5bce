"""Blocks: bars of one instrument and frame that are unlikely to change, stored as compressed columns (bar_codec.py).

bar_blocks   one row per block: its instrument and frame, the starts of its first and last bar, how many bars and ticks
             it holds, the number of the last change of its bars (changes.py), and the payload

    A bar is a row of `bars` or part of one block, never both; no row starts within the range of a block.
    The newest bars of an instrument and frame are rows, so queries that need only these read `bars` alone.
    A block never changes. Before one of its bars changes, the same transaction turns the block back into rows
    (`thaw`). They move into a block again later.

A move is one transaction, and readers read rows and blocks in one transaction, so they see each bar once.
"""

import sqlite3
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import starmap
from operator import gt
from typing import TYPE_CHECKING, Any

import polars as pl

from barmill.model.bar import BAR_KEY, BAR_SCHEMA, BarState
from barmill.platform.sqlite_file import Database

if TYPE_CHECKING:  # imports NumPy
    from barmill.storage.bar_codec import Content

_COLUMNS = ", ".join(BAR_SCHEMA)
SERIES_SQL = "instrument = :instrument AND frame = :frame"
_RANGE = f"{SERIES_SQL} AND start_ms >= :from_ms AND start_ms < :to_ms"
_KNOWN = "changed_ms <= :as_of_ms"
_SUPERSEDED_LATER = f"{_KNOWN} AND superseded_ms > :as_of_ms"
BLOCK_COLUMNS = "first_start_ms, last_start_ms, bars, ticks, change"
_BLOCK_KEY = ("instrument", "frame", "first_start_ms")
_VALUE_COLUMNS = [name for name in BAR_SCHEMA if name not in ("instrument", "frame")]
_VALUES_SQL = ", ".join(_VALUE_COLUMNS)
# The columns of the table of bars.
ROW_SCHEMA: dict[str, pl.DataType] = {**BAR_SCHEMA, "change": pl.Int64()}
_INSERT_ROW = f"INSERT INTO bars ({', '.join(ROW_SCHEMA)}) VALUES ({', '.join('?' * len(ROW_SCHEMA))})"
BEGIN_MS, END_MS = -(2**62), 2**62


@dataclass(frozen=True)
class Block:
    """A block as stored, without its payload. ticks: the sum of its bars' ticks; change: their highest `change`."""

    instrument: str
    frame: str
    first_start_ms: int
    last_start_ms: int
    bars: int
    ticks: int
    change: int

    @property
    def key(self) -> tuple[str, str, int]:
        """Return its primary key, which is also that of its first bar."""
        return self.instrument, self.frame, self.first_start_ms

    def content(self, db: Database) -> "Content":
        """Return its bars. Raise sqlite3.DatabaseError if it is damaged.

        Call this in the transaction in which the block was read.
        """
        query = "SELECT data FROM bar_blocks WHERE instrument = ? AND frame = ? AND first_start_ms = ?"
        return self.decode(*db.conn.execute(query, self.key).fetchone())

    def decode(self, data: bytes) -> "Content":
        """Return the bars of its payload. Raise sqlite3.DatabaseError, as SQLite does, if row or payload is damaged."""
        from barmill.storage.bar_codec import BlockFormatError, Content  # imports NumPy

        try:
            content = Content.read(data)
        except BlockFormatError as error:
            raise self._damage(str(error)) from error
        # Only the payload has a checksum.
        found = content.summary()
        for name, value in zip(found._fields, found, strict=True):
            if value != getattr(self, name):
                raise self._damage(f"{name} is {getattr(self, name)}, but {value} in its bars")
        return content

    def read(self, db: Database) -> pl.DataFrame:
        """Return its bars (ROW_SCHEMA), oldest first. See `content` for the transaction and the error."""
        return _bars_in([(self, self.content(db), slice(0, self.bars))], ROW_SCHEMA)

    def _damage(self, problem: str) -> sqlite3.DatabaseError:
        error = sqlite3.DatabaseError(
            f"the block of {self.frame} bars of {self.instrument} from {self.first_start_ms} is damaged: {problem}"
        )
        error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        return error


def is_intact(row: tuple[Any, ...]) -> bool:
    """Return whether the bars of a row of bar_blocks (all columns) can be read and agree with its other columns."""
    *head, data = row
    try:
        Block(*head).decode(data)
    except sqlite3.DatabaseError:
        return False
    return True


def add_table(db: Database) -> None:
    """Create the table and its index."""
    db.execute(
        "CREATE TABLE bar_blocks (instrument TEXT NOT NULL, frame TEXT NOT NULL, first_start_ms INTEGER NOT NULL,"
        " last_start_ms INTEGER NOT NULL, bars INTEGER NOT NULL, ticks INTEGER NOT NULL, change INTEGER NOT NULL,"
        " data BLOB NOT NULL, PRIMARY KEY (instrument, frame, first_start_ms))"
    )
    db.execute("CREATE INDEX blocks_by_frame ON bar_blocks (frame, last_start_ms)")


@contextmanager
def snapshot(db: Database) -> Iterator[None]:
    """Run a `with` block in one transaction, so that all its reads see the file as of one moment.

    Within another transaction, the `with` block is part of that one.
    """
    if db.conn.in_transaction:
        yield
        return
    db.conn.execute("BEGIN")
    try:
        yield
        db.conn.execute("COMMIT")
    except BaseException:
        db.rollback()
        raise


def blocks_within(
    db: Database,
    instrument: str,
    frame: str,
    from_ms: int,
    to_ms: int,
    *,
    after_change: int = -1,
    or_from_ms: int = BEGIN_MS,
) -> Iterator[Block]:
    """Yield the blocks with a range that overlaps [from_ms, to_ms), newest first, in the caller's transaction.

    Leave out those that last changed at or before `after_change` and have no bar that starts from `or_from_ms` on.
    """
    cursor = db.conn.execute(
        f"SELECT {BLOCK_COLUMNS} FROM bar_blocks WHERE {SERIES_SQL} AND first_start_ms < :to_ms AND first_start_ms >="
        f" coalesce((SELECT max(first_start_ms) FROM bar_blocks WHERE {SERIES_SQL} AND first_start_ms <= :from_ms),"
        " :from_ms) AND last_start_ms >= :from_ms AND (change > :after_change OR last_start_ms >= :or_from_ms)"
        " ORDER BY first_start_ms DESC",
        {
            "instrument": instrument,
            "frame": frame,
            "from_ms": from_ms,
            "to_ms": to_ms,
            "after_change": after_change,
            "or_from_ms": or_from_ms,
        },
    )
    for row in cursor:
        yield Block(instrument, frame, *row)


def _bars_in(parts: Sequence[tuple[Block, "Content", slice]], schema: Mapping[str, pl.DataType]) -> pl.DataFrame:
    """Return parts of the bars of blocks (some columns of ROW_SCHEMA), in this order."""
    from barmill.storage.bar_codec import bars_of  # imports NumPy

    instruments, frames = zip(*((block.instrument, block.frame) for block, _, _ in parts), strict=True)
    return bars_of([(content, part) for _, content, part in parts], schema, instruments, frames)


def stored_bars(
    db: Database,
    instrument: str,
    frame: str,
    from_ms: int = BEGIN_MS,
    to_ms: int = END_MS,
    newest: int | None = None,
    as_of_ms: int | None = None,
) -> pl.DataFrame:
    """Return the stored bars (BAR_SCHEMA) that start in [from_ms, to_ms), oldest first.

    newest: return at most this many, the newest. as_of_ms: return the versions that were current then; versions of
    forming bars that have changed since are not stored and therefore missing. Raise sqlite3.DatabaseError if a block is
    damaged.
    """
    values = {
        "instrument": instrument,
        "frame": frame,
        "from_ms": from_ms,
        "to_ms": to_ms,
        "rows": -1 if newest is None else newest,
        "as_of_ms": as_of_ms,
    }
    with snapshot(db):
        rows = db.conn.execute(_newest_sql(as_of_ms is not None), values).fetchall()[::-1]
        starts = [row[0] for row in rows]
        parts: list[tuple[Block, Content, slice]] = []
        found = 0
        oldest_ms = from_ms if newest is None or len(rows) < newest else int(starts[0])
        for block in blocks_within(db, instrument, frame, oldest_ms, to_ms):
            if newest is not None and found + len(rows) - bisect_right(starts, block.last_start_ms) >= newest:
                break
            content = block.content(db)
            part = content.within(from_ms, to_ms)
            parts.append((block, content, part))
            found += content.known(part, as_of_ms)
    bars = _bars_of(instrument, frame, rows)
    if not parts:
        return bars
    in_blocks = _bars_in(parts[::-1], BAR_SCHEMA)
    if as_of_ms is not None:
        in_blocks = in_blocks.filter(pl.col("changed_ms") <= as_of_ms)
    if rows:
        in_blocks = pl.concat([in_blocks, bars])
        if starts[0] <= parts[0][0].last_start_ms:  # a row is older than the last bar of a block
            in_blocks = in_blocks.sort("start_ms", maintain_order=True)
    return in_blocks if newest is None else in_blocks.tail(newest)


def all_stored_bars(db: Database, chunk_bars: int) -> Iterator[pl.DataFrame]:
    """Yield all bars (BAR_SCHEMA) by instrument, frame and start, in chunks. An empty store yields one empty chunk."""
    with snapshot(db):
        cursor = db.conn.execute(f"SELECT {_COLUMNS} FROM bars ORDER BY {', '.join(BAR_KEY)}")
        order = f"ORDER BY {', '.join(_BLOCK_KEY)}"
        blocks = starmap(Block, db.conn.execute(f"SELECT instrument, frame, {BLOCK_COLUMNS} FROM bar_blocks {order}"))
        block, rows, is_end, is_first = next(blocks, None), _bars([]), False, True
        while block is not None or rows.height or not is_end:
            if not rows.height and not is_end:
                rows = _bars(cursor.fetchmany(chunk_bars))
                is_end = rows.height < chunk_bars
            keys = rows.select(BAR_KEY)
            parts: list[tuple[Block, Content, slice]] = []
            bars, places = 0, list[int]()
            while block is not None and bars < chunk_bars and (is_end or block.key < keys.row(-1)):
                parts.append((block, block.content(db), slice(0, block.bars)))
                places.append(_rows_before(keys, places[-1] if places else 0, block))
                bars, block = bars + block.bars, next(blocks, None)
            end = rows.height if block is None else _rows_before(keys, places[-1] if places else 0, block)
            if end or parts or is_first:
                yield _interleaved(rows[:end], places, parts) if parts else rows[:end]
                is_first = False
            rows = rows[end:]


def _rows_before(keys: pl.DataFrame, from_row: int, block: Block) -> int:
    """Return how many rows come before a block. keys: BAR_KEY of the rows, in order; the first `from_row` do."""
    if from_row == keys.height or block.key < keys.row(from_row):
        return from_row
    return bisect_left(range(keys.height), block.key, from_row, key=keys.row)


def _interleaved(
    rows: pl.DataFrame, places: Sequence[int], parts: Sequence[tuple[Block, "Content", slice]]
) -> pl.DataFrame:
    """Return rows and the bars of blocks in the order of BAR_KEY. places: how many rows come before each block."""
    in_blocks = _bars_in(parts, BAR_SCHEMA)
    segments, row, bar, end = list[pl.DataFrame](), 0, 0, 0
    for place, (block, _, _) in zip(places, parts, strict=True):
        if place > row:
            segments += [in_blocks[bar:end], rows[row:place]]
            row, bar = place, end
        end += block.bars
    return pl.concat([*segments, in_blocks[bar:], rows[row:]])


def _bars(rows: list[tuple[object, ...]]) -> pl.DataFrame:
    return pl.DataFrame(rows, BAR_SCHEMA, orient="row")


def _bars_of(instrument: str, frame: str, rows: list[tuple[object, ...]]) -> pl.DataFrame:
    """Return rows of _VALUE_COLUMNS as bars. By column, this takes less time than by row."""
    values = zip(*rows, strict=True) if rows else ((),) * len(_VALUE_COLUMNS)
    columns = {
        name: pl.Series(name, list(column), BAR_SCHEMA[name])
        for name, column in zip(_VALUE_COLUMNS, values, strict=True)
    }
    for name, text in (("instrument", instrument), ("frame", frame)):
        columns[name] = pl.Series(name, [text], pl.String).new_from_index(0, len(rows))
    return pl.DataFrame([columns[name] for name in BAR_SCHEMA])


def _newest_sql(as_of: bool) -> str:
    """Return SQL for the newest :rows rows of a series, newest first; -1 for all."""
    newest = "ORDER BY start_ms DESC LIMIT :rows"
    if not as_of:
        return f"SELECT {_VALUES_SQL} FROM bars WHERE {_RANGE} {newest}"
    return (
        f"SELECT * FROM (SELECT {_VALUES_SQL} FROM bars WHERE {_RANGE} AND {_KNOWN} {newest}) UNION ALL"
        f" SELECT * FROM (SELECT {_VALUES_SQL} FROM bar_revisions WHERE {_RANGE} AND {_SUPERSEDED_LATER} {newest})"
        f" {newest}"
    )


def newest_reach(db: Database) -> dict[str, int]:
    """Return the start of the newest bar in any block, by frame."""
    query = (
        "WITH RECURSIVE names(name) AS (SELECT min(frame) FROM bar_blocks UNION ALL"
        " SELECT (SELECT min(frame) FROM bar_blocks WHERE frame > name) FROM names WHERE name IS NOT NULL)"
        " SELECT name, (SELECT max(last_start_ms) FROM bar_blocks WHERE frame = name) FROM names WHERE name IS NOT NULL"
    )
    return dict(db.conn.execute(query).fetchall())


def thaw_for(db: Database, bars: pl.DataFrame) -> pl.DataFrame:
    """Turn each block with a bar that these bars supersede back into rows, in the caller's transaction.

    bars: BAR_KEY, ticks and any other columns. Return them without those that a remaining block holds with as many
    ticks or more, because publishing them would change nothing.
    """
    reach = newest_reach(db)
    if not reach or not bars.height:
        return bars
    limit_ms = pl.col("frame").replace_strict(reach, default=BEGIN_MS, return_dtype=pl.Int64)
    candidates = bars.select(*BAR_KEY, "ticks", number=pl.int_range(pl.len())).filter(pl.col("start_ms") <= limit_ms)
    known = list[int]()
    # Python's lists take less time than a query of Polars for the few bars of each series.
    for (instrument, frame), of_series in candidates.sort("start_ms").partition_by(*BAR_KEY[:2], as_dict=True).items():
        starts, ticks, numbers = (of_series[name].to_list() for name in ("start_ms", "ticks", "number"))
        for block in [*blocks_within(db, instrument, frame, starts[0], starts[-1] + 1)]:
            inside = slice(bisect_left(starts, block.first_start_ms), bisect_right(starts, block.last_start_ms))
            if not starts[inside]:
                continue  # the bars are all between blocks
            if any(map(gt, ticks[inside], block.content(db).ticks_at(starts[inside]))):
                thaw(db, block)
            else:
                known += numbers[inside]
    return bars.filter(~pl.int_range(pl.len()).is_in(known)) if known else bars


def thaw_newest(db: Database) -> None:
    """Turn the newest block of each instrument and frame without a newer row back into rows.

    Only a repair leaves an instrument and frame without its newest rows, if these were unreadable.
    """
    newest = (
        "SELECT * FROM (SELECT instrument, frame, max(last_start_ms) AS last_ms FROM bar_blocks GROUP BY 1, 2) AS b"
        " WHERE NOT EXISTS (SELECT 1 FROM bars"
        " WHERE instrument = b.instrument AND frame = b.frame AND start_ms > last_ms)"
    )
    for instrument, frame, last_start_ms in db.conn.execute(newest).fetchall():
        for block in [*blocks_within(db, instrument, frame, last_start_ms, END_MS)]:
            thaw(db, block)


def thaw(db: Database, block: Block) -> None:
    """Turn a block back into rows, in the caller's transaction."""
    insert_rows(db, block.read(db))
    delete_block(db, block)


def insert_rows(db: Database, bars: pl.DataFrame) -> None:
    """Insert bars (ROW_SCHEMA) of a block that the caller deletes as rows, in the caller's transaction."""
    db.conn.executemany(_INSERT_ROW, bars.select(ROW_SCHEMA.keys()).iter_rows())


def delete_block(db: Database, block: Block) -> None:
    """Delete a block, in the caller's transaction."""
    db.conn.execute(
        "DELETE FROM bar_blocks WHERE instrument = ? AND frame = ? AND first_start_ms = ?",
        block.key,
    )


def insert_block(db: Database, bars: pl.DataFrame) -> None:
    """Store closed bars (ROW_SCHEMA) of one series, oldest first, as a block, in the caller's transaction.

    When the transaction ends, no row and no bar of another block may start within their range.
    """
    from barmill.storage.bar_codec import encode_bars  # imports NumPy

    assert not bars["state"].eq(BarState.FORMING.value).any()
    first, last = bars.row(0, named=True), bars.row(-1, named=True)
    db.conn.execute(
        f"INSERT INTO bar_blocks (instrument, frame, {BLOCK_COLUMNS}, data) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            first["instrument"],
            first["frame"],
            first["start_ms"],
            last["start_ms"],
            bars.height,
            bars["ticks"].sum(),
            bars["change"].max(),
            encode_bars(bars),
        ),
    )
