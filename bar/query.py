"""Questions to the bar store that charts, commands and exports ask: some bars of one instrument and frame.

They are put together from pieces of stored frames (bar/pieces.py): as they are stored where the piece is of the frame
asked for, rolled up from shorter ones else. Every query walks along the primary key, and reads as many rows as it
returns bars, times the number of stored bars in one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import polars as pl

from bar.frames import Frame
from bar.gaps import filled
from bar.holdings import known_before_ms
from bar.model import BAR_SCHEMA, BarState
from bar.pieces import BEGIN_MS, END_MS, Piece
from bar.rollup import finish, grouped, grouping, joined
from bar.sqlite import Database

_COLUMNS = ", ".join(BAR_SCHEMA)
_KEY = "instrument = :instrument AND frame = :frame"
_RANGE = f"{_KEY} AND start_ms >= :from_ms AND start_ms < :to_ms"
_BUCKET = "(start_ms - :offset_ms) / :length_ms * :length_ms + :offset_ms"
_KNOWN = "changed_ms <= :as_of_ms"
_SUPERSEDED_LATER = f"{_KNOWN} AND superseded_ms > :as_of_ms"
# Making one bar of a stored one takes about 4 microseconds, and nobody should wait for a view for a tenth of a second.
_ROWS_AT_ONCE = 15_000
_LEAST_AT_ONCE = 100


class FrameNotStoredError(ValueError):
    """The store has no such bars and none that they could be made of; ask for one of the frames it offers."""


@dataclass(frozen=True)
class BarQuery:
    """Which bars: those that start in [from_ms, to_ms), of them only the `newest` so many.

    frame: any that a stored one divides. as_of_ms: as they were known then; a bar that was still forming is left out
    unless it has not changed since. fill: with flat bars without ticks, state synthetic, where there is none between
    the instrument's first bar and its last.
    """

    instrument: str
    frame: Frame
    from_ms: int | None = None
    to_ms: int | None = None
    as_of_ms: int | None = None
    fill: bool = False
    newest: int | None = None


@dataclass(frozen=True)
class Splice:
    """What bars of one instrument and frame are put together from: see bar/pieces.py; reached_ms: bar/rollup.py."""

    pieces: Sequence[Piece]
    reached_ms: int | None

    def within(self, from_ms: int, to_ms: int) -> list[Piece]:
        """Return the pieces of [from_ms, to_ms), cut to it, the newest first."""
        cut = (replace(one, from_ms=max(one.from_ms, from_ms), to_ms=min(one.to_ms, to_ms)) for one in self.pieces)
        return [one for one in reversed([*cut]) if one.from_ms < one.to_ms]


def splice_of(frame: Frame) -> Splice:
    """Return the splice that takes all bars from one stored frame, whichever job makes it."""
    return Splice((Piece(frame, BEGIN_MS, END_MS),), None)


def read(db: Database, query: BarQuery, splice: Splice) -> pl.DataFrame:
    """Return the bars asked for (BAR_SCHEMA), oldest first."""
    source = _Source(db, splice)
    return _filled(source, query) if query.fill else source.read(query)


def at_once(frame: Frame, pieces: Sequence[Piece], newest_ms: int) -> int:
    """Return how many bars up to `newest_ms` to ask for at once: the fewer, the more stored ones each is made of."""
    if not pieces:
        return _ROWS_AT_ONCE
    rows, bars = _ROWS_AT_ONCE, 0
    for piece in reversed(pieces):
        in_one = frame.length_ms // piece.frame.length_ms
        there = max(0, min(piece.to_ms, newest_ms) - piece.from_ms) // frame.length_ms
        taken = min(there, rows // in_one)
        bars, rows = bars + taken, rows - taken * in_one
        if taken < there:
            break
    return max(bars, _LEAST_AT_ONCE)


def changed_since(db: Database, query: BarQuery, splice: Splice, changed_ms: int) -> pl.DataFrame:
    """Return those of the bars asked for that changed at or after `changed_ms`, or may have closed since."""
    starts = set[int]()
    for piece in splice.within(*_bounds(query)):
        # A long bar also closes by time alone, when its last short ones have not changed.
        rolled_up = piece.frame != query.frame
        rows = db.conn.execute(
            f"SELECT DISTINCT {_BUCKET} FROM bars WHERE {_RANGE}"
            f" AND (changed_ms >= :changed_ms OR :rolled_up AND {_BUCKET} + :length_ms > :changed_ms)",
            {**_values(query, piece), **_grid(query.frame), "changed_ms": changed_ms, "rolled_up": rolled_up},
        )
        starts |= {start for (start,) in rows}
    if not starts:
        return pl.DataFrame(schema=BAR_SCHEMA)
    bars = read(db, replace(query, from_ms=min(starts), to_ms=max(starts) + 1), splice)
    return bars.filter(pl.col("start_ms").is_in(sorted(starts)))


def versions(
    db: Database, instrument: str, frame: Frame, start_ms: int, splice_as_of: Callable[[int | None], Splice]
) -> pl.DataFrame:
    """Return every version that a rolled-up bar had since it closed, oldest first, the present one last.

    splice_as_of: what the bar is put together from, as of a time, or now.
    """
    asked = BarQuery(instrument, frame, start_ms, start_ms + 1)
    now = splice_as_of(None)
    present = read(db, asked, now)
    if not present.height:
        return present
    changes = set[int]()
    for piece in now.within(start_ms, start_ms + frame.length_ms):
        rows = db.conn.execute(
            f"SELECT DISTINCT superseded_ms FROM bar_revisions WHERE {_RANGE}", _values(asked, piece)
        )
        changes |= {at_ms for (at_ms,) in rows}
    earlier = [read(db, replace(asked, as_of_ms=at - 1), splice_as_of(at - 1)) for at in sorted(changes)]
    closed = [one for one in earlier if one["state"].to_list() not in ([], [BarState.FORMING.value])]
    return pl.concat([*closed, present])


@dataclass(frozen=True)
class _Source:
    """The stored bars that answer a query, as they are or longer ones made of them."""

    db: Database
    splice: Splice

    def read(self, query: BarQuery) -> pl.DataFrame:
        """Return the bars without filling any gap."""
        stored, groups = list[pl.DataFrame](), list[pl.DataFrame]()
        starts = set[int]()
        for piece in self.splice.within(*_bounds(query)):
            most = -1
            if query.newest is not None:
                missing = query.newest - len(starts)
                if missing < 0 or (missing == 0 and min(starts, default=END_MS) >= piece.to_ms):
                    break
                most = missing + 1  # the oldest bar so far may be continued in this piece
            if piece.frame == query.frame:
                stored.append(self._stored(query, piece, most))
                starts.update(stored[-1]["start_ms"].to_list())
            else:
                groups.append(self._grouped(query, piece, most))
                starts.update(groups[-1]["start_ms"].to_list())
        rolled_up = [finish(joined(groups), query.instrument, query.frame, self._reached_ms(query))] if groups else []
        bars = [*stored, *rolled_up]
        if not bars:
            return pl.DataFrame(schema=BAR_SCHEMA)
        found = bars[0] if len(bars) == 1 else pl.concat(bars).sort("start_ms")
        return found if query.newest is None else found.tail(query.newest)

    def _stored(self, query: BarQuery, piece: Piece, most: int) -> pl.DataFrame:
        """Return bars of the piece as they are, oldest first; settled ones form no more, whatever is stored."""
        as_of = query.as_of_ms is not None
        values = {**_values(query, self._known(query, piece)), "rows": most}
        bars = pl.DataFrame(self.db.conn.execute(_known(as_of), values).fetchall(), BAR_SCHEMA, orient="row").reverse()
        if not piece.settled:
            return bars
        return bars.with_columns(state=pl.col("state").replace(BarState.FORMING.value, BarState.CLOSED.value))

    def _grouped(self, query: BarQuery, piece: Piece, newest: int) -> pl.DataFrame:
        """Return the bars of the piece by the long bars they are in, newest first (see bar/rollup.py)."""
        as_of = query.as_of_ms is not None
        # The newest so many long bars have at most so many short ones, so none of them is read in part.
        most = -1 if newest < 0 else newest * (query.frame.length_ms // piece.frame.length_ms)
        sql = grouping(_known(as_of), _one("open", "first_ms", as_of), _one("close", "last_ms", as_of))
        values = {**_values(query, self._known(query, piece)), "rows": most, "newest": newest, **_grid(query.frame)}
        return grouped(self.db.conn.execute(sql, values).fetchall(), settled=piece.settled)

    def _reached_ms(self, query: BarQuery) -> int | None:
        known = [moment for moment in (self.splice.reached_ms, query.as_of_ms) if moment is not None]
        return min(known, default=None)

    def _known(self, query: BarQuery, piece: Piece) -> Piece:
        """Cut a piece to what could be known at query.as_of_ms."""
        if query.as_of_ms is None:
            return piece
        known_ms = known_before_ms(self.db, query.instrument, piece.frame, query.as_of_ms)
        return replace(piece, to_ms=min(piece.to_ms, known_ms))


def _filled(source: _Source, query: BarQuery) -> pl.DataFrame:
    """Return the bars with the gaps among them filled, also at the ends of the range where bars lie beyond it."""
    length_ms = query.frame.length_ms
    last = source.read(replace(query, newest=1))
    begin_ms, end_ms = _bounds(query)
    later = query.to_ms is not None and source.read(replace(query, from_ms=end_ms, to_ms=None, newest=1)).height
    if not later:
        end_ms = last["end_ms"][0] if last.height else begin_ms
    if query.newest is not None:
        begin_ms = max(begin_ms, end_ms - query.newest * length_ms)
    bars = source.read(replace(query, from_ms=begin_ms, to_ms=end_ms, newest=None))
    before = source.read(replace(query, from_ms=None, to_ms=begin_ms, newest=1))
    return filled(bars, before, query.frame, begin_ms, end_ms)


def _bounds(query: BarQuery) -> tuple[int, int]:
    """Return the range in which the bars start, moved up to whole places of the frame."""
    return (
        BEGIN_MS if query.from_ms is None else query.frame.first_start_ms(query.from_ms),
        END_MS if query.to_ms is None else query.frame.first_start_ms(query.to_ms),
    )


def _grid(frame: Frame) -> dict[str, int]:
    return {"length_ms": frame.length_ms, "offset_ms": frame.offset_ms}


def _values(query: BarQuery, piece: Piece) -> dict[str, object]:
    return {
        "instrument": query.instrument,
        "frame": piece.frame.text,
        "from_ms": piece.from_ms,
        "to_ms": piece.to_ms,
        "as_of_ms": query.as_of_ms,
    }


def _known(as_of: bool) -> str:
    """Return the SQL for the newest :rows bars of a stored frame, newest first; all of them where :rows is -1."""
    if not as_of:
        return f"SELECT {_COLUMNS} FROM bars WHERE {_RANGE} ORDER BY start_ms DESC LIMIT :rows"
    newest = "ORDER BY start_ms DESC LIMIT :rows"
    return (
        f"SELECT * FROM (SELECT {_COLUMNS} FROM bars WHERE {_RANGE} AND {_KNOWN} {newest}) UNION ALL"
        f" SELECT * FROM (SELECT {_COLUMNS} FROM bar_revisions WHERE {_RANGE} AND {_SUPERSEDED_LATER} {newest})"
        f" {newest}"
    )


def _one(value: str, start: str, as_of: bool) -> str:
    """Return the SQL for one value of the stored bar that starts at the column `start`."""
    here = f"{_KEY} AND start_ms = {start}"
    if not as_of:
        return f"(SELECT {value} FROM bars WHERE {here})"
    return (
        f"coalesce((SELECT {value} FROM bars WHERE {here} AND {_KNOWN}),"
        f" (SELECT {value} FROM bar_revisions WHERE {here} AND {_SUPERSEDED_LATER}))"
    )
