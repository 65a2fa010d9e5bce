"""Is what is shown up to date, and if not, why? The one judgement behind every "live" and "stopped". Pure.

It is about exactly what is shown: an instrument in a frame is fed by the sources that its name belongs to and by the
jobs that make the frame or frames it is rolled up from. Only a job that should run and is seen to write feeds anything.
Silence alone is no fault: an instrument is quiet, and still live, while its feed says that it misses nothing.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from bar.frames import Frame
from control.freshness.flow import Asked, Flow, Intent, Maker, newest_tick_ms
from control.jobs.states import State
from control.texts import age, moment

# A running feed and a running job both write at least once a second, also when no prices come.
SILENT_AFTER_MS = 1_800
_BEHIND_AFTER_MS = 5_000
# A live source that is well says at least so often up to when it is complete, unless it only asks now and then.
# Bars of a longer frame wait longer for it, but not so long that they lack hours.
_INCOMPLETE_AFTER_MS, _INCOMPLETE_AFTER_AT_MOST_MS = 60_000, 3_600_000
_LOOK = "./barmill status says more."
_RESTARTED = f"It is restarted automatically; {_LOOK}"
_GIVEN_UP = (State.FAILED, State.REFUSED, State.CANCELED, State.FINISHED)
_STARTING = (State.WAITING, State.SUBMITTING, State.INITIALIZING, State.CREATED)


class Level(StrEnum):
    """How fresh what is shown is."""

    LIVE = "live"
    LATE = "late"  # newer prices exist, or may exist, than those shown
    CATCHING_UP = "catching up"
    WAITING = "waiting"  # nothing has come yet
    STOPPED = "stopped"
    ENDED = "ended"  # the source has no more to give

    @property
    def color(self) -> str:
        """Return green, amber, red, or gray where nothing is expected to move."""
        return _COLORS[self]


_COLORS = {
    Level.LIVE: "green",
    Level.LATE: "amber",
    Level.CATCHING_UP: "amber",
    Level.STOPPED: "red",
    Level.WAITING: "gray",
    Level.ENDED: "gray",
}
_WORST_LAST = (Level.LIVE, Level.ENDED, Level.WAITING, Level.CATCHING_UP, Level.LATE, Level.STOPPED)


@dataclass(frozen=True)
class ShownFrame:
    """What is shown: bars of one frame.

    tick_ms: time of the newest tick in the newest bar shown, None without bars. newest_tick_ms: time of the newest tick
    of the same instrument in a bar of any frame.
    """

    frame: Frame
    tick_ms: int | None = None
    newest_tick_ms: int | None = None


@dataclass(frozen=True)
class Freshness:
    """A level, and a sentence that says what is the matter and what to do about it.

    since_ms: since when it has been so, by: who made it so on purpose; where that is known.
    """

    level: Level
    sentence: str
    since_ms: int | None = None
    by: str | None = None

    @property
    def stale(self) -> bool:
        """Tell whether a chart must not look alive."""
        return self.level is Level.STOPPED

    def as_json(self) -> dict[str, object]:
        """Return it as plain values."""
        return {
            "state": self.level.value,
            "color": self.level.color,
            "sentence": self.sentence,
            "since_ms": self.since_ms,
            "by": self.by,
        }


def freshness(flow: Flow, shown: ShownFrame | None = None) -> Freshness:
    """Judge what is shown, from its source down to its bars: the first thing that is wrong explains the rest.

    Without `shown`, the judgement is about all jobs together: is there one that keeps up?
    """
    return _of_source(flow) or _of_jobs(flow, shown) or _of_bars(flow, shown)


def why_not_fed(flow: Flow, frame: Frame) -> Freshness | None:
    """Return why no job feeds a frame, whatever its source does; None if one does."""
    return _of_jobs(flow, ShownFrame(frame))


def at_rest(makers: Iterable[Maker]) -> dict[str, str]:
    """Return by name why each job rests that is not meant to run: it was stopped or deleted, or never started."""
    return {
        maker.name: _on_purpose(f"The job {maker.name}", maker).sentence
        for maker in makers
        if maker.intent in (Intent.STOP, Intent.DELETED)
    }


def worst(judged: Iterable[Freshness]) -> Freshness:
    """Return the worst of these, one at least."""
    return max(judged, key=lambda one: _WORST_LAST.index(one.level))


def stopped_by_feed(flow: Flow, instruments: Sequence[str], frame: Frame) -> list[bool]:
    """Tell of each instrument whether it has stopped while others may move; with one feed for all, none has."""
    if len({source.prefix for source in flow.sources}) <= 1:
        return [False] * len(instruments)
    of_sources: dict[tuple[str, ...], bool] = {}
    found = []
    for name in instruments:
        own = flow.of(name)
        key = tuple(source.name for source in own.sources)
        if key not in of_sources:
            of_sources[key] = freshness(replace(own, instrument=""), ShownFrame(frame)).stale
        found.append(of_sources[key])
    return found


def feed_state(flow: Flow) -> str:
    """Say in a word or two how the feed is."""
    source = flow.source
    if source is None:
        return "not yet started"
    if source.ended:
        off = flow.feeds_off.get(source.name)
        return off.done if off else "ended"
    if source.problem:
        return "in trouble"
    return "silent" if flow.read_ms - source.updated_ms > SILENT_AFTER_MS else "running"


def job_state(flow: Flow, frame: Frame | None = None) -> str:
    """Say in a word or two how the job is that makes this frame."""
    makers = flow.makers_of(frame)
    if any(writes(flow, maker) for maker in makers):
        return "running"
    maker = _answerable(flow, makers)
    if maker is None:
        return "missing" if flow.makers else "not yet started"
    if maker.under_way is not None:
        return f"being {maker.under_way.kind.done}"
    if maker.intent in (Intent.STOP, Intent.DELETED):
        return _stop_word(maker)
    if maker.state in _GIVEN_UP:
        return "failed"
    if not flow.progress_of(maker):
        return "not yet started"
    if flow.source is not None and flow.source.ended and not flow.behind(makers):
        return "ended"
    return "silent"


def writes(flow: Flow, maker: Maker) -> bool:
    """Tell whether a job should run, is not known to be in trouble, and has written a moment ago."""
    return (
        maker.intent in (Intent.RUN, Intent.UNKNOWN)
        and maker.state in (State.RUNNING, State.UNKNOWN)
        and _silent_ms(flow, maker) <= SILENT_AFTER_MS
    )


def _of_source(flow: Flow) -> Freshness | None:
    """Return what is wrong between the provider and the jobs; None if nothing is."""
    source = flow.source
    if source is None:
        return Freshness(Level.WAITING, "No price has arrived yet.")
    off = flow.feeds_off.get(source.name)
    if off is not None and source.ended:
        sentence = f"The feed {source.name} was {off.done} by {off.by} at {moment(off.at_ms)} UTC."
        return Freshness(Level.STOPPED, sentence, off.at_ms, off.by)
    if source.problem and not source.ended:
        return Freshness(Level.STOPPED, f"No new prices: {source.problem}", source.updated_ms)
    silent_ms = flow.read_ms - source.updated_ms
    if not source.ended and silent_ms > SILENT_AFTER_MS and not flow.connected:
        said = flow.troubles.get(source.name)
        sentence = f"No new prices: {said}" if said else f"The feed has been silent for {age(silent_ms)}. {_RESTARTED}"
        return Freshness(Level.STOPPED, sentence, source.updated_ms)
    if flow.kafka_problem:
        return Freshness(Level.STOPPED, f"Prices arrive, but get no further: {flow.kafka_problem}")
    return None


def _of_jobs(flow: Flow, shown: ShownFrame | None) -> Freshness | None:
    """Return why no job feeds what is shown; None if one does."""
    makers = flow.makers_of(shown.frame if shown else None)
    source = flow.source
    if source is not None and source.ended and makers and not flow.behind(makers):
        return Freshness(Level.ENDED, f"The source {source.name} has ended; these are all its bars.")
    if any(writes(flow, maker) for maker in makers):
        return None
    if not flow.makers:
        return Freshness(Level.WAITING, f"{flow.end_sequence - 1:,} ticks have arrived; the bars job is starting.")
    maker = _answerable(flow, makers)
    if maker is None:
        text = shown.frame.text if shown else ""
        return Freshness(Level.STOPPED, f"No job makes {text} bars, or shorter ones they could be made of.")
    job = f"The job {maker.name}, which makes {shown.frame.text} bars," if shown else f"The job {maker.name}"
    if maker.under_way is not None:
        return _under_way(job, maker.under_way)
    if maker.intent in (Intent.STOP, Intent.DELETED):
        return _on_purpose(job, maker)
    rows, silent_ms = flow.progress_of(maker), _silent_ms(flow, maker)
    if maker.state in _GIVEN_UP:
        return Freshness(Level.STOPPED, f"{job} does not run: {maker.sentence}", _since(flow, maker))
    if not rows or maker.state in _STARTING:
        return Freshness(Level.LATE if rows else Level.WAITING, f"{job} is starting.", _since(flow, maker))
    if silent_ms <= SILENT_AFTER_MS:
        return Freshness(Level.LATE, f"{job} is in trouble: {maker.sentence}")
    what_next = _LOOK if maker.intent is Intent.UNKNOWN else _RESTARTED
    return Freshness(Level.STOPPED, f"{job} has been silent for {age(silent_ms)}. {what_next}", _since(flow, maker))


def _of_bars(flow: Flow, shown: ShownFrame | None) -> Freshness:
    """Judge how far bars are whose feed and job run."""
    makers = [maker for maker in flow.makers_of(shown.frame if shown else None) if writes(flow, maker)]
    read_ms = newest_tick_ms([one for maker in makers for one in flow.progress_of(maker)])
    tick_ms = shown.tick_ms if shown and shown.tick_ms is not None else read_ms
    tick_age_ms, behind, source = flow.read_ms - (tick_ms or 0), flow.behind(makers), flow.source
    assert source is not None
    # By what the jobs read last, of whatever instrument: in a busy log some ticks are always under way.
    if behind and (source.ended or flow.read_ms - (read_ms or 0) > _BEHIND_AFTER_MS):
        return Freshness(Level.CATCHING_UP, f"The bars are catching up: {behind:,} ticks to go.")
    if shown and shown.newest_tick_ms is not None and shown.newest_tick_ms - (tick_ms or 0) > _BEHIND_AFTER_MS:
        older = age(shown.newest_tick_ms - (tick_ms or 0))
        return Freshness(Level.LATE, f"These {shown.frame.text} bars end {older} before the newest price.", tick_ms)
    complete_ms = source.complete_to_ms
    if source.live and complete_ms is not None and not source.ended:
        length_ms = shown.frame.length_ms if shown else 0
        allowed_ms = min(max(_INCOMPLETE_AFTER_MS, length_ms), _INCOMPLETE_AFTER_AT_MOST_MS)
        missing_ms = flow.read_ms - max(complete_ms, tick_ms or 0)
        if missing_ms > allowed_ms:
            said = f"The feed {source.name} is behind: no prices of the last {age(missing_ms)} have come yet."
            return Freshness(Level.LATE, said, complete_ms)
    return Freshness(Level.LIVE, f"Live, newest tick {age(tick_age_ms)} ago." if tick_ms else "Live, no tick yet.")


def _answerable(flow: Flow, makers: Sequence[Maker]) -> Maker | None:
    """Return the job whose fault it is that none writes: one that should run before one that was stopped, newest first.

    None where no job makes the frame, and none that was deleted did.
    """
    asked = (Intent.DELETED, Intent.STOP, Intent.UNKNOWN, Intent.RUN)
    return max(makers, key=lambda one: (asked.index(one.intent), _since(flow, one) or 0), default=None)


def _on_purpose(job: str, maker: Maker) -> Freshness:
    ended = maker.ended
    if ended is None:
        return Freshness(Level.STOPPED, f"{job} has not been started; an operator can start it.")
    by_whom = f"{job} was {_stop_word(maker)} by {ended.by} at {moment(ended.at_ms)} UTC."
    return Freshness(Level.STOPPED, by_whom, ended.at_ms, ended.by)


def _under_way(job: str, asked: Asked) -> Freshness:
    sentence = f"{job} is being {asked.kind.done}, asked for by {asked.by} at {moment(asked.at_ms)} UTC."
    return Freshness(Level.LATE, sentence, asked.at_ms, asked.by)


def _stop_word(maker: Maker) -> str:
    return "deleted" if maker.intent is Intent.DELETED else "stopped"


def _silent_ms(flow: Flow, maker: Maker) -> int:
    rows = flow.progress_of(maker)
    return flow.read_ms - min((one.updated_ms for one in rows), default=0)


def _since(flow: Flow, maker: Maker) -> int | None:
    if maker.ended is not None and maker.intent in (Intent.STOP, Intent.DELETED):
        return maker.ended.at_ms
    return min((one.updated_ms for one in flow.progress_of(maker)), default=None)
