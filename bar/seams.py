"""Which stored bars may lack ticks, or hold one too many, because their job had not read the whole log.

seams        of one instrument in one frame: bars that end after from_ms and start by to_ms. In stores of versions
             before shard_seams, the instrument '' speaks for all that have no seam with the same end.
shard_seams  of instruments of one shard of so many that had no bar of the frame then, so all that start by to_ms;
             a seam of the instrument with the same end takes its place.
"""

import polars as pl

from bar.frames import Frame, parse_frame
from bar.pieces import BEGIN_MS, Seam
from bar.sharding import shard_of
from bar.sqlite import Database

_EVERY_INSTRUMENT = ""


def add_table(db: Database) -> None:
    """Make the table of seams."""
    db.execute(
        "CREATE TABLE seams (frame TEXT, instrument TEXT, from_ms INTEGER, to_ms INTEGER,"
        " PRIMARY KEY (frame, instrument, to_ms)) WITHOUT ROWID"
    )


def add_table_of_shards(db: Database) -> None:
    """Make the table of seams that only concern one shard."""
    db.execute(
        "CREATE TABLE shard_seams (frame TEXT, to_ms INTEGER, shards INTEGER, shard INTEGER,"
        " PRIMARY KEY (frame, to_ms, shards, shard)) WITHOUT ROWID"
    )


def read_seams(db: Database, instrument: str) -> dict[Frame, list[Seam]]:
    """Return the seams of an instrument by frame."""
    if not db.table("seams").exists():  # the file is an older one that no job has written to since
        return {}
    found: dict[Frame, dict[int, int]] = {}
    if db.table("shard_seams").exists():
        for frame, to_ms, shards, shard in db.conn.execute("SELECT frame, to_ms, shards, shard FROM shard_seams"):
            if shard_of(instrument, shards) == shard:
                found.setdefault(parse_frame(frame), {})[to_ms] = BEGIN_MS
    # '' comes before any name.
    query = "SELECT frame, to_ms, from_ms FROM seams WHERE instrument IN (?, ?) ORDER BY instrument"
    for frame, to_ms, from_ms in db.conn.execute(query, (_EVERY_INSTRUMENT, instrument)):
        found.setdefault(parse_frame(frame), {})[to_ms] = from_ms
    return {frame: [Seam(from_ms, to_ms) for to_ms, from_ms in by_end.items()] for frame, by_end in found.items()}


def add_seam(db: Database, frame: Frame, instrument: str, seam: Seam) -> None:
    """Note a seam of an instrument; it only grows, also one that the instrument shares with its shard."""
    from_ms = min([seam.from_ms, *_begins(db, frame, instrument, seam.to_ms)])
    db.conn.execute("INSERT OR REPLACE INTO seams VALUES (?, ?, ?, ?)", (frame.text, instrument, from_ms, seam.to_ms))


def add_shard_seam(db: Database, frame: Frame, shards: int, shard: int, to_ms: int) -> None:
    """Note a seam of all instruments of a shard that have no bar of the frame."""
    db.conn.execute("INSERT OR IGNORE INTO shard_seams VALUES (?, ?, ?, ?)", (frame.text, to_ms, shards, shard))


def _begins(db: Database, frame: Frame, instrument: str, to_ms: int) -> list[int]:
    """Return where the seam of an instrument with this end begins, if there is one."""
    query = "SELECT from_ms FROM seams WHERE frame = ? AND to_ms = ? AND instrument IN (?, ?) ORDER BY instrument DESC"
    row = db.conn.execute(query, (frame.text, to_ms, instrument, _EVERY_INSTRUMENT)).fetchone()
    if row is not None:
        return [row[0]]
    query = "SELECT shards, shard FROM shard_seams WHERE frame = ? AND to_ms = ?"
    shared = db.conn.execute(query, (frame.text, to_ms))
    return [BEGIN_MS for shards, shard in shared if shard_of(instrument, shards) == shard]


def hand_on(db: Database, instrument: str, frame: Frame, into: Frame, before_ms: int) -> None:
    """Note for bars of `into` what is noted for the bars of `frame`, up to `before_ms`, of which they were made."""
    for seam in read_seams(db, instrument).get(frame, []):
        if seam.from_ms < before_ms:
            add_seam(db, into, instrument, seam)


def reach_back(db: Database, bars: pl.DataFrame) -> None:
    """Let seams reach back to bars that are about to change although they were final: instrument to end_ms, ticks.

    A shard that lacks ticks cannot know that another one is too late, and puts it into such a bar.
    """
    [to_ms] = db.conn.execute("SELECT max(missing_to_ms) FROM progress").fetchone()
    if to_ms is None:
        return
    old = bars.filter(pl.col("end_ms") <= to_ms).select("instrument", "frame", "start_ms", "end_ms", "ticks")
    same = "instrument = :instrument AND frame = :frame"
    db.conn.executemany(
        f"UPDATE seams SET from_ms = :start_ms WHERE {same} AND from_ms >= :end_ms AND to_ms >= :end_ms"
        f" AND NOT EXISTS (SELECT 1 FROM bars WHERE {same} AND start_ms = :start_ms AND ticks >= :ticks)",
        old.iter_rows(named=True),
    )
