"""The facts that determine freshness: the progress of feeds and jobs, and the intent of each job. Without I/O."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from barmill.model.frames import Frame, parse_frames
from barmill.model.job_spec import BarsJobSpec
from barmill.model.progress import shard_of
from barmill.platform.clock import MS_PER_DAY
from barmill.platform.texts import age
from barmill.storage.bar_store import Progress
from barmill.storage.tick_log import OldestBlock, Source
from control.jobs.model import Kind, State

# A running feed and a running job both write at least once a second, even without prices.
SILENT_AFTER_MS = 1_800
# With Kafka, progress reaches the store after a commit and through the materialiser, which may take several intervals.
_SILENT_AFTER_COMMITS = 5


class Intent(StrEnum):
    """The intended activity of a job."""

    RUN = "run"
    STOP = "stop"
    DELETED = "deleted"
    UNKNOWN = "unknown"  # no controller manages it: a replay, or a home without a control database


@dataclass(frozen=True)
class UserOperation:
    """An operation that a user requested for a job: its kind, the user, and the time of its request or end."""

    kind: Kind
    actor: str
    at_ms: int


@dataclass(frozen=True)
class DisabledFeed:
    """A feed that a user disabled or deleted. action: "disabled" or "deleted"; actor: the user; at_ms: the time."""

    action: str
    actor: str
    at_ms: int


@dataclass(frozen=True)
class BarJob:
    """A job that makes bars, and its frames.

    state, sentence: the last observation by the controller; UNKNOWN if there is no recent one. ended_by: the last
    stop or delete of the job, None if there was none. open_operation: the operation in progress. silent_after_ms: a
    running job writes its progress more often than that.
    """

    name: str
    frames: tuple[Frame, ...]
    intent: Intent
    state: State = State.UNKNOWN
    sentence: str = ""
    ended_by: UserOperation | None = None
    open_operation: UserOperation | None = None
    silent_after_ms: int = SILENT_AFTER_MS

    def makes_bars_of(self, frame: Frame) -> bool:
        """Return whether this job makes the bars of a frame, or the bars they are rolled up from."""
        return any(stored_frame.divides(frame) for stored_frame in self.frames)


@dataclass(frozen=True)
class Flow:
    """The state of the flow of prices, from providers to bars, as recorded in the stores at one time.

    end_sequence: the next sequence number of the tick log, 1 while it is empty. kafka_problem: why ticks do not get
    from the tick log to Kafka, as a sentence, or ''. healthy_feeds: feeds other than the first whose connection is
    healthy, so that silence only means that no prices move. connection_problems: the messages of the other feeds whose
    connection is not healthy, by name. markets: feeds with simulated prices. disabled_feeds: disabled and deleted
    feeds, by name. oldest: the first block of the tick log. jobs: the jobs in the control database, and the deleted
    jobs with bars. instrument: the only instrument covered, or '' for all.
    """

    read_ms: int
    sources: tuple[Source, ...] = ()
    progress: tuple[Progress, ...] = ()
    end_sequence: int = 1
    kafka_problem: str = ""
    healthy_feeds: frozenset[str] = frozenset()
    connection_problems: Mapping[str, str] = field(default_factory=dict)
    markets: frozenset[str] = frozenset({"market"})
    jobs: tuple[BarJob, ...] = ()
    instrument: str = ""
    disabled_feeds: Mapping[str, DisabledFeed] = field(default_factory=dict)
    oldest: OldestBlock | None = None

    def for_instrument(self, instrument: str) -> "Flow":
        """Return the part that concerns one instrument: the sources with its name prefix, and its shard of each job."""
        prefixes = (source.prefix for source in self.sources if instrument.startswith(source.prefix))
        prefix = max(prefixes, key=len, default="")
        sources = tuple(source for source in self.sources if source.prefix == prefix)
        healthy_feeds = self.healthy_feeds & {source.name for source in sources}
        return replace(self, sources=sources, healthy_feeds=healthy_feeds, instrument=instrument)

    @property
    def source(self) -> Source | None:
        """Return the source that determines freshness: running before ended, then most recently updated; or None."""
        return max(self.sources, key=lambda source: (not source.ended, source.updated_ms), default=None)

    @property
    def simulated(self) -> bool:
        """Return whether any prices come from a demo market."""
        running = [source for source in self.sources if not source.ended]
        return any(source.name in self.markets for source in running or ([self.source] if self.source else []))

    @property
    def newest_tick_ms(self) -> int | None:
        """Return the time of the newest tick that any job has read, or None."""
        return newest_tick_ms(self.progress)

    @property
    def bar_jobs(self) -> tuple[BarJob, ...]:
        """Return every job that makes or made bars: managed jobs first, then those known only from their progress."""
        job_names = {job.name for job in self.jobs}
        unmanaged = {
            progress.job: progress
            for progress in sorted(self.progress, key=lambda progress: progress.updated_ms)
            if progress.job not in job_names
        }
        return (
            *self.jobs,
            *(BarJob(name, parse_frames(progress.frames), Intent.UNKNOWN) for name, progress in unmanaged.items()),
        )

    def bar_jobs_of(self, frame: Frame | None) -> list[BarJob]:
        """Return the jobs that feed a frame, or all jobs for None."""
        return [bar_job for bar_job in self.bar_jobs if frame is None or bar_job.makes_bars_of(frame)]

    def progress_of(self, bar_job: BarJob) -> list[Progress]:
        """Return the progress of a job's shards: of all, or only of the one that reads this flow's instrument."""
        shards_of_job = [progress for progress in self.progress if progress.job == bar_job.name]
        # A job that was deleted and created again with another number of shards leaves rows of the old shards.
        shards = max(shards_of_job, key=lambda progress: progress.updated_ms).shards if shards_of_job else 0
        shard_number = shard_of(self.instrument, shards) if self.instrument and shards else None
        return [
            progress
            for progress in shards_of_job
            if progress.shards == shards and shard_number in (None, progress.shard)
        ]

    def backlog(self, bar_jobs: Iterable[BarJob]) -> int:
        """Return how many ticks of the log the most advanced of these jobs has not read."""
        next_sequences = [
            min(row.next_sequence for row in rows) for bar_job in bar_jobs if (rows := self.progress_of(bar_job))
        ]
        return max(0, self.end_sequence - max(next_sequences, default=1))


def newest_tick_ms(progress: Sequence[Progress]) -> int | None:
    """Return the newest time of a tick that any of these shards has read, or None if none has."""
    return max((shard.newest_tick_ms for shard in progress if shard.newest_tick_ms is not None), default=None)


def silent_after_ms(spec: BarsJobSpec) -> int:
    """Return the time without progress in the bar store after which a running job counts as silent."""
    return SILENT_AFTER_MS + (_SILENT_AFTER_COMMITS * spec.commit_ms if not spec.writes_to_sqlite else 0)


# Without a backfill, a market delivers half an hour of history at once.
_MIN_BACKFILL_MS = MS_PER_DAY


@dataclass(frozen=True)
class Backfill:
    """The history before a first start, and the times up to which it is in the tick log and in bars; all epoch ms."""

    from_ms: int
    to_ms: int
    logged_ms: int
    in_bars_ms: int

    @property
    def logged_share(self) -> float:
        """Return the share of this history that is in the tick log, 0 to 1."""
        return self._share(self.logged_ms)

    @property
    def bars_share(self) -> float:
        """Return the share of this history that is in bars, 0 to 1."""
        return self._share(self.in_bars_ms)

    @property
    def is_complete(self) -> bool:
        """Return whether all of this history is in bars."""
        return self.bars_share >= 1

    @property
    def sentence(self) -> str:
        """Return the progress as a sentence."""
        logged, in_bars = int(100 * self.logged_share), int(100 * self.bars_share)
        return f"Demo history of {age(self.to_ms - self.from_ms)}: {logged} % received, {in_bars} % in the bars."

    def as_json(self) -> dict[str, object]:
        """Return the progress as values for JSON."""
        return {
            "from_ms": self.from_ms,
            "to_ms": self.to_ms,
            "logged": round(self.logged_share, 3),
            "in_bars": round(self.bars_share, 3),
        }

    def _share(self, reached_ms: int) -> float:
        return min(max(reached_ms - self.from_ms, 0) / (self.to_ms - self.from_ms), 1.0)


def backfill_of(flow: Flow) -> Backfill | None:
    """Return the progress of the backfill, or None if the log does not start with one."""
    oldest = flow.oldest
    if oldest is None or oldest.first_sequence != 1 or oldest.source not in flow.markets:
        return None
    source = next((candidate for candidate in flow.sources if candidate.name == oldest.source), None)
    from_ms, to_ms = oldest.oldest_ms, oldest.received_ms
    if source is None or to_ms - from_ms < _MIN_BACKFILL_MS:
        return None
    return Backfill(from_ms, to_ms, source.complete_to_ms or from_ms, newest_tick_ms(flow.progress) or from_ms)
