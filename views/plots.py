"""The data of the Monitoring and Alerts pages: tables of alerts, and measurements as plots."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from barmill.charts.history import Unit
from barmill.platform.texts import age, moment
from control.monitoring.alerts import Alert
from control.monitoring.delivery import GIVE_UP_AFTER_MS, Delivery
from control.monitoring.metrics import Kind, Metric, Subject


def past_alert_rows(alerts: Sequence[Alert]) -> list[dict[str, str]]:
    """Return one row per past alert."""
    return [
        {
            "Raised, UTC": moment(alert.raised_ms),
            "Duration": age((alert.cleared_ms or alert.raised_ms) - alert.raised_ms),
            "Severity": alert.severity,
            "Alert": alert.sentence,
            "Cleared because": alert.cleared_because or "the condition is normal",
            "Acknowledged by": alert.acknowledged_by or "",
        }
        for alert in alerts
    ]


def delivery_rows(deliveries: Sequence[Delivery], now_ms: int) -> list[dict[str, str]]:
    """Return one row per delivery."""
    return [
        {
            "Since, UTC": moment(delivery.created_ms),
            "Event": delivery.event if delivery.alert is None else f"alert {delivery.alert} {delivery.event}",
            "Result": _delivery_result(delivery, now_ms),
            "Attempts": str(delivery.attempts),
        }
        for delivery in deliveries
    ]


def _delivery_result(delivery: Delivery, now_ms: int) -> str:
    if delivery.delivered_ms is not None:
        return f"delivered after {age(delivery.delivered_ms - delivery.created_ms)}"
    problem = f": {delivery.problem}" if delivery.problem else ""
    if now_ms - delivery.created_ms >= GIVE_UP_AFTER_MS:
        return f"given up{problem}"
    return (
        f"next attempt in {age(delivery.next_ms - now_ms)}{problem}"
        if delivery.attempts
        else "waiting for the controller"
    )


# Past measurements: `time_ms` and `value` (LINE_SCHEMA), by metric and subject.
History = Mapping[Metric, Mapping[Subject, pl.DataFrame]]


@dataclass(frozen=True)
class Plot:
    """One figure. metrics: the name of the line of each metric; '' to use the name of the subject."""

    title: str
    unit: Unit
    metrics: Mapping[Metric, str]

    @property
    def key(self) -> str:
        """Return the key of the figure on the page, which is the same in every run."""
        return next(iter(self.metrics)).text


SECTIONS: Mapping[str, Sequence[Plot]] = {
    "flow": (
        Plot("Ticks in", Unit.RATE, {Metric.TICKS_ACCEPTED_PER_S: "accepted", Metric.TICKS_REJECTED_PER_S: "rejected"}),
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
            {Metric.WATERMARK_LAG_S: "watermark", Metric.NEWEST_TICK_AGE_S: "newest tick in bars"},
        ),
        Plot(
            "Tick to bar",
            Unit.SECONDS,
            {Metric.LATENCY_P50_S: "median", Metric.LATENCY_P95_S: "95th percentile"},
        ),
        Plot("Feed", Unit.SECONDS, {Metric.ARRIVAL_DELAY_S: "tick to arrival", Metric.IDLE_S: "since the last tick"}),
    ),
    "jobs": (
        Plot("Busy", Unit.SHARE, {Metric.BUSY_RATIO: ""}),
        Plot("Back-pressure", Unit.SHARE, {Metric.BACK_PRESSURED_RATIO: ""}),
        Plot("Records received", Unit.RATE, {Metric.RECORDS_IN_PER_S: ""}),
        Plot(
            "Checkpoints",
            Unit.SECONDS,
            {Metric.CHECKPOINT_DURATION_S: "duration", Metric.CHECKPOINT_AGE_S: "since the last one"},
        ),
        Plot("Size of the checkpoint", Unit.BYTES, {Metric.CHECKPOINT_SIZE_BYTES: ""}),
        Plot(
            "Failures",
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
    """Return the lines of a plot (LINE_SCHEMA) by name."""
    lines_by_subject = {metric: history.get(metric, {}) for metric in plot.metrics}
    subjects = {subject for by_subject in lines_by_subject.values() for subject in by_subject}
    jobs = {_job(subject) for subject in subjects}
    lines = {}
    for metric, label in plot.metrics.items():
        for subject, line in lines_by_subject[metric].items():
            name = (
                label if label and len(subjects) == 1 else " ".join(filter(None, (_subject_name(subject, jobs), label)))
            )
            lines[name or plot.title] = line
    return lines


def operator_name(subject: Subject) -> str:
    """Return the last operator of a chain of Flink operators, the only one with a descriptive name."""
    return subject.name.partition("/")[2].rpartition(" -> ")[2]


def _subject_name(subject: Subject, jobs: set[str]) -> str:
    if subject.kind is not Kind.OPERATOR:
        return subject.name
    return operator_name(subject) if len(jobs) == 1 else f"{_job(subject)}: {operator_name(subject)}"


def _job(subject: Subject) -> str:
    return subject.name.partition("/")[0]
