"""The only judgement of whether the bars shown are up to date, such as "live" or "stopped", and why. Without I/O.

Only the bars shown count. The bars of an instrument in a frame depend on the sources with its name prefix, and on the
jobs that make the frame or the frames it is rolled up from. Only a job that should run and recently wrote progress
counts. Silence alone is not a fault: an instrument without trades is live while its feed reports that it is complete.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from barmill.model.frames import Frame
from barmill.platform.clock import MS_PER_HOUR
from barmill.platform.texts import age, moment
from control.freshness.flow import SILENT_AFTER_MS, BarJob, Flow, Intent, UserOperation, newest_tick_ms
from control.jobs.model import State

_BEHIND_AFTER_MS = 5_000
# A healthy live source updates its completeness at least this often, unless it polls less often. For bars of longer
# frames the limit is higher, but low enough that at most an hour can be missing.
_INCOMPLETE_AFTER_MS, _MAX_INCOMPLETE_AFTER_MS = 60_000, MS_PER_HOUR
_SEE_STATUS = "See ./barmill status."
_RESTARTED = f"It is restarted automatically. {_SEE_STATUS}"
_GIVEN_UP = (State.FAILED, State.REFUSED, State.CANCELED, State.FINISHED)
_STARTING = (State.WAITING, State.SUBMITTING, State.INITIALIZING, State.CREATED)


class Level(StrEnum):
    """The level of freshness of the bars shown."""

    LIVE = "live"
    LATE = "late"  # newer prices than those shown exist or may exist
    CATCHING_UP = "catching up"
    WAITING = "waiting"  # nothing has arrived yet
    STOPPED = "stopped"
    ENDED = "ended"  # the source has no more prices

    @property
    def color(self) -> str:
        """Return green, amber or red, or gray if no prices are expected."""
        return _COLORS[self]


_COLORS = {
    Level.LIVE: "green",
    Level.LATE: "amber",
    Level.CATCHING_UP: "amber",
    Level.STOPPED: "red",
    Level.WAITING: "gray",
    Level.ENDED: "gray",
}
_BY_SEVERITY = (Level.LIVE, Level.ENDED, Level.WAITING, Level.CATCHING_UP, Level.LATE, Level.STOPPED)


@dataclass(frozen=True)
class ShownFrame:
    """The bars shown of one frame.

    tick_ms: time of the newest tick in the newest bar shown, None without bars. newest_tick_ms: time of the newest tick
    of the same instrument in a bar of any frame.
    """

    frame: Frame
    tick_ms: int | None = None
    newest_tick_ms: int | None = None


@dataclass(frozen=True)
class Freshness:
    """A level, and a sentence with the cause and what to do about it.

    since_ms: when this state began, None if unknown; actor: the user who caused it on purpose, or None.
    """

    level: Level
    sentence: str
    since_ms: int | None = None
    actor: str | None = None

    @property
    def stale(self) -> bool:
        """Return whether a chart must be marked as stopped."""
        return self.level is Level.STOPPED

    def as_json(self) -> dict[str, object]:
        """Return the judgement as values for JSON."""
        return {
            "state": self.level.value,
            "color": self.level.color,
            "sentence": self.sentence,
            "since_ms": self.since_ms,
            "by": self.actor,
        }


def freshness(flow: Flow, shown_frame: ShownFrame | None = None) -> Freshness:
    """Return the freshness of what is shown: the first fault of its source, its job or its bars decides.

    Without `shown_frame`, judge all jobs together: LIVE if any job keeps up.
    """
    return _source_fault(flow) or _job_fault(flow, shown_frame) or _bar_progress(flow, shown_frame)


def unfed_reason(flow: Flow, frame: Frame) -> Freshness | None:
    """Return why no job makes more bars of a frame, or None if a job does.

    Faults of the source do not count, but the level is ENDED if the source has ended and all its ticks are read.
    """
    return _job_fault(flow, ShownFrame(frame))


def reasons_not_running(bar_jobs: Iterable[BarJob]) -> dict[str, str]:
    """Return, by name, why each job that should not run is stopped: stopped or deleted by a user, or never started."""
    return {
        bar_job.name: _stopped_by_user(f"The job {bar_job.name}", bar_job).sentence
        for bar_job in bar_jobs
        if bar_job.intent in (Intent.STOP, Intent.DELETED)
    }


def worst(judgements: Iterable[Freshness]) -> Freshness:
    """Return the worst of these; at least one is required."""
    return max(judgements, key=lambda judgement: _BY_SEVERITY.index(judgement.level))


def stopped_by_feed(flow: Flow, instruments: Sequence[str], frame: Frame) -> list[bool]:
    """Return for each instrument whether its bars in a frame are stopped, judged by its feed and the jobs.

    All are False if all feeds have the same name prefix, because the overall freshness then says so.
    """
    if len({source.prefix for source in flow.sources}) <= 1:
        return [False] * len(instruments)
    stopped_by_sources: dict[tuple[str, ...], bool] = {}
    stopped = []
    for name in instruments:
        instrument_flow = flow.for_instrument(name)
        key = tuple(source.name for source in instrument_flow.sources)
        if key not in stopped_by_sources:
            stopped_by_sources[key] = freshness(replace(instrument_flow, instrument=""), ShownFrame(frame)).stale
        stopped.append(stopped_by_sources[key])
    return stopped


def feed_state(flow: Flow) -> str:
    """Return the state of the feed in at most three words."""
    source = flow.source
    if source is None:
        return "not yet started"
    if source.ended:
        disabled = flow.disabled_feeds.get(source.name)
        return disabled.action if disabled else "ended"
    if source.problem:
        return "failing"
    return "silent" if flow.read_ms - source.updated_ms > SILENT_AFTER_MS else "running"


def job_state(flow: Flow, frame: Frame | None = None) -> str:
    """Return the state of the jobs that make this frame, or of all jobs for None, in at most three words."""
    bar_jobs = flow.bar_jobs_of(frame)
    if any(is_writing(flow, bar_job) for bar_job in bar_jobs):
        return "running"
    bar_job = _decisive_job(flow, bar_jobs)
    if bar_job is None:
        return "missing" if flow.bar_jobs else "not yet started"
    if bar_job.open_operation is not None:
        return f"being {bar_job.open_operation.kind.past_participle}"
    if bar_job.intent in (Intent.STOP, Intent.DELETED):
        return _stop_action(bar_job)
    if bar_job.state in _GIVEN_UP:
        return "failed"
    if not flow.progress_of(bar_job):
        return "not yet started"
    if flow.source is not None and flow.source.ended and not flow.backlog(bar_jobs):
        return "ended"
    return "silent"


def is_writing(flow: Flow, bar_job: BarJob) -> bool:
    """Return whether a job should run, has no known problem, and wrote recently."""
    return (
        bar_job.intent in (Intent.RUN, Intent.UNKNOWN)
        and bar_job.state in (State.RUNNING, State.UNKNOWN)
        and _silent_ms(flow, bar_job) <= bar_job.silent_after_ms
    )


def _source_fault(flow: Flow) -> Freshness | None:
    """Return the fault between the provider and the jobs, or None."""
    source = flow.source
    if source is None:
        return Freshness(Level.WAITING, "No prices have arrived yet.")
    disabled = flow.disabled_feeds.get(source.name)
    if disabled is not None and source.ended:
        sentence = f"The feed {source.name} was {disabled.action} by {disabled.actor} at {moment(disabled.at_ms)} UTC."
        return Freshness(Level.STOPPED, sentence, disabled.at_ms, disabled.actor)
    if source.problem and not source.ended:
        return Freshness(Level.STOPPED, f"No new prices: {source.problem}", source.updated_ms)
    silent_ms = flow.read_ms - source.updated_ms
    if not source.ended and silent_ms > SILENT_AFTER_MS and not flow.healthy_feeds:
        problem = flow.connection_problems.get(source.name)
        sentence = (
            f"No new prices: {problem}" if problem else f"The feed has been silent for {age(silent_ms)}. {_RESTARTED}"
        )
        return Freshness(Level.STOPPED, sentence, source.updated_ms)
    if flow.kafka_problem:
        return Freshness(Level.STOPPED, f"Prices arrive but do not reach the jobs: {flow.kafka_problem}")
    return None


def _job_fault(flow: Flow, shown_frame: ShownFrame | None) -> Freshness | None:
    """Return why no job makes more of the bars shown, or None if a job does."""
    bar_jobs = flow.bar_jobs_of(shown_frame.frame if shown_frame else None)
    source = flow.source
    if source is not None and source.ended and bar_jobs and not flow.backlog(bar_jobs):
        return Freshness(Level.ENDED, f"The source {source.name} has ended; these are all its bars.")
    if any(is_writing(flow, bar_job) for bar_job in bar_jobs):
        return None
    if not flow.bar_jobs:
        return Freshness(Level.WAITING, f"{flow.end_sequence - 1:,} ticks have arrived; the bars job is starting.")
    bar_job = _decisive_job(flow, bar_jobs)
    if bar_job is None:
        text = shown_frame.frame.text if shown_frame else ""
        return Freshness(Level.STOPPED, f"No job makes {text} bars, or shorter bars to derive them from.")
    job = (
        f"The job {bar_job.name}, which makes {shown_frame.frame.text} bars,"
        if shown_frame
        else f"The job {bar_job.name}"
    )
    if bar_job.open_operation is not None:
        return _interrupted_by_operation(job, bar_job.open_operation)
    if bar_job.intent in (Intent.STOP, Intent.DELETED):
        return _stopped_by_user(job, bar_job)
    rows, silent_ms = flow.progress_of(bar_job), _silent_ms(flow, bar_job)
    if bar_job.state in _GIVEN_UP:
        return Freshness(Level.STOPPED, f"{job} is not running: {bar_job.sentence}", _since(flow, bar_job))
    if not rows and bar_job.state is State.RUNNING:
        return Freshness(Level.WAITING, f"{job} is running and has not written any bars yet.")
    if not rows or bar_job.state in _STARTING:
        return Freshness(Level.LATE if rows else Level.WAITING, f"{job} is starting.", _since(flow, bar_job))
    if silent_ms <= bar_job.silent_after_ms:
        return Freshness(Level.LATE, f"{job} has a problem: {bar_job.sentence}")
    what_next = _SEE_STATUS if bar_job.intent is Intent.UNKNOWN else _RESTARTED
    return Freshness(Level.STOPPED, f"{job} has been silent for {age(silent_ms)}. {what_next}", _since(flow, bar_job))


def _bar_progress(flow: Flow, shown_frame: ShownFrame | None) -> Freshness:
    """Return the freshness of bars whose source and job have no fault."""
    bar_jobs = [
        bar_job for bar_job in flow.bar_jobs_of(shown_frame.frame if shown_frame else None) if is_writing(flow, bar_job)
    ]
    read_ms = newest_tick_ms([progress for bar_job in bar_jobs for progress in flow.progress_of(bar_job)])
    tick_ms = shown_frame.tick_ms if shown_frame and shown_frame.tick_ms is not None else read_ms
    tick_age_ms, backlog, source = flow.read_ms - (tick_ms or 0), flow.backlog(bar_jobs), flow.source
    assert source is not None
    # A backlog alone is not a fault, because a busy log always contains ticks in transit. The last tick that the jobs
    # read, of any instrument, must also be old.
    if backlog and (source.ended or flow.read_ms - (read_ms or 0) > _BEHIND_AFTER_MS):
        return Freshness(Level.CATCHING_UP, f"The bars are catching up: {backlog:,} ticks left.")
    if (
        shown_frame
        and shown_frame.newest_tick_ms is not None
        and shown_frame.newest_tick_ms - (tick_ms or 0) > _BEHIND_AFTER_MS
    ):
        older = age(shown_frame.newest_tick_ms - (tick_ms or 0))
        return Freshness(
            Level.LATE, f"These {shown_frame.frame.text} bars end {older} before the newest price.", tick_ms
        )
    complete_ms = source.complete_to_ms
    if source.live and complete_ms is not None and not source.ended:
        length_ms = shown_frame.frame.length_ms if shown_frame else 0
        allowed_ms = min(max(_INCOMPLETE_AFTER_MS, length_ms), _MAX_INCOMPLETE_AFTER_MS)
        missing_ms = flow.read_ms - max(complete_ms, tick_ms or 0)
        if missing_ms > allowed_ms:
            sentence = f"The feed {source.name} is behind: no prices from the last {age(missing_ms)} have arrived yet."
            return Freshness(Level.LATE, sentence, complete_ms)
    return Freshness(Level.LIVE, f"Live, newest tick {age(tick_age_ms)} ago." if tick_ms else "Live, no tick yet.")


def _decisive_job(flow: Flow, bar_jobs: Sequence[BarJob]) -> BarJob | None:
    """Return the job that explains why no job writes: by intent (run, unknown, stop, deleted), then by last activity.

    None if no job makes the frame and no deleted job did.
    """
    intents = (Intent.DELETED, Intent.STOP, Intent.UNKNOWN, Intent.RUN)
    return max(bar_jobs, key=lambda bar_job: (intents.index(bar_job.intent), _since(flow, bar_job) or 0), default=None)


def _stopped_by_user(job: str, bar_job: BarJob) -> Freshness:
    last_end = bar_job.ended_by
    if last_end is None:
        return Freshness(Level.STOPPED, f"{job} has not been started; an operator can start it.")
    sentence = f"{job} was {_stop_action(bar_job)} by {last_end.actor} at {moment(last_end.at_ms)} UTC."
    return Freshness(Level.STOPPED, sentence, last_end.at_ms, last_end.actor)


def _interrupted_by_operation(job: str, user_operation: UserOperation) -> Freshness:
    sentence = (
        f"{job} is being {user_operation.kind.past_participle},"
        f" as requested by {user_operation.actor} at {moment(user_operation.at_ms)} UTC."
    )
    return Freshness(Level.LATE, sentence, user_operation.at_ms, user_operation.actor)


def _stop_action(bar_job: BarJob) -> str:
    return "deleted" if bar_job.intent is Intent.DELETED else "stopped"


def _silent_ms(flow: Flow, bar_job: BarJob) -> int:
    rows = flow.progress_of(bar_job)
    return flow.read_ms - min((row.updated_ms for row in rows), default=0)


def _since(flow: Flow, bar_job: BarJob) -> int | None:
    if bar_job.ended_by is not None and bar_job.intent in (Intent.STOP, Intent.DELETED):
        return bar_job.ended_by.at_ms
    return min((progress.updated_ms for progress in flow.progress_of(bar_job)), default=None)
