"""Reading the facts that freshness is judged by; a store that does not exist yet reads as empty."""

import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import closing

from bar.clock import now_ms
from bar.frames import Frame, parse_frames
from bar.reader import BarQuery, BarReader
from bar.sqlite_file import StoreMissingError
from bar.store import Progress
from control.audit import last_done
from control.database import read_control_db
from control.feeds.store import feeds_of
from control.feeds.views import current_states
from control.freshness.flow import Asked, FeedOff, Flow, Intent, Maker
from control.freshness.judge import Freshness, ShownFrame, at_rest, freshness
from control.home import Home
from control.jobs.ledger import Job, JobLedger, JobStatus
from control.jobs.operations import Kind
from control.jobs.states import Desired, State
from control.jobs.views import view
from control.settings_file import SettingsError
from feed.connection.state import Phase
from feed.kafka.standing import kafka_problem
from feed.names import FIRST_NAMES
from feed.ticklog import Source, TickLog

_WELL = (Phase.RECEIVING, Phase.IDLE)
# What people do to a feed, and what has become of it then where it no longer runs.
_FEED_ACTIONS = {"feed.add": "", "feed.enable": "", "feed.disable": "disabled", "feed.delete": "deleted"}
# Where a rest has no end yet.
_STILL = 2**62
# Operations during which a job need not write, and says why.
_INTERRUPTS = (Kind.START, Kind.STOP, Kind.RESTART, Kind.UPGRADE, Kind.DELETE)


def read_flow(home: Home) -> Flow:
    """Read how far feeds and jobs are, and what jobs should be doing."""
    # Jobs before what they wrote: one that starts meanwhile is at worst taken for one that does not write yet.
    present, ends = _jobs(home)
    progress = _progress(home)
    sources, end_sequence = _log(home)
    at_ms = now_ms()
    states = {name: state for name, state in current_states(home, at_ms).items() if name not in FIRST_NAMES}
    well = frozenset(name for name, state in states.items() if state.phase in _WELL)
    troubles = {name: state.sentence for name, state in states.items() if name not in well}
    problem, markets = kafka_problem(home), _markets(home)
    jobs = (*present, *_deleted(progress, {one.name for one in present}, ends))
    off = _feeds_off(home, [source.name for source in sources if source.ended and source.live])
    return Flow(at_ms, sources, progress, end_sequence, problem, well, troubles, markets, jobs, feeds_off=off)


def jobs_at_rest(home: Home) -> dict[str, str]:
    """Return by name why each job rests that is not meant to run, deleted ones that left bars included."""
    return at_rest(read_makers(home))


def read_makers(home: Home) -> list[Maker]:
    """Return every job of a home that makes bars, and every deleted one that left some; none without a controller."""
    present, ends = _jobs(home)
    return [*present, *_deleted(_progress(home), {one.name for one in present}, ends)]


def stops(home: Home) -> dict[str, list[tuple[int, int]]]:
    """Return by job the stretches of time (from_ms, to_ms) in which it was stopped or deleted by a person."""
    query = (
        "SELECT job, kind, asked_ms, ended_ms FROM operations WHERE outcome = 'done'"
        " AND kind IN ('start', 'stop', 'restart', 'delete') ORDER BY rowid"
    )
    found: dict[str, list[tuple[int, int]]] = {}
    try:
        with JobLedger.read_only(home) as ledger:
            rows = ledger.db.conn.execute(query).fetchall()
    except (StoreMissingError, sqlite3.OperationalError):
        return {}
    for job, kind, asked_ms, ended_ms in rows:
        rests = found.setdefault(job, [])
        if rests and rests[-1][1] == _STILL:
            rests[-1] = (rests[-1][0], asked_ms)
        if kind in (Kind.STOP, Kind.DELETE):
            rests.append((ended_ms, _STILL))
    return found


def newest_tick_ms(reader: BarReader, instrument: str) -> int | None:
    """Return the time of the newest tick of an instrument that is in a stored bar of any frame."""
    newest = [reader.newest(instrument, frame, 1)["last_tick_ms"].to_list() for frame in reader.frames(instrument)]
    return max((ms for times in newest for ms in times), default=None)


