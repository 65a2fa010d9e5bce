"""Retention of bars: the policies, and a thread of the controller that removes expired bars and compresses old ones.

bar_retention   frame, keep_ms, into: only the frames for which a user has set a limit
"""

import json
import logging
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path

from barmill.audit.accounts import account_migrations
from barmill.audit.actions import action
from barmill.audit.roles import Actor, Permission
from barmill.audit.trail import audit_migrations
from barmill.model.frames import Frame, FrameError, parse_frame, parse_frames
from barmill.platform.clock import MS_PER_HOUR, now_ms
from barmill.platform.errors import ControlError
from barmill.platform.file_replacement import replace_file
from barmill.platform.home import Home
from barmill.platform.sqlite_file import (
    Database,
    Migrations,
    StoreMissingError,
    if_ready,
    immediate,
    open_control_db,
    read_control_db,
)
from barmill.storage.bar_blocks import BEGIN_MS
from barmill.storage.bar_damage import is_damage, mark_damage
from barmill.storage.bar_store import BarStore, Progress
from barmill.storage.bar_upkeep import move_oldest, remove_oldest
from barmill.storage.reader import BarReader
from barmill.storage.tick_log import TickLog
from control.jobs.repository import JobRepository

MIN_KEEP_MS = MS_PER_HOUR
_migrations = Migrations("bar_retention")


class RetentionError(ControlError):
    """The retention is not valid; nothing was changed."""


@_migrations()
def create(db: Database) -> None:
    """Create the first version of the table."""
    columns = {"frame": str, "keep_ms": int, "into": str}
    db.table("bar_retention").create(columns, pk="frame", not_null={"keep_ms", "into"}, strict=True)


@dataclass(frozen=True)
class Policy:
    """The retention of a frame: bars are kept for keep_ms; older bars are removed once `into` holds their rollup."""

    frame: str
    keep_ms: int
    into: str


def open_retention_db(home: Home) -> Database:
    """Open the control database with the retention table."""
    return open_control_db(home, audit_migrations, account_migrations, _migrations)


def policies(home: Home) -> list[Policy]:
    """Return the policies, shortest frame first; empty if no user has set any."""
    rows = []
    with if_ready(), closing(read_control_db(home).conn) as connection:
        rows = connection.execute('SELECT frame, keep_ms, "into" FROM bar_retention').fetchall()
    return sorted((Policy(*row) for row in rows), key=lambda policy: parse_frame(policy.frame))


def set_retention(home: Home, actor: Actor, frame: str, keep_ms: int, into: str | None = None) -> Policy:
    """Set how long bars of a frame are kept: `keep_ms`; older bars are removed.

    into: the longer frame that must hold their rollup; the default is the shortest that every job with this frame also
    makes. Raise RetentionError if the policy is not valid.
    """
    kept_frame = _frame(frame)
    with closing(open_retention_db(home).conn) as connection:
        db = Database(connection)
        with action(db, actor, "bars.keep", kept_frame.text, needs=Permission.MANAGE_JOBS) as change:
            policy = Policy(
                kept_frame.text, keep_ms, _into(home, kept_frame, None if into is None else _frame(into)).text
            )
            _check(policy, policies(home))
            change.before, change.after = _current_policy(home, policy.frame), asdict(policy)
            connection.execute(
                "INSERT OR REPLACE INTO bar_retention VALUES (?, ?, ?)", (policy.frame, keep_ms, policy.into)
            )
    return policy


def clear_retention(home: Home, actor: Actor, frame: str) -> None:
    """Remove the limit for bars of a frame; bars that were removed are not restored.

    Raise RetentionError if the frame is not valid.
    """
    text = _frame(frame).text
    with closing(open_retention_db(home).conn) as connection:
        db = Database(connection)
        with action(db, actor, "bars.keep", text, needs=Permission.MANAGE_JOBS) as change:
            change.before, change.after = _current_policy(home, text), {"frame": text, "keep_ms": None}
            connection.execute("DELETE FROM bar_retention WHERE frame = ?", (text,))


def _current_policy(home: Home, frame: str) -> dict[str, object]:
    matches = (asdict(policy) for policy in policies(home) if policy.frame == frame)
    return next(matches, {"frame": frame, "keep_ms": None})


def _frame(text: str) -> Frame:
    try:
        return parse_frame(text)
    except FrameError as error:
        raise RetentionError(str(error)) from error


def _into(home: Home, frame: Frame, into: Frame | None) -> Frame:
    longer = _longer_frames(home, frame)
    if not longer:
        raise RetentionError(
            f"No job makes {frame.text} bars together with longer bars that could replace them; first add a longer"
            " frame to its spec."
        )
    if into is None:
        return longer[0]
    if into not in longer:
        longer_names = ", ".join(candidate.text for candidate in longer)
        raise RetentionError(f"{into.text} bars cannot replace {frame.text} bars; set --into to one of {longer_names}.")
    return into


