"""Whether one process is well, for whoever runs it by itself and asks now and then, as Docker does."""

from bar.clock import now_ms
from control.flink.model import FlinkError
from control.home import Home
from control.jobs.views import job_views
from control.machine.ports import Ports
from control.machine.programs import cluster_of
from control.machine.readiness import app_answers, listens, ships, ticks_arrive
from control.machine.service import is_at_work

# What is told every second or so may be late on a busy machine.
_FRESH_MS = 60_000


def is_well(home: Home, ports: Ports, name: str) -> bool:
    """Tell whether the process of this name does what it is for."""
    since_ms = now_ms() - _FRESH_MS
    flink = cluster_of(home, ports).rest
    match name:
        case "jobmanager":
            try:
                flink.overview()
            except FlinkError:
                return False
            return True
        case "taskmanager":
            return flink.taskmanagers() > 0
        case "market":
            return listens(ports.market_host, ports.market)
        case "ingest":
            return ticks_arrive(home, since_ms)
        case "shipper":
            return ships(home, since_ms)
        case "controller":
            views = job_views(home)
            return not views or any(one.observed_ms >= since_ms for one in views)
        case "app":
            return app_answers(ports.app)
    return is_at_work(home, name)
