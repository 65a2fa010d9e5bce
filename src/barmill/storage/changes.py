"""Changes of bars: one sequence for the whole store, so that a reader can ask what has changed since it last read.

    change_sequence  one row: a random name of the store, and the number of the last publication that wrote bars
    bars.change      the number of the publication that last changed the bar; 0 for bars older than this column
    bar_revisions    the versions of closed bars that a change superseded

Publications are numbered in the order of their commits, so every change that a reader has not seen has a higher number
than all that it has seen, even if the clock was set back. A reader keeps its position as a cursor. If the store has
been replaced by another one, or by a copy with fewer changes, the cursor is invalid and the reader has to start again.

Which stored frames supply which bars (barmill/model/pieces.py) can change without a publication of these bars, for
example when a job catches up with another one. The cursor therefore contains the pieces. If they have changed, all bars
from the first difference on are read again.
"""

import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

import polars as pl

from barmill.model.bar import BAR_KEY, BAR_SCHEMA, BarState
from barmill.model.frames import Frame
from barmill.model.pieces import END_MS
from barmill.platform.sqlite_file import Database
from barmill.storage.bar_blocks import blocks_within, snapshot
from barmill.storage.query import RANGE_SQL, BarQuery, BarSource, Splice, grid, key_values

REVISION_SCHEMA: dict[str, pl.DataType] = {**BAR_SCHEMA, "superseded_ms": pl.Int64()}
BY_INSTRUMENT_SCHEMA: dict[str, pl.DataType] = {
    "instrument": pl.String(),
    "revisions": pl.Int64(),
    "bars": pl.Int64(),
}
DELAY_SCHEMA: dict[str, pl.DataType] = {"frame": pl.String(), "delay_ms": pl.Int64()}
_PIECE = r"[1-9][0-9]*[a-z]+_-?[0-9]{1,19}"
_CURSOR = re.compile(rf"([0-9a-f]*)\.([0-9]{{1,18}})\.(-?[0-9]{{1,18}})?(?:\.((?:{_PIECE}(?:~{_PIECE})*)?))?")
_BUCKET = "(start_ms - :offset_ms) / :length_ms * :length_ms + :offset_ms"


class CursorError(ValueError):
    """A text is not a cursor; the message says where to get one."""


@dataclass(frozen=True)
class Cursor:
    """The position of a reader in the changes of a store.

    store: the name of the store; empty for a reader that has not read any. change: the number of the last publication
    seen. open_from_ms: the start of the first bar that was forming, None if none was: a bar may also close because time
    passes, without a publication that changes it. pieces: frame and first start of each piece of what was read, oldest
    first.
    """

    store: str = ""
    change: int = 0
    open_from_ms: int | None = None
    pieces: tuple[tuple[str, int], ...] = ()

    def __str__(self) -> str:
        pieces = "~".join(f"{frame}_{from_ms}" for frame, from_ms in self.pieces)
        return f"{self.store}.{self.change}.{'' if self.open_from_ms is None else self.open_from_ms}.{pieces}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the cursor that was written as this text. Raise CursorError if it is not a cursor."""
        match = _CURSOR.fullmatch(text)
        if match is None:
            raise CursorError(f"{text or 'An empty text'} is not a cursor; pass the cursor of the last answer.")
        store, change, open_from_ms, pieces = match.groups()
        parts = [piece.split("_") for piece in (pieces or "").split("~") if piece]
        return cls(
            store,
            int(change),
            None if open_from_ms is None else int(open_from_ms),
            tuple((frame, int(from_ms)) for frame, from_ms in parts),
        )

    def after(self, bars: pl.DataFrame) -> Self:
        """Return this cursor, with open_from_ms from the bars (BAR_SCHEMA, oldest first) that were read with it."""
        forming = bars.filter(pl.col("state") == BarState.FORMING.value)["start_ms"]
        return replace(self, open_from_ms=forming[0] if forming.len() else None)

    def first_difference_ms(self, other: Self, from_ms: int) -> int | None:
        """Return the first time at or after `from_ms` at which another cursor has a different piece; None if none."""
        starts_ms = {start_ms for _, start_ms in (*self.pieces, *other.pieces) if start_ms > from_ms}
        for start_ms in (from_ms, *sorted(starts_ms)):
            if self._frame_at(start_ms) != other._frame_at(start_ms):
                return start_ms
        return None

    def _frame_at(self, time_ms: int) -> str | None:
        return next((frame for frame, from_ms in reversed(self.pieces) if from_ms <= time_ms), None)


