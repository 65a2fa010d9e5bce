"""The controller process, which keeps every job in its desired state.

It restarts jobs that fail, except after several early failures in a row (see jobs/planner.py). It also runs monitoring
and the retention of bars. The supervisor runs it as `python -m control.controller --home FOLDER`.
"""

import logging
import sys
import threading

from barmill.audit.roles import FIRST_START
from barmill.platform.home import Home
from barmill.platform.ports import read_ports
from barmill.platform.service import serve
from barmill.platform.sqlite_file import PAUSE_S, data_version, is_full, wait_for_change
from control.jobs.decisions import Decision, Wait
from control.jobs.model import State
from control.jobs.reconciler import Reconciler
from control.jobs.repository import JobRepository
from control.jobs.service import JobService
from control.monitoring.watch import background_monitoring
from control.retention import background_retention
from control.system.readiness import cluster_of

logger = logging.getLogger(__name__)

# Flink caches its responses for about this long.
STEADY_INTERVAL_S = 3.0
# While an operation is in progress, frequent rounds finish it sooner.
BUSY_INTERVAL_S = 0.5


def run(home: Home, stop: threading.Event) -> int:
    """Keep the jobs of this home in their desired states until `stop` is set; return 0.

    Raise SystemExit if the ports of the home are not known yet.
    """
    ports = read_ports(home)
    if ports is None:
        raise SystemExit("The Flink cluster of this home has no port yet; start Barmill with ./barmill up.")
    with JobService.open(home, FIRST_START) as service:
        service.ensure_default_job()
    cluster = cluster_of(home, ports)
    with JobRepository.open(home) as repository, background_monitoring(home, cluster.rest), background_retention(home):
        reconciler = Reconciler(home, cluster.rest, repository)
        while not stop.is_set():
            if is_full(home.root):
                # Jobs cannot start now, and repeated failures would make the controller give up on them.
                logger.warning("The disk of %s is full; the jobs are not changed until there is free space.", home.root)
                stop.wait(PAUSE_S)
                continue
            version_before = data_version(repository.db.conn)
            decisions = reconciler.reconcile_jobs()
            interval_s = STEADY_INTERVAL_S if all(map(_is_settled, decisions.values())) else BUSY_INTERVAL_S
            # Every request from a user writes to the database, which ends the pause.
            wait_for_change(repository.db.conn, version_before, interval_s, every_s=0.2, stop=stop)
    return 0


def _is_settled(decision: Decision) -> bool:
    return isinstance(decision, Wait) and decision.state in (State.RUNNING, State.STOPPED, State.FAILED)


if __name__ == "__main__":
    # A second controller would start every job a second time.
    sys.exit(serve("controller", "Barmill's controller: keeps the jobs in their desired states.", run))
