"""When each part of a starting Barmill has come up."""

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass

import requests

from bar.reader import BarReader
from bar.sqlite_file import StoreMissingError
from control.home import Home
from control.jobs.states import Desired
from control.jobs.views import JobView, job_views
from control.kafka.settings import NO_KAFKA, KafkaSettings
from control.machine.health import listens
from control.machine.ports import LOOPBACK, Ports
from control.machine.programs import cluster_of
from feed.kafka.standing import kafka_problem, read_standing
from feed.settings import FeedSettings
from feed.ticklog import TickLog

_CONNECT_TIMEOUT_S = 1.0


@dataclass(frozen=True)
class Stage:
    """One thing that comes up.

    program: whose log says why it does not. needed: without it there is nothing to look at; the others may come later.
    trouble: says in a sentence what is known to be wrong, or ''.
    """

    name: str
    program: str
    ready: Callable[[], bool]
    needed: bool = False
    trouble: Callable[[], str] = lambda: ""


def stages(
    home: Home, ports: Ports, feed: FeedSettings, since_ms: int, kafka: KafkaSettings = NO_KAFKA
) -> Sequence[Stage]:
    """Return what has to come up, in the order to show; `since_ms` tells news from what an earlier run left."""
    flink = cluster_of(home, ports).rest
    market = Stage("demo market", "market", lambda: listens(ports.market_host, ports.market))
    return [
        Stage("Flink cluster", "jobmanager", lambda: flink.taskmanagers() > 0, needed=True),
        *([market] if feed.provider == "market" else ()),
        *(
            [Stage("Kafka", "shipper", lambda: _ships(home, since_ms), trouble=lambda: kafka_problem(home))]
            * kafka.used
        ),
        Stage("feed", "ingest", lambda: _ticks_arrive(home, since_ms), trouble=lambda: _feed_problem(home)),
        Stage("jobs", "controller", lambda: _jobs_run(home, since_ms), trouble=lambda: _job_sentence(home)),
        Stage("first bars", "controller", lambda: _bars_change(home, since_ms) or _all_stopped(home)),
        Stage("app", "app", lambda: _app_answers(ports.app), needed=True),
    ]


def _app_answers(port: int) -> bool:
    try:
        return requests.get(f"http://{LOOPBACK}:{port}/healthz", timeout=_CONNECT_TIMEOUT_S).ok
    except requests.RequestException:
        return False


def _ticks_arrive(home: Home, since_ms: int) -> bool:
    try:
        with TickLog.read_only(home.ticks_db) as log:
            return any(source.updated_ms >= since_ms and source.accepted > 0 for source in log.sources())
    except (StoreMissingError, sqlite3.OperationalError):  # not there yet, or its tables are not
        return False


def _ships(home: Home, since_ms: int) -> bool:
    standing = read_standing(home)
    return standing is not None and standing.updated_ms >= since_ms and not standing.problem


def _feed_problem(home: Home) -> str:
    try:
        with TickLog.read_only(home.ticks_db) as log:
            return next((source.problem for source in log.sources() if source.problem), "")
    except (StoreMissingError, sqlite3.OperationalError):
        return ""


def _jobs_run(home: Home, since_ms: int) -> bool:
    wanted = _wanted(home)
    seen = any(one.observed_ms >= since_ms for one in job_views(home))
    return seen and all(one.as_desired and one.observed_ms >= since_ms for one in wanted)


def _job_sentence(home: Home) -> str:
    return next((f"{one.name}: {one.sentence}" for one in _wanted(home) if not one.as_desired), "")


def _all_stopped(home: Home) -> bool:
    views = job_views(home)
    return bool(views) and all(one.desired == Desired.STOPPED for one in views)


def _wanted(home: Home) -> list[JobView]:
    return [one for one in job_views(home) if one.desired == Desired.RUNNING]


def _bars_change(home: Home, since_ms: int) -> bool:
    try:
        with closing(BarReader.open(home.bars_db)) as reader:
            return any(one.updated_ms >= since_ms for one in reader.progress()) and bool(reader.instruments())
    except (StoreMissingError, sqlite3.OperationalError):
        return False
