"""Questions to the bar store that charts, commands and exports ask: some bars of one instrument and frame.

A frame that is not stored is rolled up from the longest stored one that divides it. Every query walks along the primary
key, and reads as many rows as it returns bars, times the number of stored bars in one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import polars as pl

from bar.frames import Frame
from bar.gaps import filled
from bar.model import BAR_SCHEMA, BarState
from bar.rollup import finish, grouping, longest_divisor
from bar.sqlite import Database

_COLUMNS = ", ".join(BAR_SCHEMA)
_KEY = "instrument = :instrument AND frame = :frame"
_RANGE = f"{_KEY} AND start_ms >= :from_ms AND start_ms < :to_ms"
_BUCKET = "(start_ms - :offset_ms) / :length_ms * :length_ms + :offset_ms"
_KNOWN = "changed_ms <= :as_of_ms"
_SUPERSEDED_LATER = f"{_KNOWN} AND superseded_ms > :as_of_ms"
_EVER = (-(2**62), 2**62)
# How far ahead of the clock a live tick may be at most (feed/tick.py); nothing that starts later was known.
_AHEAD_MS = 5_000
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


def read(db: Database, query: BarQuery, stored: Sequence[Frame], reached_ms: int | None) -> pl.DataFrame:
    """Return the bars asked for (BAR_SCHEMA), oldest first.

    stored: the frames this instrument has bars of; without any the answer is empty. reached_ms: see bar/rollup.py.
    Raise FrameNotStoredError for a frame that none of them divides.
    """
    finer = longest_divisor(query.frame, stored)
    if finer is None:
        if stored:
            raise FrameNotStoredError(
                f"There are no {query.frame.text} bars of {query.instrument}, nor any to make them of; it has"
                f" {', '.join(frame.text for frame in stored)}."
            )
        return pl.DataFrame(schema=BAR_SCHEMA)
    source = _Source(db, finer, reached_ms)
    return _filled(source, query) if query.fill else source.read(query)


def at_once(frame: Frame, stored: Sequence[Frame]) -> int:
    """Return how many bars of a frame to ask for at once: the fewer, the more stored ones each is made of."""
    finer = longest_divisor(frame, stored)
    in_one = 1 if finer is None else frame.length_ms // finer.length_ms
    return max(_ROWS_AT_ONCE // in_one, _LEAST_AT_ONCE)


def changed_since(
    db: Database, query: BarQuery, stored: Sequence[Frame], reached_ms: int | None, changed_ms: int
) -> pl.DataFrame:
    """Return those of the bars asked for that changed at or after `changed_ms`, or may have closed since."""
    finer = longest_divisor(query.frame, stored)
    if finer is None or finer == query.frame:
        return _stored_changes(db, query, changed_ms)
    from_ms, to_ms = _bounds(query)
    # A long bar also closes by time alone, when its last short ones have not changed.
    rows = db.conn.execute(
        f"SELECT DISTINCT {_BUCKET} AS bucket_ms FROM bars WHERE {_RANGE}"
        f" AND (changed_ms >= :changed_ms OR {_BUCKET} + :length_ms > :changed_ms) ORDER BY 1",
        {
            **_values(query, finer, from_ms, to_ms),
            **_grid(query.frame),
            "changed_ms": changed_ms,
        },
    )
    starts = [start for (start,) in rows]
    if not starts:
        return pl.DataFrame(schema=BAR_SCHEMA)
    bars = read(db, replace(query, from_ms=starts[0], to_ms=starts[-1] + 1), stored, reached_ms)
    return bars.filter(pl.col("start_ms").is_in(starts))


def versions(
    db: Database, instrument: str, frame: Frame, start_ms: int, stored: Sequence[Frame], reached_ms: int | None
) -> pl.DataFrame:
    """Return every version that a rolled-up bar had since it closed, oldest first, the present one last."""
    finer = longest_divisor(frame, stored)
    if finer is None:
        return pl.DataFrame(schema=BAR_SCHEMA)
    asked = BarQuery(instrument, frame, start_ms, start_ms + 1)
    present = read(db, asked, stored, reached_ms)
    if not present.height:
        return present
    changes = db.conn.execute(
        f"SELECT DISTINCT superseded_ms FROM bar_revisions WHERE {_RANGE} ORDER BY 1",
        _values(asked, finer, start_ms, start_ms + frame.length_ms),
    )
    earlier = [read(db, replace(asked, as_of_ms=at_ms - 1), stored, reached_ms) for (at_ms,) in changes]
    closed = [one for one in earlier if one["state"].to_list() not in ([], [BarState.FORMING.value])]
    return pl.concat([*closed, present])


def _stored_changes(db: Database, query: BarQuery, changed_ms: int) -> pl.DataFrame:
    values = {**_values(query, query.frame, *_bounds(query)), "changed_ms": changed_ms}
    sql = f"SELECT {_COLUMNS} FROM bars WHERE {_RANGE} AND changed_ms >= :changed_ms ORDER BY start_ms"
    return pl.DataFrame(db.conn.execute(sql, values).fetchall(), BAR_SCHEMA, orient="row")


@dataclass(frozen=True)
class _Source:
    """The stored bars that answer a query, as they are or longer ones made of them."""

    db: Database
    finer: Frame
    reached_ms: int | None

    def read(self, query: BarQuery) -> pl.DataFrame:
        """Return the bars without filling any gap."""
        from_ms, to_ms = _bounds(query)
        values = _values(query, self.finer, from_ms, self._known_to_ms(query, to_ms))
        newest, as_of = -1 if query.newest is None else query.newest, query.as_of_ms is not None
        if self.finer == query.frame:
            rows = self.db.conn.execute(_known(as_of), {**values, "rows": newest}).fetchall()
            return pl.DataFrame(rows, BAR_SCHEMA, orient="row").reverse()
        length_ms = query.frame.length_ms
        # The newest so many long bars have at most so many short ones, so none of them is read in part.
        most = -1 if query.newest is None else newest * (length_ms // self.finer.length_ms)
        sql = grouping(_known(as_of), _one("open", "first_ms", as_of), _one("close", "last_ms", as_of))
        rows = self.db.conn.execute(sql, {**values, "rows": most, "newest": newest, **_grid(query.frame)}).fetchall()
        return finish(rows, query.instrument, query.frame, self._reached_ms(query))

    def _reached_ms(self, query: BarQuery) -> int | None:
        known = [moment for moment in (self.reached_ms, query.as_of_ms) if moment is not None]
        return min(known, default=None)

    def _known_to_ms(self, query: BarQuery, to_ms: int) -> int:
        """Return where bars end that could be known at query.as_of_ms, so that later ones are not looked through."""
        if query.as_of_ms is None:
            return to_ms
        newest = (
            "SELECT start_ms, changed_ms FROM bars WHERE instrument = ? AND frame = ? ORDER BY start_ms DESC LIMIT 1"
        )
        row = self.db.conn.execute(newest, (query.instrument, self.finer.text)).fetchone()
        # The bars of a recording that lies ahead of the clock as a whole were known before they began.
        ahead = row is not None and row[0] > row[1] + _AHEAD_MS
        return to_ms if ahead else min(to_ms, query.as_of_ms + _AHEAD_MS + 1)


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
    earliest, latest = _EVER
    return (
        earliest if query.from_ms is None else query.frame.first_start_ms(query.from_ms),
        latest if query.to_ms is None else query.frame.first_start_ms(query.to_ms),
    )


def _grid(frame: Frame) -> dict[str, int]:
    return {"length_ms": frame.length_ms, "offset_ms": frame.offset_ms}


def _values(query: BarQuery, finer: Frame, from_ms: int, to_ms: int) -> dict[str, object]:
    return {
        "instrument": query.instrument,
        "frame": finer.text,
        "from_ms": from_ms,
        "to_ms": to_ms,
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
