"""Is data flowing? The judgement behind every "live" and "stopped" that a page shows. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from bar.store import Progress
from charts.texts import age
from feed.ticklog import Source

# A running feed and a running job both write at least once a second, also when no prices come.
SILENT_AFTER_MS = 1_800
_BEHIND_AFTER_MS = 5_000
_RATE_OVER_MS = 5_000


class Level(StrEnum):
    """How fresh what a page shows is."""

    LIVE = "live"
    CATCHING_UP = "catching up"
    WAITING = "waiting"  # nothing has come yet
    STOPPED = "stopped"
    ENDED = "ended"  # the source has no more to give


_WORST_LAST = (Level.LIVE, Level.ENDED, Level.WAITING, Level.CATCHING_UP, Level.STOPPED)


@dataclass(frozen=True)
class Flow:
    """What the stores say at one moment about the way of the prices.

    end_sequence: the number the tick log gives out next, 1 while it is empty.
    kafka_problem: why ticks do not get from the tick log to Kafka, in a sentence, or ''.
    connected: feeds beside the first one whose connection is well, so that silence only means that nothing moves.
    troubles: of those whose connection is not, what they say. markets: feeds whose prices are made up.
    """

    read_ms: int
    sources: tuple[Source, ...] = ()
    progress: tuple[Progress, ...] = ()
    end_sequence: int = 1
    kafka_problem: str = ""
    connected: frozenset[str] = frozenset()
    troubles: Mapping[str, str] = field(default_factory=dict)
    markets: frozenset[str] = frozenset({"market"})

    def of(self, instrument: str) -> "Flow":
        """Return only what concerns one instrument: of the sources those that its name belongs to, and all jobs."""
        prefixes = (source.prefix for source in self.sources if instrument.startswith(source.prefix))
        own = max(prefixes, key=len, default="")
        sources = tuple(source for source in self.sources if source.prefix == own)
        return replace(self, sources=sources, connected=self.connected & {source.name for source in sources})

    @property
    def source(self) -> Source | None:
        """Return the source that counts: the one that runs, else the last one that did."""
        return max(self.sources, key=lambda source: (not source.ended, source.updated_ms), default=None)

    @property
    def simulated(self) -> bool:
        """Tell whether prices come from a demo market, be it beside others."""
        running = [source for source in self.sources if not source.ended]
        return any(source.name in self.markets for source in running or ([self.source] if self.source else []))

    @property
    def newest_tick_ms(self) -> int | None:
        """Return the time of the newest tick that is in any bar."""
        return max((one.newest_tick_ms for one in self.progress if one.newest_tick_ms is not None), default=None)

    @property
    def behind(self) -> int:
        """Return how many ticks are in the log but not yet in the bars."""
        done = dict[str, int]()
        for one in self.progress:
            done[one.job] = min(one.next_sequence, done.get(one.job, one.next_sequence))
        # A job that was stopped stays where it is; what counts is whether any keeps up.
        return max(0, self.end_sequence - max(done.values(), default=1))


@dataclass(frozen=True)
class Freshness:
    """A level, and a sentence that says what is the matter and what to do about it."""

    level: Level
    sentence: str

    @property
    def stale(self) -> bool:
        """Tell whether a chart must not look alive."""
        return self.level is Level.STOPPED


def freshness(flow: Flow) -> Freshness:
    """Judge a flow, from the source down to the bars: the first thing that is wrong explains the rest."""
    source = flow.source
    if source is None:
        return Freshness(Level.WAITING, "No price has arrived yet.")
    if source.problem and not source.ended:
        return Freshness(Level.STOPPED, f"No new prices: {source.problem}")
    silent_ms = flow.read_ms - source.updated_ms
    if not source.ended and silent_ms > SILENT_AFTER_MS and not flow.connected:
        said = flow.troubles.get(source.name)
        return Freshness(
            Level.STOPPED,
            f"No new prices: {said}" if said else f"The feed has been silent for {age(silent_ms)}. {_LOOK}",
        )
    if flow.kafka_problem:
        return Freshness(Level.STOPPED, f"Prices arrive, but get no further: {flow.kafka_problem}")
    if not flow.progress:
        return Freshness(Level.WAITING, f"{flow.end_sequence - 1:,} ticks have arrived; the bars job is starting.")
    silent_ms = flow.read_ms - max(one.updated_ms for one in flow.progress)
    if source.ended and not flow.behind:
        return Freshness(Level.ENDED, f"The source {source.name} has ended; these are all its bars.")
    if silent_ms > SILENT_AFTER_MS:
        return Freshness(Level.STOPPED, f"The bars job has been silent for {age(silent_ms)}. {_LOOK}")
    tick_age_ms = flow.read_ms - (flow.newest_tick_ms or 0)
    if flow.behind and (source.ended or tick_age_ms > _BEHIND_AFTER_MS):
        return Freshness(Level.CATCHING_UP, f"The bars are catching up: {flow.behind:,} ticks to go.")
    return Freshness(Level.LIVE, f"Live, newest tick {age(tick_age_ms)} ago.")


def freshness_of(flow: Flow, instruments: Iterable[str]) -> Freshness:
    """Judge the flow of each instrument, one at least, and return what is said of the one that is worst off."""
    return max((freshness(flow.of(one)) for one in instruments), key=lambda fresh: _WORST_LAST.index(fresh.level))


def feed_state(flow: Flow) -> str:
    """Say in a word or two how the feed is."""
    source = flow.source
    if source is None or source.ended:
        return "not yet started" if source is None else "ended"
    if source.problem:
        return "in trouble"
    return "silent" if flow.read_ms - source.updated_ms > SILENT_AFTER_MS else "running"


def job_state(flow: Flow) -> str:
    """Say in a word or two how the bars job is."""
    if not flow.progress:
        return "not yet started"
    silent = flow.read_ms - max(one.updated_ms for one in flow.progress) > SILENT_AFTER_MS
    if silent and flow.source is not None and flow.source.ended and not flow.behind:
        return "ended"
    return "silent" if silent else "running"


_LOOK = "It is restarted by itself; ./barmill status says more."


def with_reading(readings: Sequence[Flow], newest: Flow, keep_ms: int) -> tuple[Flow, ...]:
    """Add a reading and forget those older than `keep_ms`; start over when the log did."""
    if readings and newest.end_sequence < readings[-1].end_sequence:
        readings = ()
    return (*(one for one in readings if one.read_ms >= newest.read_ms - keep_ms), newest)


def ticks_per_s(readings: Sequence[Flow], over_ms: int = _RATE_OVER_MS) -> float | None:
    """Return the ticks accepted per second over the last `over_ms` of these readings, None for fewer than two."""
    if len(readings) < 2:
        return None
    newest = readings[-1]
    oldest = next(one for one in readings if one.read_ms >= newest.read_ms - over_ms)
    if oldest is newest:
        oldest = readings[-2]
    passed_ms = newest.read_ms - oldest.read_ms
    return (newest.end_sequence - oldest.end_sequence) * 1_000 / passed_ms if passed_ms else None


def rates(readings: Sequence[Flow]) -> list[float]:
    """Return ticks per second at each reading from the second on."""
    known = (ticks_per_s(readings[: place + 1]) for place in range(1, len(readings)))
    return [rate for rate in known if rate is not None]
