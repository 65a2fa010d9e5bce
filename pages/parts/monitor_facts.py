"""The facts at the head of the Monitoring page, and its tables, worked out from the newest readings. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from charts.history import Unit
from charts.texts import age
from control.monitor.metrics import Kind, Metric, Reading, Subject
from pages.parts.facts import Fact

_LATE_S = 5.0


@dataclass(frozen=True)
class Latest:
    """The newest readings by what they are."""

    values: Mapping[Metric, Mapping[Subject, float]]

    @classmethod
    def of(cls, readings: Iterable[Reading]) -> "Latest":
        """Sort readings."""
        values: dict[Metric, dict[Subject, float]] = {}
        for one in readings:
            values.setdefault(one.metric, {})[one.subject] = one.value
        return cls(values)

    def all(self, metric: Metric) -> list[float]:
        """Return the value of every subject."""
        return list(self.values.get(metric, {}).values())

    def subjects(self, kind: Kind) -> list[Subject]:
        """Return every subject of a kind that has a reading."""
        return sorted(
            {subject for by_subject in self.values.values() for subject in by_subject if subject.kind is kind}
        )

    def get(self, subject: Subject, metric: Metric) -> float | None:
        """Return one value."""
        return self.values.get(metric, {}).get(subject)


def monitor_facts(latest: Latest) -> list[Fact]:
    """Return what to know at a glance; of several jobs the one that is worst off counts."""
    refused = sum(latest.all(Metric.TICKS_REJECTED_PER_S))
    return [
        _fact("Ticks in", _sum(latest, Metric.TICKS_ACCEPTED_PER_S, Unit.RATE), f"{refused:.1f}/s refused"),
        _fact(
            "Bars written",
            _sum(latest, Metric.BARS_WRITTEN_PER_S, Unit.RATE),
            f"{_worst(latest, Metric.BACKLOG_TICKS, Unit.COUNT)} ticks to go",
        ),
        _fact(
            "Tick to bar",
            _worst(latest, Metric.LATENCY_P95_S, Unit.SECONDS),
            f"lag {_worst(latest, Metric.WATERMARK_LAG_S, Unit.SECONDS)}",
            _tone(latest.all(Metric.WATERMARK_LAG_S), _LATE_S),
        ),
        _jobs(latest),
        _fact(
            "Last checkpoint",
            _worst(latest, Metric.CHECKPOINT_AGE_S, Unit.SECONDS),
            f"ago, {_sum(latest, Metric.CHECKPOINTS_FAILED, Unit.COUNT)} failed",
        ),
        _cluster(latest),
    ]


def process_rows(latest: Latest, now_ms: int) -> list[dict[str, str]]:
    """Return the table of processes."""
    return [
        {
            "Process": one.name,
            "State": "up" if latest.get(one, Metric.UP) else "down",
            "Up for": _up_for(latest, one, now_ms),
            "Memory": _text(latest.get(one, Metric.RESIDENT_BYTES), Unit.BYTES),
            "CPU cores": _text(latest.get(one, Metric.CPU_CORES), Unit.CORES),
        }
        for one in latest.subjects(Kind.PROCESS)
    ]


def taskmanager_rows(latest: Latest) -> list[dict[str, str]]:
    """Return the table of TaskManagers."""
    return [
        {
            "TaskManager": one.name,
            "Slots": _text(latest.get(one, Metric.OWN_SLOTS), Unit.COUNT),
            "Free": _text(latest.get(one, Metric.OWN_FREE_SLOTS), Unit.COUNT),
            "Java heap": _text(latest.get(one, Metric.HEAP_USED_BYTES), Unit.BYTES),
        }
        for one in latest.subjects(Kind.TASKMANAGER)
    ]


def _up_for(latest: Latest, process: Subject, now_ms: int) -> str:
    started_s = latest.get(process, Metric.STARTED_S)
    return age(now_ms - round(1_000 * started_s)) if started_s and latest.get(process, Metric.UP) else "–"


def _jobs(latest: Latest) -> Fact:
    running = latest.all(Metric.RUNNING)
    restarts = _sum(latest, Metric.RESTARTS, Unit.COUNT)
    tone = "" if not running else "good" if all(running) else "busy"
    return _fact("Jobs running", f"{sum(running):.0f} of {len(running)}", f"{restarts} restarts", tone)


def _cluster(latest: Latest) -> Fact:
    if not any(latest.all(Metric.ANSWERS)):
        return _fact("TaskManagers", "–", "the JobManager does not answer", "bad")
    slots, free = (_sum(latest, metric, Unit.COUNT) for metric in (Metric.SLOTS, Metric.FREE_SLOTS))
    return _fact("TaskManagers", _sum(latest, Metric.TASKMANAGERS, Unit.COUNT), f"{free} of {slots} slots free")


def _fact(label: str, value: str, note: str = "", tone: str = "") -> Fact:
    return {"label": label, "value": value, "note": note, "tone": tone}


def _sum(latest: Latest, metric: Metric, unit: Unit) -> str:
    values = latest.all(metric)
    return unit.words(sum(values)) if values else "–"


def _worst(latest: Latest, metric: Metric, unit: Unit) -> str:
    return _text(max(latest.all(metric), default=None), unit)


def _text(value: float | None, unit: Unit) -> str:
    return "–" if value is None else unit.words(value)


def _tone(values: Sequence[float], limit: float) -> str:
    return "" if not values else "good" if max(values) <= limit else "busy"
