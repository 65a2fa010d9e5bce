"""A past as the controller would have kept it: an hour of figures up to now, an alert, and a failure."""

import math
import time
from collections.abc import Iterator

from barmill.platform.home import Home
from control.flink.model import JobFailure
from control.monitoring.alerts import open_alert_db, store_changes
from control.monitoring.history import Failure, History
from control.monitoring.judge import Finding
from control.monitoring.metrics import SAMPLE_MS, Kind, Metric, Reading, Subject
from control.monitoring.rules import DEFAULTS, AlertKind

MARKET, BARS = Subject(Kind.SOURCE, "market"), Subject(Kind.JOB, "bars")
CLUSTER, DISK = Subject(Kind.CLUSTER), Subject(Kind.DISK)
OPERATORS = ("Source: wake_ups -> wake every shard", "poll and fold", "publish")
PROCESSES = ("jobmanager", "taskmanager", "market", "ingest", "controller", "app")
TRACE = (
    "java.lang.RuntimeException: Failed to fold\n\tat org.apache.flink.Some.method(Some.java:12)\nCaused by: "
    'Traceback (most recent call last):\n  File "flink_jobs/shard.py", line 84, in poll\n'
    "    added = self._open.add(mine)\nValueError: the block is broken"
)
NO_TICKS = Finding(AlertKind.NO_DATA, "source:market", True, "No new ticks from market for 30 s; see log/ingest.log.")
DISK_FULL = Finding(AlertKind.REJECTS, "source:market", True, "More than 5 rows per second from market are rejected.")


def measured_past(home: Home, seconds: int = 3_600, *, up_to_ms: int | None = None) -> int:
    """Write so many seconds of history up to now, and return what was taken for now."""
    now_ms = up_to_ms or time.time_ns() // 1_000_000
    history = History.open(home)
    history.db.conn.execute("PRAGMA synchronous = OFF")
    for at_ms in range(now_ms - seconds * 1_000, now_ms + 1, SAMPLE_MS):
        history.write(at_ms, readings(at_ms))
    failure = JobFailure(now_ms - 600_000, "poll and fold (1/1)", TRACE)
    history.write(now_ms, readings(now_ms), [Failure("bars", "a" * 32, failure)])
    history.close()
    return now_ms


def raised(home: Home, *findings: Finding, ago_ms: int = 60_000) -> None:
    """Raise alerts."""
    db, now_ms = open_alert_db(home), time.time_ns() // 1_000_000
    store_changes(db, now_ms - ago_ms, DEFAULTS, findings, [], deliver=False)
    db.conn.close()


def cleared(home: Home, *findings: Finding) -> None:
    """Clear alerts."""
    db, now_ms = open_alert_db(home), time.time_ns() // 1_000_000
    store_changes(
        db, now_ms, DEFAULTS, [], [(finding.alert_kind, finding.subject) for finding in findings], deliver=False
    )
    db.conn.close()


def readings(at_ms: int) -> list[Reading]:
    return list(_readings(at_ms / 1_000))


def _readings(t: float) -> Iterator[Reading]:
    def wave(middle: float, swing: float, period_s: float) -> float:
        return middle + swing * math.sin(2 * math.pi * t / period_s)

    rate = wave(120, 20, 900)
    yield Reading(MARKET, Metric.TICKS_ACCEPTED_PER_S, rate)
    yield Reading(MARKET, Metric.TICKS_REJECTED_PER_S, wave(0.5, 0.5, 300))
    yield Reading(MARKET, Metric.IDLE_S, wave(0.1, 0.05, 120))
    yield Reading(MARKET, Metric.ARRIVAL_DELAY_S, wave(0.15, 0.05, 400))
    for metric, value in {
        Metric.RUNNING: 1,
        Metric.RESTARTS: 0,
        Metric.TICKS_READ_PER_S: rate,
        Metric.BARS_WRITTEN_PER_S: 3 * rate,
        Metric.BACKLOG_TICKS: wave(20, 20, 60),
        Metric.NEWEST_TICK_AGE_S: wave(0.4, 0.1, 200),
        Metric.WATERMARK_LAG_S: wave(0.5, 0.2, 200),
        Metric.LATENCY_P50_S: wave(0.3, 0.1, 500),
        Metric.LATENCY_P95_S: wave(0.6, 0.2, 500),
        Metric.CHECKPOINTS_FAILED: 0,
        Metric.CHECKPOINT_AGE_S: t % 10,
        Metric.CHECKPOINT_DURATION_S: wave(0.05, 0.02, 300),
        Metric.CHECKPOINT_SIZE_BYTES: wave(1.5e6, 2e5, 1_200),
    }.items():
        yield Reading(BARS, metric, value)
    for number, name in enumerate(OPERATORS):
        operator = Subject(Kind.OPERATOR, f"bars/{name}")
        yield Reading(operator, Metric.BUSY_RATIO, wave(0.1 + 0.1 * number, 0.05, 700))
        yield Reading(operator, Metric.BACK_PRESSURED_RATIO, 0)
        yield Reading(operator, Metric.RECORDS_IN_PER_S, 20)
    for metric, value in {Metric.ANSWERS: 1, Metric.TASKMANAGERS: 1, Metric.SLOTS: 4, Metric.FREE_SLOTS: 3}.items():
        yield Reading(CLUSTER, metric, value)
    manager = Subject(Kind.TASKMANAGER, "127.0.0.1:40001-abcdef")
    for metric, value in {Metric.OWN_SLOTS: 4, Metric.OWN_FREE_SLOTS: 3, Metric.HEAP_USED_BYTES: 9e7}.items():
        yield Reading(manager, metric, value)
    for number, name in enumerate(PROCESSES):
        process = Subject(Kind.PROCESS, name)
        yield Reading(process, Metric.UP, 1)
        yield Reading(process, Metric.STARTED_S, 1_764_000_000 + number)
        yield Reading(process, Metric.RESIDENT_BYTES, wave(2e8 + 5e7 * number, 1e7, 800))
        yield Reading(process, Metric.CPU_CORES, wave(0.1 + 0.02 * number, 0.05, 100))
    yield Reading(DISK, Metric.FREE_BYTES, 5e10)
