"""The controller: sees to it that every job is as it should be, after any loss, without anybody touching it.

Run by the supervisor as `python -m control.controller --home FOLDER`.
"""

import logging
import sys
import threading

from bar.disk import PAUSE_S, is_full
from control.home import Home
from control.jobs.book import JobBook
from control.jobs.ledger import JobLedger
from control.jobs.reconcile import Decision, Wait
from control.jobs.reconciler import Reconciler
from control.jobs.states import State
from control.machine.ports import read_ports
from control.machine.programs import cluster_of
from control.machine.service import serve
from control.monitor.watch import watching
from control.people.roles import FIRST_START
from control.retention.removal import retaining
from control.waiting import wait_until

logger = logging.getLogger(__name__)

# Flink caches what it answers for about as long.
STEADY_S = 3.0
# While something is on its way, looking more often makes it quicker.
BUSY_S = 0.5


def run(home: Home, stop: threading.Event) -> int:
    """Keep the jobs of this home as they should be until told to stop."""
    ports = read_ports(home)
    if ports is None:
        raise SystemExit("The cluster of this home has no port yet; start Barmill with ./barmill up.")
    with JobBook.open(home, FIRST_START) as book:
        book.ensure_default_job()
    cluster = cluster_of(home, ports)
    with JobLedger.open(home) as ledger, watching(home, cluster.rest), retaining(home):
        reconciler = Reconciler(home, cluster.rest, ledger)
        while not stop.is_set():
            if is_full(home.root):
                # A job cannot start now, and after some failures it would count as failed for good.
                logger.warning("The disk of %s is full; the jobs are left as they are until there is room.", home.root)
                stop.wait(PAUSE_S)
                continue
            before = ledger.data_version()
            decisions = reconciler.round()
            longest_s = STEADY_S if all(map(_settled, decisions.values())) else BUSY_S
            # Whoever asks for something writes to the database, which ends the pause.
            wait_until(lambda before=before: ledger.data_version() != before, longest_s, every_s=0.2, stop=stop)  # type: ignore[misc]
    return 0


def _settled(decision: Decision) -> bool:
    return isinstance(decision, Wait) and decision.state in (State.RUNNING, State.STOPPED, State.FAILED)


if __name__ == "__main__":
    # Two controllers would start two jobs.
    sys.exit(serve("controller", "Barmill's controller: keeps the jobs as they should be.", run))
