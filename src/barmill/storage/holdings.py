"""Holdings: how complete the bars of the store are, and the records that show it.

    coverage  one row per (job, shard, shards, frames, lateness): how far a job has ever read while making these frames.
              Rows are never removed, even if the job changes its frames or is deleted: a row is the evidence that the
              bars written by the job hold all ticks up to that point.
    seams     where the making of a frame began late or was interrupted; see barmill/storage/cover_records.py.

Reading again from a checkpoint does not lower coverage: published bars hold the ticks of the furthest read.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from math import lcm
from typing import Any

from barmill.model.frames import Frame, parse_frame, parse_frames
from barmill.model.pieces import BEGIN_MS, HeldFrame, Seam
from barmill.model.progress import Progress, shard_of
from barmill.platform.sqlite_file import Database
from barmill.storage.bar_blocks import SERIES_SQL, blocks_within, snapshot
from barmill.storage.cover_records import (
    AS_OF_SQL,
    CoverKey,
    Position,
    add_position,
    add_seam,
    add_shard_seam,
    add_table,
    read_seams,
)

_KEY = "job, shard, shards, frames, lateness_ms"
_COVER_COLUMNS = (
    "job, frames, shards, shard, lateness_ms, begun_sequence, next_sequence, newest_tick_ms, final, updated_ms"
)
_EVER_MS = 2**62
# By default, a live tick may be ahead of the clock by at most this much (feed_settings.py). A bar that starts
# later than that was not known.
AHEAD_MS = 5_000


@dataclass(frozen=True)
class Cover:
    """The coverage of one shard of a job: how far it has read while it made these frames; see Progress."""

    job: str
    frames: frozenset[Frame]
    shards: int
    shard: int
    lateness_ms: int
    begun_sequence: int
    next_sequence: int
    newest_tick_ms: int | None
    final: bool
    updated_ms: int


@dataclass(frozen=True)
class Holdings:
    """The stored bars of one instrument, by frame in `held`, and the coverage of all instruments.

    known_ms: the time of the newest tick in the bars known as of a time; None for now, or without a bar.
    """

    held: Sequence[HeldFrame]
    covers: Sequence[Cover]
    known_ms: int | None = None

    def reached_ms(self, frame: Frame) -> int | None:
        """Return the time of the newest tick that the jobs of a frame have read, in ms (see rollup.py).

        Return None if the jobs expect no more ticks, no job makes the frame, or no tick is known.
        """
        makers = [cover for cover in self.covers if frame in cover.frames]
        if all(cover.final for cover in makers):
            return None
        # As of a time long ago, a recorded position may be up to an hour older than the bars.
        times_ms = (self.known_ms, *(cover.newest_tick_ms for cover in makers))
        return max((time_ms for time_ms in times_ms if time_ms is not None), default=None)


def add_tables(db: Database) -> None:
    """Create the tables. Fill them from the progress of present jobs, for the bars that are already stored."""
    db.execute(
        "CREATE TABLE coverage (job TEXT, shard INTEGER, shards INTEGER, frames TEXT, lateness_ms INTEGER,"
        " begun_sequence INTEGER, next_sequence INTEGER, newest_tick_ms INTEGER, final INTEGER, updated_ms INTEGER,"
        " PRIMARY KEY (job, shard, shards, frames, lateness_ms)) WITHOUT ROWID"
    )
    add_table(db)
    db.execute("ALTER TABLE progress ADD COLUMN begun_sequence INTEGER NOT NULL DEFAULT 1")
    db.execute("ALTER TABLE progress ADD COLUMN missing_to_ms INTEGER")
    db.execute(f"INSERT INTO coverage SELECT {_KEY}, 1, next_sequence, newest_tick_ms, final, updated_ms FROM progress")
    # A job that has read fewer ticks than the log held by then began late. Which of its first bars lack ticks is
    # unknown, but a missed tick is newer than the first tick read, if any, by at most the lateness.
    late = (
        "SELECT frames, max(lateness_ms) FROM progress GROUP BY job, frames HAVING sum(read) < max(next_sequence) - 1"
    )
    first = (
        "SELECT coalesce((SELECT first_tick_ms FROM bars WHERE instrument = :name AND frame = :frame ORDER BY start_ms"
        " LIMIT 1), (SELECT max(last_tick_ms) FROM bars WHERE instrument = :name))"
    )
    for frames, lateness_ms in db.conn.execute(late).fetchall():
        for frame in parse_frames(frames):
            for name in _instruments(db):
                [at_ms] = db.conn.execute(first, {"name": name, "frame": frame.text}).fetchone()
                seam = (frame.text, name, BEGIN_MS, at_ms + lateness_ms)
                db.conn.execute("INSERT OR IGNORE INTO seams VALUES (?, ?, ?, ?)", seam)


def record_coverage(db: Database, progress: Progress, at_ms: int) -> None:
    """Record what a shard covers, before the bars that come with its progress are written. at_ms: their change time."""
    key: CoverKey = (progress.job, progress.shard, progress.shards, progress.frames, progress.lateness_ms)
    row = db.conn.execute(
        "SELECT begun_sequence FROM coverage WHERE job = ? AND shard = ? AND shards = ? AND frames = ?"
        " AND lateness_ms = ?",
        key,
    ).fetchone()
    if progress.begun_sequence > 1 and (row is None or row[0] != progress.begun_sequence):
        _record_seams(db, progress)
    [position] = db.conn.execute(
        f"INSERT INTO coverage ({_KEY}, begun_sequence, next_sequence, newest_tick_ms, final, updated_ms)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
        " begun_sequence = excluded.begun_sequence, next_sequence = max(next_sequence, excluded.next_sequence),"
        " newest_tick_ms = max(coalesce(newest_tick_ms, excluded.newest_tick_ms),"
        " coalesce(excluded.newest_tick_ms, newest_tick_ms)),"
        " final = excluded.final, updated_ms = excluded.updated_ms"
        " RETURNING next_sequence, newest_tick_ms, final",
        (
            *key,
            progress.begun_sequence,
            progress.next_sequence,
            progress.newest_tick_ms,
            progress.final,
            progress.updated_ms,
        ),
    )
    add_position(db, key, Position(at_ms, *position))


def _record_seams(db: Database, progress: Progress) -> None:
    """Record which bars lack ticks that had been removed from the log before a shard read them."""
    covers, missing_to_ms, begun_sequence = read_covers(db), progress.missing_to_ms, progress.begun_sequence
    if missing_to_ms is None:
        return
    lateness_ms = max([progress.lateness_ms, *(cover.lateness_ms for cover in covers)])
    for frame in parse_frames(progress.frames):
        covered = [cover for cover in covers if frame in cover.frames]
        # If a frame has no coverage, its stored bars (of a repaired store, for example) may lack any tick.
        for name in _instruments(db) if covered else []:
            if shard_of(name, progress.shards) == progress.shard:
                known_ms = _known_by_ms(db, _makers(covers, frame, name), None)
                tick_ms = _newest_tick_ms(db, name, [frame.text], known_ms, _EVER_MS)
                if tick_ms is not None:
                    add_seam(db, frame, name, Seam(tick_ms - lateness_ms, missing_to_ms))
        current_covers = [cover for cover in covered if cover.next_sequence >= begun_sequence]
        shards = lcm(progress.shards, *(cover.shards for cover in current_covers))
        for shard in range(progress.shard, shards, progress.shards):
            if not any(shard % cover.shards == cover.shard for cover in current_covers):
                add_shard_seam(db, frame, shards, shard, missing_to_ms)


def holdings(
    db: Database, instrument: str, requested: Frame, stored: Collection[Frame], as_of_ms: int | None
) -> Holdings:
    """Return what is held of an instrument in frames that divide the requested frame, now or as of a time.

    stored: those frames that have bars of the instrument. Other frames count too, as their jobs may have read further.
    The reach of a frame is a sequence. As of a time before positions were recorded it is in ms, estimated from the bars
    known then.
    """
    covers = read_covers(db)
    is_recorded = as_of_ms is None
    if as_of_ms is not None and (covers_then := _covers_at(db, as_of_ms)) is not None:
        covers, is_recorded = covers_then, True
    # An older store does not record where jobs began, so missed ticks look like an instrument without ticks.
    covered_frames = (
        (stored_frame for cover in covers for stored_frame in cover.frames) if db.table("coverage").exists() else ()
    )
    frames = sorted({*stored, *(finer for finer in covered_frames if finer.divides(requested))})
    makers = {frame: _makers(covers, frame, instrument) for frame in frames}
    removed = _removed(db)
    seams = read_seams(db, instrument)
    lateness_ms = max((cover.lateness_ms for cover in covers), default=0)
    held_frames = []
    for frame in frames:
        # Frames of the same makers hold the same ticks, and as of a time the shortest frame shows the most.
        alike = [other for other in stored if makers[other] == makers[frame]]
        settled_to_ms = BEGIN_MS
        if alike:
            before_ms = _EVER_MS if as_of_ms is None else known_before_ms(db, instrument, min(alike), as_of_ms)
            shown = {max(alike).text} if as_of_ms is None else {other.text for other in alike}
            tick_ms = _newest_tick_ms(db, instrument, shown, _known_by_ms(db, makers[frame], as_of_ms), before_ms)
            settled_to_ms = BEGIN_MS if tick_ms is None else tick_ms - lateness_ms
        reach = max((cover.next_sequence for cover in makers[frame]), default=0) if is_recorded else settled_to_ms
        held_frames.append(HeldFrame(frame, reach, settled_to_ms, removed.get(frame, BEGIN_MS), seams.get(frame, ())))
    newest_ms = max((held_frame.settled_to_ms for held_frame in held_frames), default=BEGIN_MS)
    is_known = as_of_ms is not None and newest_ms > BEGIN_MS
    return Holdings(held_frames, covers, newest_ms + lateness_ms if is_known else None)


def read_covers(db: Database) -> list[Cover]:
    """Return all records of coverage; for an older store, those that follow from its progress."""
    if db.table("coverage").exists():
        return _covers(db.conn.execute(f"SELECT {_COVER_COLUMNS} FROM coverage"))
    if db.table("progress").exists():
        return _covers(db.conn.execute(f"SELECT {_COVER_COLUMNS.replace('begun_sequence', '1')} FROM progress"))
    return []


def _covers(rows: Iterable[tuple[Any, ...]]) -> list[Cover]:
    return [
        Cover(
            job, frozenset(parse_frames(frames)), shards, shard, lateness_ms, begun, to, newest_ms, bool(final), at_ms
        )
        for job, frames, shards, shard, lateness_ms, begun, to, newest_ms, final, at_ms in rows
    ]


def _covers_at(db: Database, as_of_ms: int) -> list[Cover] | None:
    """Return coverage as it was at a time; None if positions were not recorded yet."""
    if not db.table("positions").exists():  # an older file that no job has written to since the upgrade
        return None
    [recorded_from_ms] = db.conn.execute("SELECT max(recorded_from_ms) FROM coverage").fetchone()
    if recorded_from_ms is not None and as_of_ms < recorded_from_ms:
        return None
    return _covers(db.conn.execute(AS_OF_SQL, (as_of_ms,)))


def _makers(covers: Sequence[Cover], frame: Frame, instrument: str) -> list[Cover]:
    return [cover for cover in covers if frame in cover.frames and cover.shard == shard_of(instrument, cover.shards)]


def _known_by_ms(db: Database, makers: Sequence[Cover], as_of_ms: int | None) -> int:
    """Return the time up to which changes of bars count when their newest tick is determined."""
    if as_of_ms is not None:
        return as_of_ms
    if makers and db.table("kafka_offsets").exists():
        # Bars from Kafka can arrive before bars that were published earlier, but all bars up to the recorded progress
        # are here.
        return max(makers, key=lambda cover: cover.next_sequence).updated_ms
    return _EVER_MS


def _newest_tick_ms(db: Database, instrument: str, frames: Iterable[str], known_ms: int, before_ms: int) -> int | None:
    """Return the latest last_tick_ms of each frame's newest bar that starts before `before_ms`; None without a bar.

    Only bars that last changed at or before `known_ms` count.
    """
    newest_ms = list[int]()
    for frame in frames:
        values = {"instrument": instrument, "frame": frame, "as_of_ms": known_ms, "before_ms": before_ms}
        with snapshot(db):
            row = db.conn.execute(
                f"SELECT start_ms, last_tick_ms FROM bars WHERE {SERIES_SQL} AND changed_ms <= :as_of_ms"
                " AND start_ms < :before_ms ORDER BY start_ms DESC LIMIT 1",
                values,
            ).fetchone()
            start_ms, tick_ms = row or (BEGIN_MS, None)
            for block in blocks_within(db, instrument, frame, start_ms, before_ms):
                newest_known_ms = block.content(db).newest_tick_ms(before_ms, known_ms)
                if newest_known_ms is not None:
                    tick_ms = newest_known_ms
                    break
        newest_ms += [] if tick_ms is None else [tick_ms]
    return max(newest_ms, default=None)


def known_before_ms(db: Database, instrument: str, frame: Frame, as_of_ms: int) -> int:
    """Return the time before which every bar known at `as_of_ms` starts, so that queries skip later bars."""
    newest = "SELECT start_ms, changed_ms FROM bars WHERE instrument = ? AND frame = ? ORDER BY start_ms DESC LIMIT 1"
    row = db.conn.execute(newest, (instrument, frame.text)).fetchone()
    # Bars of a recording whose times are all ahead of the clock were known before they started.
    is_ahead = row is not None and row[0] > row[1] + AHEAD_MS
    return _EVER_MS if is_ahead else as_of_ms + AHEAD_MS + 1


def _removed(db: Database) -> dict[Frame, int]:
    if not db.table("removed").exists():  # an older file that no job has written to since the upgrade
        return {}
    return {parse_frame(frame): to_ms for frame, to_ms in db.conn.execute("SELECT frame, to_ms FROM removed")}


def _instruments(db: Database) -> list[str]:
    """Return every instrument that has a bar, with one step along the primary key for each."""
    query = (
        "WITH RECURSIVE names(name) AS (SELECT min(instrument) FROM bars UNION ALL"
        " SELECT (SELECT min(instrument) FROM bars WHERE instrument > name) FROM names WHERE name IS NOT NULL)"
        " SELECT name FROM names WHERE name IS NOT NULL"
    )
    return [name for (name,) in db.conn.execute(query)]
