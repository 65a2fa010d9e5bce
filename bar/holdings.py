"""What the bar store knows of how complete its bars are, and what is written down for that.

    coverage  one row per (job, shard, shards, frames, lateness): how far that way of making the frames ever came.
              A row is never removed, also when the job has other frames now or is deleted: it is the evidence that the
              bars it wrote hold all ticks up to there.
    seams     where the making of a frame began late or was interrupted: see bar/seams.py.

What was read again from a checkpoint takes nothing back: published bars hold the ticks of the furthest reading.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from math import lcm

from bar.frames import Frame, parse_frame, parse_frames
from bar.pieces import BEGIN_MS, Held, Seam
from bar.progress import Progress
from bar.seams import add_seam, add_shard_seam, add_table, read_seams
from bar.sharding import shard_of
from bar.sqlite import Database

_NEWEST = "SELECT last_tick_ms FROM bars WHERE instrument = ? AND frame = ? AND changed_ms <= ? AND start_ms < ?"
_COVERED = "job, frames, shards, shard, lateness_ms, begun_sequence, next_sequence, newest_tick_ms, final, updated_ms"
_EVER_MS = 2**62
# How far ahead of the clock a live tick may be at most (feed/tick.py); nothing that starts later was known.
AHEAD_MS = 5_000


@dataclass(frozen=True)
class Cover:
    """How far one shard of a job came while it made these frames."""

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
    """What is held of one instrument: `held` by frame, and what was covered of any instrument."""

    held: Sequence[Held]
    covers: Sequence[Cover]

    def reached_ms(self, frame: Frame) -> int | None:
        """Return the newest tick seen by the jobs of a frame, None where no more is expected (see bar/rollup.py)."""
        makers = [one for one in self.covers if frame in one.frames]
        if all(one.final for one in makers):
            return None
        return max((one.newest_tick_ms for one in makers if one.newest_tick_ms is not None), default=None)


def add_tables(db: Database) -> None:
    """Make the tables, with what the progress of present jobs says of bars written before there were any."""
    db.execute(
        "CREATE TABLE coverage (job TEXT, shard INTEGER, shards INTEGER, frames TEXT, lateness_ms INTEGER,"
        " begun_sequence INTEGER, next_sequence INTEGER, newest_tick_ms INTEGER, final INTEGER, updated_ms INTEGER,"
        " PRIMARY KEY (job, shard, shards, frames, lateness_ms)) WITHOUT ROWID"
    )
    add_table(db)
    db.execute("ALTER TABLE progress ADD COLUMN begun_sequence INTEGER NOT NULL DEFAULT 1")
    db.execute("ALTER TABLE progress ADD COLUMN missing_to_ms INTEGER")
    db.execute(
        "INSERT INTO coverage SELECT job, shard, shards, frames, lateness_ms, 1, next_sequence, newest_tick_ms, final,"
        " updated_ms FROM progress"
    )
    # A job that has read fewer ticks than the log had by then began late; which of its first bars lack ticks is not
    # known, but a tick that it missed is at most the lateness newer than the first one it took, if it took any.
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


def note(db: Database, progress: Progress) -> None:
    """Write down what a shard covers, before the bars that come with its progress are written."""
    key = (progress.job, progress.shard, progress.shards, progress.frames, progress.lateness_ms)
    row = db.conn.execute(
        "SELECT begun_sequence FROM coverage WHERE job = ? AND shard = ? AND shards = ? AND frames = ?"
        " AND lateness_ms = ?",
        key,
    ).fetchone()
    if progress.begun_sequence > 1 and (row is None or row[0] != progress.begun_sequence):
        _note_seams(db, progress)
    db.conn.execute(
        "INSERT INTO coverage VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
        " begun_sequence = excluded.begun_sequence, next_sequence = max(next_sequence, excluded.next_sequence),"
        " newest_tick_ms = max(coalesce(newest_tick_ms, excluded.newest_tick_ms),"
        " coalesce(excluded.newest_tick_ms, newest_tick_ms)),"
        " final = excluded.final, updated_ms = excluded.updated_ms",
        (
            *key,
            progress.begun_sequence,
            progress.next_sequence,
            progress.newest_tick_ms,
            progress.final,
            progress.updated_ms,
        ),
    )


def _note_seams(db: Database, progress: Progress) -> None:
    """Note which bars lack the ticks that were gone when a shard began, or went on, to read the log."""
    covers, missing_to_ms, begun = read_covers(db), progress.missing_to_ms, progress.begun_sequence
    if missing_to_ms is None:
        return
    lateness_ms = max([progress.lateness_ms, *(one.lateness_ms for one in covers)])
    for frame in parse_frames(progress.frames):
        covered = [one for one in covers if frame in one.frames]
        # Where nothing is known of a frame, what there is of it (of a store that was repaired, say) may lack anything.
        for name in _instruments(db) if covered else []:
            if shard_of(name, progress.shards) == progress.shard:
                settled_ms = _settled(db, name, [frame], _of(covers, frame, name), lateness_ms, None)
                if settled_ms is not None:
                    add_seam(db, frame, name, Seam(settled_ms, missing_to_ms))
        reached = [one for one in covered if one.next_sequence >= begun]
        shards = lcm(progress.shards, *(one.shards for one in reached))
        for shard in range(progress.shard, shards, progress.shards):
            if not any(shard % one.shards == one.shard for one in reached):
                add_shard_seam(db, frame, shards, shard, missing_to_ms)


def holdings(db: Database, instrument: str, wanted: Frame, stored: Collection[Frame], as_of_ms: int | None) -> Holdings:
    """Return what is held of an instrument in frames that divide the wanted one; as of a time, as it was then.

    stored: those of them that it has bars of. Others count as well: their makers may have read further.
    How far a frame reaches is given in sequences; as of a time, in ms, since no more is known of what jobs had read.
    """
    covers = read_covers(db)
    # An older store does not say where jobs began, so it cannot tell an instrument without ticks from one they missed.
    made = (one for cover in covers for one in cover.frames) if db.table("coverage").exists() else ()
    frames = sorted({*stored, *(one for one in made if one.divides(wanted))})
    makers = {frame: _of(covers, frame, instrument) for frame in frames}
    removed = _removed(db)
    seams = read_seams(db, instrument)
    lateness_ms = max((one.lateness_ms for one in covers), default=0)
    held = []
    for frame in frames:
        # Frames of the same makers hold the same ticks, and of the shortest most is known as of a time.
        alike = [one for one in stored if makers[one] == makers[frame]]
        settled_ms = _settled(db, instrument, alike, makers[frame], lateness_ms, as_of_ms) if alike else None
        settled_to_ms = BEGIN_MS if settled_ms is None else settled_ms
        reach = max((one.next_sequence for one in makers[frame]), default=0) if as_of_ms is None else settled_to_ms
        held.append(Held(frame, reach, settled_to_ms, removed.get(frame, BEGIN_MS), seams.get(frame, ())))
    return Holdings(held, covers)


def read_covers(db: Database) -> list[Cover]:
    """Return all that is written down of coverage; of an older store, what progress says."""
    if db.table("coverage").exists():
        rows = db.conn.execute(f"SELECT {_COVERED} FROM coverage")
    elif db.table("progress").exists():
        rows = db.conn.execute(f"SELECT {_COVERED.replace('begun_sequence', '1')} FROM progress")
    else:
        return []
    return [
        Cover(job, frozenset(parse_frames(frames)), shards, shard, lateness_ms, begun, to, newest_ms, bool(final), at)
        for job, frames, shards, shard, lateness_ms, begun, to, newest_ms, final, at in rows
    ]


def _of(covers: Sequence[Cover], frame: Frame, instrument: str) -> list[Cover]:
    return [one for one in covers if frame in one.frames and one.shard == shard_of(instrument, one.shards)]


def _settled(
    db: Database,
    instrument: str,
    frames: Sequence[Frame],
    makers: Sequence[Cover],
    lateness_ms: int,
    as_of_ms: int | None,
) -> int | None:
    """Return up to when bars of these frames, all of the same makers, are final; None where there are none."""
    known_ms, before_ms = _EVER_MS, _EVER_MS
    if as_of_ms is not None:
        known_ms = as_of_ms
        before_ms = known_before_ms(db, instrument, min(frames), as_of_ms)
    elif makers and db.table("kafka_offsets").exists():
        # Bars may have come ahead of others that were published before them, but not those that progress speaks of.
        known_ms = max(makers, key=lambda one: one.next_sequence).updated_ms
    found = []
    for frame in frames if as_of_ms is not None else [max(frames)]:
        row = db.conn.execute(
            f"{_NEWEST} ORDER BY start_ms DESC LIMIT 1", (instrument, frame.text, known_ms, before_ms)
        ).fetchone()
        found += [row[0]] if row is not None else []
    return max(found) - lateness_ms if found else None


def known_before_ms(db: Database, instrument: str, frame: Frame, as_of_ms: int) -> int:
    """Return where bars end that could be known at a time, so that later ones are not looked through."""
    newest = "SELECT start_ms, changed_ms FROM bars WHERE instrument = ? AND frame = ? ORDER BY start_ms DESC LIMIT 1"
    row = db.conn.execute(newest, (instrument, frame.text)).fetchone()
    # The bars of a recording that lies ahead of the clock as a whole were known before they began.
    ahead = row is not None and row[0] > row[1] + AHEAD_MS
    return _EVER_MS if ahead else as_of_ms + AHEAD_MS + 1


def _removed(db: Database) -> dict[Frame, int]:
    if not db.table("removed").exists():  # the file is an older one that no job has written to since
        return {}
    return {parse_frame(frame): to_ms for frame, to_ms in db.conn.execute("SELECT frame, to_ms FROM removed")}


def _instruments(db: Database) -> list[str]:
    """Return every instrument that has a bar, one step along the primary key for each."""
    query = (
        "WITH RECURSIVE names(name) AS (SELECT min(instrument) FROM bars UNION ALL"
        " SELECT (SELECT min(instrument) FROM bars WHERE instrument > name) FROM names WHERE name IS NOT NULL)"
        " SELECT name FROM names WHERE name IS NOT NULL"
    )
    return [name for (name,) in db.conn.execute(query)]
