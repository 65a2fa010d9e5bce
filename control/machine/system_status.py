"""How a home is as a whole: its processes, jobs and the flow of prices. Only looks, changes nothing."""

import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from bar.disk import is_full
from bar.reader import BarReader
from bar.sqlite_file import StoreMissingError
from control.damage import damage_of
from control.feeds.views import FeedView, feed_views
from control.home import Home
from control.jobs.states import Desired
from control.jobs.views import JobView, job_views
from control.machine.ports import LOOPBACK, read_ports
from control.machine.processes import ProcessStatus, Supervisor
from control.machine.service import is_at_work
from feed.kafka.standing import kafka_problem
from feed.ticklog import TickLog

_RATE_OVER_MS = 5_000


@dataclass(frozen=True)
class SystemStatus:
    """How everything is.

    newest_tick_age_s: how old the newest tick in any bar is, by the clock of its source; None without bars.
    feed_problem: why no ticks come, in a sentence, or ''. kafka_problem: why they do not reach Kafka, likewise.
    disk_problem: that the disk is full, in a sentence, or ''.
    damage: what of the stored data is damaged, likewise.
    unsupervised: the processes run, but were started one by one, as containers are, so there is no list of them.
    """

    home: Path
    url: str | None
    processes: Sequence[ProcessStatus]
    jobs: Sequence[JobView]
    ticks_per_s: float
    newest_tick_age_s: float | None
    feed_problem: str
    kafka_problem: str = ""
    damage: str = ""
    feeds: Sequence[FeedView] = ()
    unsupervised: bool = False
    disk_problem: str = ""

    @property
    def running(self) -> bool:
        """Tell whether Barmill was started and not stopped."""
        return bool(self.processes) or self.unsupervised

    @property
    def healthy(self) -> bool:
        """Tell whether every process runs, and every job that should."""
        jobs_run = all(job.as_desired for job in self.jobs if job.desired == Desired.RUNNING)
        return (
            not self.disk_problem
            and self.running
            and all(one.running for one in self.processes)
            and bool(self.jobs)
            and jobs_run
        )

    @property
    def resident_bytes(self) -> int:
        """Memory that all processes together hold."""
        return sum(one.resident_bytes for one in self.processes)


def look(home: Home) -> SystemStatus:
    """Look at everything once; raise SupervisorError if the supervisor does not answer."""
    supervisor, ports, now_ms = Supervisor(home), read_ports(home), time.time_ns() // 1_000_000
    processes = supervisor.status()
    unsupervised = not processes and is_at_work(home, "controller")
    running = bool(processes) or unsupervised
    rate, problem = _feed(home, now_ms)
    return SystemStatus(
        home=home.root,
        url=f"http://{LOOPBACK}:{ports.app}" if ports and running else None,
        processes=processes,
        jobs=job_views(home) if running else [],
        ticks_per_s=rate,
        newest_tick_age_s=_newest_tick_age_s(home, now_ms),
        feed_problem=problem,
        kafka_problem=kafka_problem(home) if running else "",
        damage=" ".join(filter(None, damage_of(home).values())),
        feeds=feed_views(home) if running else (),
        unsupervised=unsupervised,
        disk_problem=_disk_problem(home) if running else "",
    )


def _disk_problem(home: Home) -> str:
    if not is_full(home.root):
        return ""
    return f"The disk of {home.root} is full: nothing is stored until there is room. Free some space; all resumes."


def _feed(home: Home, now_ms: int) -> tuple[float, str]:
    """Return ticks a second over the last seconds, and the feed's problem."""
    try:
        with TickLog.read_only(home.ticks_db) as log:
            # Blocks are at most a few a second each, so the newest hundreds cover the time in question.
            newest = "SELECT rows, received_ms FROM blocks ORDER BY first_sequence DESC LIMIT 500"
            query = f"SELECT coalesce(sum(rows), 0) FROM ({newest}) WHERE received_ms > ?"
            (rows,) = log.db.conn.execute(query, (now_ms - _RATE_OVER_MS,)).fetchone()
            problem = next((one.problem for one in log.sources() if one.problem and not one.ended), "")
    except (StoreMissingError, sqlite3.OperationalError):
        return 0.0, ""
    return rows * 1_000 / _RATE_OVER_MS, problem


def _newest_tick_age_s(home: Home, now_ms: int) -> float | None:
    try:
        with closing(BarReader.open(home.bars_db)) as reader:
            times = [one.newest_tick_ms for one in reader.progress() if one.newest_tick_ms is not None]
    except (StoreMissingError, sqlite3.OperationalError):
        return None
    return (now_ms - max(times)) / 1_000 if times else None
