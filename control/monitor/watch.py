"""The watch: looks at everything every few seconds, keeps what it saw, and raises and clears alerts.

It runs inside the controller in threads of its own: nothing here steers a job, and neither a slow answer nor a slow
webhook ever makes the reconciler wait.
"""

import logging
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from bar.clock import now_ms
from control.damage import damage_of
from control.feeds.views import current_states
from control.flink.rest import FlinkRest
from control.freshness.reading import jobs_at_rest
from control.home import Home
from control.monitor.alarm import Alarm, seen_at
from control.monitor.alerts import open_alert_db
from control.monitor.cluster import measure_cluster
from control.monitor.delivery import Courier
from control.monitor.flow import measure_flow, read_log
from control.monitor.history import SAMPLE_MS, History
from control.monitor.jobs import watched_jobs
from control.monitor.keys import expiring_keys
from control.monitor.machine import measure_machine
from control.monitor.metrics import Rates
from feed.kafka.standing import kafka_problem

logger = logging.getLogger(__name__)

_WATCH_EVERY_S = SAMPLE_MS / 1_000
_DELIVER_EVERY_S = 2.0
_END_TIMEOUT_S = 3.0


class Step(Protocol):
    """Something that is done again and again."""

    def step(self) -> None:
        """Do it once."""

    def close(self) -> None:
        """Give back what it holds."""


class Watch:
    """Measures one home, and sees to its alerts."""

    def __init__(self, home: Home, flink: FlinkRest) -> None:
        self._home, self._flink = home, flink
        self._history, self._alarm = History.open(home), Alarm(home)
        self._rates = Rates()
        self._looked_ms = 0

    def close(self) -> None:
        """Give the files back."""
        self._history.close()
        self._alarm.close()

    def step(self) -> None:
        """Look once."""
        at_ms = now_ms()
        jobs, log = watched_jobs(self._home), read_log(self._home.ticks_db)
        cluster = measure_cluster(self._flink, jobs, at_ms)
        resting = jobs_at_rest(self._home)
        flow = measure_flow(self._home, log, at_ms, self._looked_ms or at_ms - SAMPLE_MS, resting)
        readings = [*flow, *cluster.readings, *measure_machine(self._home)]
        readings += self._rates.of(readings, at_ms)
        self._looked_ms = at_ms
        self._history.write(at_ms, readings, cluster.failures)
        keys, kafka = expiring_keys(self._home), kafka_problem(self._home)
        feeds = current_states(self._home, at_ms)
        self._alarm.step(
            seen_at(at_ms, readings, self._history, jobs, log, keys, kafka, feeds, resting, damage_of(self._home))
        )


@contextmanager
def watching(
    home: Home,
    flink: FlinkRest,
    *,
    watch_every_s: float = _WATCH_EVERY_S,
    deliver_every_s: float = _DELIVER_EVERY_S,
) -> Iterator[None]:
    """Keep watch, and deliver alerts, while the block runs."""
    stop = threading.Event()
    work: list[tuple[str, Callable[[], Step], float]] = [
        ("watch", lambda: Watch(home, flink), watch_every_s),
        ("courier", lambda: Courier(home, open_alert_db(home)), deliver_every_s),
    ]
    # Daemons, so that a question to something that hangs does not keep the controller from ending.
    threads = [threading.Thread(target=_repeat, args=(*one, stop), name=one[0], daemon=True) for one in work]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(_END_TIMEOUT_S)


def _repeat(name: str, make: Callable[[], Step], every_s: float, stop: threading.Event) -> None:
    step = None
    while not stop.wait(every_s):
        try:
            step = step or make()
            step.step()
        except (OSError, sqlite3.Error) as error:  # a full disk, say: everything else goes on without this
            logger.warning("The %s had to leave one look out: %s", name, error)
    if step is not None:
        step.close()
