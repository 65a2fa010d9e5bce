"""Maintenance of the tick log: joins small old blocks, and drops blocks beyond the retention.

A monotonic clock schedules the work. The age of a block is judged by a trusted time. It follows the wall clock, but
never more slowly than real time (unless the wall clock is certainly wrong), and at most twice as fast, plus one extra
day per process to cover time when no process ran. A block counts as received at that time if the wall clock is behind
it. A wall clock that is temporarily ahead or behind therefore does not empty the log.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

import polars as pl

from barmill.platform.clock import MS_PER_DAY, now_ms
from barmill.platform.sqlite_file import Database, immediate
from barmill.storage.tick_damage import DamagedBlockError, checksum, encode_block, quarantine, read_block

logger = logging.getLogger(__name__)

COMPACT_BELOW_ROWS = 20_000
COMPACTED_ROWS = 100_000
ALL_IS_READ = 2**62
_COMPACT_EVERY_S = 60.0
_COMPACT_AFTER_MS = 300_000
_DROP_EVERY_S = 600.0
_MAX_SPEED_UP = 2
# 2025-01-01. A machine with an empty clock battery starts at a time in 1970 or 2000, until it synchronizes its clock.
_CERTAINLY_WRONG_BEFORE_MS = 1_735_689_600_000


@dataclass(frozen=True)
class UnreadFrom:
    """The sequences from which ticks are unread: by jobs that should be running, and by any job, even a stopped one."""

    by_running: int = ALL_IS_READ
    by_any: int = ALL_IS_READ


class LogMaintenance:
    """Scheduled maintenance, called by the writer of the log between batches.

    unread: called before anything is dropped. Ticks unread at the previous check are kept, because a job may return to
    a checkpoint. A process therefore drops nothing before its second check.
    """

    def __init__(
        self,
        db: Database,
        *,
        keep_days: float,
        keep_bytes: int,
        unread: Callable[[], UnreadFrom] = UnreadFrom,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._db, self._keep_ms, self._keep_bytes = db, int(keep_days * MS_PER_DAY), keep_bytes
        self._find_unread, self._monotonic_s = unread, monotonic_s
        self._checked_at_s = monotonic_s()
        self._compact_at_s, self._drop_at_s = self._checked_at_s + _COMPACT_EVERY_S, self._checked_at_s
        self._unread: UnreadFrom | None = None
        self._extra_ms = MS_PER_DAY

    def run_due_tasks(self) -> None:
        """Compact once a minute; drop what is too old or too large every ten minutes."""
        now_s = self._monotonic_s()
        if now_s >= self._compact_at_s:
            [trusted_ms] = self._db.conn.execute("SELECT coalesce(trusted_ms, 0) FROM log").fetchone()
            compact(self._db, max(now_ms(), trusted_ms) - _COMPACT_AFTER_MS)
            self._compact_at_s = now_s + _COMPACT_EVERY_S
        if now_s >= self._drop_at_s:
            self._drop_at_s = now_s + _DROP_EVERY_S
            before, self._unread = self._unread, self._find_unread()
            elapsed_ms = round(1_000 * (now_s - self._checked_at_s))
            max_ms = _MAX_SPEED_UP * elapsed_ms + self._extra_ms
            self._checked_at_s = now_s
            if before is None:
                advance_trusted_ms(self._db, now_ms(), 0, 0)
                return
            self._extra_ms = 0
            self._drop(advance_trusted_ms(self._db, now_ms(), elapsed_ms, max_ms), before)

    def _drop(self, trusted_ms: int, unread: UnreadFrom) -> None:
        drop_older(self._db, trusted_ms - self._keep_ms, unread.by_any)
        drop_beyond(self._db, self._keep_bytes, unread.by_running)
        (size,) = self._db.conn.execute("SELECT coalesce(sum(length(data)), 0) FROM blocks").fetchone()
        if size > self._keep_bytes and unread.by_running < ALL_IS_READ:
            logger.warning(
                "The tick log uses %.1f GB, more than keep_gb, because ticks from sequence %d have not been read; run"
                " ./barmill status to see which job or shipper is behind.",
                size / 1e9,
                unread.by_running,
            )


def advance_trusted_ms(db: Database, wall_ms: int, elapsed_ms: int, max_ms: int) -> int:
    """Return the time to judge ages by, advanced towards the wall clock, and store it in the log.

    It advances by at least `elapsed_ms`, even if the wall clock is behind, and by at most `max_ms`. A log without a
    stored time begins with that of its oldest block: the clock may have jumped ahead since then. If the wall clock is
    certainly wrong, that is, before 2025, it is returned and nothing is stored.
    """
    with immediate(db):
        (trusted_ms,) = db.conn.execute("SELECT trusted_ms FROM log").fetchone()
        if trusted_ms is None:
            oldest = "SELECT min(received_ms) FROM blocks WHERE received_ms >= ?"
            (trusted_ms,) = db.conn.execute(oldest, (_CERTAINLY_WRONG_BEFORE_MS,)).fetchone()
        if wall_ms < _CERTAINLY_WRONG_BEFORE_MS:
            return wall_ms
        advanced_ms = wall_ms
        if trusted_ms is not None:
            advanced_ms = min(max(wall_ms, int(trusted_ms) + elapsed_ms), int(trusted_ms) + max_ms)
        db.conn.execute("UPDATE log SET trusted_ms = ?", (advanced_ms,))
    return advanced_ms


def compact(db: Database, older_than_ms: int) -> int:
    """Join adjacent small blocks of one source received before `older_than_ms`. Return how many blocks were joined.

    Everything received before such a block is at least as old, even if the clock was wrong then. Sequence numbers do
    not change, so readers are not affected. Damaged blocks are quarantined; the blocks around them are joined later.
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


