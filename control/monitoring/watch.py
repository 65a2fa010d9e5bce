"""The watch, which measures everything every few seconds, stores the readings, and raises and clears alerts.

It and the sender of alerts run in separate threads of the controller. They do not control jobs, and neither a slow
response nor a slow webhook makes the reconciler wait.
"""

import logging
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Protocol

from barmill.ingest.connection.state import ConnectionState
from barmill.ingest.feeds.views import current_states
from barmill.kafka.shipper_status import kafka_problem
from barmill.platform.clock import now_ms
from barmill.platform.home import Home
from barmill.platform.sqlite_file import Store, if_ready, read_control_db
from barmill.secrets.records import read_rows
from barmill.storage.bar_damage import damage_of
from control.flink.rest import FlinkRest
from control.freshness.reading import jobs_not_running
from control.monitoring.alerts import AlertState, Key, advance, open_alert_db, read_alert_states, store_changes
from control.monitoring.delivery import webhook_url
from control.monitoring.history import History
from control.monitoring.judge import KeyExpiry, Observations, judge
from control.monitoring.measurements import LogState, measure_cluster, measure_flow, read_log
from control.monitoring.metrics import SAMPLE_MS, Kind, Metric, Rates, Reading, Subject
from control.monitoring.outages import WatchedJob, watched_jobs
from control.monitoring.rules import RESTART_WINDOW_MS, rules
from control.monitoring.sender import DeliverySender
from control.processes.supervisor import ProcessStatus, Supervisor, SupervisorError

_REJECT_WINDOW_MS = 60_000
_HISTORY_MS = {
    Metric.RESTARTS: RESTART_WINDOW_MS,
    Metric.RUN_STARTED_S: RESTART_WINDOW_MS,
    Metric.STARTED_S: RESTART_WINDOW_MS,
    Metric.TICKS_REJECTED_PER_S: _REJECT_WINDOW_MS,
    Metric.TICKS_LATE_PER_S: _REJECT_WINDOW_MS,
}


class AlertUpdater(Store):
    """The updater of alerts: it raises and clears the alerts of a home."""

    def __init__(self, home: Home) -> None:
        super().__init__(open_alert_db(home))
        self._home = home
        self._pending: Mapping[Key, AlertState] = read_alert_states(self.db)

    def step(self, observations: Observations) -> None:
        """Raise and clear the alerts that the observations of one time require."""
        current_rules = rules(self.db)
        changes = advance(self._pending, judge(observations, current_rules), current_rules, observations.at_ms)
        if changes.raised or changes.cleared:
            deliver = webhook_url(self._home) is not None
            cleared_because = {
                str(Subject(Kind.JOB, name)): reason for name, reason in observations.not_running.items()
            }
            store_changes(
                self.db,
                observations.at_ms,
                current_rules,
                changes.raised,
                changes.cleared,
                cleared_because,
                deliver=deliver,
            )
        self._pending = changes.pending


def collect_observations(
    at_ms: int,
    readings: Sequence[Reading],
    history: History,
    jobs: Sequence[WatchedJob],
    log: LogState,
    keys: Sequence[KeyExpiry],
    kafka_problem: str,
    feeds: Mapping[str, ConnectionState],
    not_running: Mapping[str, str],
    damage: Mapping[str, str],
) -> Observations:
    """Return the observations to judge, with the recent history from the store."""
    recent = {metric: history.recent(metric, at_ms - period_ms) for metric, period_ms in _HISTORY_MS.items()}
    problems = {source.name: source.problem for source in log.running_sources if source.problem}
    return Observations(at_ms, readings, recent, jobs, problems, keys, kafka_problem, feeds, not_running, damage)


def expiring_keys(home: Home) -> list[KeyExpiry]:
    """Return every stored key that has an expiry date and is not revoked."""
    with if_ready():
        db = read_control_db(home)
        with closing(db.conn):
            infos = [row.info for row in read_rows(db)]
        return [
            KeyExpiry(info.name, info.expires_ms)
            for info in infos
            if info.expires_ms is not None and info.revoked_ms is None
        ]
    return []


