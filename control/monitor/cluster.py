"""What is measured of Flink: the cluster, its TaskManagers, and each job's load, checkpoints, restarts and failures."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from control.flink.metrics import failures, job_metrics, operator_loads, taskmanagers
from control.flink.model import FlinkError, Job
from control.flink.rest import FlinkRest
from control.monitor.history import Failure
from control.monitor.jobs import WatchedJob
from control.monitor.metrics import Kind, Metric, Reading, Subject

_CLUSTER = Subject(Kind.CLUSTER)
_FAILURES_ASKED = 10
# A run that ended a moment ago may still have something to say about why.
_ENDED_RECENTLY_MS = 60_000


@dataclass
class Measured:
    """What was measured of the cluster."""

    readings: list[Reading] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)


def measure_cluster(flink: FlinkRest, watched: Sequence[WatchedJob], at_ms: int) -> Measured:
    """Measure the cluster and our jobs on it; what it does not answer is missing."""
    seen = Measured([reading for job in watched for reading in _as_watched(job)])
    try:
        jobs, managers = flink.jobs(), taskmanagers(flink)
    except FlinkError:
        seen.readings.append(Reading(_CLUSTER, Metric.ANSWERS, 0))
        return seen
    seen.readings += [
        Reading(_CLUSTER, Metric.ANSWERS, 1),
        Reading(_CLUSTER, Metric.TASKMANAGERS, len(managers)),
        Reading(_CLUSTER, Metric.SLOTS, sum(one.slots for one in managers)),
        Reading(_CLUSTER, Metric.FREE_SLOTS, sum(one.free_slots for one in managers)),
    ]
    for one in managers:
        subject = Subject(Kind.TASKMANAGER, one.id)
        seen.readings.append(Reading(subject, Metric.OWN_SLOTS, one.slots))
        seen.readings.append(Reading(subject, Metric.OWN_FREE_SLOTS, one.free_slots))
        seen.readings += _known(subject, {Metric.HEAP_USED_BYTES: one.heap_used_bytes})
    ours = {job.name: job.run for job in watched}
    for job in jobs:
        if job.name not in ours or (job.end_ms is not None and at_ms - job.end_ms > _ENDED_RECENTLY_MS):
            continue
        try:
            found = failures(flink, job.id, _FAILURES_ASKED)
            seen.failures += [Failure(job.name, job.id, one) for one in found]
            if job.id == ours[job.name] and not job.state.terminal:
                seen.readings += _job(flink, job, at_ms)
        except FlinkError:
            continue  # it ended between two questions, or the JobManager did
    return seen


def _as_watched(job: WatchedJob) -> Iterator[Reading]:
    subject = Subject(Kind.JOB, job.name)
    yield Reading(subject, Metric.RUNNING, job.running)
    if job.run_started_ms is not None:
        yield Reading(subject, Metric.RUN_STARTED_S, job.run_started_ms / 1_000)


def _job(flink: FlinkRest, job: Job, at_ms: int) -> list[Reading]:
    subject = Subject(Kind.JOB, job.name)
    checkpoints = flink.checkpoints(job.id)
    latest = checkpoints.latest
    age_ms = at_ms - (latest.at_ms if latest else job.start_ms)
    readings = [
        Reading(subject, Metric.CHECKPOINTS_COMPLETED, checkpoints.completed),
        Reading(subject, Metric.CHECKPOINTS_FAILED, checkpoints.failed),
        Reading(subject, Metric.CHECKPOINT_AGE_S, max(0.0, age_ms / 1_000)),
    ]
    if latest:
        readings.append(Reading(subject, Metric.CHECKPOINT_DURATION_S, latest.duration_ms / 1_000))
        readings.append(Reading(subject, Metric.CHECKPOINT_SIZE_BYTES, latest.size_bytes))
    restarts = job_metrics(flink, job.id, ["numRestarts"]).get("numRestarts")
    readings += _known(subject, {Metric.RESTARTS: restarts})
    for load in operator_loads(flink, job.id):
        values = {
            Metric.BUSY_RATIO: load.busy,
            Metric.BACK_PRESSURED_RATIO: load.back_pressured,
            Metric.RECORDS_IN_PER_S: load.records_in_per_s,
            Metric.RECORDS_OUT_PER_S: load.records_out_per_s,
        }
        readings += _known(Subject(Kind.OPERATOR, f"{job.name}/{load.name}"), values)
    return readings


def _known(subject: Subject, values: dict[Metric, float | None]) -> list[Reading]:
    return [Reading(subject, metric, value) for metric, value in values.items() if value is not None]
