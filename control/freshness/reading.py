"""The readers of the facts that determine freshness; a missing store counts as empty."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

from barmill.audit.trail import last_executed
from barmill.ingest.connection.state import Phase
from barmill.ingest.feeds.feed import feeds_of
from barmill.ingest.feeds.views import current_states
from barmill.ingest.instruments.names import FIRST_FEED_NAMES
from barmill.kafka.shipper_status import kafka_problem
from barmill.model.frames import Frame, parse_frames
from barmill.platform.clock import now_ms
from barmill.platform.home import Home
from barmill.platform.settings_file import SettingsError
from barmill.platform.sqlite_file import if_ready, read_control_db
from barmill.storage.bar_store import Progress
from barmill.storage.reader import BarQuery, BarReader
from barmill.storage.tick_log import OldestBlock, Source, TickLog
from control.freshness.flow import BarJob, DisabledFeed, Flow, Intent, UserOperation, silent_after_ms
from control.freshness.judge import Freshness, Level, ShownFrame, freshness, reasons_not_running, unfed_reason
from control.jobs.model import Desired, Job, JobStatus, Kind, State
from control.jobs.repository import JobRepository
from control.jobs.views import view

_HEALTHY_PHASES = (Phase.RECEIVING, Phase.IDLE)
# User actions on a feed, and the resulting state of a feed that no longer runs.
_FEED_ACTIONS = {"feed.add": "", "feed.enable": "", "feed.disable": "disabled", "feed.delete": "deleted"}
# The end of a period that has not ended yet.
_NO_END_MS = 2**62
# Operations that explain why a job is silent.
_INTERRUPTS = (Kind.START, Kind.STOP, Kind.RESTART, Kind.UPGRADE, Kind.DELETE)


def read_flow(home: Home) -> Flow:
    """Return the progress of feeds and jobs and the intent of each job, read from the stores."""
    # Read jobs before their progress: at worst, a job that starts in between counts as not writing yet.
    current_jobs, last_ends = _jobs(home)
    progress = _progress(home)
    sources, end_sequence, oldest = _log(home)
    read_ms = now_ms()
    states = {name: state for name, state in current_states(home, read_ms).items() if name not in FIRST_FEED_NAMES}
    healthy = frozenset(name for name, state in states.items() if state.phase in _HEALTHY_PHASES)
    problems = {name: state.sentence for name, state in states.items() if name not in healthy}
    problem, markets = kafka_problem(home), _demo_markets(home)
    jobs = (*current_jobs, *_deleted(progress, {job.name for job in current_jobs}, last_ends))
    disabled = _disabled_feeds(home, [source.name for source in sources if source.ended and source.live])
    return Flow(
        read_ms,
        sources,
        progress,
        end_sequence,
        problem,
        healthy,
        problems,
        markets,
        jobs,
        disabled_feeds=disabled,
        oldest=oldest,
    )


def jobs_not_running(home: Home) -> dict[str, str]:
    """Return, by name, why each job that should not run is stopped; includes deleted jobs that have bars."""
    return reasons_not_running(read_bar_jobs(home))


def read_bar_jobs(home: Home) -> list[BarJob]:
    """Return every job of a home that makes bars, and every deleted job with bars; none without a control database."""
    current_jobs, last_ends = _jobs(home)
    return [*current_jobs, *_deleted(_progress(home), {job.name for job in current_jobs}, last_ends)]


def stop_periods(home: Home) -> dict[str, list[tuple[int, int]]]:
    """Return, by job name, the periods (from_ms, to_ms) in which a user had stopped or deleted the job, oldest first.

    The end of a period that has not ended yet is far in the future.
    """
    query = (
        "SELECT job, kind, asked_ms, ended_ms FROM operations WHERE outcome = 'done'"
        " AND kind IN ('start', 'stop', 'restart', 'delete') ORDER BY rowid"
    )
    periods: dict[str, list[tuple[int, int]]] = {}
    rows = []
    with if_ready(), JobRepository.read_only(home) as repository:
        rows = repository.db.conn.execute(query).fetchall()
    for job, kind, asked_ms, ended_ms in rows:
        job_periods = periods.setdefault(job, [])
        if job_periods and job_periods[-1][1] == _NO_END_MS:
            job_periods[-1] = (job_periods[-1][0], asked_ms)
        if kind in (Kind.STOP, Kind.DELETE):
            job_periods.append((ended_ms, _NO_END_MS))
    return periods


def newest_tick_ms(reader: BarReader, instrument: str) -> int | None:
    """Return the time of the newest tick of an instrument that is in a stored bar of any frame, or None."""
    # A comprehension would be one more call between pages and their data (tests/pages/test_render_depth.py).
    times_ms: list[int] = []
    for frame in reader.frames(instrument):
        times_ms += reader.newest(instrument, frame, 1)["last_tick_ms"].to_list()
    return max(times_ms, default=None)


def bar_freshness(reader: BarReader, flow: Flow, instrument: str, frame: Frame) -> Freshness:
    """Return the freshness of the newest bar of an instrument in one of its offered frames."""
    newest_ms = newest_tick_ms(reader, instrument)
    bars = reader.read(BarQuery(instrument, frame, newest=1))
    tick_ms = bars["last_tick_ms"][-1] if bars.height else None
    return freshness(flow.for_instrument(instrument), ShownFrame(frame, tick_ms, newest_ms))


def _jobs(home: Home) -> tuple[list[BarJob], dict[str, UserOperation]]:
    """Return every job, and the last stop or delete of each job that ever existed; empty without a control database."""
    with if_ready(), JobRepository.read_only(home) as repository:
        statuses, last_ends = {status.job: status for status in repository.statuses()}, _last_ends(repository)
        # A comprehension would be one more call between pages and their data (tests/pages/test_render_depth.py).
        bar_jobs = []
        for job in repository.jobs():
            bar_jobs.append(_bar_job(repository, job, statuses.get(job.name), last_ends.get(job.name)))
        return bar_jobs, last_ends
    return [], {}


def _bar_job(repository: JobRepository, job: Job, status: JobStatus | None, last_end: UserOperation | None) -> BarJob:
    job_view = view(repository, job, status, now_ms())
    operation = job_view.operation
    interrupts = operation is not None and operation.kind in _INTERRUPTS
    return BarJob(
        job.name,
        parse_frames(job_view.frames),
        Intent.RUN if job.desired is Desired.RUNNING else Intent.STOP,
        State(job_view.state) if job_view.state in set(State) else State.UNKNOWN,
        job_view.sentence,
        # An earlier job of this name may have been deleted.
        last_end if last_end is not None and last_end.at_ms >= job.created_ms else None,
        UserOperation(operation.kind, operation.actor, operation.requested_ms) if operation and interrupts else None,
        silent_after_ms(repository.spec(job.name, job.version)),
    )


def _deleted(
    progress: Iterable[Progress], current_jobs: Collection[str], last_ends: Mapping[str, UserOperation]
) -> Iterator[BarJob]:
    """Yield the deleted jobs that left bars."""
    frames = {
        shard_progress.job: shard_progress.frames
        for shard_progress in progress
        if shard_progress.job not in current_jobs
    }
    for name, text in frames.items():
        if name in last_ends:
            yield BarJob(name, parse_frames(text), Intent.DELETED, ended_by=last_ends[name])


def _last_ends(repository: JobRepository) -> dict[str, UserOperation]:
    """Return the last completed stop or delete of each job."""
    # SQLite takes the other columns from the row with the maximum.
    query = (
        "SELECT job, kind, actor, max(ended_ms) FROM operations"
        " WHERE kind IN ('stop', 'delete') AND outcome = 'done' GROUP BY job"
    )
    return {
        job: UserOperation(Kind(kind), actor, ended_ms)
        for job, kind, actor, ended_ms in repository.db.conn.execute(query)
    }


def _progress(home: Home) -> tuple[Progress, ...]:
    with if_ready(), BarReader.open(home.bars_db) as reader:
        return tuple(reader.progress())
    return ()


def _log(home: Home) -> tuple[tuple[Source, ...], int, OldestBlock | None]:
    with if_ready(), TickLog.read_only(home.ticks_db) as log:
        return log.sources(), log.end_sequence(), log.oldest_block()
    return (), 1, None


def _disabled_feeds(home: Home, names: Iterable[str]) -> dict[str, DisabledFeed]:
    """Return the feeds whose last action in the audit log is a disable or delete, with that action."""
    with if_ready():
        db = read_control_db(home)
        with closing(db.conn):
            last = {name: last_executed(db, _FEED_ACTIONS, name) for name in names}
        return {
            name: DisabledFeed(_FEED_ACTIONS[record.action], record.actor, record.time_ms)
            for name, record in last.items()
            if record is not None and _FEED_ACTIONS[record.action]
        }
    return {}


def _demo_markets(home: Home) -> frozenset[str]:
    """Return the feeds that are demo markets: the built-in one, and added feeds from other Barmill installations."""
    try:
        added = [feed.name for feed in feeds_of(home) if feed.kind == "market"]
    except SettingsError:  # the first feed cannot be identified until feed.json is repaired
        added = []
    return frozenset({"market", *added})


# A few instruments are enough: all have the same frames, except where a job has just started or stopped reading.
_SAMPLED_INSTRUMENTS = 20


@dataclass(frozen=True)
class UnfedFrames:
    """Frames that no job feeds now, all for the same reason."""

    frames: tuple[Frame, ...]
    reason: Freshness

    @property
    def text(self) -> str:
        """Return the names of the frames, separated by commas."""
        return ", ".join(frame.text for frame in self.frames)

    @property
    def sentence(self) -> str:
        """Return the frames and the reason as a sentence."""
        return f"{self.text}: {self.reason.sentence}"


def offered_frames(reader: BarReader) -> list[Frame]:
    """Return the frames that users can open, shortest first."""
    names = reader.instruments()[:_SAMPLED_INSTRUMENTS]
    return sorted({frame for name in names for frame in reader.offered_frames(name)})


def freshness_by_frame(flow: Flow, frames: Iterable[Frame]) -> dict[Frame, Freshness]:
    """Return the freshness of each frame for all instruments together."""
    return {frame: freshness(flow, ShownFrame(frame)) for frame in frames}


def overall_freshness(flow: Flow, frames: Sequence[Frame]) -> Freshness:
    """Return the freshness of the whole home; LATE if prices flow, but not into all of these frames."""
    overall, unfed = freshness(flow), unfed_frames(flow, frames)
    if overall.level is not Level.LIVE or not unfed:
        return overall
    names, reason = ", ".join(group.text for group in unfed), unfed[0].reason
    return Freshness(Level.LATE, f"Nothing feeds {names}. {reason.sentence}", reason.since_ms, reason.actor)


def unfed_frames(flow: Flow, frames: Sequence[Frame]) -> list[UnfedFrames]:
    """Return the frames that no job feeds, grouped by reason; leave out frames whose source has ended."""
    by_reason: dict[tuple[str, ...], list[tuple[Frame, Freshness]]] = {}
    for frame in frames:
        reason = unfed_reason(flow, frame)
        if reason is not None and reason.level is not Level.ENDED:
            bar_jobs = tuple(sorted(bar_job.name for bar_job in flow.bar_jobs_of(frame)))
            by_reason.setdefault((reason.level.value, *bar_jobs), []).append((frame, reason))
    return [UnfedFrames(tuple(frame for frame, _ in group), group[0][1]) for group in by_reason.values()]
