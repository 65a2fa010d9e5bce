"""The reading side of the bar store, the one that pages, commands and exports share."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Self

import polars as pl

from bar import query
from bar.frames import USUAL_FRAMES, Frame, parse_frame
from bar.holdings import Cover, holdings, read_covers
from bar.late import count_late
from bar.model import BAR_SCHEMA
from bar.pieces import Piece, pieces
from bar.query import BarQuery, FrameNotStoredError, Splice
from bar.sqlite import Database
from bar.store import Progress, ReadAgain, Removed, read_store
from feed.tick import REJECT_SCHEMA

__all__ = ["ACTIVITY_SCHEMA", "BarQuery", "BarReader", "FrameNotStoredError"]

_COLUMNS = ", ".join(BAR_SCHEMA)
_EXPORT_ROWS = 100_000
_REJECT_SCHEMA = {"job": pl.String(), "source": pl.String(), "rejected_ms": pl.Int64(), **REJECT_SCHEMA}
_RHYTHM_BARS = 10
_MADE_WITHIN_MS = 10_000
# Of more bars than a day has minutes, none is made while somebody waits for it.
_MOST_IN_ONE = 1_440
ACTIVITY_SCHEMA = {
    "instrument": pl.String(),
    "last_tick_ms": pl.Int64(),
    "last_price": pl.Float64(),
    "ticks": pl.Int64(),
    "usual_gap_ms": pl.Float64(),
}


class BarReader:
    """Reads one bar store; every data frame it returns has BAR_SCHEMA unless it says otherwise."""

    def __init__(self, db: Database) -> None:
        self._db = db

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open the store; raise StoreMissingError if no job has made it yet."""
        return cls(read_store(path))

    @property
    def db(self) -> Database:
        """The file itself, for the queries that look through rejects and revisions."""
        return self._db

    def close(self) -> None:
        """Give the file back."""
        self._db.conn.close()

    @contextmanager
    def at_one_moment(self) -> Iterator[Self]:
        """See the store as it is now until the block ends, whatever the job writes meanwhile; then close it."""
        self._db.conn.execute("BEGIN")
        try:
            yield self
        finally:
            self._db.conn.execute("COMMIT")
            self.close()

    @property
    def kept_from_kafka(self) -> bool:
        """Tell whether a materialiser writes here, so that bars may be newer than the progress beside them."""
        return self._db.table("kafka_offsets").exists()

    def instruments(self) -> list[str]:
        """Return every instrument that has a bar."""
        # One step through the primary key per instrument, however many bars there are.
        query = (
            "WITH RECURSIVE names(name) AS (SELECT min(instrument) FROM bars UNION ALL"
            " SELECT (SELECT min(instrument) FROM bars WHERE instrument > name) FROM names WHERE name IS NOT NULL)"
            " SELECT name FROM names WHERE name IS NOT NULL"
        )
        return [name for (name,) in self._db.conn.execute(query)]

    def frames(self, instrument: str) -> list[str]:
        """Return the frames this instrument has bars of, in no particular order.

        Bars stored as 7d by version 0.1 started on a Thursday; they are left out, and weeks are rolled up from days.
        """
        query = (
            "WITH RECURSIVE names(name) AS (SELECT min(frame) FROM bars WHERE instrument = :i UNION ALL"
            " SELECT (SELECT min(frame) FROM bars WHERE instrument = :i AND frame > name) FROM names"
            " WHERE name IS NOT NULL) SELECT name FROM names WHERE name IS NOT NULL"
        )
        names = [name for (name,) in self._db.conn.execute(query, {"i": instrument})]
        return [name for name in names if parse_frame(name).text == name]

    def made(self) -> frozenset[Frame]:
        """Return the frames that are made at present: whose makers have seen ticks as new as any, but for seconds."""
        newest: dict[Frame, int] = {}
        for one in self.covers():
            for frame in one.frames:
                newest[frame] = max(newest.get(frame, 0), one.newest_tick_ms or 0)
        from_ms = max(newest.values(), default=0) - _MADE_WITHIN_MS
        return frozenset(frame for frame, at_ms in newest.items() if at_ms >= from_ms)

    def made_first(self, instrument: str) -> list[Frame]:
        """Return the frames this instrument has bars of: those that are made at present first, the shortest of each."""
        made = self.made()
        return sorted(self._stored(instrument), key=lambda frame: (frame not in made, frame))

    def offered(self, instrument: str) -> list[Frame]:
        """Return the frames there are bars of, and the usual longer ones that can be made of them, shortest first."""
        stored = self._stored(instrument)
        usual = (
            frame
            for frame in USUAL_FRAMES
            if any(one.divides(frame) and frame.length_ms // one.length_ms <= _MOST_IN_ONE for one in stored)
        )
        return sorted({*stored, *usual})

    def at_once(self, instrument: str, frame: Frame) -> int:
        """Return how many bars to read at once, so that nobody waits."""
        splice = self._splice(instrument, frame)
        newest_ms = max((self._newest_ms(instrument, piece.frame) for piece in splice.pieces), default=0)
        return query.at_once(frame, splice.pieces, newest_ms)

    def read(self, asked: BarQuery) -> pl.DataFrame:
        """Return the bars asked for, oldest first; raise FrameNotStoredError for a frame that cannot be made."""
        splice = self._splice(asked.instrument, asked.frame, asked.as_of_ms)
        if not splice.pieces and (stored := self._stored(asked.instrument)):
            raise FrameNotStoredError(
                f"There are no {asked.frame.text} bars of {asked.instrument}, nor any to make them of; it has"
                f" {', '.join(one.text for one in stored)}."
            )
        return query.read(self._db, asked, splice)

    def changed_since(self, instrument: str, frame: Frame, changed_ms: int, from_ms: int) -> pl.DataFrame:
        """Return the bars from `from_ms` on that changed at or after `changed_ms`, oldest first; of any frame."""
        asked = BarQuery(instrument, frame, from_ms)
        return query.changed_since(self._db, asked, self._splice(instrument, frame), changed_ms)

    def bars(self, instrument: str, frame: str, from_ms: int | None = None, to_ms: int | None = None) -> pl.DataFrame:
        """Return the bars that start in [from_ms, to_ms), oldest first."""
        where = "instrument = ? AND frame = ? AND start_ms >= ? AND start_ms < ?"
        bounds = _bounds(from_ms, to_ms)
        return self._frame(f"SELECT {_COLUMNS} FROM bars WHERE {where} ORDER BY start_ms", (instrument, frame, *bounds))

    def newest(self, instrument: str, frame: str, count: int) -> pl.DataFrame:
        """Return the newest `count` bars, oldest first."""
        query = f"SELECT {_COLUMNS} FROM bars WHERE instrument = ? AND frame = ? ORDER BY start_ms DESC LIMIT ?"
        return self._frame(query, (instrument, frame, count)).reverse()

    def activity(self, instruments: Sequence[str], frame: str, from_ms: int) -> pl.DataFrame:
        """Return when each of these instruments last moved, in this order (ACTIVITY_SCHEMA); empty without bars.

        ticks: in its bars from `from_ms` on. usual_gap_ms: between two of its ticks, over its newest few bars.
        """
        newest = "FROM bars WHERE instrument = value AND frame = :frame ORDER BY start_ms DESC"
        last = f"SELECT last_tick_ms, first_tick_ms, ticks {newest} LIMIT {_RHYTHM_BARS}"
        query = (
            f"SELECT value, (SELECT last_tick_ms {newest} LIMIT 1), (SELECT close {newest} LIMIT 1),"
            " (SELECT coalesce(sum(ticks), 0) FROM bars WHERE instrument = value AND frame = :frame"
            " AND start_ms >= :from),"
            f" (SELECT 1.0 * (max(last_tick_ms) - min(first_tick_ms)) / nullif(sum(ticks) - 1, 0) FROM ({last}))"
            " FROM json_each(:names)"
        )
        values = {"names": json.dumps(list(instruments)), "frame": frame, "from": from_ms}
        return pl.DataFrame(self._db.conn.execute(query, values).fetchall(), ACTIVITY_SCHEMA, orient="row")

    def revisions(self, instrument: str, frame: str, start_ms: int) -> pl.DataFrame:
        """Return every superseded version of one bar, oldest first."""
        where = "instrument = ? AND frame = ? AND start_ms = ?"
        query = f"SELECT {_COLUMNS} FROM bar_revisions WHERE {where} ORDER BY revision"
        return self._frame(query, (instrument, frame, start_ms))

    def history(self, instrument: str, frame: str, start_ms: int) -> pl.DataFrame:
        """Return every version of one bar, oldest first, the present one last; empty if there is no such bar.

        Those of a bar that is rolled up are what it was when bars it is made of changed.
        """
        wanted = parse_frame(frame)
        within = self._splice(instrument, wanted).within(start_ms, start_ms + wanted.length_ms)
        if [piece.frame for piece in within] != [wanted]:
            return query.versions(
                self._db, instrument, wanted, start_ms, lambda at_ms: self._splice(instrument, wanted, at_ms)
            )
        return pl.concat(
            [self.revisions(instrument, frame, start_ms), self.bars(instrument, frame, start_ms, start_ms + 1)]
        )

    def everything(self) -> Iterator[pl.DataFrame]:
        """Yield all bars by instrument, frame and start, in pieces; one empty piece if there is none."""
        cursor = self._db.conn.execute(f"SELECT {_COLUMNS} FROM bars ORDER BY instrument, frame, start_ms")
        rows = cursor.fetchmany(_EXPORT_ROWS)
        yield _bars(rows)
        while rows := cursor.fetchmany(_EXPORT_ROWS):
            yield _bars(rows)

    def ticks_in(self, frame: str) -> int:
        """Return how many ticks the bars of this frame hold, or held before they were removed.

        The longer the frame, the quicker.
        """
        of_all = "instrument IN (SELECT value FROM json_each(?))"
        query = f"SELECT coalesce(sum(ticks), 0) FROM bars WHERE {of_all} AND frame = ?"
        stored = int(self._db.conn.execute(query, (json.dumps(self.instruments()), frame)).fetchone()[0])
        return stored + sum(one.ticks for one in self.removed() if one.frame == frame)

    def next_sequence(self, job: str | None = None, shard: int | None = None) -> int:
        """Return the sequence up to which ticks were made into bars, by a shard of a job or by any; 0 if none were."""
        if not self._db.table("progress").exists():  # the file was made a moment ago
            return 0
        query = "SELECT max(next_sequence) FROM progress WHERE job = coalesce(?, job) AND shard = coalesce(?, shard)"
        return int(self._db.conn.execute(query, (job, shard)).fetchone()[0] or 0)

    def read_again(self, job: str, count: int) -> list[ReadAgain]:
        """Return the last times that a job could not go on from its state, the newest first."""
        names = ", ".join(field.name for field in fields(ReadAgain))
        query = f"SELECT {names} FROM read_again WHERE job = ? ORDER BY number DESC LIMIT ?"
        return [ReadAgain(*row) for row in self._db.conn.execute(query, (job, count))]

    def removed(self) -> list[Removed]:
        """Return what retention has removed, by frame."""
        if not self._db.table("removed").exists():  # the file is an older one that no job has written to since
            return []
        return [Removed(*row) for row in self._db.conn.execute("SELECT frame, to_ms, bars, ticks FROM removed")]

    def totals(self) -> dict[str, tuple[int, int]]:
        """Return (bars, ticks in them) by frame."""
        query = "SELECT frame, count(*), sum(ticks) FROM bars GROUP BY frame"
        return {frame: (bars, ticks) for frame, bars, ticks in self._db.conn.execute(query)}

    def progress(self) -> list[Progress]:
        """Return how far each shard of each job is."""
        there = self._db.table("progress").columns_dict  # fewer in an older file that no job has written to since
        names = [field.name for field in fields(Progress) if field.name in there]
        rows = self._db.conn.execute(f"SELECT {', '.join(names)} FROM progress ORDER BY job, shard")
        return [
            Progress(**{**dict(zip(names, row, strict=True)), "final": bool(row[names.index("final")])}) for row in rows
        ]

    def covers(self) -> list[Cover]:
        """Return how far each way of making frames ever came, also those of jobs that are gone."""
        return read_covers(self._db)

    def pieces(self, instrument: str, frame: Frame) -> Sequence[Piece]:
        """Return which stored frames answer for which stretch of time, oldest first (see bar/pieces.py)."""
        return self._splice(instrument, frame).pieces

    def written(self) -> dict[str, int]:
        """Return how many bars and versions of bars each job has written."""
        return dict(self._db.conn.execute("SELECT job, bars FROM written"))

    def delays_ms(self, frame: str, changed_ms: int, count: int) -> list[int]:
        """Return how old the newest tick of forming bars was when the bar was written with it.

        Of up to `count` instruments, those whose newest bar of this frame changed at or after `changed_ms`. A bar that
        still forms changes only by ticks, so its last change is when its newest tick could first be seen.
        """
        query = (
            "WITH RECURSIVE names(name) AS (SELECT min(instrument) FROM bars UNION ALL"
            " SELECT (SELECT min(instrument) FROM bars WHERE instrument > name) FROM names WHERE name IS NOT NULL"
            " LIMIT :count),"
            " delays(ms) AS (SELECT (SELECT CASE WHEN state = 'forming' AND changed_ms >= :since"
            " THEN changed_ms - last_tick_ms END FROM bars WHERE instrument = name AND frame = :frame"
            " ORDER BY start_ms DESC LIMIT 1) FROM names)"
            " SELECT ms FROM delays WHERE ms IS NOT NULL"
        )
        return [ms for (ms,) in self._db.conn.execute(query, {"count": count, "since": changed_ms, "frame": frame})]

    def rejects(self) -> pl.DataFrame:
        """Return the ticks that jobs refused: job, source, rejected_ms and REJECT_SCHEMA."""
        query = f"SELECT {', '.join(_REJECT_SCHEMA)} FROM rejects ORDER BY job, sequence"
        return pl.DataFrame(self._db.conn.execute(query).fetchall(), _REJECT_SCHEMA, orient="row")

    def rejected(self, job: str | None = None) -> int:
        """Return how many ticks a job refused, or any job."""
        return count_late(self._db, job)

    def _stored(self, instrument: str) -> list[Frame]:
        return sorted(map(parse_frame, self.frames(instrument)))

    def _splice(self, instrument: str, frame: Frame, as_of_ms: int | None = None) -> Splice:
        """Return what bars are put together from, which is nothing where no stored frame divides theirs."""
        fit = [one for one in self._stored(instrument) if one.divides(frame)]
        if not fit:
            return Splice((), None)
        known = holdings(self._db, instrument, frame, fit, as_of_ms)
        parts = pieces(frame, known.held)
        return Splice(parts, known.reached_ms(parts[-1].frame) if parts else None)

    def _newest_ms(self, instrument: str, frame: Frame) -> int:
        query = "SELECT end_ms FROM bars WHERE instrument = ? AND frame = ? ORDER BY start_ms DESC LIMIT 1"
        row = self._db.conn.execute(query, (instrument, frame.text)).fetchone()
        return 0 if row is None else int(row[0])

    def _frame(self, query: str, values: Sequence[object] | dict[str, object]) -> pl.DataFrame:
        return _bars(self._db.conn.execute(query, values).fetchall())


def _bars(rows: Sequence[tuple[object, ...]]) -> pl.DataFrame:
    return pl.DataFrame(rows, BAR_SCHEMA, orient="row")


def _bounds(from_ms: int | None, to_ms: int | None) -> tuple[int, int]:
    return (from_ms if from_ms is not None else -(2**62), to_ms if to_ms is not None else 2**62)