def judged(reader: BarReader, flow: Flow, instrument: str, frame: Frame) -> Freshness:
    """Judge the newest bar of an instrument in a frame that it is offered in."""
    newest_ms = newest_tick_ms(reader, instrument)
    bars = reader.read(BarQuery(instrument, frame, newest=1))
    tick_ms = bars["last_tick_ms"][-1] if bars.height else None
    return freshness(flow.of(instrument), ShownFrame(frame, tick_ms, newest_ms))


def _jobs(home: Home) -> tuple[list[Maker], dict[str, Asked]]:
    """Return every job of a home, and the last stop or delete of each job there ever was; none without a controller."""
    try:
        with JobLedger.read_only(home) as ledger:
            statuses, ends = {status.job: status for status in ledger.statuses()}, _ends(ledger)
            return [_maker(ledger, job, statuses.get(job.name), ends.get(job.name)) for job in ledger.jobs()], ends
    except (StoreMissingError, sqlite3.OperationalError):  # nothing has made it, or not all of it, yet
        return [], {}


def _maker(ledger: JobLedger, job: Job, status: JobStatus | None, ended: Asked | None) -> Maker:
    seen = view(ledger, job, status, now_ms())
    operation = seen.operation
    interrupts = operation is not None and operation.kind in _INTERRUPTS
    return Maker(
        job.name,
        parse_frames(seen.frames),
        Intent.RUN if job.desired is Desired.RUNNING else Intent.STOP,
        State(seen.state) if seen.state in set(State) else State.UNKNOWN,
        seen.sentence,
        # Another job of this name may have been deleted before.
        ended if ended is not None and ended.at_ms >= job.created_ms else None,
        Asked(operation.kind, operation.actor, operation.asked_ms) if operation and interrupts else None,
    )


def _deleted(progress: Iterable[Progress], present: Collection[str], ends: Mapping[str, Asked]) -> Iterator[Maker]:
    """Yield the jobs that were deleted and have left bars."""
    frames = {one.job: one.frames for one in progress if one.job not in present}
    for name, text in frames.items():
        if name in ends:
            yield Maker(name, parse_frames(text), Intent.DELETED, ended=ends[name])


def _ends(ledger: JobLedger) -> dict[str, Asked]:
    """Return the last stop or delete of each job that was carried out."""
    # SQLite takes the other columns from the row that has the maximum.
    query = (
        "SELECT job, kind, actor, max(ended_ms) FROM operations"
        " WHERE kind IN ('stop', 'delete') AND outcome = 'done' GROUP BY job"
    )
    return {job: Asked(Kind(kind), actor, ended_ms) for job, kind, actor, ended_ms in ledger.db.conn.execute(query)}


def _progress(home: Home) -> tuple[Progress, ...]:
    try:
        with closing(BarReader.open(home.bars_db)) as reader:
            return tuple(reader.progress())
    except (StoreMissingError, sqlite3.OperationalError):  # the file may exist a moment before its tables do
        return ()


def _log(home: Home) -> tuple[tuple[Source, ...], int]:
    try:
        with TickLog.read_only(home.ticks_db) as log:
            return log.sources(), log.end_sequence()
    except (StoreMissingError, sqlite3.OperationalError):
        return (), 1


def _feeds_off(home: Home, names: Iterable[str]) -> dict[str, FeedOff]:
    """Return those of these feeds that a person has disabled or deleted last, by the audit trail."""
    try:
        db = read_control_db(home)
        with closing(db.conn):
            last = {name: last_done(db, _FEED_ACTIONS, name) for name in names}
    except (StoreMissingError, sqlite3.OperationalError):
        return {}
    return {
        name: FeedOff(_FEED_ACTIONS[one.action], one.actor, one.time_ms)
        for name, one in last.items()
        if one is not None and _FEED_ACTIONS[one.action]
    }


def _markets(home: Home) -> frozenset[str]:
    """Return the feeds that are demo markets: our own, and those of other Barmills that were added."""
    try:
        added = [feed.name for feed in feeds_of(home) if feed.kind == "market"]
    except SettingsError:  # the first feed cannot be distinguished from the others until feed.json is repaired
        added = []
    return frozenset({"market", *added})
