"""Read access to the bar store, shared by pages, commands and exports."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Self

import polars as pl

from barmill.model.bar import BAR_SCHEMA
from barmill.model.frames import USUAL_FRAMES, Frame, parse_frame
from barmill.model.pieces import Piece, pieces
from barmill.model.tick import REJECT_SCHEMA
from barmill.platform.sqlite_file import Store
from barmill.storage import bar_runs, changes, query
from barmill.storage.bar_blocks import (
    BEGIN_MS,
    END_MS,
    all_stored_bars,
    snapshot,
    stored_bars,
)
from barmill.storage.bar_store import Progress, ReadAgain, Removed, read_store
from barmill.storage.changes import Changes, Cursor
from barmill.storage.holdings import Cover, Holdings, holdings, read_covers
from barmill.storage.latest import names_in_blocks, ticks_within
from barmill.storage.query import BarQuery, FrameNotStoredError, Splice
from barmill.storage.rejects import count_late

__all__ = ["ACTIVITY_SCHEMA", "BarQuery", "BarReader", "FrameNotStoredError"]

_COLUMNS = ", ".join(BAR_SCHEMA)
_EXPORT_ROWS = 100_000
_REJECT_SCHEMA = {"job": pl.String(), "source": pl.String(), "rejected_ms": pl.Int64(), **REJECT_SCHEMA}
_ACTIVITY_BARS = 10
_MADE_WITHIN_MS = 10_000
# A longer frame is not offered if its bars are made from more bars than a day has minutes.
_MAX_BARS_IN_ONE = 1_440
ACTIVITY_SCHEMA = {
    "instrument": pl.String(),
    "last_tick_ms": pl.Int64(),
    "last_price": pl.Float64(),
    "ticks": pl.Int64(),
    "usual_gap_ms": pl.Float64(),
}


class BarReader(Store):
    """A reader of one bar store. Data frames have BAR_SCHEMA unless stated otherwise."""

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open the store. Raise StoreMissingError if no job has created it yet."""
        return cls(read_store(path))

    @contextmanager
    def snapshot(self) -> Iterator[Self]:
        """Read the store as of one moment in a `with` block, even if a job writes in the meantime; then close it."""
        self.db.conn.execute("BEGIN")
        try:
            yield self
        finally:
            self.db.conn.execute("COMMIT")
            self.close()

    @property
    def is_filled_from_kafka(self) -> bool:
        """Return whether a materialiser writes this store, so that bars may be newer than the stored progress."""
        return self.db.table("kafka_offsets").exists()

    def instruments(self) -> list[str]:
        """Return every instrument that has a bar."""
        # One step along the primary key per instrument, regardless of the number of bars.
        query = (
            "WITH RECURSIVE names(name) AS (SELECT min(instrument) FROM bars UNION ALL"
            " SELECT (SELECT min(instrument) FROM bars WHERE instrument > name) FROM names WHERE name IS NOT NULL)"
            " SELECT name FROM names WHERE name IS NOT NULL"
        )
        return [name for (name,) in self.db.conn.execute(query)]

    def frames(self, instrument: str) -> list[str]:
        """Return the frames in which this instrument has bars, in no particular order.

        Bars stored as 7d by version 0.1 started on a Thursday. They are left out, and weeks are rolled up from days.
        """
        query = (
            "WITH RECURSIVE names(name) AS (SELECT min(frame) FROM bars WHERE instrument = :i UNION ALL"
            " SELECT (SELECT min(frame) FROM bars WHERE instrument = :i AND frame > name) FROM names"
            " WHERE name IS NOT NULL) SELECT name FROM names WHERE name IS NOT NULL"
        )
        names = [name for (name,) in self.db.conn.execute(query, {"i": instrument})]
        return [name for name in names if parse_frame(name).text == name]

    def current_frames(self) -> frozenset[Frame]:
        """Return the frames made at present: those whose jobs have read to within seconds of the newest tick."""
        newest: dict[Frame, int] = {}
        for cover in self.covers():
            for frame in cover.frames:
                newest[frame] = max(newest.get(frame, 0), cover.newest_tick_ms or 0)
        from_ms = max(newest.values(), default=0) - _MADE_WITHIN_MS
        return frozenset(frame for frame, at_ms in newest.items() if at_ms >= from_ms)

    def current_frames_first(self, instrument: str) -> list[Frame]:
        """Return the frames in which this instrument has bars: those made now first, each group shortest first."""
        made_frames = self.current_frames()
        return sorted(self._stored(instrument), key=lambda frame: (frame not in made_frames, frame))

    def offered_frames(self, instrument: str) -> list[Frame]:
        """Return the stored frames and the usual longer frames that can be made from them, shortest first.

        A longer frame is offered only if each bar is made of at most 1,440 stored bars.
        """
        stored = self._stored(instrument)
        usual = (
            frame
            for frame in USUAL_FRAMES
            if any(finer.divides(frame) and frame.length_ms // finer.length_ms <= _MAX_BARS_IN_ONE for finer in stored)
        )
        return sorted({*stored, *usual})

    def bars_per_read(self, instrument: str, frame: Frame) -> int:
        """Return how many bars to read at once, so that a read stays fast."""
        splice = self._splice(instrument, frame)
        newest_ms = max((self._newest_ms(instrument, piece.frame) for piece in splice.pieces), default=0)
        return query.bars_per_read(frame, splice.pieces, newest_ms)

    def read(self, request: BarQuery) -> pl.DataFrame:
        """Return the bars of a query, oldest first. Raise FrameNotStoredError for a frame that cannot be made."""
        with snapshot(self.db):
            divisors = self._divisors(request.instrument, request.frame)
            if not divisors and (stored := self._stored(request.instrument)):
                raise FrameNotStoredError(
                    f"There are no {request.frame.text} bars of {request.instrument},"
                    f" and no bars to make them from; its frames are {', '.join(finer.text for finer in stored)}."
                )
            if not divisors:
                return pl.DataFrame(schema=BAR_SCHEMA)
            known_holdings = holdings(self.db, request.instrument, request.frame, divisors, request.as_of_ms)
            return query.BarSource(self.db, _splice_of(request.frame, known_holdings)).read(request)

    def cursor(self, instrument: str, frame: Frame) -> Cursor:
        """Return the position of the last commit, for a reader of these bars; read both in one `snapshot`."""
        return changes.cursor(self.db, self._splice(instrument, frame))

    def changed_since(self, instrument: str, frame: Frame, since: Cursor, from_ms: int) -> Changes | None:
        """Return the bars from `from_ms` on that changed after a cursor, or may have closed.

        Works for stored and rolled-up frames. None if the cursor is not valid for this store; the reader then has
        to start again.
        """
        bar_query = BarQuery(instrument, frame, from_ms)
        return changes.changed_since(self.db, bar_query, self._splice(instrument, frame), since)

    def bars(self, instrument: str, frame: str, from_ms: int | None = None, to_ms: int | None = None) -> pl.DataFrame:
        """Return the stored bars that start in [from_ms, to_ms), oldest first."""
        return stored_bars(
            self.db, instrument, frame, BEGIN_MS if from_ms is None else from_ms, END_MS if to_ms is None else to_ms
        )

    def newest(self, instrument: str, frame: str, count: int) -> pl.DataFrame:
        """Return the newest `count` stored bars, oldest first."""
        return stored_bars(self.db, instrument, frame, newest=count)

    def activity(self, instruments: Sequence[str], frame: str, from_ms: int) -> pl.DataFrame:
        """Return the last activity of each of these instruments, in this order (ACTIVITY_SCHEMA).

        ticks: the number in its bars from `from_ms` on. usual_gap_ms: mean time between two ticks in its newest bars.
        For an instrument without bars of the frame, `ticks` is 0 and the other values are null.
        """
        newest = "FROM bars WHERE instrument = value AND frame = :frame ORDER BY start_ms DESC"
        last = f"SELECT last_tick_ms, first_tick_ms, ticks {newest} LIMIT {_ACTIVITY_BARS}"
        query = (
            f"SELECT value, (SELECT last_tick_ms {newest} LIMIT 1), (SELECT close {newest} LIMIT 1),"
            " (SELECT coalesce(sum(ticks), 0) FROM bars WHERE instrument = value AND frame = :frame"
            " AND start_ms >= :from),"
            f" (SELECT 1.0 * (max(last_tick_ms) - min(first_tick_ms)) / nullif(sum(ticks) - 1, 0) FROM ({last}))"
            " FROM json_each(:names)"
        )
        values = {"names": json.dumps(list(instruments)), "frame": frame, "from": from_ms}
        with snapshot(self.db):
            rows = {row[0]: list(row) for row in self.db.conn.execute(query, values)}
            for name in names_in_blocks(self.db, instruments, frame, from_ms):
                rows[name][3] += ticks_within(self.db, name, frame, from_ms, END_MS)
            for name in names_in_blocks(self.db, instruments, frame, count=_ACTIVITY_BARS):
                span_ms, gaps = (
                    self.newest(name, frame, _ACTIVITY_BARS)
                    .select(span_ms=pl.max("last_tick_ms") - pl.min("first_tick_ms"), gaps=pl.sum("ticks") - 1)
                    .row(0)
                )
                rows[name][4] = span_ms / gaps if gaps else None
        return pl.DataFrame([rows[name] for name in instruments], ACTIVITY_SCHEMA, orient="row")

    def revisions(self, instrument: str, frame: str, start_ms: int) -> pl.DataFrame:
        """Return every superseded version of one stored bar since it closed, oldest first."""
        where = "instrument = ? AND frame = ? AND start_ms = ?"
        query = f"SELECT {_COLUMNS} FROM bar_revisions WHERE {where} ORDER BY revision"
        return _bars(self.db.conn.execute(query, (instrument, frame, start_ms)).fetchall())

    def history(self, instrument: str, frame: str, start_ms: int) -> pl.DataFrame:
        """Return every version of one bar since it closed, oldest first, and the current version, even if forming.

        The result is empty if there is no such bar. A version of a rolled-up bar ends when a closed bar that it is made
        from changes.
        """
        parsed_frame = parse_frame(frame)
        pieces_within = self._splice(instrument, parsed_frame).within(start_ms, start_ms + parsed_frame.length_ms)
        if [piece.frame for piece in pieces_within] != [parsed_frame]:
            return changes.versions(
                self.db, instrument, parsed_frame, start_ms, lambda at_ms: self._splice(instrument, parsed_frame, at_ms)
            )
        return pl.concat(
            [self.revisions(instrument, frame, start_ms), self.bars(instrument, frame, start_ms, start_ms + 1)]
        )

    def all_bars(self) -> Iterator[pl.DataFrame]:
        """Yield all bars by instrument, frame and start, in chunks. An empty store yields one empty chunk."""
        read_all = bar_runs.all_bars if bar_runs.has_runs(self.db) else all_stored_bars
        yield from read_all(self.db, _EXPORT_ROWS)

    def ticks_in(self, frame: str) -> int:
        """Return how many ticks the bars of this frame hold, including bars removed since.

        The longer the frame, the faster.
        """
        query = (
            "SELECT coalesce((SELECT sum(ticks) FROM bars WHERE instrument IN (SELECT value FROM json_each(:names))"
            " AND frame = :frame), 0) + coalesce((SELECT sum(ticks) FROM bar_blocks WHERE frame = :frame), 0)"
        )
        values = {"names": json.dumps(self.instruments()), "frame": frame}
        stored = int(self.db.conn.execute(query, values).fetchone()[0])
        return stored + sum(removal.ticks for removal in self.removals() if removal.frame == frame)

    def next_sequence(self) -> int:
        """Return the sequence after the last tick that any job, even a deleted one, has read; 0 if none has."""
        return max((cover.next_sequence for cover in self.covers()), default=0)

    def last_rereads(self, job: str, count: int) -> list[ReadAgain]:
        """Return the last `count` times that a job could not continue from its state, newest first."""
        names = ", ".join(field.name for field in fields(ReadAgain))
        query = f"SELECT {names} FROM read_again WHERE job = ? ORDER BY number DESC LIMIT ?"
        return [ReadAgain(*row) for row in self.db.conn.execute(query, (job, count))]

    def removals(self) -> list[Removed]:
        """Return what retention has removed, one record per frame."""
        if not self.db.table("removed").exists():  # an older file that no job has written to since the upgrade
            return []
        return [Removed(*row) for row in self.db.conn.execute("SELECT frame, to_ms, bars, ticks FROM removed")]

    def totals(self) -> dict[str, tuple[int, int]]:
        """Return (bars, ticks in them) by frame."""
        if bar_runs.has_runs(self.db):
            return bar_runs.totals(self.db)
        query = (
            "SELECT frame, sum(bars), sum(ticks) FROM (SELECT frame, count(*) AS bars, sum(ticks) AS ticks FROM bars"
            " GROUP BY frame UNION ALL SELECT frame, sum(bars), sum(ticks) FROM bar_blocks GROUP BY frame)"
            " GROUP BY frame"
        )
        return {frame: (bars, ticks) for frame, bars, ticks in self.db.conn.execute(query)}

    def progress(self) -> list[Progress]:
        """Return the progress of each shard of each job."""
        # Fewer columns in an older file that no job has written to since the upgrade.
        columns = self.db.table("progress").columns_dict
        names = [field.name for field in fields(Progress) if field.name in columns]
        rows = self.db.conn.execute(f"SELECT {', '.join(names)} FROM progress ORDER BY job, shard")
        return [
            Progress(**{**dict(zip(names, row, strict=True)), "final": bool(row[names.index("final")])}) for row in rows
        ]

    def covers(self) -> list[Cover]:
        """Return all coverage, including that of deleted jobs."""
        return read_covers(self.db)

    def pieces(self, instrument: str, frame: Frame) -> Sequence[Piece]:
        """Return which stored frames supply which time range, oldest first (see barmill/model/pieces.py)."""
        return self._splice(instrument, frame).pieces

    def bars_written(self) -> dict[str, int]:
        """Return how many bars and versions of bars each job has written."""
        return dict(self.db.conn.execute("SELECT job, bars FROM written"))

    def delays_ms(self, frame: str, changed_ms: int, count: int) -> list[int]:
        """Return the age in ms of the newest tick of each forming bar at the time the bar was written.

        Looks at the first `count` instruments by name, and uses those whose newest bar of this frame is forming and
        changed at or after `changed_ms`. A forming bar changes only because of ticks, so its last change is usually
        when its newest tick became visible.
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
        return [ms for (ms,) in self.db.conn.execute(query, {"count": count, "since": changed_ms, "frame": frame})]

    def rejects(self) -> pl.DataFrame:
        """Return the stored ticks that jobs rejected, by job and sequence.

        The columns are job, source, rejected_ms and REJECT_SCHEMA.
        """
        query = f"SELECT {', '.join(_REJECT_SCHEMA)} FROM rejects ORDER BY job, sequence"
        return pl.DataFrame(self.db.conn.execute(query).fetchall(), _REJECT_SCHEMA, orient="row")

    def reject_count(self, job: str | None = None) -> int:
        """Return how many ticks a job rejected, or for None, all jobs; see `count_late`."""
        return count_late(self.db, job)

    def _stored(self, instrument: str) -> list[Frame]:
        return sorted(map(parse_frame, self.frames(instrument)))

    def _divisors(self, instrument: str, frame: Frame) -> list[Frame]:
        return [finer for finer in self._stored(instrument) if finer.divides(frame)]

    def _splice(self, instrument: str, frame: Frame, as_of_ms: int | None = None) -> Splice:
        """Return what bars are assembled from; empty if no stored frame divides the requested frame."""
        divisors = self._divisors(instrument, frame)
        return _splice_of(frame, holdings(self.db, instrument, frame, divisors, as_of_ms) if divisors else None)

    def _newest_ms(self, instrument: str, frame: Frame) -> int:
        query = "SELECT end_ms FROM bars WHERE instrument = ? AND frame = ? ORDER BY start_ms DESC LIMIT 1"
        row = self.db.conn.execute(query, (instrument, frame.text)).fetchone()
        return 0 if row is None else int(row[0])


def _bars(rows: Sequence[tuple[object, ...]]) -> pl.DataFrame:
    return pl.DataFrame(rows, BAR_SCHEMA, orient="row")


def _splice_of(frame: Frame, known_holdings: Holdings | None) -> Splice:
    parts = pieces(frame, known_holdings.held) if known_holdings else ()
    return Splice(parts, known_holdings.reached_ms(parts[-1].frame) if known_holdings and parts else None)
