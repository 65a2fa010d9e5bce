"""Upkeep of the tick log: small old blocks are joined, and what is older than the retention is dropped."""

import polars as pl

from bar.clock import now_ms
from bar.sqlite import Database
from bar.sqlite_file import immediate
from feed.block import decode_block, encode_block

COMPACT_BELOW_ROWS = 20_000
COMPACTED_ROWS = 100_000


_COMPACT_EVERY_MS = 60_000
_COMPACT_AFTER_MS = 300_000
_DROP_EVERY_MS = 600_000
_MS_PER_DAY = 86_400_000


class Upkeep:
    """Does what is due, when the writer of the log has a moment."""

    def __init__(self, db: Database, *, keep_days: float, keep_bytes: int) -> None:
        self._db, self._keep_ms, self._keep_bytes = db, int(keep_days * _MS_PER_DAY), keep_bytes
        self._compact_at_ms, self._drop_at_ms = now_ms() + _COMPACT_EVERY_MS, 0

    def do_what_is_due(self) -> None:
        """Compact once a minute, drop what is too old or too much every ten."""
        clock_ms = now_ms()
        if clock_ms >= self._compact_at_ms:
            compact(self._db, clock_ms - _COMPACT_AFTER_MS)
            self._compact_at_ms = clock_ms + _COMPACT_EVERY_MS
        if clock_ms >= self._drop_at_ms:
            drop_older(self._db, clock_ms - self._keep_ms)
            drop_beyond(self._db, self._keep_bytes)
            self._drop_at_ms = clock_ms + _DROP_EVERY_MS


def compact(db: Database, older_than_ms: int) -> int:
    """Join neighbouring small blocks of one source received before `older_than_ms`; return how many went.

    Sequence numbers stay as they are, so readers notice nothing.
    """
    query = "SELECT first_sequence, rows, source FROM blocks WHERE received_ms < ? AND rows < ? ORDER BY first_sequence"
    run: list[tuple[int, int, str]] = []
    joined = 0
    for block in [*db.conn.execute(query, (older_than_ms, COMPACT_BELOW_ROWS)).fetchall(), None]:
        if block is not None and _continues(run, block):
            run.append(block)
            continue
        joined += _join(db, [first for first, _, _ in run])
        run = [] if block is None else [block]
    return joined


def drop_older(db: Database, than_ms: int) -> int:
    """Drop whole blocks received before `than_ms`; return how many ticks went."""
    with immediate(db):
        where = "WHERE received_ms < ?"
        rows, newest_ns = db.conn.execute(
            f"SELECT sum(rows), max(max_time_ns) FROM blocks {where}", (than_ms,)
        ).fetchone()
        if not rows:
            return 0
        db.conn.execute(f"DELETE FROM blocks {where}", (than_ms,))
        db.conn.execute("UPDATE log SET dropped_to_ns = max(coalesce(dropped_to_ns, 0), ?)", (newest_ns,))
    return int(rows)


def drop_beyond(db: Database, max_bytes: int) -> int:
    """Drop the oldest blocks until the stored ticks take at most `max_bytes`; return how many ticks went."""
    total = 0
    newest_first = "SELECT received_ms, length(data) FROM blocks ORDER BY first_sequence DESC"
    for received_ms, size in db.conn.execute(newest_first):
        total += size
        if total > max_bytes:
            return drop_older(db, received_ms + 1)
    return 0


def _continues(run: list[tuple[int, int, str]], block: tuple[int, int, str]) -> bool:
    if not run:
        return True
    first, rows, source = run[-1]
    full = sum(rows for _, rows, _ in run) + block[1] > COMPACTED_ROWS
    return block[0] == first + rows and block[2] == source and not full


def _join(db: Database, firsts: list[int]) -> int:
    if len(firsts) < 2:
        return 0
    inside = "FROM blocks WHERE first_sequence BETWEEN ? AND ?"
    bounds = (firsts[0], firsts[-1])
    ticks = pl.concat(
        decode_block(data) for (data,) in db.conn.execute(f"SELECT data {inside} ORDER BY first_sequence", bounds)
    )
    source, received_ms = db.conn.execute(f"SELECT source, max(received_ms) {inside}", bounds).fetchone()
    row = (firsts[0], ticks.height, source, ticks["time_ns"].min(), ticks["time_ns"].max(), received_ms)
    with db.atomic():
        db.conn.execute(f"DELETE {inside}", bounds)
        db.conn.execute("INSERT INTO blocks VALUES (?, ?, ?, ?, ?, ?, ?)", (*row, encode_block(ticks)))
    return len(firsts)
