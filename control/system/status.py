"""The overall state of a home: its processes, jobs and price flow. Read-only."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from barmill.ingest.feeds.views import FeedView, feed_views
from barmill.kafka.shipper_status import kafka_problem
from barmill.platform.clock import now_ms
from barmill.platform.home import Home
from barmill.platform.ports import LOOPBACK, read_ports
from barmill.platform.service import is_running
from barmill.platform.sqlite_file import if_ready, is_full
from barmill.storage.bar_damage import damage_of
from barmill.storage.reader import BarReader
from barmill.storage.tick_log import TickLog
from control.jobs.model import Desired
from control.jobs.views import JobView, job_views
from control.processes.supervisor import ProcessStatus, Supervisor
from control.retention import HistoryMove, read_history_move

_RATE_WINDOW_MS = 5_000


@dataclass(frozen=True)
class SystemStatus:
    """The overall state of a home.

    newest_tick_age_s: time since the time stamp of the newest tick in any bar; None without bars. feed_problem,
    kafka_problem, disk_problem, damage: sentences on why no ticks arrive, why they do not reach Kafka, a full disk, and
    damage to stored data; '' if there is no problem. unsupervised: the processes run, but were started separately, as
    in containers, so no list of them exists. history: how far old bars have been compressed, if known.
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
    history: HistoryMove | None = None

    @property
    def running(self) -> bool:
        """Return whether Barmill was started and not stopped."""
        return bool(self.processes) or self.unsupervised

    @property
    def healthy(self) -> bool:
        """Return whether all processes and all jobs that should run do, a job exists, and the disk is not full."""
        jobs_run = all(job.is_as_desired for job in self.jobs if job.desired == Desired.RUNNING)
        return (
            not self.disk_problem
            and self.running
            and all(process.running for process in self.processes)
            and bool(self.jobs)
            and jobs_run
        )

    @property
    def resident_bytes(self) -> int:
        """Return the memory that all processes use together."""
        return sum(process.resident_bytes for process in self.processes)


def read_status(home: Home) -> SystemStatus:
    """Return the current state; raise SupervisorError if the supervisor does not respond."""
    supervisor, ports, at_ms = Supervisor(home), read_ports(home), now_ms()
    processes = supervisor.status()
    unsupervised = not processes and is_running(home, "controller")
    running = bool(processes) or unsupervised
    rate, problem = _tick_rate_and_problem(home, at_ms)
    return SystemStatus(
        home=home.root,
        url=f"http://{LOOPBACK}:{ports.app}" if ports and running else None,
        processes=processes,
        jobs=job_views(home) if running else [],
        ticks_per_s=rate,
        newest_tick_age_s=_newest_tick_age_s(home, at_ms),
        feed_problem=problem,
        kafka_problem=kafka_problem(home) if running else "",
        damage=" ".join(filter(None, damage_of(home).values())),
        feeds=feed_views(home) if running else (),
        unsupervised=unsupervised,
        disk_problem=_disk_problem(home) if running else "",
        history=read_history_move(home) if running else None,
    )


def _disk_problem(home: Home) -> str:
    if not is_full(home.root):
        return ""
    return f"The disk of {home.root} is full, so nothing is stored. Free some space; Barmill then resumes."


def _tick_rate_and_problem(home: Home, now_ms: int) -> tuple[float, str]:
    """Return the ticks per second over _RATE_WINDOW_MS, and the first problem of a feed, or ''."""
    with if_ready(), TickLog.read_only(home.ticks_db) as log:
        # Each source writes at most a few blocks per second, so the newest hundreds cover this period.
        newest = "SELECT rows, received_ms FROM blocks ORDER BY first_sequence DESC LIMIT 500"
        query = f"SELECT coalesce(sum(rows), 0) FROM ({newest}) WHERE received_ms > ?"
        (rows,) = log.db.conn.execute(query, (now_ms - _RATE_WINDOW_MS,)).fetchone()
        problem = next((source.problem for source in log.sources() if source.problem and not source.ended), "")
        return rows * 1_000 / _RATE_WINDOW_MS, problem
    return 0.0, ""


def _newest_tick_age_s(home: Home, now_ms: int) -> float | None:
    with if_ready(), BarReader.open(home.bars_db) as reader:
        times = [shard.newest_tick_ms for shard in reader.progress() if shard.newest_tick_ms is not None]
        return (now_ms - max(times)) / 1_000 if times else None
    return None