def _longer_frames(home: Home, frame: Frame) -> Sequence[Frame]:
    """Return the longer frames that `frame` divides and that every job with `frame` makes, shortest first."""
    frame_sets: list[set[Frame]] = []
    with if_ready(), JobRepository.read_only(home) as repository:
        specs = [repository.spec(job.name, job.version) for job in repository.jobs()]
        frame_sets = [set(spec.frame_list) for spec in specs if frame in spec.frame_list]
    common = set.intersection(*frame_sets) if frame_sets else set()
    return sorted(candidate for candidate in common if candidate > frame and frame.divides(candidate))


def _check(policy: Policy, others: Sequence[Policy]) -> None:
    if policy.keep_ms < MIN_KEEP_MS:
        raise RetentionError("Bars must be kept for at least an hour; use 1h or more, or for-ever.")
    for other in others:
        if other.frame == policy.into and other.keep_ms < policy.keep_ms:
            raise RetentionError(
                f"{policy.into} bars, which replace them, are removed sooner; first keep those for longer."
            )
        if other.into == policy.frame and other.keep_ms > policy.keep_ms:
            raise RetentionError(
                f"{policy.frame} bars replace older {other.frame} bars; first keep those for a shorter time."
            )


logger = logging.getLogger(__name__)

# A transaction of this size takes about 10 ms, and between two of them the jobs can write most of the time.
_BATCH_BARS = 1_000
_PAUSE_S = 0.1
_SWEEP_EVERY_S = 60.0
# Looking through ten thousand instruments takes some seconds.
_MOVE_EVERY_SWEEPS = 10
_MOVE_ATTEMPTS = 5
_BARS_PER_REPORT = 1_000_000
_REPORT_EVERY_S = 1.0
# A pass that has not reported for this long has ended, for example because the controller was stopped.
_REPORTS_WITHIN_MS = 60_000
_BARS_WORTH_A_SENTENCE = 100_000
_END_TIMEOUT_S = 3.0
_NO_LIMIT_MS = 2**62


def sweep(home: Home) -> Iterator[int]:
    """Remove expired bars, and yield the number removed after each short transaction."""
    current_policies = policies(home)
    if not current_policies or not home.bars_db.exists():
        return
    with mark_damage(home.bars_db), BarStore.open(home.bars_db) as store:
        reader, trusted_ms = BarReader(store.db), _trusted_ms(home)
        for policy in current_policies:
            before_ms = kept_from_ms(policy, reader.progress(), trusted_ms)
            if before_ms is None:
                continue
            frame, into = parse_frame(policy.frame), parse_frame(policy.into)
            for instrument in reader.instruments():
                with _skip_damage(home, instrument, policy.frame):
                    while removed := remove_oldest(store.db, instrument, frame, into, before_ms, _BATCH_BARS):
                        yield removed


@dataclass(frozen=True)
class HistoryMove:
    """Progress of the pass that moves old bars into blocks, instrument by instrument.

    bars_moved: in this pass; the passes after the first one move only what has become old meanwhile.
    """

    instruments: int
    instruments_done: int
    bars_moved: int

    @property
    def is_complete(self) -> bool:
        """Return whether the pass has processed all instruments."""
        return self.instruments_done == self.instruments

    @property
    def sentence(self) -> str:
        """Return a sentence about a pass that takes long; '' for the usual short ones."""
        if self.is_complete or self.bars_moved < _BARS_WORTH_A_SENTENCE:
            return ""
        return (
            f"Old bars are being compressed: {self.instruments_done:,} of {self.instruments:,} instruments done,"
            f" {self.bars_moved:,} bars so far."
        )

    def as_json(self) -> dict[str, object]:
        """Return the progress for JSON."""
        return {**asdict(self), "is_complete": self.is_complete}


def read_history_move(home: Home) -> HistoryMove | None:
    """Return the progress of the current or last pass; None if there was none, or it ended before it was complete."""
    path = _progress_path(home)
    try:
        move, age_ms = (
            HistoryMove(**json.loads(path.read_text("utf-8"))),
            now_ms() - path.stat().st_mtime_ns // 1_000_000,
        )
    except (FileNotFoundError, json.JSONDecodeError, TypeError):
        return None
    return move if move.is_complete or age_ms < _REPORTS_WITHIN_MS else None


def _progress_path(home: Home) -> Path:
    return home.run / "history.json"


