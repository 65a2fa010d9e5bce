"""The processes of a running Barmill: how each is started, and how its readiness is determined."""

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from barmill.auth.administration import PASSWORD_FILE_VARIABLE
from barmill.kafka.shipper_status import kafka_problem, read_shipper_status
from barmill.platform.feed_settings import FeedSettings
from barmill.platform.home import PYTHON_PATH, Home
from barmill.platform.kafka_settings import NO_KAFKA, KafkaSettings
from barmill.platform.ports import Ports
from barmill.platform.sqlite_file import if_ready
from barmill.secrets.settings import SECRET_VARIABLES
from barmill.storage.reader import BarReader
from barmill.storage.tick_log import TickLog
from control.flink.cluster import Cluster
from control.jobs.model import Desired
from control.jobs.views import JobView, job_views
from control.kafka.broker import broker_of
from control.monitoring.metrics import TOKEN_VARIABLE
from control.processes.health import is_healthy, is_listening
from control.processes.supervisor import Program

_HIDDEN_VARIABLES = (*SECRET_VARIABLES, TOKEN_VARIABLE, PASSWORD_FILE_VARIABLE)
# A new demo market starts with this much history, so that charts are not empty.
_HISTORY_ARGUMENTS = ("--past-minutes", "30")
# At the first start of a home, the market also offers this many days before that history.
_BACKFILL_DAYS = 7


def cluster_of(home: Home, ports: Ports) -> Cluster:
    """Return the home's own, long-lived cluster."""
    return Cluster(
        home,
        ports.jobmanager_rest,
        ports.jobmanager_rpc,
        ports.slots,
        host=ports.jobmanager_host,
        listen=ports.listen,
    )


def backfill_days(home: Home) -> int:
    """Return how many days of history a new demo market offers to this home; 0 once the home has ticks."""
    with if_ready(), TickLog.read_only(home.ticks_db) as log:
        return _BACKFILL_DAYS if log.end_sequence() == 1 else 0
    return _BACKFILL_DAYS


def programs(
    home: Home, ports: Ports, feed: FeedSettings, kafka: KafkaSettings = NO_KAFKA, market_days: int = 0
) -> Sequence[Program]:
    """Return the processes in the order they start; market_days: see `backfill_days`.

    Only ingest, shipper, materialiser and app may see the variables that unlock the key store, if the environment has
    them; only the app may see the token of the metrics.
    """
    cluster = replace(cluster_of(home, ports), uses_kafka=kafka.is_used)
    flink = cluster.environment()
    listen = ("--address", ports.listen)
    arguments = (*_HISTORY_ARGUMENTS, "--backfill-days", str(market_days))
    market = [
        _module_program(
            "market",
            "barmill.simulator",
            home,
            "--port",
            str(ports.market),
            *listen,
            *arguments,
            hidden=_HIDDEN_VARIABLES,
        ),
    ]
    kafka_programs = [
        _module_program("shipper", "barmill.kafka.shipper", home, hidden=(TOKEN_VARIABLE,)),
        _module_program("materialiser", "barmill.kafka.materialiser", home, hidden=(TOKEN_VARIABLE,)),
    ]
    return [
        *([_broker(home, ports)] if kafka.own_broker else ()),
        Program("jobmanager", cluster.jobmanager_command(), flink, folder=home.flink),
        Program("taskmanager", cluster.taskmanager_command(), flink, folder=home.flink),
        *(market if feed.provider == "market" else ()),
        _module_program("ingest", "control.ingest", home, hidden=(TOKEN_VARIABLE,)),
        *(kafka_programs if kafka.is_used else ()),
        _module_program("controller", "control.controller", home, hidden=_HIDDEN_VARIABLES),
        _module_program("app", "web", home, "--port", str(ports.app), *listen),
    ]