def measure_machine(home: Home) -> list[Reading]:
    """Measure every process and the disk now; no processes if the supervisor does not run or respond."""
    try:
        processes = Supervisor(home).status()
    except SupervisorError:
        processes = []
    free_bytes = shutil.disk_usage(home.root).free
    return [
        *(reading for process in processes for reading in _process(process)),
        Reading(Subject(Kind.DISK), Metric.FREE_BYTES, free_bytes),
    ]


def _process(process: ProcessStatus) -> Iterator[Reading]:
    subject = Subject(Kind.PROCESS, process.name)
    yield Reading(subject, Metric.UP, process.running)
    yield Reading(subject, Metric.STARTED_S, process.started_s)
    if process.running:
        yield Reading(subject, Metric.RESIDENT_BYTES, process.resident_bytes)
        yield Reading(subject, Metric.CPU_SECONDS, process.cpu_s)


logger = logging.getLogger(__name__)

_WATCH_EVERY_S = SAMPLE_MS / 1_000
_DELIVER_EVERY_S = 2.0
_END_TIMEOUT_S = 3.0


class Step(Protocol):
    """A task that is repeated."""

    def step(self) -> None:
        """Run the task once."""

    def close(self) -> None:
        """Release the resources of the task."""


class Watch:
    """The measurement of a home, which also updates its alerts."""

    def __init__(self, home: Home, flink: FlinkRest) -> None:
        self._home, self._flink = home, flink
        self._history, self._alerts = History.open(home), AlertUpdater(home)
        self._rates = Rates()
        self._measured_ms, self._started_ms = 0, now_ms()

    def close(self) -> None:
        """Close the files."""
        self._history.close()
        self._alerts.close()

    def step(self) -> None:
        """Take one measurement."""
        at_ms = now_ms()
        jobs, log = watched_jobs(self._home), read_log(self._home.ticks_db, self._started_ms)
        cluster = measure_cluster(self._flink, jobs, at_ms)
        not_running = jobs_not_running(self._home)
        flow = measure_flow(self._home, log, at_ms, self._measured_ms or at_ms - SAMPLE_MS, not_running)
        readings = [*flow, *cluster.readings, *measure_machine(self._home)]
        readings += self._rates.of(readings, at_ms)
        self._measured_ms = at_ms
        self._history.write(at_ms, readings, cluster.failures)
        keys, kafka = expiring_keys(self._home), kafka_problem(self._home)
        feeds = current_states(self._home, at_ms)
        self._alerts.step(
            collect_observations(
                at_ms, readings, self._history, jobs, log, keys, kafka, feeds, not_running, damage_of(self._home)
            )
        )


@contextmanager
def background_monitoring(
    home: Home,
    flink: FlinkRest,
    *,
    watch_every_s: float = _WATCH_EVERY_S,
    deliver_every_s: float = _DELIVER_EVERY_S,
) -> Iterator[None]:
    """Measure the home and deliver its alerts in separate threads while the block runs."""
    stop = threading.Event()
    tasks: list[tuple[str, Callable[[], Step], float]] = [
        ("watch", lambda: Watch(home, flink), watch_every_s),
        ("sender", lambda: DeliverySender(home, open_alert_db(home)), deliver_every_s),
    ]
    # Daemon threads, so that a request that hangs does not keep the controller from ending.
    threads = [threading.Thread(target=_repeat, args=(*task, stop), name=task[0], daemon=True) for task in tasks]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(_END_TIMEOUT_S)


def _repeat(name: str, create: Callable[[], Step], every_s: float, stop: threading.Event) -> None:
    step = None
    while not stop.wait(every_s):
        try:
            step = step or create()
            step.step()
        except (OSError, sqlite3.Error) as error:  # for example a full disk; everything else continues
            logger.warning("The %s skipped one round: %s", name, error)
    if step is not None:
        step.close()
