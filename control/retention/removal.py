"""The removal of bars that are kept no longer, by the controller, in a thread of its own and in many small steps."""

import logging
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager

from bar.frames import parse_frame, parse_frames
from bar.reader import BarReader
from bar.retention import remove_some
from bar.sqlite_file import StoreMissingError
from bar.store import BarStore, Progress
from control.home import Home
from control.retention.policy import Policy, policies
from feed.ticklog import TickLog

logger = logging.getLogger(__name__)

# So few bars at once take about 10 ms, and the pauses leave the file to the job most of the time.
_BARS_AT_ONCE = 1_000
_PAUSE_S = 0.1
_SWEEP_EVERY_S = 60.0
_END_TIMEOUT_S = 3.0
_NO_LIMIT_MS = 2**62


def sweep(home: Home) -> Iterator[int]:
    """Remove what is kept no longer, telling after each short transaction how many bars went."""
    said = policies(home)
    if not said or not home.bars_db.exists():
        return
    with closing(BarStore.open(home.bars_db)) as store:
        reader, trusted_ms = BarReader(store.db), _trusted_ms(home)
        for policy in said:
            before_ms = kept_from_ms(policy, reader.progress(), trusted_ms)
            if before_ms is None:
                continue
            frame, into = parse_frame(policy.frame), parse_frame(policy.into)
            for instrument in reader.instruments():
                while gone := remove_some(store.db, instrument, frame, into, before_ms, _BARS_AT_ONCE):
                    yield gone


def _trusted_ms(home: Home) -> int:
    """Return the time that the newest bars may have; a home without feeds gives no limit."""
    try:
        with TickLog.read_only(home.ticks_db) as log:
            return log.trusted_ms() or _NO_LIMIT_MS
    except StoreMissingError:
        return _NO_LIMIT_MS


def kept_from_ms(policy: Policy, progress: Sequence[Progress], trusted_ms: int = _NO_LIMIT_MS) -> int | None:
    """Return from when on bars are kept, None where no job makes them: by what the jobs have read, not by the clock.

    What no job has read yet, and what late ticks may still change, is kept. Of several jobs the furthest counts, of its
    shards the one that is least far. trusted_ms: times beyond it come from a clock that is ahead, and do not count.
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
def retaining(home: Home, *, sweep_every_s: float = _SWEEP_EVERY_S, pause_s: float = _PAUSE_S) -> Iterator[None]:
    """Remove again and again what is kept no longer, while the block runs."""
    stop = threading.Event()
    thread = threading.Thread(target=_repeat, args=(home, sweep_every_s, pause_s, stop), name="retention", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(_END_TIMEOUT_S)


def _repeat(home: Home, sweep_every_s: float, pause_s: float, stop: threading.Event) -> None:
    while not stop.wait(sweep_every_s):
        try:
            for _ in sweep(home):
                if stop.wait(pause_s):
                    return
        except (OSError, sqlite3.Error) as error:  # a full disk, say: everything else goes on without this
            logger.warning("Old bars could not be removed: %s", error)
