"""What monitoring measures of a real cluster."""

import time
from pathlib import Path

from barmill.model.job_spec import BarsJobSpec
from barmill.platform.clock import wait_until
from barmill.platform.home import Home
from barmill.platform.ports import free_ports
from barmill.platform.tls import TlsFiles
from control.flink.metrics import failures
from control.flink.rest import FlinkRest
from control.monitoring.measurements import ClusterMeasurements, measure_cluster
from control.monitoring.metrics import Kind, Metric, Reading, Subject
from control.monitoring.outages import WatchedJob
from tests.support.cluster import TIMEOUT_S, cancel, counter_spec, start_counter

COUNTED = Subject(Kind.JOB, "watched")
COUNT = Subject(Kind.OPERATOR, "watched/KEYED PROCESS -> Sink: Print to Std. Out")
# Of the source, Flink does not know how busy it is.
EXPECTED = {
    *((COUNTED, metric) for metric in (Metric.RUNNING, Metric.RESTARTS, Metric.RUN_STARTED_S)),
    *((COUNTED, metric) for metric in (Metric.CHECKPOINTS_COMPLETED, Metric.CHECKPOINTS_FAILED)),
    *((COUNTED, metric) for metric in (Metric.CHECKPOINT_AGE_S, Metric.CHECKPOINT_DURATION_S)),
    *((COUNT, metric) for metric in (Metric.BUSY_RATIO, Metric.BACK_PRESSURED_RATIO, Metric.RECORDS_IN_PER_S)),
    *((Subject(Kind.CLUSTER), metric) for metric in (Metric.ANSWERS, Metric.TASKMANAGERS, Metric.SLOTS)),
}


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def values(seen: ClusterMeasurements) -> dict[tuple[Subject, Metric], float]:
    return {(reading.subject, reading.metric): reading.value for reading in seen.readings}


def test_a_running_job_is_measured_through_and_through(shared_flink: FlinkRest, tmp_path: Path) -> None:
    job_id = start_counter(shared_flink, counter_spec(tmp_path, "watched"))
    watched = [WatchedJob("watched", True, "RUNNING", "", job_id, now_ms())]
    found: dict[tuple[Subject, Metric], float] = {}

    def complete() -> bool:
        found.update(values(measure_cluster(shared_flink, watched, now_ms())))
        return found.keys() >= EXPECTED and found[COUNT, Metric.RECORDS_IN_PER_S] > 0

    # Flink's own rates are over a minute and come from a cache; the first checkpoint takes ten seconds.
    assert wait_until(complete, TIMEOUT_S, every_s=1.0), EXPECTED - found.keys()
    cancel(shared_flink, job_id)
    assert found[COUNTED, Metric.RUNNING] == 1
    assert found[COUNTED, Metric.RESTARTS] == 0
    assert found[COUNTED, Metric.CHECKPOINTS_COMPLETED] >= 1
    assert 0 <= found[COUNTED, Metric.CHECKPOINT_AGE_S] < TIMEOUT_S
    assert 0 < found[COUNTED, Metric.CHECKPOINT_SIZE_BYTES] < 1_000_000
    assert 0 <= found[COUNT, Metric.BUSY_RATIO] <= 1
    assert found[Subject(Kind.CLUSTER), Metric.SLOTS] == shared_flink.overview().slots_total
    [manager] = {subject for subject, _ in found if subject.kind is Kind.TASKMANAGER}
    assert found[manager, Metric.HEAP_USED_BYTES] > 1_000_000
    operators = {subject.name for subject, _ in found if subject.kind is Kind.OPERATOR}
    assert not any("[" in name or "_stream_key_by" in name for name in operators), operators


def test_what_fails_is_told_with_its_lines_of_source(shared_flink: FlinkRest, tmp_path: Path) -> None:
    spec = counter_spec(tmp_path, "failing")
    BarsJobSpec.read(spec).bars_db.mkdir()  # it cannot write there
    job_id = start_counter(shared_flink, spec)
    assert wait_until(lambda: len(failures(shared_flink, job_id, 5)) > 1, TIMEOUT_S, every_s=0.5)
    seen = measure_cluster(shared_flink, [WatchedJob("failing", True, "RESTARTING", "", job_id)], now_ms())
    cancel(shared_flink, job_id)
    newest, before = seen.failures[:2]
    assert newest.failure.at_ms > before.failure.at_ms
    assert (newest.job, newest.run) == ("failing", job_id)
    assert "IsADirectoryError" in newest.failure.trace
    assert "counter.py" in newest.failure.trace
    assert "IsADirectoryError" in newest.failure.cause
    assert values(seen)[Subject(Kind.JOB, "failing"), Metric.RUNNING] == 0


def test_a_cluster_that_is_away_is_measured_as_such(home: Home) -> None:
    [port] = free_ports(1)
    gone = FlinkRest(port, home.run / "submit.lock", TlsFiles(home.tls))
    seen = measure_cluster(gone, [WatchedJob("bars", True, "UNKNOWN", "")], now_ms())
    gone.close()
    assert seen.readings == [
        Reading(Subject(Kind.JOB, "bars"), Metric.RUNNING, 0),
        Reading(Subject(Kind.CLUSTER), Metric.ANSWERS, 0),
    ]
