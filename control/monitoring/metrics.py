"""All metrics, each with the kind of subject that it describes; the name ends with the unit, if there is one."""

import math
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import NamedTuple, Self

# The controller measures once per this period.
SAMPLE_MS = 5_000


class Kind(StrEnum):
    """The kind of a measured subject."""

    SOURCE = "source"  # a source of the tick log
    JOB = "job"
    OPERATOR = "operator"  # a vertex of a job; its name is JOB/VERTEX
    CLUSTER = "cluster"
    TASKMANAGER = "taskmanager"
    PROCESS = "process"
    DISK = "disk"  # the disk of the home


@dataclass(frozen=True, order=True)
class Subject:
    """A measured subject; it has no name if it is the only one of its kind."""

    kind: Kind
    name: str = ""

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}" if self.name else self.kind.value

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the subject with this text; raise ValueError for any other text."""
        kind, _, name = text.partition(":")
        return cls(Kind(kind), name)


class Aggregation(StrEnum):
    """The way the readings of a period are downsampled: to their mean, their highest or their lowest value."""

    MEAN = "mean"
    HIGHEST = "highest"
    LOWEST = "lowest"


class Metric(Enum):
    """Kind, description and downsampling of each metric. A counter only rises, until its source restarts."""

    TICKS_ACCEPTED = Kind.SOURCE, "Ticks accepted into the tick log", Aggregation.HIGHEST
    TICKS_REJECTED = Kind.SOURCE, "Rows rejected at ingest", Aggregation.HIGHEST
    TICKS_ACCEPTED_PER_S = Kind.SOURCE, "Ticks accepted into the tick log, per second", Aggregation.MEAN
    TICKS_REJECTED_PER_S = Kind.SOURCE, "Rows rejected at ingest, per second", Aggregation.MEAN
    IDLE_S = Kind.SOURCE, "Time since the last tick arrived", Aggregation.HIGHEST
    ARRIVAL_DELAY_S = Kind.SOURCE, "Time from the newest tick's time stamp to its arrival", Aggregation.HIGHEST

    RUNNING = Kind.JOB, "Whether the job runs, 1 or 0", Aggregation.LOWEST
    RUN_STARTED_S = Kind.JOB, "When the current run was submitted, in seconds since 1970", Aggregation.HIGHEST
    RESTARTS = Kind.JOB, "How often Flink restarted the current run", Aggregation.HIGHEST
    TICKS_READ = Kind.JOB, "Ticks read by the job", Aggregation.HIGHEST
    TICKS_LATE = Kind.JOB, "Ticks rejected by the job as too late", Aggregation.HIGHEST
    BARS_WRITTEN = Kind.JOB, "Bars and new versions of bars written", Aggregation.HIGHEST
    TICKS_READ_PER_S = Kind.JOB, "Ticks read by the job, per second", Aggregation.MEAN
    TICKS_LATE_PER_S = Kind.JOB, "Ticks rejected by the job as too late, per second", Aggregation.MEAN
    BARS_WRITTEN_PER_S = Kind.JOB, "Bars and new versions of bars written, per second", Aggregation.MEAN
    BACKLOG_TICKS = Kind.JOB, "Ticks in the log that the job has not read yet", Aggregation.HIGHEST
    NEWEST_TICK_AGE_S = Kind.JOB, "Age of the newest tick in the bars", Aggregation.HIGHEST
    WATERMARK_LAG_S = (
        Kind.JOB,
        "How far the time up to which the bars are complete is behind the clock",
        Aggregation.HIGHEST,
    )
    LATENCY_P50_S = Kind.JOB, "Time from a tick's time stamp to its readable bar, median", Aggregation.MEAN
    LATENCY_P95_S = Kind.JOB, "Time from a tick's time stamp to its readable bar, 95th percentile", Aggregation.HIGHEST
    CHECKPOINTS_COMPLETED = Kind.JOB, "Checkpoints completed in the current run", Aggregation.HIGHEST
    CHECKPOINTS_FAILED = Kind.JOB, "Checkpoints failed in the current run", Aggregation.HIGHEST
    CHECKPOINT_AGE_S = (
        Kind.JOB,
        "Time since the last checkpoint, or since the start of a run without one",
        Aggregation.HIGHEST,
    )
    CHECKPOINT_DURATION_S = Kind.JOB, "Duration of the last checkpoint", Aggregation.HIGHEST
    CHECKPOINT_SIZE_BYTES = Kind.JOB, "Size of the last checkpoint", Aggregation.HIGHEST

    BUSY_RATIO = Kind.OPERATOR, "Share of the time in which the busiest subtask works", Aggregation.MEAN
    BACK_PRESSURED_RATIO = (
        Kind.OPERATOR,
        "Share of the time in which a subtask waits because the next one is busy",
        Aggregation.MEAN,
    )
    RECORDS_IN_PER_S = Kind.OPERATOR, "Records received, per second", Aggregation.MEAN
    RECORDS_OUT_PER_S = Kind.OPERATOR, "Records sent, per second", Aggregation.MEAN

    ANSWERS = Kind.CLUSTER, "Whether the JobManager responds, 1 or 0", Aggregation.LOWEST
    TASKMANAGERS = Kind.CLUSTER, "Number of registered TaskManagers", Aggregation.LOWEST
    SLOTS = Kind.CLUSTER, "Task slots of all TaskManagers", Aggregation.LOWEST
    FREE_SLOTS = Kind.CLUSTER, "Free task slots", Aggregation.LOWEST

    OWN_SLOTS = Kind.TASKMANAGER, "Task slots of this TaskManager", Aggregation.LOWEST
    OWN_FREE_SLOTS = Kind.TASKMANAGER, "Free task slots of this TaskManager", Aggregation.LOWEST
    HEAP_USED_BYTES = Kind.TASKMANAGER, "Java heap in use", Aggregation.HIGHEST

    UP = Kind.PROCESS, "Whether the process is up, 1 or 0", Aggregation.LOWEST
    STARTED_S = Kind.PROCESS, "When the process was last started, in seconds since 1970", Aggregation.HIGHEST
    RESIDENT_BYTES = Kind.PROCESS, "Memory used by the process and its children", Aggregation.HIGHEST
    CPU_SECONDS = Kind.PROCESS, "CPU time used by the process and its children", Aggregation.HIGHEST
    CPU_CORES = Kind.PROCESS, "CPU seconds used per second", Aggregation.MEAN

    FREE_BYTES = Kind.DISK, "Free space on the disk of the home", Aggregation.LOWEST

    def __init__(self, kind: Kind, help_text: str, aggregation: Aggregation) -> None:
        self.kind, self.help_text, self.aggregation = kind, help_text, aggregation

    @property
    def text(self) -> str:
        """Return the name in the store and in exports."""
        return self.name.lower()


# The variable with the token that clients must send to read metrics (see prometheus.py); only the app needs it.
TOKEN_VARIABLE = "BARMILL_METRICS_TOKEN"

# Counters, and the rates derived from them.
RATES = {
    Metric.TICKS_ACCEPTED: Metric.TICKS_ACCEPTED_PER_S,
    Metric.TICKS_REJECTED: Metric.TICKS_REJECTED_PER_S,
    Metric.TICKS_READ: Metric.TICKS_READ_PER_S,
    Metric.TICKS_LATE: Metric.TICKS_LATE_PER_S,
    Metric.BARS_WRITTEN: Metric.BARS_WRITTEN_PER_S,
    Metric.CPU_SECONDS: Metric.CPU_CORES,
}
COUNTERS = frozenset({*RATES, Metric.RESTARTS, Metric.CHECKPOINTS_COMPLETED, Metric.CHECKPOINTS_FAILED})


class Reading(NamedTuple):
    """One measured value."""

    subject: Subject
    metric: Metric
    value: float


class Rates:
    """The calculation of rates from the counters of successive measurements."""

    def __init__(self) -> None:
        self._at_ms = 0
        self._counts: dict[tuple[Subject, Metric], float] = {}

    def of(self, readings: list[Reading], at_ms: int) -> list[Reading]:
        """Return the rate per second of each counter in RATES that was also measured last time and not restarted."""
        elapsed_s = (at_ms - self._at_ms) / 1_000
        counts = {(reading.subject, reading.metric): reading.value for reading in readings if reading.metric in RATES}
        rates = [
            Reading(subject, RATES[metric], (value - previous) / elapsed_s)
            for (subject, metric), value in counts.items()
            if elapsed_s > 0 and value >= (previous := self._counts.get((subject, metric), math.inf))
        ]
        self._at_ms, self._counts = at_ms, counts
        return rates
