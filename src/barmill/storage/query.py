"""Queries on the bar store for charts, commands and exports: bars of one instrument and frame.

Bars are assembled from pieces of stored frames (pieces.py): taken as stored if the piece has the requested frame,
otherwise rolled up from shorter bars. Every query walks along the primary key, and reads about as many stored bars as
its result is made of.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import polars as pl

from barmill.model.bar import BAR_SCHEMA, BarState, fill_gaps
from barmill.model.frames import Frame
from barmill.model.pieces import BEGIN_MS, END_MS, Piece
from barmill.model.rollup import rolled_up
from barmill.platform.sqlite_file import Database
from barmill.storage.bar_blocks import stored_bars
from barmill.storage.holdings import known_before_ms

_KEY = "instrument = :instrument AND frame = :frame"
RANGE_SQL = f"{_KEY} AND start_ms >= :from_ms AND start_ms < :to_ms"
# Rolling up a stored bar takes at most 8 microseconds, and a view should not wait for much more than 0.1 s.
_ROWS_AT_ONCE = 15_000
_MIN_AT_ONCE = 100


class FrameNotStoredError(ValueError):
    """The store has no bars of this frame and none to make them from. Ask for one of the frames it offers."""


@dataclass(frozen=True)
class BarQuery:
    """A query for the bars that start in [from_ms, to_ms).

    newest: return only this many, the newest. frame: any frame that a stored one divides. as_of_ms: bars as known at
    that time; a bar that was forming then is left out unless it has not changed since. fill: add flat bars without
    ticks (state synthetic) where bars are missing between the instrument's first and last bar.
    """

    instrument: str
    frame: Frame
    from_ms: int | None = None
    to_ms: int | None = None
    as_of_ms: int | None = None
    fill: bool = False
    newest: int | None = None

    @property
    def bounds(self) -> tuple[int, int]:
        """Return the range of bar starts, rounded up to the grid of the frame."""
        return (
            BEGIN_MS if self.from_ms is None else self.frame.first_start_ms(self.from_ms),
            END_MS if self.to_ms is None else self.frame.first_start_ms(self.to_ms),
        )


@dataclass(frozen=True)
class Splice:
    """The sources of the bars of one instrument and frame. pieces: see pieces.py; reached_ms: see rollup.py."""

    pieces: Sequence[Piece]
    reached_ms: int | None

    def within(self, from_ms: int, to_ms: int) -> list[Piece]:
        """Return the pieces within [from_ms, to_ms), cut to that range, newest first."""
        cut = (
            replace(piece, from_ms=max(piece.from_ms, from_ms), to_ms=min(piece.to_ms, to_ms)) for piece in self.pieces
        )
        return [piece for piece in reversed([*cut]) if piece.from_ms < piece.to_ms]


def splice_of(frame: Frame) -> Splice:
    """Return the splice that takes all bars from one stored frame, regardless of the job that makes it."""
    return Splice((Piece(frame, BEGIN_MS, END_MS),), None)


def bars_per_read(frame: Frame, pieces: Sequence[Piece], newest_ms: int) -> int:
    """Return how many bars up to `newest_ms` to read at once: fewer if each is made of more stored bars."""
    if not pieces:
        return _ROWS_AT_ONCE
    rows, bars = _ROWS_AT_ONCE, 0
    for piece in reversed(pieces):
        rows_per_bar = frame.length_ms // piece.frame.length_ms
        available_bars = max(0, min(piece.to_ms, newest_ms) - piece.from_ms) // frame.length_ms
        bars_read = min(available_bars, rows // rows_per_bar)
        bars, rows = bars + bars_read, rows - bars_read * rows_per_bar
        if bars_read < available_bars:
            break
    return max(bars, _MIN_AT_ONCE)


@dataclass(frozen=True)
class BarSource:
    """The stored bars that answer a query, taken as stored or rolled up to longer bars."""

    db: Database
    splice: Splice

    def read(self, query: BarQuery) -> pl.DataFrame:
        """Return the bars of a query (BAR_SCHEMA), oldest first."""
        if query.fill:
            return self._filled(replace(query, fill=False))
        stored, shorter = list[pl.DataFrame](), list[pl.DataFrame]()
        starts = set[int]()
        for piece in self.splice.within(*query.bounds):
            count = None
            if query.newest is not None:
                missing = query.newest - len(starts)
                if missing < 0 or (missing == 0 and min(starts, default=END_MS) >= piece.to_ms):
                    break
                count = missing + 1  # the oldest bar so far may continue in this piece
            if query.as_of_ms is not None:  # cut the piece to what could be known then
                known_ms = known_before_ms(self.db, query.instrument, piece.frame, query.as_of_ms)
                piece = replace(piece, to_ms=min(piece.to_ms, known_ms))
            # The newest bars are made of at most this many stored bars, so none of them is read partially.
            max_rows = None if count is None else count * (query.frame.length_ms // piece.frame.length_ms)
            series = (query.instrument, piece.frame.text, piece.from_ms, piece.to_ms)
            bars = _newest(stored_bars(self.db, *series, max_rows, query.as_of_ms), query.frame, piece, count, max_rows)
            starts.update(query.frame.start_ms(bars["start_ms"]).unique().to_list())
            (stored if piece.frame == query.frame else shorter).append(bars)
        if shorter:
            oldest_first = pl.concat(reversed(shorter))
            stored.append(rolled_up(oldest_first, query.instrument, query.frame, self._reached_ms(query)))
        if not stored:
            return pl.DataFrame(schema=BAR_SCHEMA)
        result = stored[0] if len(stored) == 1 else pl.concat(stored).sort("start_ms")
        return result if query.newest is None else result.tail(query.newest)

    def _reached_ms(self, query: BarQuery) -> int | None:
        limits_ms = [limit_ms for limit_ms in (self.splice.reached_ms, query.as_of_ms) if limit_ms is not None]
        return min(limits_ms, default=None)

    def _filled(self, query: BarQuery) -> pl.DataFrame:
        """Return the bars with gaps filled, even at the ends of the range if there are bars beyond it."""
        length_ms = query.frame.length_ms
        last = self.read(replace(query, newest=1))
        begin_ms, end_ms = query.bounds
        later = query.to_ms is not None and self.read(replace(query, from_ms=end_ms, to_ms=None, newest=1)).height
        if not later:
            end_ms = last["end_ms"][0] if last.height else begin_ms
        if query.newest is not None:
            begin_ms = max(begin_ms, end_ms - query.newest * length_ms)
        bars = self.read(replace(query, from_ms=begin_ms, to_ms=end_ms, newest=None))
        before = self.read(replace(query, from_ms=None, to_ms=begin_ms, newest=1))
        return fill_gaps(bars, before, query.frame, begin_ms, end_ms)


def _newest(bars: pl.DataFrame, frame: Frame, piece: Piece, count: int | None, max_rows: int | None) -> pl.DataFrame:
    """Return the stored bars of a piece without those beyond the newest `count` bars of the frame; None for all.

    max_rows: how many stored bars were read at most. Settled bars count as closed even if stored as forming.
    """
    if count is not None and bars.height == max_rows:
        starts = frame.start_ms(bars["start_ms"])
        bars = bars.filter(starts >= starts.unique(maintain_order=True).tail(count)[0])
    if not piece.settled:
        return bars
    return bars.with_columns(state=pl.col("state").replace(BarState.FORMING.value, BarState.CLOSED.value))


def grid(frame: Frame) -> dict[str, int]:
    """Return the SQL parameters that group short bars into bars of a frame."""
    return {"length_ms": frame.length_ms, "offset_ms": frame.offset_ms}


def key_values(query: BarQuery, piece: Piece) -> dict[str, object]:
    """Return the SQL parameters that select the stored bars of a piece."""
    return {
        "instrument": query.instrument,
        "frame": piece.frame.text,
        "from_ms": piece.from_ms,
        "to_ms": piece.to_ms,
        "as_of_ms": query.as_of_ms,
    }
