"""Measurements of Flink (cluster, TaskManagers, jobs), of the tick log and of the bar store.

How delays are measured:

- arrival: from the newest time stamp among the last ticks of a source to their arrival.
- latency: from a tick's time stamp until its bar can be read. It is exact for the newest tick of each instrument whose
  longest bar is forming: only ticks change such a bar, so `changed_ms - last_tick_ms` is the latency of the newest
  tick. Median and 95th percentile are over the instruments that moved since the last measurement. An out-of-order tick
  makes its instrument's reading too high, never too low.
- watermark lag: how far the time up to which everything is in the bars is behind the clock. That time is each shard's
  newest tick or, once all shards have read the whole log, the time up to which a source reports completeness if that is
  later; the shard that is furthest behind counts. A source that is stuck holds back only its own instruments, and its
  idle time reveals it.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from barmill.model.frames import parse_frames
from barmill.model.progress import complete_to
from barmill.platform.clock import NS_PER_MS
from barmill.platform.home import Home
from barmill.platform.sqlite_file import if_ready
from barmill.storage.bar_store import Progress
from barmill.storage.reader import BarReader
from barmill.storage.tick_log import Source, TickLog
from control.flink.metrics import failures, job_metrics, operator_loads, taskmanagers
from control.flink.model import FlinkError, Job
from control.flink.rest import FlinkRest
from control.monitoring.history import Failure
from control.monitoring.metrics import Kind, Metric, Reading, Subject
from control.monitoring.outages import WatchedJob

_CLUSTER = Subject(Kind.CLUSTER)
_MAX_FAILURES = 10
# A run that ended recently may still report failures.
_ENDED_RECENTLY_MS = 60_000


@dataclass
class ClusterMeasurements:
    """The measurements of the cluster."""

    readings: list[Reading] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)


def measure_cluster(flink: FlinkRest, watched_jobs: Sequence[WatchedJob], at_ms: int) -> ClusterMeasurements:
    """Measure the cluster and Barmill's jobs on it; values that Flink does not return are missing."""
    measurements = ClusterMeasurements([reading for job in watched_jobs for reading in _status_readings(job)])
    try:
        jobs, managers = flink.jobs(), taskmanagers(flink)
    except FlinkError:
        measurements.readings.append(Reading(_CLUSTER, Metric.ANSWERS, 0))
        return measurements
    measurements.readings += [
        Reading(_CLUSTER, Metric.ANSWERS, 1),
        Reading(_CLUSTER, Metric.TASKMANAGERS, len(managers)),
        Reading(_CLUSTER, Metric.SLOTS, sum(manager.slots for manager in managers)),
        Reading(_CLUSTER, Metric.FREE_SLOTS, sum(manager.free_slots for manager in managers)),
    ]
    for manager in managers:
        subject = Subject(Kind.TASKMANAGER, manager.id)
        measurements.readings.append(Reading(subject, Metric.OWN_SLOTS, manager.slots))
        measurements.readings.append(Reading(subject, Metric.OWN_FREE_SLOTS, manager.free_slots))
        measurements.readings += _known_readings(subject, {Metric.HEAP_USED_BYTES: manager.heap_used_bytes})
    run_by_job = {job.name: job.run for job in watched_jobs}
    for job in jobs:
        if job.name not in run_by_job or (job.end_ms is not None and at_ms - job.end_ms > _ENDED_RECENTLY_MS):
            continue
        try:
            job_failures = failures(flink, job.id, _MAX_FAILURES)
            measurements.failures += [Failure(job.name, job.id, failure) for failure in job_failures]
            if job.id == run_by_job[job.name] and not job.state.is_terminal:
                measurements.readings += _flink_readings(flink, job, at_ms)
        except FlinkError:
            continue  # the job or the JobManager ended between two requests
    return measurements


def _status_readings(job: WatchedJob) -> Iterator[Reading]:
    subject = Subject(Kind.JOB, job.name)
    yield Reading(subject, Metric.RUNNING, job.running)
    if job.run_started_ms is not None:
        yield Reading(subject, Metric.RUN_STARTED_S, job.run_started_ms / 1_000)


def _flink_readings(flink: FlinkRest, job: Job, at_ms: int) -> list[Reading]:
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
    readings += _known_readings(subject, {Metric.RESTARTS: restarts})
    for load in operator_loads(flink, job.id):
        values = {
            Metric.BUSY_RATIO: load.busy,
            Metric.BACK_PRESSURED_RATIO: load.back_pressured,
            Metric.RECORDS_IN_PER_S: load.records_in_per_s,
            Metric.RECORDS_OUT_PER_S: load.records_out_per_s,
        }
        readings += _known_readings(Subject(Kind.OPERATOR, f"{job.name}/{load.name}"), values)
    return readings


def _known_readings(subject: Subject, values: dict[Metric, float | None]) -> list[Reading]:
    return [Reading(subject, metric, value) for metric, value in values.items() if value is not None]


# A job that wrote nothing for this long is not part of the flow.
_GONE_AFTER_MS = 600_000
_MAX_INSTRUMENTS = 200


