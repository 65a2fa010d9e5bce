"""The facts at the top of the Monitoring page, and its tables, computed from the newest readings; without I/O."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from barmill.charts.history import Unit
from barmill.platform.texts import age
from control.jobs.views import JobView
from control.monitoring.metrics import Kind, Metric, Reading, Subject
from pages.parts.shared.facts import Fact, jobs_fact

_LATE_S = 5.0
_NONE = "–"


@dataclass(frozen=True)
class Latest:
    """The newest readings by metric and subject."""

    values: Mapping[Metric, Mapping[Subject, float]]

    @classmethod
    def of(cls, readings: Iterable[Reading]) -> "Latest":
        """Return readings indexed by metric and subject."""
        values: dict[Metric, dict[Subject, float]] = {}
        for reading in readings:
            values.setdefault(reading.metric, {})[reading.subject] = reading.value
        return cls(values)

    def all(self, metric: Metric) -> list[float]:
        """Return the values of a metric for all subjects."""
        return list(self.values.get(metric, {}).values())

    def subjects(self, kind: Kind) -> list[Subject]:
        """Return every subject of a kind that has a reading."""
        return sorted(
            {subject for by_subject in self.values.values() for subject in by_subject if subject.kind is kind}
        )

    def get(self, subject: Subject, metric: Metric) -> float | None:
        """Return one value, or None."""
        return self.values.get(metric, {}).get(subject)


def monitor_facts(latest: Latest, jobs: Sequence[JobView]) -> list[Fact]:
    """Return the most important facts.

    Over several subjects, rates and numbers of events are summed; of a backlog, delay or age, the worst counts.
    """
    rejected = sum(latest.all(Metric.TICKS_REJECTED_PER_S))
    return [
        _fact("Ticks in", _sum(latest, Metric.TICKS_ACCEPTED_PER_S, Unit.RATE), f"{rejected:.1f}/s rejected"),
        _fact(
            "Bars written",
            _sum(latest, Metric.BARS_WRITTEN_PER_S, Unit.RATE),
            _note("{} ticks to read", _worst_value(latest, Metric.BACKLOG_TICKS, Unit.COUNT)),
        ),
        _fact(
            "Tick to bar",
            _worst_value(latest, Metric.LATENCY_P95_S, Unit.SECONDS),
            _note("lag {}", _worst_value(latest, Metric.WATERMARK_LAG_S, Unit.SECONDS)),
            _tone(latest.all(Metric.WATERMARK_LAG_S), _LATE_S),
        ),
        jobs_fact(jobs, _note("{} restarts", _sum(latest, Metric.RESTARTS, Unit.COUNT))),
        _fact(
            "Last checkpoint",
            _note("{} ago", _worst_value(latest, Metric.CHECKPOINT_AGE_S, Unit.SECONDS)) or _NONE,
            _note("{} failed", _sum(latest, Metric.CHECKPOINTS_FAILED, Unit.COUNT)),
        ),
        _cluster(latest),
    ]


def process_rows(latest: Latest, now_ms: int) -> list[dict[str, str]]:
    """Return one row per process."""
    return [
        {
            "Process": process.name,
            "State": "up" if latest.get(process, Metric.UP) else "down",
            "Uptime": _uptime(latest, process, now_ms),
            "Memory": _text(latest.get(process, Metric.RESIDENT_BYTES), Unit.BYTES),
            "CPU cores": _text(latest.get(process, Metric.CPU_CORES), Unit.CORES),
        }
        for process in latest.subjects(Kind.PROCESS)
    ]


def taskmanager_rows(latest: Latest) -> list[dict[str, str]]:
    """Return one row per TaskManager."""
    return [
        {
            "TaskManager": manager.name,
            "Slots": _text(latest.get(manager, Metric.OWN_SLOTS), Unit.COUNT),
            "Free": _text(latest.get(manager, Metric.OWN_FREE_SLOTS), Unit.COUNT),
            "Java heap": _text(latest.get(manager, Metric.HEAP_USED_BYTES), Unit.BYTES),
        }
        for manager in latest.subjects(Kind.TASKMANAGER)
    ]


def _uptime(latest: Latest, process: Subject, now_ms: int) -> str:
    started_s = latest.get(process, Metric.STARTED_S)
    return age(now_ms - round(1_000 * started_s)) if started_s and latest.get(process, Metric.UP) else _NONE


def _cluster(latest: Latest) -> Fact:
    if not any(latest.all(Metric.ANSWERS)):
        return _fact("TaskManagers", _NONE, "the JobManager does not respond", "bad")
    slots, free = (_sum(latest, metric, Unit.COUNT) for metric in (Metric.SLOTS, Metric.FREE_SLOTS))
    return _fact("TaskManagers", _sum(latest, Metric.TASKMANAGERS, Unit.COUNT), f"{free} of {slots} slots free")


def _note(template: str, value: str) -> str:
    """Return the template with the value, or '' without a value."""
    return "" if value == _NONE else template.format(value)


def _fact(label: str, value: str, note: str = "", tone: str = "") -> Fact:
    return {"label": label, "value": value, "note": note, "tone": tone}


def _sum(latest: Latest, metric: Metric, unit: Unit) -> str:
    values = latest.all(metric)
    return unit.format(sum(values)) if values else _NONE


def _worst_value(latest: Latest, metric: Metric, unit: Unit) -> str:
    return _text(max(latest.all(metric), default=None), unit)


def _text(value: float | None, unit: Unit) -> str:
    return _NONE if value is None else unit.format(value)


def _tone(values: Sequence[float], limit: float) -> str:
    return "" if not values else "good" if max(values) <= limit else "busy"
