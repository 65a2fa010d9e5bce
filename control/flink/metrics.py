"""What the JobManager measures: only reads, at most every few seconds, because it answers from a cache.

A metric that Flink does not know yet is left out of the answer (the first answer after a start has none at all), and
one it cannot work out is the text "NaN": both are simply not there in what is returned here.
"""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from control.flink.rest import FlinkRest
from control.redact import redact

_NUMBER_IN_NAME = re.compile(r"\[\d+\]")
_KEY_BY = ", _stream_key_by_map_operator"
_BUSY, _BACK_PRESSURED = "busyTimeMsPerSecond", "backPressuredTimeMsPerSecond"
_IN, _OUT = "numRecordsInPerSecond", "numRecordsOutPerSecond"
_HEAP_USED = "Status.JVM.Memory.Heap.Used"
_MS_PER_S = 1_000


@dataclass(frozen=True)
class OperatorLoad:
    """How busy a part of a job is: an operator, or those that Flink has chained to one; None where Flink does not say.

    busy, back_pressured: share of its time, 0 to 1, of the subtask that has most of it. Records: of all together.
    """

    name: str
    busy: float | None
    back_pressured: float | None
    records_in_per_s: float | None
    records_out_per_s: float | None


@dataclass(frozen=True)
class JobFailure:
    """Something that failed in a job: when, in which task (if in one), and the trace of it, redacted."""

    at_ms: int
    task: str
    trace: str

    @property
    def cause(self) -> str:
        """Return the line of the trace that says what went wrong: the last that is no place in a program."""
        lines = [line for line in self.trace.splitlines() if line and not line[0].isspace()]
        return lines[-1].removeprefix("Caused by: ") if lines else ""


@dataclass(frozen=True)
class TaskManager:
    """One TaskManager and what it has; heap_used_bytes is None where Flink does not say."""

    id: str
    slots: int
    free_slots: int
    heap_used_bytes: float | None


def operator_loads(flink: FlinkRest, job_id: str) -> list[OperatorLoad]:
    """Return how busy each part of a job is, from its sources on."""
    wanted = ",".join((_BUSY, _BACK_PRESSURED, _IN, _OUT))
    loads = []
    for vertex in flink.read(f"/jobs/{job_id}", job_id)["vertices"]:
        path = f"/jobs/{job_id}/vertices/{vertex['id']}/subtasks/metrics?get={wanted}&agg=max,sum"
        answer = flink.read(path, job_id)
        highest, sums = _values(answer, "max"), _values(answer, "sum")
        busy, back_pressured = _share(highest.get(_BUSY)), _share(highest.get(_BACK_PRESSURED))
        loads.append(OperatorLoad(plain_name(vertex["name"]), busy, back_pressured, sums.get(_IN), sums.get(_OUT)))
    return loads


def job_metrics(flink: FlinkRest, job_id: str, names: Iterable[str]) -> dict[str, float]:
    """Return those of the job's metrics that Flink knows now."""
    return _values(flink.read(f"/jobs/{job_id}/metrics?get={','.join(names)}", job_id), "value")


def failures(flink: FlinkRest, job_id: str, count: int) -> list[JobFailure]:
    """Return the last failures of a job, the newest first, with the lines of source they passed through."""
    answer = flink.read(f"/jobs/{job_id}/exceptions?maxExceptions={count}", job_id)
    entries = answer.get("exceptionHistory", {}).get("entries", [])
    return [
        JobFailure(one["timestamp"], plain_name(one.get("taskName") or ""), redact(one["stacktrace"]))
        for one in entries
    ]


def taskmanagers(flink: FlinkRest) -> list[TaskManager]:
    """Return the TaskManagers by id."""
    found = []
    for one in flink.read("/taskmanagers")["taskmanagers"]:
        values = _values(flink.read(f"/taskmanagers/{one['id']}/metrics?get={_HEAP_USED}"), "value")
        found.append(TaskManager(one["id"], one["slotsNumber"], one["freeSlots"], values.get(_HEAP_USED)))
    return sorted(found, key=lambda one: one.id)


def plain_name(text: str) -> str:
    """Return a name of Flink's without what nobody gave it: numbers that grow with every submit, and helpers."""
    return _NUMBER_IN_NAME.sub("", text).replace(_KEY_BY, "")


def _values(answer: Sequence[dict[str, Any]], field: str) -> dict[str, float]:
    numbers = {one["id"]: float(one[field]) for one in answer if field in one}
    return {name: value for name, value in numbers.items() if math.isfinite(value)}


def _share(ms_per_s: float | None) -> float | None:
    return None if ms_per_s is None else min(ms_per_s / _MS_PER_S, 1.0)