def move_history(home: Home) -> Iterator[int]:
    """Move bars that are unlikely to change into blocks, and yield the number moved after each short transaction.

    Write the progress to a file every second, which takes less time than counting bars in the store.
    """
    if not home.bars_db.exists():
        return
    with mark_damage(home.bars_db), BarStore.open(home.bars_db) as store:
        reader = BarReader(store.db)
        lateness_ms = max((cover.lateness_ms for cover in reader.covers()), default=0)
        instruments, moved, report_at_s = reader.instruments(), 0, 0.0
        for done, instrument in enumerate(instruments):
            for frame in reader.frames(instrument):
                with _skip_damage(home, instrument, frame):
                    for bars in _move_series(store.db, instrument, frame, lateness_ms):
                        moved += bars
                        if time.monotonic() >= report_at_s:
                            _write_progress(home, HistoryMove(len(instruments), done, moved))
                            report_at_s = time.monotonic() + _REPORT_EVERY_S
                        yield bars
        _write_progress(home, HistoryMove(len(instruments), len(instruments), moved))


def _write_progress(home: Home, move: HistoryMove) -> None:
    with suppress(OSError):  # moves continue without a report, for example on a full disk
        replace_file(_progress_path(home), json.dumps(asdict(move)) + "\n")


@contextmanager
def _skip_damage(home: Home, instrument: str, frame: str) -> Iterator[None]:
    """End the block if it finds damage, and mark the store, so that other series are still processed."""
    try:
        with mark_damage(home.bars_db):
            yield
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
        logger.warning("Old %s bars of %s could not be removed or moved: %s", frame, instrument, error)


def _move_series(db: Database, instrument: str, frame: str, lateness_ms: int) -> Iterator[int]:
    from_ms: int | None = BEGIN_MS
    while from_ms is not None:
        moved, from_ms = _move(db, instrument, frame, from_ms, lateness_ms)
        if moved:
            yield moved


def _move(db: Database, instrument: str, frame: str, from_ms: int, lateness_ms: int) -> tuple[int, int | None]:
    """Move bars as `move_oldest` does. If other processes write all the time, wait for the write lock first."""
    for _ in range(_MOVE_ATTEMPTS):
        try:
            return move_oldest(db, instrument, frame, from_ms, lateness_ms)
        except sqlite3.OperationalError as error:
            # A transaction that has read does not wait for the lock, because what it read may be outdated by then.
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise
    with immediate(db):
        return move_oldest(db, instrument, frame, from_ms, lateness_ms)


def _trusted_ms(home: Home) -> int:
    """Return the latest time that bars may have; without feeds there is no limit."""
    try:
        with TickLog.read_only(home.ticks_db) as log:
            return log.trusted_ms() or _NO_LIMIT_MS
    except StoreMissingError:
        return _NO_LIMIT_MS


def kept_from_ms(policy: Policy, progress: Sequence[Progress], trusted_ms: int = _NO_LIMIT_MS) -> int | None:
    """Return the time from which bars are kept, or None if no job makes them.

    It depends on what the jobs have read, not on the clock, and bars that late ticks may still change are kept. The
    most advanced job counts, and of its shards the shard that is furthest behind. trusted_ms: later times come from a
    clock that is ahead, and do not count.
    """
    frame = parse_frame(policy.frame)
    read_to: dict[str, list[int]] = {}
    keep_ms = policy.keep_ms
    for shard in progress:
        if frame in parse_frames(shard.frames) and shard.newest_tick_ms is not None:
            read_to.setdefault(shard.job, []).append(shard.newest_tick_ms)
            keep_ms = max(keep_ms, shard.lateness_ms)
    return min(trusted_ms, max(map(min, read_to.values()))) - keep_ms if read_to else None


@contextmanager
def background_retention(
    home: Home, *, sweep_every_s: float = _SWEEP_EVERY_S, pause_s: float = _PAUSE_S
) -> Iterator[None]:
    """Remove expired bars, and move old ones into blocks, periodically while the block runs."""
    stop = threading.Event()
    thread = threading.Thread(target=_repeat, args=(home, sweep_every_s, pause_s, stop), name="retention", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(_END_TIMEOUT_S)


def _repeat(home: Home, sweep_every_s: float, pause_s: float, stop: threading.Event) -> None:
    for number in count():
        if stop.wait(sweep_every_s):
            return
        moved = 0
        try:
            for _ in sweep(home):
                if stop.wait(pause_s):
                    return
            for bars in move_history(home) if number % _MOVE_EVERY_SWEEPS == 0 else ():
                if moved // _BARS_PER_REPORT < (moved + bars) // _BARS_PER_REPORT:
                    logger.info("Moved %d bars into blocks so far.", moved + bars)
                moved += bars
                if stop.wait(pause_s):
                    return
        except (OSError, sqlite3.Error) as error:  # for example a full disk; everything else continues
            logger.warning("Old bars could not be removed or moved: %s", error)
        if moved:
            logger.info("Moved %d bars into blocks.", moved)