@dataclass(frozen=True)
class Changes:
    """The changes after a cursor.

    bars: the bars that changed or may have closed (BAR_SCHEMA), oldest first. complete_from_ms: all bars that start
    at or after this time are among them, so a reader drops any other bar that it holds from this time on; None if no
    bar can have vanished.
    """

    bars: pl.DataFrame
    complete_from_ms: int | None = None


def add_sequence(db: Database) -> None:
    """Create the sequence, and the column of its numbers in the table of bars."""
    db.execute("ALTER TABLE bars ADD COLUMN change INTEGER NOT NULL DEFAULT 0")
    db.execute("CREATE TABLE change_sequence (store TEXT NOT NULL, change INTEGER NOT NULL)")
    db.execute("INSERT INTO change_sequence VALUES (?, 0)", (secrets.token_hex(8),))


def next_change(db: Database) -> int:
    """Return the next number of the sequence, in the transaction that writes the bars."""
    query = "UPDATE change_sequence SET change = change + 1 RETURNING change"
    return int(db.conn.execute(query).fetchall()[0][0])


def continue_sequence(db: Database) -> None:
    """Continue the sequence after the highest number in the bars, which were copied from another store."""
    for table in ("bars", "bar_blocks"):
        db.execute(f"UPDATE change_sequence SET change = max(change, (SELECT coalesce(max(change), 0) FROM {table}))")


def position(db: Database) -> tuple[str, int]:
    """Return the name of the store, and the number of its last publication."""
    store, change = db.conn.execute("SELECT store, change FROM change_sequence").fetchone()
    return store, change


def cursor(db: Database, splice: Splice) -> Cursor:
    """Return the position of the last commit, for a reader of bars that are assembled from this splice."""
    return Cursor(*position(db), pieces=tuple((piece.frame.text, piece.from_ms) for piece in splice.pieces))


def changed_since(db: Database, query: BarQuery, splice: Splice, since: Cursor) -> Changes | None:
    """Return the queried bars that changed after a cursor, or may have closed; None if the cursor is invalid."""
    now = cursor(db, splice)
    if since.store != now.store or since.change > now.change:
        return None
    open_from_ms = END_MS if since.open_from_ms is None else since.open_from_ms
    complete_from_ms = since.first_difference_ms(now, query.bounds[0])
    if complete_from_ms is not None:
        complete_from_ms = query.frame.start_ms(complete_from_ms)
        open_from_ms = min(open_from_ms, complete_from_ms)
    starts = set[int]()
    for piece in splice.within(*query.bounds):
        values = {**key_values(query, piece), **grid(query.frame), "change": since.change, "open_from_ms": open_from_ms}
        with snapshot(db):
            rows = db.conn.execute(
                f"SELECT DISTINCT {_BUCKET} FROM bars WHERE {RANGE_SQL}"
                " AND (change > :change OR start_ms >= :open_from_ms)",
                values,
            )
            starts |= {start for (start,) in rows}
            series = (query.instrument, piece.frame.text, piece.from_ms, piece.to_ms)
            for block in blocks_within(db, *series, after_change=since.change, or_from_ms=open_from_ms):
                content = block.content(db)
                changed_starts = content.changed_starts(content.within(*series[2:]), since.change, open_from_ms)
                starts |= {*map(query.frame.start_ms, changed_starts)}
    if not starts:
        return Changes(pl.DataFrame(schema=BAR_SCHEMA), complete_from_ms)
    bars = BarSource(db, splice).read(replace(query, from_ms=min(starts), to_ms=max(starts) + 1))
    return Changes(bars.filter(pl.col("start_ms").is_in(sorted(starts))), complete_from_ms)


