"""Metrics of jobs and TaskManagers that the JobManager serves.

Call these functions at most every few seconds, because Flink caches the metrics. Flink omits a metric that it does not
know yet (the first response after a start is empty) and sends the text "NaN" for a metric that it cannot compute. The
functions here treat both as missing. They raise ClusterUnreachableError, NoSuchFlinkJobError or FlinkResponseError.
"""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from barmill.platform.clock import MS_PER_S
from barmill.platform.errors import redact
from control.flink.model import JobFailure
from control.flink.rest import FlinkRest

_NUMBER_IN_NAME = re.compile(r"\[\d+\]")
_KEY_BY = ", _stream_key_by_map_operator"
_BUSY, _BACK_PRESSURED = "busyTimeMsPerSecond", "backPressuredTimeMsPerSecond"
_IN, _OUT = "numRecordsInPerSecond", "numRecordsOutPerSecond"
_HEAP_USED = "Status.JVM.Memory.Heap.Used"


@dataclass(frozen=True)
class OperatorLoad:
    """The load of one part of a job: an operator, or several that Flink chains. None where Flink has no value.

    busy, back_pressured: share of time, 0 to 1, of the subtask with the highest share. Record rates: sums over all
    subtasks.
    """

    name: str
    busy: float | None
    back_pressured: float | None
    records_in_per_s: float | None
    records_out_per_s: float | None


@dataclass(frozen=True)
class TaskManager:
    """One TaskManager and its resources; heap_used_bytes is None if Flink has no value."""

    id: str
    slots: int
    free_slots: int
    heap_used_bytes: float | None


def operator_loads(flink: FlinkRest, job_id: str) -> list[OperatorLoad]:
    """Return the load of each part of a job, from sources to sinks."""
    metric_names = ",".join((_BUSY, _BACK_PRESSURED, _IN, _OUT))
    loads = []
    for vertex in flink.read(f"/jobs/{job_id}", job_id)["vertices"]:
        path = f"/jobs/{job_id}/vertices/{vertex['id']}/subtasks/metrics?get={metric_names}&agg=max,sum"
        response = flink.read(path, job_id)
        maxima, sums = _values(response, "max"), _values(response, "sum")
        busy, back_pressured = _share(maxima.get(_BUSY)), _share(maxima.get(_BACK_PRESSURED))
        loads.append(OperatorLoad(plain_name(vertex["name"]), busy, back_pressured, sums.get(_IN), sums.get(_OUT)))
    return loads


def job_metrics(flink: FlinkRest, job_id: str, names: Iterable[str]) -> dict[str, float]:
    """Return the named job metrics that Flink has a value for, by name."""
    return _values(flink.read(f"/jobs/{job_id}/metrics?get={','.join(names)}", job_id), "value")


def failures(flink: FlinkRest, job_id: str, count: int) -> list[JobFailure]:
    """Return the last `count` failures of a job, newest first, with redacted stack traces."""
    response = flink.read(f"/jobs/{job_id}/exceptions?maxExceptions={count}", job_id)
    entries = response.get("exceptionHistory", {}).get("entries", [])
    return [
        JobFailure(entry["timestamp"], plain_name(entry.get("taskName") or ""), redact(entry["stacktrace"]))
        for entry in entries
    ]


def taskmanagers(flink: FlinkRest) -> list[TaskManager]:
    """Return the TaskManagers, sorted by id."""
    managers = []
    for manager in flink.read("/taskmanagers")["taskmanagers"]:
        values = _values(flink.read(f"/taskmanagers/{manager['id']}/metrics?get={_HEAP_USED}"), "value")
        managers.append(
            TaskManager(manager["id"], manager["slotsNumber"], manager["freeSlots"], values.get(_HEAP_USED))
        )
    return sorted(managers, key=lambda manager: manager.id)


def plain_name(text: str) -> str:
    """Return a Flink name without generated parts: numbers that grow with every submit, and helper operators."""
    return _NUMBER_IN_NAME.sub("", text).replace(_KEY_BY, "")


def _values(values: Sequence[dict[str, Any]], field: str) -> dict[str, float]:
    numbers = {metric["id"]: float(metric[field]) for metric in values if field in metric}
    return {name: value for name, value in numbers.items() if math.isfinite(value)}


def _share(ms_per_s: float | None) -> float | None:
    return None if ms_per_s is None else min(ms_per_s / MS_PER_S, 1.0)
