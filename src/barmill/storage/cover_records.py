"""Records behind coverage: how far jobs had read at earlier times (positions), and which bars may lack ticks (seams).

    positions          one row per advance of a row of `coverage`, at the time its bars were written. A row of
                       `coverage` that is older than this table has its first position at the time of the upgrade, its
                       `recorded_from_ms`.
    positions_thinned  by spacing, up to when positions are thinned out

All positions of the last hour are kept. Of each earlier minute, and after a week of each hour, those of all shards are
kept at three kinds of moments: at the end, when a shard had its first position, and for each pair of shards that may
read the same instrument, the first and the last time that one caught up with the other or got ahead. These show which
job was ahead, unless that changed more than twice within the interval.

    seams              for one instrument in one frame: bars that end after from_ms and start at or before to_ms. In
                       stores older than shard_seams, the instrument '' covers all instruments without a seam that has
                       the same end.
    shard_seams        for the instruments of one shard (of `shards`) that had no bar of the frame then: all bars that
                       start at or before to_ms. A seam of the instrument with the same end replaces it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations, groupby
from typing import NamedTuple

import polars as pl

from barmill.model.frames import Frame, parse_frame
from barmill.model.pieces import BEGIN_MS, Seam
from barmill.model.progress import shard_of
from barmill.platform.sqlite_file import Database

_HOUR_MS, _MINUTE_MS = 3_600_000, 60_000
# (age, spacing): positions older than the age are thinned out in intervals of this length.
_THINNING_MS = ((_HOUR_MS, _MINUTE_MS), (7 * 24 * _HOUR_MS, _HOUR_MS))
_KEY_COLUMNS = "job, shard, shards, frames, lateness_ms"
_KEY = "job = ? AND shard = ? AND shards = ? AND frames = ? AND lateness_ms = ?"
# The columns of coverage that barmill/storage/holdings.py reads, as they were at a time.
AS_OF_SQL = (
    "SELECT job, frames, shards, shard, lateness_ms, begun_sequence, position.next_sequence, position.newest_tick_ms,"
    # A cross join keeps this order: otherwise SQLite would go through all positions.
    " position.final, at_ms FROM coverage CROSS JOIN positions AS position"
    " USING (job, shard, shards, frames, lateness_ms)"
    " WHERE at_ms = (SELECT max(at_ms) FROM positions AS p WHERE p.job = coverage.job AND p.shard = coverage.shard"
    " AND p.shards = coverage.shards AND p.frames = coverage.frames AND p.lateness_ms = coverage.lateness_ms"
    " AND p.at_ms <= ?)"
)
_EVERY_INSTRUMENT = ""

# job, shard, shards, frames, lateness_ms: the primary key of `coverage`.
CoverKey = tuple[str, int, int, str, int]


class Position(NamedTuple):
    """The position of a shard in the log, and when it got there."""

    at_ms: int
    next_sequence: int
    newest_tick_ms: int | None
    final: bool


Step = tuple[CoverKey, Position]


def add_position_tables(db: Database, at_ms: int) -> None:
    """Create the tables. Positions are recorded from `at_ms` on, beginning with those of all present rows."""
    db.execute(
        "CREATE TABLE positions (job TEXT, shard INTEGER, shards INTEGER, frames TEXT, lateness_ms INTEGER,"
        " at_ms INTEGER, next_sequence INTEGER, newest_tick_ms INTEGER, final INTEGER,"
        f" PRIMARY KEY ({_KEY_COLUMNS}, at_ms)) WITHOUT ROWID"
    )
    db.execute("CREATE INDEX positions_by_time ON positions (at_ms)")
    db.execute("CREATE TABLE positions_thinned (spacing_ms INTEGER PRIMARY KEY, to_ms INTEGER NOT NULL)")
    db.execute("ALTER TABLE coverage ADD COLUMN recorded_from_ms INTEGER NOT NULL DEFAULT 0")
    db.execute("UPDATE coverage SET recorded_from_ms = ?", (at_ms,))
    db.execute(
        f"INSERT INTO positions SELECT {_KEY_COLUMNS}, ?, next_sequence, newest_tick_ms, final FROM coverage", (at_ms,)
    )


def add_position(db: Database, key: CoverKey, position: Position) -> None:
    """Record a position, unless it is the same as the last one, and thin out the old ones."""
    query = (
        f"SELECT next_sequence, newest_tick_ms, final FROM positions WHERE {_KEY} AND at_ms <= ?"
        " ORDER BY at_ms DESC LIMIT 1"
    )
    last = db.conn.execute(query, (*key, position.at_ms)).fetchone()
    if last is not None and last == position[1:]:
        return
    db.conn.execute("INSERT OR REPLACE INTO positions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", (*key, *position))
    for age_ms, spacing_ms in _THINNING_MS:
        to_ms = (position.at_ms - age_ms) // spacing_ms * spacing_ms
        row = db.conn.execute("SELECT to_ms FROM positions_thinned WHERE spacing_ms = ?", (spacing_ms,)).fetchone()
        if row is None or row[0] < to_ms:
            _thin(db, row and row[0], to_ms, spacing_ms)
            db.conn.execute("INSERT OR REPLACE INTO positions_thinned VALUES (?, ?)", (spacing_ms, to_ms))


def _thin(db: Database, from_ms: int | None, to_ms: int, spacing_ms: int) -> None:
    """Thin out the positions of all shards in [from_ms, to_ms)."""
    columns = f"at_ms, {_KEY_COLUMNS}, next_sequence, newest_tick_ms, final"
    query = f"SELECT {columns} FROM positions WHERE at_ms >= ? AND at_ms < ? ORDER BY at_ms"
    rows = db.conn.execute(query, (-(2**62) if from_ms is None else from_ms, to_ms)).fetchall()
    if not rows:
        return
    steps = [(key, Position(at_ms, *position)) for at_ms, key, position in ((r[0], r[1:6], r[6:]) for r in rows)]
    before = db.conn.execute(AS_OF_SQL, (rows[0][0] - 1,)).fetchall()
    reached = {
        (job, shard, shards, frames, lateness_ms): Position(at_ms, *position)
        for job, frames, shards, shard, lateness_ms, _, *position, at_ms in before
    }
    for _, interval in groupby(steps, key=lambda step: step[1].at_ms // spacing_ms):
        removed = [*interval]
        kept = _kept_steps(reached, removed)
        times_ms = (removed[0][1].at_ms, removed[-1][1].at_ms)
        db.conn.execute("DELETE FROM positions WHERE at_ms BETWEEN ? AND ?", times_ms)
        inserted = ((*key, *position) for key, position in kept)
        db.conn.executemany("INSERT INTO positions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", inserted)


def _kept_steps(reached: dict[CoverKey, Position], steps: Iterable[Step]) -> list[Step]:
    """Return the positions to keep of an interval, all at the moments that are kept.

    reached: the positions before, updated to those after the interval.
    """
    before = dict(reached)
    states, kept_ms = dict[int, dict[CoverKey, Position]](), set[int]()
    changes_ms = dict[tuple[CoverKey, CoverKey], list[int]]()
    for at_ms, group in groupby(steps, key=lambda step: step[1].at_ms):
        earlier = dict(reached)
        reached.update(group)
        states[at_ms] = dict(reached)
        if reached.keys() != earlier.keys():
            kept_ms.add(at_ms)
        for pair in combinations(earlier, 2):
            if _may_share_instrument(*pair) and _order(earlier, *pair) != _order(reached, *pair):
                changes_ms.setdefault(pair, [])[1:] = [at_ms]
    kept_ms.update([max(states)], *changes_ms.values())
    kept = list[Step]()
    for at_ms in sorted(kept_ms):
        state = states[at_ms]
        kept += [(key, state[key]._replace(at_ms=at_ms)) for key in state if state[key] != before.get(key)]
        before = state
    return kept


def _order(reached: Mapping[CoverKey, Position], first: CoverKey, second: CoverKey) -> int:
    """Return 1 if the first shard is ahead, -1 if the second is, otherwise 0."""
    ahead, behind = reached[first].next_sequence, reached[second].next_sequence
    return (ahead > behind) - (ahead < behind)


def _may_share_instrument(first: CoverKey, second: CoverKey) -> bool:
    """Return whether two shards may read the same instrument.

    Different shards of one job never do, as long as its number of shards, frames and lateness are the same.
    """
    return first != second and (first[0], *first[2:]) != (second[0], *second[2:])


def add_table(db: Database) -> None:
    """Create the table of seams."""
    db.execute(
        "CREATE TABLE seams (frame TEXT, instrument TEXT, from_ms INTEGER, to_ms INTEGER,"
        " PRIMARY KEY (frame, instrument, to_ms)) WITHOUT ROWID"
    )


def add_shard_table(db: Database) -> None:
    """Create the table of seams that concern only one shard."""
    db.execute(
        "CREATE TABLE shard_seams (frame TEXT, to_ms INTEGER, shards INTEGER, shard INTEGER,"
        " PRIMARY KEY (frame, to_ms, shards, shard)) WITHOUT ROWID"
    )


def read_seams(db: Database, instrument: str) -> dict[Frame, list[Seam]]:
    """Return the seams of an instrument by frame."""
    if not db.table("seams").exists():  # an older file that no job has written to since the upgrade
        return {}
    ends_by_frame: dict[Frame, dict[int, int]] = {}
    if db.table("shard_seams").exists():
        for frame, to_ms, shards, shard in db.conn.execute("SELECT frame, to_ms, shards, shard FROM shard_seams"):
            if shard_of(instrument, shards) == shard:
                ends_by_frame.setdefault(parse_frame(frame), {})[to_ms] = BEGIN_MS
    # '' sorts before any name.
    query = "SELECT frame, to_ms, from_ms FROM seams WHERE instrument IN (?, ?) ORDER BY instrument"
    for frame, to_ms, from_ms in db.conn.execute(query, (_EVERY_INSTRUMENT, instrument)):
        ends_by_frame.setdefault(parse_frame(frame), {})[to_ms] = from_ms
    return {
        frame: [Seam(from_ms, to_ms) for to_ms, from_ms in by_end.items()] for frame, by_end in ends_by_frame.items()
    }


@dataclass(frozen=True)
class SeamSummary:
    """A summary of all seams: how many frames and instruments have bars that may lack ticks, and up to when.

    shards: the number of shards with affected instruments that had no bar then; `instruments` does not count these.
    """

    frames: int
    instruments: int
    shards: int
    to_ms: int


def summarize_seams(db: Database) -> SeamSummary | None:
    """Return the summary of all seams of a store; None if there are none."""
    if not db.table("shard_seams").exists():  # an older file that no job has written to since the upgrade
        return None
    union = "SELECT frame, to_ms FROM seams UNION ALL SELECT frame, to_ms FROM shard_seams"
    frames, to_ms = db.conn.execute(f"SELECT count(DISTINCT frame), max(to_ms) FROM ({union})").fetchone()
    if not frames:
        return None
    [instruments] = db.conn.execute("SELECT count(DISTINCT instrument) FROM seams").fetchone()
    [shards] = db.conn.execute("SELECT count(*) FROM (SELECT DISTINCT shards, shard FROM shard_seams)").fetchone()
    return SeamSummary(frames, instruments, shards, to_ms)


def add_seam(db: Database, frame: Frame, instrument: str, seam: Seam) -> None:
    """Record a seam of an instrument. A seam only grows, even one that the instrument shares with its shard."""
    from_ms = min([seam.from_ms, *_seam_starts(db, frame, instrument, seam.to_ms)])
    db.conn.execute("INSERT OR REPLACE INTO seams VALUES (?, ?, ?, ?)", (frame.text, instrument, from_ms, seam.to_ms))


def add_shard_seam(db: Database, frame: Frame, shards: int, shard: int, to_ms: int) -> None:
    """Record a seam of all instruments of a shard that have no bar of the frame."""
    db.conn.execute("INSERT OR IGNORE INTO shard_seams VALUES (?, ?, ?, ?)", (frame.text, to_ms, shards, shard))


def _seam_starts(db: Database, frame: Frame, instrument: str, to_ms: int) -> list[int]:
    """Return where the seams of an instrument that have this end begin; an empty list if there are none."""
    query = "SELECT from_ms FROM seams WHERE frame = ? AND to_ms = ? AND instrument IN (?, ?) ORDER BY instrument DESC"
    row = db.conn.execute(query, (frame.text, to_ms, instrument, _EVERY_INSTRUMENT)).fetchone()
    if row is not None:
        return [row[0]]
    query = "SELECT shards, shard FROM shard_seams WHERE frame = ? AND to_ms = ?"
    shared = db.conn.execute(query, (frame.text, to_ms))
    return [BEGIN_MS for shards, shard in shared if shard_of(instrument, shards) == shard]


def copy_seams(db: Database, instrument: str, frame: Frame, into: Frame, before_ms: int) -> None:
    """Copy the seams of `frame` that begin before `before_ms` to `into`, whose bars were made from bars of `frame`."""
    for seam in read_seams(db, instrument).get(frame, []):
        if seam.from_ms < before_ms:
            add_seam(db, into, instrument, seam)


def extend_seams(db: Database, bars: pl.DataFrame) -> None:
    """Extend seams back to bars that are about to be replaced by these (BAR_SCHEMA) although they were final.

    A shard that lacks ticks cannot know that a tick is too late, and adds it to such a bar.
    """
    [to_ms] = db.conn.execute("SELECT max(missing_to_ms) FROM progress").fetchone()
    if to_ms is None:
        return
    old = bars.filter(pl.col("end_ms") <= to_ms).select("instrument", "frame", "start_ms", "end_ms", "ticks")
    same_frame = "instrument = :instrument AND frame = :frame"
    db.conn.executemany(
        f"UPDATE seams SET from_ms = :start_ms WHERE {same_frame} AND from_ms >= :end_ms AND to_ms >= :end_ms"
        f" AND NOT EXISTS (SELECT 1 FROM bars WHERE {same_frame} AND start_ms = :start_ms AND ticks >= :ticks)",
        old.iter_rows(named=True),
    )
