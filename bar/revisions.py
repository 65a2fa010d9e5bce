"""Looking through what changed after it had closed: how much, how long after, and one bar's whole history."""

import polars as pl

from bar.model import BAR_SCHEMA
from bar.sqlite import Database

REVISED_SCHEMA: dict[str, pl.DataType] = {**BAR_SCHEMA, "superseded_ms": pl.Int64()}
BY_INSTRUMENT_SCHEMA: dict[str, pl.DataType] = {
    "instrument": pl.String(),
    "revisions": pl.Int64(),
    "bars": pl.Int64(),
}
DELAY_SCHEMA: dict[str, pl.DataType] = {"frame": pl.String(), "delay_ms": pl.Int64()}


def add_indexes(db: Database) -> None:
    """Make every query below a walk along an index."""
    db.execute("CREATE INDEX revisions_by_time ON bar_revisions (superseded_ms, end_ms)")


def by_instrument(db: Database, from_ms: int, most: int) -> pl.DataFrame:
    """Return the most revised instruments since `from_ms` (BY_INSTRUMENT_SCHEMA), the most revised first."""
    query = (
        "SELECT instrument, count(*), count(DISTINCT frame || ' ' || start_ms) FROM bar_revisions"
        " WHERE superseded_ms >= ? GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT ?"
    )
    return pl.DataFrame(db.conn.execute(query, (from_ms, most)).fetchall(), BY_INSTRUMENT_SCHEMA, orient="row")


def delays(db: Database, from_ms: int, most: int) -> pl.DataFrame:
    """Return how long after its end each bar was revised since `from_ms` (DELAY_SCHEMA): the newest ones, at most."""
    query = (
        "SELECT frame, superseded_ms - end_ms FROM bar_revisions WHERE superseded_ms >= ?"
        " ORDER BY superseded_ms DESC LIMIT ?"
    )
    return pl.DataFrame(db.conn.execute(query, (from_ms, most)).fetchall(), DELAY_SCHEMA, orient="row")


def latest(db: Database, from_ms: int, limit: int, instrument: str | None = None) -> pl.DataFrame:
    """Return the versions superseded since `from_ms` (REVISED_SCHEMA), the last superseded first."""
    of_one = "" if instrument is None else " AND instrument = ?"
    query = (
        f"SELECT {', '.join(REVISED_SCHEMA)} FROM bar_revisions WHERE superseded_ms >= ?{of_one}"
        " ORDER BY superseded_ms DESC LIMIT ?"
    )
    values = (from_ms, limit) if instrument is None else (from_ms, instrument, limit)
    return pl.DataFrame(db.conn.execute(query, values).fetchall(), REVISED_SCHEMA, orient="row")
