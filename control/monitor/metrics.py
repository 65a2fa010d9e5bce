"""What there is to measure: every metric once, with its unit in its name, and what it is measured of."""

import math
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import NamedTuple, Self


class Kind(StrEnum):
    """What something is measured of."""

    SOURCE = "source"  # of the tick log
    JOB = "job"
    OPERATOR = "operator"  # a vertex of a job: its name is JOB/VERTEX
    CLUSTER = "cluster"
    TASKMANAGER = "taskmanager"
    PROCESS = "process"
    DISK = "disk"  # the one the home is on


@dataclass(frozen=True, order=True)
class Subject:
    """One thing that is measured; where there is only one of a kind it has no name."""

    kind: Kind
    name: str = ""

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}" if self.name else self.kind.value

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the subject whose text this is; raise ValueError for anything else."""
        kind, _, name = text.partition(":")
        return cls(Kind(kind), name)


class Thinned(StrEnum):
    """What becomes of several readings when they are made one: the worst of what hurts, the mean of the rest."""

    MEAN = "mean"
    HIGHEST = "highest"
    LOWEST = "lowest"


class Metric(Enum):
    """Kind, what it says, how it is thinned. A counter only rises, until what it counts starts again."""

    TICKS_ACCEPTED = Kind.SOURCE, "Ticks taken into the tick log", Thinned.HIGHEST
    TICKS_REJECTED = Kind.SOURCE, "Rows refused at the door", Thinned.HIGHEST
    TICKS_ACCEPTED_PER_S = Kind.SOURCE, "Ticks taken into the tick log, a second", Thinned.MEAN
    TICKS_REJECTED_PER_S = Kind.SOURCE, "Rows refused at the door, a second", Thinned.MEAN
    IDLE_S = Kind.SOURCE, "Time since the last tick arrived", Thinned.HIGHEST
    ARRIVAL_DELAY_S = Kind.SOURCE, "From the newest tick's own time to its arrival", Thinned.HIGHEST

    RUNNING = Kind.JOB, "Whether the job runs, 1 or 0", Thinned.LOWEST
    RUN_STARTED_S = Kind.JOB, "When the present run was submitted, in seconds since 1970", Thinned.HIGHEST
    RESTARTS = Kind.JOB, "How often Flink restarted the present run", Thinned.HIGHEST
    TICKS_READ = Kind.JOB, "Ticks read by the job", Thinned.HIGHEST
    TICKS_LATE = Kind.JOB, "Ticks refused by the job as too late", Thinned.HIGHEST
    BARS_WRITTEN = Kind.JOB, "Bars and new versions of bars written", Thinned.HIGHEST
    TICKS_READ_PER_S = Kind.JOB, "Ticks read by the job, a second", Thinned.MEAN
    TICKS_LATE_PER_S = Kind.JOB, "Ticks refused by the job as too late, a second", Thinned.MEAN
    BARS_WRITTEN_PER_S = Kind.JOB, "Bars and new versions of bars written, a second", Thinned.MEAN
    BACKLOG_TICKS = Kind.JOB, "Ticks in the log that the job has not read yet", Thinned.HIGHEST
    NEWEST_TICK_AGE_S = Kind.JOB, "Age of the newest tick in the bars", Thinned.HIGHEST
    WATERMARK_LAG_S = Kind.JOB, "How far the time up to which all is in the bars lies behind the clock", Thinned.HIGHEST
    LATENCY_P50_S = Kind.JOB, "From a tick's own time to its bar being readable, median", Thinned.MEAN
    LATENCY_P95_S = Kind.JOB, "From a tick's own time to its bar being readable, 95 of 100 faster", Thinned.HIGHEST
    CHECKPOINTS_COMPLETED = Kind.JOB, "Checkpoints completed in the present run", Thinned.HIGHEST
    CHECKPOINTS_FAILED = Kind.JOB, "Checkpoints failed in the present run", Thinned.HIGHEST
    CHECKPOINT_AGE_S = (
        Kind.JOB,
        "Time since the last checkpoint, or since the start of a run without one",
        Thinned.HIGHEST,
    )
    CHECKPOINT_DURATION_S = Kind.JOB, "How long the last checkpoint took", Thinned.HIGHEST
    CHECKPOINT_SIZE_BYTES = Kind.JOB, "How large the last checkpoint is", Thinned.HIGHEST

    BUSY_RATIO = Kind.OPERATOR, "Share of its time that the busiest subtask works", Thinned.MEAN
    BACK_PRESSURED_RATIO = (
        Kind.OPERATOR,
        "Share of its time that a subtask waits for the next to take more",
        Thinned.MEAN,
    )
    RECORDS_IN_PER_S = Kind.OPERATOR, "Records taken in, a second", Thinned.MEAN
    RECORDS_OUT_PER_S = Kind.OPERATOR, "Records given on, a second", Thinned.MEAN

    ANSWERS = Kind.CLUSTER, "Whether the JobManager answers, 1 or 0", Thinned.LOWEST
    TASKMANAGERS = Kind.CLUSTER, "TaskManagers that are registered", Thinned.LOWEST
    SLOTS = Kind.CLUSTER, "Task slots of all TaskManagers", Thinned.LOWEST
    FREE_SLOTS = Kind.CLUSTER, "Task slots that no job uses", Thinned.LOWEST

    OWN_SLOTS = Kind.TASKMANAGER, "Task slots of this TaskManager", Thinned.LOWEST
    OWN_FREE_SLOTS = Kind.TASKMANAGER, "Task slots of this TaskManager that no job uses", Thinned.LOWEST
    HEAP_USED_BYTES = Kind.TASKMANAGER, "Java heap in use", Thinned.HIGHEST

    UP = Kind.PROCESS, "Whether the process is up, 1 or 0", Thinned.LOWEST
    STARTED_S = Kind.PROCESS, "When the process was started last, in seconds since 1970", Thinned.HIGHEST
    RESIDENT_BYTES = Kind.PROCESS, "Memory the process and its children hold", Thinned.HIGHEST
    CPU_SECONDS = Kind.PROCESS, "CPU time the process and its children have used", Thinned.HIGHEST
    CPU_CORES = Kind.PROCESS, "CPU seconds used a second", Thinned.MEAN

    FREE_BYTES = Kind.DISK, "Free space on the disk of the home", Thinned.LOWEST

    def __init__(self, kind: Kind, says: str, thinned: Thinned) -> None:
        self.kind, self.says, self.thinned = kind, says, thinned

    @property
    def text(self) -> str:
        """Return the name that is stored and exported."""
        return self.name.lower()


# Holds the token that other machines must send to read all this (see prometheus.py); only the app needs to know it.
TOKEN_VARIABLE = "BARMILL_METRICS_TOKEN"

# What is counted, and the rate that is made of it.
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
    """Turns counters into rates, from one look to the next."""

    def __init__(self) -> None:
        self._at_ms = 0
        self._counted: dict[tuple[Subject, Metric], float] = {}

    def of(self, readings: list[Reading], at_ms: int) -> list[Reading]:
        """Return the rate of each counter that was there at the last look and has not started again since."""
        passed_s = (at_ms - self._at_ms) / 1_000
        counted = {(one.subject, one.metric): one.value for one in readings if one.metric in RATES}
        rates = [
            Reading(subject, RATES[metric], (value - before) / passed_s)
            for (subject, metric), value in counted.items()
            if passed_s > 0 and value >= (before := self._counted.get((subject, metric), math.inf))
        ]
        self._at_ms, self._counted = at_ms, counted
        return rates
