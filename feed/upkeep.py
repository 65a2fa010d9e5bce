"""Upkeep of the tick log: small old blocks are joined, and what is older than the retention is dropped.

A monotonic clock decides what is due. How old a block is, is judged by a trusted time: it follows the wall
clock, but advances at most twice as fast as time passes, and by a day more once in a process, for the time when none
ran. So a wall clock that is set ahead for a while does not empty the log.
"""

import logging
import time
from collections.abc import Callable

import polars as pl

from bar.clock import now_ms
from bar.sqlite import Database
from bar.sqlite_file import immediate
from feed.block import encode_block
from feed.damage import DamagedBlockError, checksum, put_aside, read_block
from feed.unread import ALL_IS_READ, Unread

logger = logging.getLogger(__name__)

COMPACT_BELOW_ROWS = 20_000
COMPACTED_ROWS = 100_000


_COMPACT_EVERY_S = 60.0
_COMPACT_AFTER_MS = 300_000
_DROP_EVERY_S = 600.0
_MS_PER_DAY = 86_400_000
_CATCH_UP = 2
# 2025-01-01. A machine whose clock has lost its battery starts in 1970 or 2000 until it hears of the time.
_CERTAINLY_WRONG_BEFORE_MS = 1_735_689_600_000


class Upkeep:
    """Does what is due, when the writer of the log has a moment.

    unread: asked before anything is dropped. What was unread at the look before is kept, because a job may go back to
    a checkpoint, so a process drops nothing before its second look.
    """

    def __init__(
        self,
        db: Database,
        *,
        keep_days: float,
        keep_bytes: int,
        unread: Callable[[], Unread] = Unread,
        passed_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._db, self._keep_ms, self._keep_bytes = db, int(keep_days * _MS_PER_DAY), keep_bytes
        self._ask_unread, self._passed_s = unread, passed_s
        self._looked_s = passed_s()
        self._compact_at_s, self._drop_at_s = self._looked_s + _COMPACT_EVERY_S, self._looked_s
        self._unread: Unread | None = None
        self._absent_ms = _MS_PER_DAY

    def do_what_is_due(self) -> None:
        """Compact once a minute, drop what is too old or too much every ten."""
        at_s = self._passed_s()
        if at_s >= self._compact_at_s:
            compact(self._db, now_ms() - _COMPACT_AFTER_MS)
            self._compact_at_s = at_s + _COMPACT_EVERY_S
        if at_s >= self._drop_at_s:
            self._drop_at_s = at_s + _DROP_EVERY_S
            before, self._unread = self._unread, self._ask_unread()
            most_ms = _CATCH_UP * round(1_000 * (at_s - self._looked_s)) + self._absent_ms
            self._looked_s = at_s
            if before is None:
                advance_trusted_ms(self._db, now_ms(), 0)
                return
            self._absent_ms = 0
            self._drop(advance_trusted_ms(self._db, now_ms(), most_ms), before)

    def _drop(self, trusted_ms: int, unread: Unread) -> None:
        drop_older(self._db, trusted_ms - self._keep_ms, unread.by_any)
        drop_beyond(self._db, self._keep_bytes, unread.by_running)
        (size,) = self._db.conn.execute("SELECT coalesce(sum(length(data)), 0) FROM blocks").fetchone()
        if size > self._keep_bytes and unread.by_running < ALL_IS_READ:
            logger.warning(
                "The tick log takes %.1f GB, more than keep_gb says, because ticks from sequence %d on have not been"
                " read; see which job or shipper is behind with ./barmill status.",
                size / 1e9,
                unread.by_running,
            )


def advance_trusted_ms(db: Database, wall_ms: int, most_ms: int) -> int:
    """Return the time to judge ages by, which follows the wall clock by so much at most, and keep it in the log.

    A wall clock that is certainly wrong does not set it back, since it would take decades to catch up again.
    """
    with immediate(db):
        (trusted_ms,) = db.conn.execute("SELECT trusted_ms FROM log").fetchone()
        if trusted_ms is None:
            (trusted_ms,) = db.conn.execute("SELECT max(received_ms) FROM blocks").fetchone()
        if wall_ms < _CERTAINLY_WRONG_BEFORE_MS:
            return wall_ms
        advanced_ms = wall_ms if trusted_ms is None else min(wall_ms, int(trusted_ms) + most_ms)
        db.conn.execute("UPDATE log SET trusted_ms = ?", (advanced_ms,))
    return advanced_ms


def compact(db: Database, older_than_ms: int) -> int:
    """Join neighbouring small blocks of one source received before `older_than_ms`; return how many went.

    What was received before such a block is as old, whatever the clock said then. Sequence numbers stay as they are, so
    readers notice nothing.
    """
    query = (
        "SELECT first_sequence, rows, source FROM blocks WHERE rows < ?"
        " AND first_sequence <= (SELECT max(first_sequence) FROM blocks WHERE received_ms < ?) ORDER BY first_sequence"
    )
    run: list[tuple[int, int, str]] = []
    joined = 0
    for block in [*db.conn.execute(query, (COMPACT_BELOW_ROWS, older_than_ms)).fetchall(), None]:
        if block is not None and _continues(run, block):
            run.append(block)
            continue
        joined += _join(db, [first for first, _, _ in run])
        run = [] if block is None else [block]
    return joined


def drop_older(db: Database, than_ms: int, unread_from: int = ALL_IS_READ) -> int:
    """Drop the blocks in front of the first one received at `than_ms` or later; return how many ticks went.

    Of these, none that holds a tick from `unread_from` on.
    """
    query = "SELECT coalesce(min(first_sequence), ?) FROM blocks WHERE received_ms >= ?"
    return _drop_before(db, db.conn.execute(query, (ALL_IS_READ, than_ms)).fetchone()[0], unread_from)


def drop_beyond(db: Database, max_bytes: int, unread_from: int = ALL_IS_READ) -> int:
    """Drop the oldest blocks until the stored ticks take at most `max_bytes`; return how many ticks went.

    None that holds a tick from `unread_from` on.
    """
    total = 0
    newest_first = "SELECT first_sequence, length(data) FROM blocks ORDER BY first_sequence DESC"
    for first, size in db.conn.execute(newest_first):
        total += size
        if total > max_bytes:
            return _drop_before(db, first + 1, unread_from)
    return 0


def _drop_before(db: Database, sequence: int, unread_from: int) -> int:
    # SQLite cannot delete what is on damaged pages (see feed/damage.py); that must not keep the rest.
    stuck = "SELECT first_sequence FROM damaged_blocks WHERE data IS NULL"
    where = f"WHERE first_sequence < ? AND first_sequence + rows <= ? AND first_sequence NOT IN ({stuck})"
    values = (sequence, unread_from)
    with immediate(db):
        rows, newest_ns = db.conn.execute(f"SELECT sum(rows), max(max_time_ns) FROM blocks {where}", values).fetchone()
        if not rows:
            return 0
        db.conn.execute(f"DELETE FROM blocks {where}", values)
        db.conn.execute("UPDATE log SET dropped_to_ns = max(coalesce(dropped_to_ns, 0), ?)", (newest_ns,))
    return int(rows)


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
    parts, damaged = list[pl.DataFrame](), dict[int, str]()
    for first in firsts:
        try:
            parts.append(read_block(db, first))
        except DamagedBlockError as error:
            damaged[first] = str(error)
    if damaged:
        put_aside(db, damaged)
        return 0
    ticks = pl.concat(parts)
    source, received_ms = db.conn.execute(f"SELECT source, max(received_ms) {inside}", bounds).fetchone()
    row = (firsts[0], ticks.height, source, ticks["time_ns"].min(), ticks["time_ns"].max(), received_ms)
    with db.atomic():
        db.conn.execute(f"DELETE {inside}", bounds)
        data = encode_block(ticks)
        db.conn.execute("INSERT INTO blocks VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (*row, data, checksum(data)))
    return len(firsts)
