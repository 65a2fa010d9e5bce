"""Which plots the Monitoring page shows in which section, and how their lines are called. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from charts.history import Unit
from control.monitor.metrics import Kind, Metric, Subject

History = Mapping[Metric, Mapping[Subject, pl.DataFrame]]


@dataclass(frozen=True)
class Plot:
    """One figure. metrics: what its lines are called; '' where the name of the subject says it."""

    title: str
    unit: Unit
    metrics: Mapping[Metric, str]

    @property
    def key(self) -> str:
        """Return a name that stays the same."""
        return next(iter(self.metrics)).text


SECTIONS: Mapping[str, Sequence[Plot]] = {
    "flow": (
        Plot("Ticks in", Unit.RATE, {Metric.TICKS_ACCEPTED_PER_S: "accepted", Metric.TICKS_REJECTED_PER_S: "refused"}),
        Plot(
            "Bars out",
            Unit.RATE,
            {
                Metric.TICKS_READ_PER_S: "ticks read",
                Metric.BARS_WRITTEN_PER_S: "bars written",
                Metric.TICKS_LATE_PER_S: "too late",
            },
        ),
        Plot("Backlog, ticks", Unit.COUNT, {Metric.BACKLOG_TICKS: ""}),
        Plot(
            "Lag behind the clock",
            Unit.SECONDS,
            {Metric.WATERMARK_LAG_S: "all up to here is in bars", Metric.NEWEST_TICK_AGE_S: "newest tick in bars"},
        ),
        Plot(
            "From tick to readable bar",
            Unit.SECONDS,
            {Metric.LATENCY_P50_S: "median", Metric.LATENCY_P95_S: "95 of 100"},
        ),
        Plot("Feed", Unit.SECONDS, {Metric.ARRIVAL_DELAY_S: "tick to arrival", Metric.IDLE_S: "since the last tick"}),
    ),
    "jobs": (
        Plot("Busy", Unit.SHARE, {Metric.BUSY_RATIO: ""}),
        Plot("Back-pressure", Unit.SHARE, {Metric.BACK_PRESSURED_RATIO: ""}),
        Plot("Records taken in", Unit.RATE, {Metric.RECORDS_IN_PER_S: ""}),
        Plot(
            "Checkpoints",
            Unit.SECONDS,
            {Metric.CHECKPOINT_DURATION_S: "duration", Metric.CHECKPOINT_AGE_S: "since the last one"},
        ),
        Plot("Size of the checkpoint", Unit.BYTES, {Metric.CHECKPOINT_SIZE_BYTES: ""}),
        Plot(
            "Restarts and failed checkpoints",
            Unit.COUNT,
            {Metric.RESTARTS: "restarts", Metric.CHECKPOINTS_FAILED: "failed checkpoints"},
        ),
    ),
    "machine": (
        Plot(
            "Task slots",
            Unit.COUNT,
            {Metric.SLOTS: "slots", Metric.FREE_SLOTS: "free slots", Metric.TASKMANAGERS: "TaskManagers"},
        ),
        Plot("Memory", Unit.BYTES, {Metric.RESIDENT_BYTES: ""}),
        Plot("CPU cores in use", Unit.CORES, {Metric.CPU_CORES: ""}),
        Plot("Java heap of TaskManagers", Unit.BYTES, {Metric.HEAP_USED_BYTES: ""}),
        Plot("Free disk", Unit.BYTES, {Metric.FREE_BYTES: ""}),
    ),
}


def lines_of(plot: Plot, history: History) -> dict[str, pl.DataFrame]:
    """Return the lines of a plot by what they are called."""
    found = {metric: history.get(metric, {}) for metric in plot.metrics}
    subjects = {subject for by_subject in found.values() for subject in by_subject}
    jobs = {_job(subject) for subject in subjects}
    lines = {}
    for metric, word in plot.metrics.items():
        for subject, line in found[metric].items():
            name = word if word and len(subjects) == 1 else " ".join(filter(None, (_short(subject, jobs), word)))
            lines[name or plot.title] = line
    return lines


def operator_name(subject: Subject) -> str:
    """Return the last of the operators that Flink has chained: that is the one that was given a name."""
    return subject.name.partition("/")[2].rpartition(" -> ")[2]


def _short(subject: Subject, jobs: set[str]) -> str:
    if subject.kind is not Kind.OPERATOR:
        return subject.name
    return operator_name(subject) if len(jobs) == 1 else f"{_job(subject)}: {operator_name(subject)}"


def _job(subject: Subject) -> str:
    return subject.name.partition("/")[0]