def drop_older(db: Database, before_ms: int, unread_from: int = ALL_IS_READ) -> int:
    """Drop the blocks before the first one received at or after `before_ms`. Return how many ticks were dropped.

    Blocks with a tick from `unread_from` on are kept.
    """
    query = "SELECT coalesce(min(first_sequence), ?) FROM blocks WHERE received_ms >= ?"
    return _drop_before(db, db.conn.execute(query, (ALL_IS_READ, before_ms)).fetchone()[0], unread_from)


def drop_beyond(db: Database, max_bytes: int, unread_from: int = ALL_IS_READ) -> int:
    """Drop the oldest blocks until the stored ticks take at most `max_bytes`. Return how many ticks were dropped.

    Blocks with a tick from `unread_from` on are kept.
    """
    total = 0
    newest_first = "SELECT first_sequence, length(data) FROM blocks ORDER BY first_sequence DESC"
    for first, size in db.conn.execute(newest_first):
        total += size
        if total > max_bytes:
            return _drop_before(db, first + 1, unread_from)
    return 0


def _drop_before(db: Database, sequence: int, unread_from: int) -> int:
    # SQLite cannot delete blocks on damaged pages (see barmill/storage/tick_damage.py). Exclude them, so that the
    # others can be dropped.
    undeletable = "SELECT first_sequence FROM damaged_blocks WHERE data IS NULL"
    where = f"WHERE first_sequence < ? AND first_sequence + rows <= ? AND first_sequence NOT IN ({undeletable})"
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
    is_full = sum(rows for _, rows, _ in run) + block[1] > COMPACTED_ROWS
    return block[0] == first + rows and block[2] == source and not is_full


def _join(db: Database, firsts: list[int]) -> int:
    if len(firsts) < 2:
        return 0
    from_range = "FROM blocks WHERE first_sequence BETWEEN ? AND ?"
    bounds = (firsts[0], firsts[-1])
    parts, damaged = list[pl.DataFrame](), dict[int, str]()
    for first in firsts:
        try:
            parts.append(read_block(db, first))
        except DamagedBlockError as error:
            damaged[first] = str(error)
    if damaged:
        quarantine(db, damaged)
        return 0
    ticks = pl.concat(parts)
    source, received_ms = db.conn.execute(f"SELECT source, max(received_ms) {from_range}", bounds).fetchone()
    row = (firsts[0], ticks.height, source, ticks["time_ns"].min(), ticks["time_ns"].max(), received_ms)
    with db.atomic():
        db.conn.execute(f"DELETE {from_range}", bounds)
        data = encode_block(ticks)
        db.conn.execute("INSERT INTO blocks VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (*row, data, checksum(data)))
    return len(firsts)