def versions(
    db: Database, instrument: str, frame: Frame, start_ms: int, splice_as_of: Callable[[int | None], Splice]
) -> pl.DataFrame:
    """Return every version of a rolled-up bar (BAR_SCHEMA) since it closed, oldest first, the current version last.

    The current version is included even if it is forming. The result is empty if there is no such bar.

    splice_as_of: returns what the bar is assembled from, as of a time in ms, or now for None.
    """
    query = BarQuery(instrument, frame, start_ms, start_ms + 1)
    current_splice = splice_as_of(None)
    present = BarSource(db, current_splice).read(query)
    if not present.height:
        return present
    changes = set[int]()
    for piece in current_splice.within(start_ms, start_ms + frame.length_ms):
        rows = db.conn.execute(
            f"SELECT DISTINCT superseded_ms FROM bar_revisions WHERE {RANGE_SQL}", key_values(query, piece)
        )
        changes |= {at_ms for (at_ms,) in rows}
    earlier = [
        BarSource(db, splice_as_of(change_ms - 1)).read(replace(query, as_of_ms=change_ms - 1))
        for change_ms in sorted(changes)
    ]
    closed = [bars for bars in earlier if bars["state"].to_list() not in ([], [BarState.FORMING.value])]
    return pl.concat([*closed, present])


def add_revision_index(db: Database) -> None:
    """Add the index that the queries of revisions use."""
    db.execute("CREATE INDEX revisions_by_time ON bar_revisions (superseded_ms, end_ms)")


def order_times(db: Database) -> None:
    """Give each version of a bar the latest time of itself and its earlier versions, as later writes do."""
    key = ", ".join(BAR_KEY)
    db.execute(
        "UPDATE bar_revisions SET changed_ms = at_ms, superseded_ms = max(superseded_ms, at_ms) FROM"
        f" (SELECT {key}, revision, max(changed_ms) OVER (PARTITION BY {key} ORDER BY revision) AS at_ms"
        f" FROM bar_revisions) AS ordered WHERE ({', '.join(f'bar_revisions.{name}' for name in BAR_KEY)})"
        f" = ({', '.join(f'ordered.{name}' for name in BAR_KEY)}) AND bar_revisions.revision = ordered.revision"
        " AND (changed_ms < at_ms OR superseded_ms < at_ms)"
    )
    db.execute(
        f"UPDATE bars SET changed_ms = at_ms FROM (SELECT {key}, max(superseded_ms) AS at_ms FROM bar_revisions"
        f" GROUP BY {key}) AS newest WHERE ({', '.join(f'bars.{name}' for name in BAR_KEY)})"
        f" = ({', '.join(f'newest.{name}' for name in BAR_KEY)}) AND changed_ms < at_ms"
    )


def revisions_by_instrument(db: Database, from_ms: int, limit: int) -> pl.DataFrame:
    """Return the most revised instruments since `from_ms` (BY_INSTRUMENT_SCHEMA), most revised first."""
    query = (
        "SELECT instrument, count(*), count(DISTINCT frame || ' ' || start_ms) FROM bar_revisions"
        " WHERE superseded_ms >= ? GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT ?"
    )
    return pl.DataFrame(db.conn.execute(query, (from_ms, limit)).fetchall(), BY_INSTRUMENT_SCHEMA, orient="row")


def revision_delays(db: Database, from_ms: int, limit: int) -> pl.DataFrame:
    """Return the time from the bar's end to its revision, for the newest `limit` revisions since `from_ms`.

    The table has DELAY_SCHEMA; the newest revision comes first.
    """
    query = (
        "SELECT frame, superseded_ms - end_ms FROM bar_revisions WHERE superseded_ms >= ?"
        " ORDER BY superseded_ms DESC LIMIT ?"
    )
    return pl.DataFrame(db.conn.execute(query, (from_ms, limit)).fetchall(), DELAY_SCHEMA, orient="row")


def latest_revisions(db: Database, from_ms: int, limit: int, instrument: str | None = None) -> pl.DataFrame:
    """Return at most `limit` versions superseded since `from_ms` (REVISION_SCHEMA), last superseded first.

    instrument: return only versions of its bars.
    """
    condition = "" if instrument is None else " AND instrument = ?"
    query = (
        f"SELECT {', '.join(REVISION_SCHEMA)} FROM bar_revisions WHERE superseded_ms >= ?{condition}"
        " ORDER BY superseded_ms DESC LIMIT ?"
    )
    values = (from_ms, limit) if instrument is None else (from_ms, instrument, limit)
    return pl.DataFrame(db.conn.execute(query, values).fetchall(), REVISION_SCHEMA, orient="row")