@dataclass(frozen=True)
class LogState:
    """The sources and the end of the tick log. monitoring_began_ms: when monitoring began; 0 if unknown."""

    sources: tuple[Source, ...] = ()
    end_sequence: int = 1
    monitoring_began_ms: int = 0

    @property
    def running_sources(self) -> list[Source]:
        """Return the sources that may still deliver."""
        return [source for source in self.sources if not source.ended]

    @property
    def complete_to_ms(self) -> int | None:
        """Return the latest time up to which sources report completeness, or None if none reports it."""
        complete_to_times = complete_to(self.running_sources).values()
        return max((time_ms for time_ms in complete_to_times if time_ms is not None), default=None)


def read_log(path: Path, monitoring_began_ms: int = 0) -> LogState:
    """Return the sources and the end of the tick log; a missing log counts as empty."""
    with if_ready(), TickLog.read_only(path) as log:
        return LogState(log.sources(), log.end_sequence(), monitoring_began_ms)
    return LogState()


def measure_flow(
    home: Home, log: LogState, at_ms: int, since_ms: int, not_running: Collection[str] = ()
) -> list[Reading]:
    """Measure sources and jobs now; latencies cover the bars that changed since `since_ms`.

    not_running: jobs that should not run, for which nothing is measured.
    """
    jobs: list[Reading] = []
    with if_ready(), BarReader.open(home.bars_db) as reader:
        jobs = list(_jobs(reader, log, at_ms, since_ms, not_running))
    return [*_sources(log, at_ms), *jobs]


def _sources(log: LogState, at_ms: int) -> Iterator[Reading]:
    for source in log.running_sources:
        subject = Subject(Kind.SOURCE, source.name)
        yield Reading(subject, Metric.TICKS_ACCEPTED, source.accepted)
        yield Reading(subject, Metric.TICKS_REJECTED, source.rejected)
        arrived_ms = source.arrived_ms or source.updated_ms
        yield Reading(subject, Metric.IDLE_S, _seconds(at_ms - arrived_ms))
        # Ticks from before the feed or monitoring began were fetched later, which says nothing about the delay of live
        # ticks.
        newest_ms = (source.newest_ns or 0) // NS_PER_MS
        if source.live and source.newest_ns is not None and newest_ms >= max(source.made_ms, log.monitoring_began_ms):
            yield Reading(subject, Metric.ARRIVAL_DELAY_S, _seconds(arrived_ms - newest_ms))


def _jobs(
    reader: BarReader, log: LogState, at_ms: int, since_ms: int, not_running: Collection[str]
) -> Iterator[Reading]:
    bars_written = reader.bars_written()
    by_job: dict[str, list[Progress]] = {}
    for shard in reader.progress():
        if shard.job not in not_running and at_ms - shard.updated_ms < _GONE_AFTER_MS:
            by_job.setdefault(shard.job, []).append(shard)
    for job, shards in by_job.items():
        subject = Subject(Kind.JOB, job)
        yield Reading(subject, Metric.TICKS_READ, sum(shard.read for shard in shards))
        yield Reading(subject, Metric.TICKS_LATE, sum(shard.late for shard in shards))
        yield Reading(subject, Metric.BARS_WRITTEN, bars_written.get(job, 0))
        yield Reading(subject, Metric.BACKLOG_TICKS, _backlog(log, shards))
        if any(source.live for source in log.running_sources):
            yield from _lags(subject, log, shards, at_ms)
            longest_frame = parse_frames(shards[0].frames)[-1].text
            yield from _latencies(subject, reader.delays_ms(longest_frame, since_ms, _MAX_INSTRUMENTS))


def _backlog(log: LogState, shards: Sequence[Progress]) -> int:
    return max(0, log.end_sequence - min(shard.next_sequence for shard in shards))


def _lags(subject: Subject, log: LogState, shards: Sequence[Progress], at_ms: int) -> Iterator[Reading]:
    newest = [shard.newest_tick_ms for shard in shards if shard.newest_tick_ms is not None]
    if not newest:
        return
    yield Reading(subject, Metric.NEWEST_TICK_AGE_S, _seconds(at_ms - max(newest)))
    complete_ms = 0 if _backlog(log, shards) else log.complete_to_ms or 0
    # A shard without ticks holds back only the time that sources report.
    reached_ms = min(max(newest_ms, complete_ms) for newest_ms in newest)
    yield Reading(subject, Metric.WATERMARK_LAG_S, _seconds(at_ms - reached_ms))


def _latencies(subject: Subject, delays_ms: Sequence[int]) -> Iterator[Reading]:
    if delays_ms:
        p95_ms = sorted(delays_ms)[-(-len(delays_ms) * 95 // 100) - 1]
        yield Reading(subject, Metric.LATENCY_P50_S, _seconds(median(delays_ms)))
        yield Reading(subject, Metric.LATENCY_P95_S, _seconds(p95_ms))


def _seconds(ms: float) -> float:
    return max(0.0, ms / 1_000)
