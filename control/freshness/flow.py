"""The facts that freshness is judged by: how far feeds and jobs are, and what each job should be doing. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from bar.frames import Frame, parse_frames
from bar.sharding import shard_of
from bar.store import Progress
from control.jobs.operations import Kind
from control.jobs.states import State
from feed.ticklog import Source


class Intent(StrEnum):
    """What a job should be doing."""

    RUN = "run"
    STOP = "stop"
    DELETED = "deleted"
    UNKNOWN = "unknown"  # no controller steers it: a replay, or a home without a control database


@dataclass(frozen=True)
class Asked:
    """What a person asked of a job: by whom, and when it was asked or done."""

    kind: Kind
    by: str
    at_ms: int


@dataclass(frozen=True)
class FeedOff:
    """A feed that a person has disabled or deleted; done: which of the two, by: whom, at_ms: when."""

    done: str
    by: str
    at_ms: int


@dataclass(frozen=True)
class Maker:
    """A job and the frames it makes.

    state, sentence: how the controller last saw it; UNKNOWN where it has not looked lately. ended: the stop or delete
    that it is stopped or gone by, None where it was never started. under_way: the operation that is being carried out.
    """

    name: str
    frames: tuple[Frame, ...]
    intent: Intent
    state: State = State.UNKNOWN
    sentence: str = ""
    ended: Asked | None = None
    under_way: Asked | None = None

    def feeds(self, frame: Frame) -> bool:
        """Tell whether bars of a frame are made by this job, or rolled up from those it makes."""
        return any(own.divides(frame) for own in self.frames)


@dataclass(frozen=True)
class Flow:
    """What the stores say at one moment about the way of the prices.

    end_sequence: the number the tick log gives out next, 1 while it is empty.
    kafka_problem: why ticks do not get from the tick log to Kafka, in a sentence, or ''.
    connected: feeds beside the first one whose connection is well, so that silence only means that nothing moves.
    troubles: of those whose connection is not, what they say. markets: feeds whose prices are made up.
    feeds_off: feeds that were disabled or deleted, by name.
    jobs: those that the control database knows, deleted ones included. instrument: the only one this is about, or ''.
    """

    read_ms: int
    sources: tuple[Source, ...] = ()
    progress: tuple[Progress, ...] = ()
    end_sequence: int = 1
    kafka_problem: str = ""
    connected: frozenset[str] = frozenset()
    troubles: Mapping[str, str] = field(default_factory=dict)
    markets: frozenset[str] = frozenset({"market"})
    jobs: tuple[Maker, ...] = ()
    instrument: str = ""
    feeds_off: Mapping[str, FeedOff] = field(default_factory=dict)

    def of(self, instrument: str) -> "Flow":
        """Return only what concerns one instrument: the sources that its name belongs to, and its shard of each job."""
        prefixes = (source.prefix for source in self.sources if instrument.startswith(source.prefix))
        own = max(prefixes, key=len, default="")
        sources = tuple(source for source in self.sources if source.prefix == own)
        connected = self.connected & {source.name for source in sources}
        return replace(self, sources=sources, connected=connected, instrument=instrument)

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
        return newest_tick_ms(self.progress)

    @property
    def makers(self) -> tuple[Maker, ...]:
        """Return every job that makes bars, or made some: those that are steered, then those that only left a trace."""
        known = {job.name for job in self.jobs}
        left = {one.job: one for one in sorted(self.progress, key=lambda one: one.updated_ms) if one.job not in known}
        return (
            *self.jobs,
            *(Maker(name, parse_frames(one.frames), Intent.UNKNOWN) for name, one in left.items()),
        )

    def makers_of(self, frame: Frame | None) -> list[Maker]:
        """Return the jobs that feed a frame; for None all jobs."""
        return [maker for maker in self.makers if frame is None or maker.feeds(frame)]

    def progress_of(self, maker: Maker) -> list[Progress]:
        """Return how far a job is: its shard of the instrument, or all its shards."""
        own = [one for one in self.progress if one.job == maker.name]
        # A job that was deleted and made again with another number of shards leaves rows of the old ones behind.
        shards = max(own, key=lambda one: one.updated_ms).shards if own else 0
        only = shard_of(self.instrument, shards) if self.instrument and shards else None
        return [one for one in own if one.shards == shards and only in (None, one.shard)]

    def behind(self, makers: Iterable[Maker]) -> int:
        """Return how many ticks are in the log that the one of these jobs that is furthest has not read."""
        reached = [min(one.next_sequence for one in rows) for maker in makers if (rows := self.progress_of(maker))]
        return max(0, self.end_sequence - max(reached, default=1))


def newest_tick_ms(progress: Sequence[Progress]) -> int | None:
    """Return the newest time of a tick that any of these shards has read, None where none has."""
    return max((one.newest_tick_ms for one in progress if one.newest_tick_ms is not None), default=None)