def set_child_environment(home: Home) -> None:
    """Set the environment variables of this process that its children inherit."""
    os.environ["BARMILL_HOME"] = str(home.root)
    os.environ["PYTHONPATH"] = PYTHON_PATH
    os.environ["PYTHONUNBUFFERED"] = "1"  # otherwise the last output of a process that dies is lost
    os.environ["MALLOC_ARENA_MAX"] = "2"  # otherwise each thread grows a separate C heap


def _broker(home: Home, ports: Ports) -> Program:
    broker = broker_of(home, ports)
    return Program("kafka", broker.command(), broker.environment(), folder=broker.folder)


def _module_program(name: str, module: str, home: Home, *arguments: str, hidden: Sequence[str] = ()) -> Program:
    return Program(name, [sys.executable, "-m", module, "--home", str(home.root), *arguments], hidden=hidden)


@dataclass(frozen=True)
class Stage:
    """A part of the system to wait for during a start.

    program: its log shows why it does not start. is_required: the system is unusable without it; other parts may be
    ready later. problem: returns a known problem as a sentence, or ''.
    """

    name: str
    program: str
    is_ready: Callable[[], bool]
    is_required: bool = False
    problem: Callable[[], str] = lambda: ""


def stages(
    home: Home, ports: Ports, feed: FeedSettings, since_ms: int, kafka: KafkaSettings = NO_KAFKA
) -> Sequence[Stage]:
    """Return the parts to wait for, in display order; data from before `since_ms` belongs to an earlier run."""
    flink = cluster_of(home, ports).rest
    market = Stage("demo market", "market", lambda: is_listening(ports.market_host, ports.market))
    shipper = Stage("Kafka", "shipper", lambda: _is_shipping(home, since_ms), problem=lambda: kafka_problem(home))
    return [
        Stage("Flink cluster", "jobmanager", lambda: flink.taskmanagers() > 0, is_required=True),
        *([market] if feed.provider == "market" else ()),
        *([shipper] if kafka.is_used else ()),
        Stage("feed", "ingest", lambda: _ticks_arrive(home, since_ms), problem=lambda: _feed_problem(home)),
        Stage("jobs", "controller", lambda: _jobs_run(home, since_ms), problem=lambda: _job_problem(home)),
        Stage("first bars", "controller", lambda: _bars_are_updated(home, since_ms) or _all_stopped(home)),
        Stage("app", "app", lambda: is_healthy(home, ports, "app"), is_required=True),
    ]


def _ticks_arrive(home: Home, since_ms: int) -> bool:
    with if_ready(), TickLog.read_only(home.ticks_db) as log:
        return any(source.updated_ms >= since_ms and source.accepted > 0 for source in log.sources())
    return False


def _is_shipping(home: Home, since_ms: int) -> bool:
    status = read_shipper_status(home)
    return status is not None and status.updated_ms >= since_ms and not status.problem


def _feed_problem(home: Home) -> str:
    with if_ready(), TickLog.read_only(home.ticks_db) as log:
        return next((source.problem for source in log.sources() if source.problem), "")
    return ""


def _jobs_run(home: Home, since_ms: int) -> bool:
    jobs = _jobs_to_run(home)
    is_observed = any(view.observed_ms >= since_ms for view in job_views(home))
    return is_observed and all(job.is_as_desired and job.observed_ms >= since_ms for job in jobs)


def _job_problem(home: Home) -> str:
    return next((f"{job.name}: {job.sentence}" for job in _jobs_to_run(home) if not job.is_as_desired), "")


def _all_stopped(home: Home) -> bool:
    views = job_views(home)
    return bool(views) and all(view.desired == Desired.STOPPED for view in views)


def _jobs_to_run(home: Home) -> list[JobView]:
    return [view for view in job_views(home) if view.desired == Desired.RUNNING]


def _bars_are_updated(home: Home, since_ms: int) -> bool:
    with if_ready(), BarReader.open(home.bars_db) as reader:
        return any(shard.updated_ms >= since_ms for shard in reader.progress()) and bool(reader.instruments())
    return False
