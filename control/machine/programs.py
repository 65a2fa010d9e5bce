"""Which processes make up a running Barmill, and how each is started."""

import os
import sys
from collections.abc import Sequence

from control.flink.cluster import Cluster
from control.home import REPO_ROOT, Home
from control.kafka.own import broker_of
from control.kafka.settings import NO_KAFKA, KafkaSettings
from control.keys.settings import SECRET_VARIABLES
from control.machine.ports import Ports
from control.machine.processes import Program
from control.monitor.metrics import TOKEN_VARIABLE
from control.people.first_admin import PASSWORD_FILE_VARIABLE
from feed.settings import FeedSettings

_HIDDEN = (*SECRET_VARIABLES, TOKEN_VARIABLE, PASSWORD_FILE_VARIABLE)
# A new demo market comes with so much of a past, so that the first look at a chart shows one.
_PAST = ("--past-minutes", "30")


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


def programs(home: Home, ports: Ports, feed: FeedSettings, kafka: KafkaSettings = NO_KAFKA) -> Sequence[Program]:
    """Return the processes in the order they start.

    Only the feed, what moves ticks and bars to and from Kafka, and the app may learn what opens the key store, where
    the environment has it; only the app the token of the metrics.
    """
    cluster = cluster_of(home, ports)
    flink = cluster.environment()
    listen = ("--address", ports.listen)
    market = [
        _module("market", "feed.market", home, "--port", str(ports.market), *listen, *_PAST, hidden=_HIDDEN),
    ]
    to_and_from_kafka = [
        _module("shipper", "feed.kafka.shipper", home, hidden=(TOKEN_VARIABLE,)),
        _module("materialiser", "bar.kafka.materialise", home, hidden=(TOKEN_VARIABLE,)),
    ]
    return [
        *([_broker(home, ports)] if kafka.own_broker else ()),
        Program("jobmanager", cluster.jobmanager_command(), flink, folder=home.flink),
        Program("taskmanager", cluster.taskmanager_command(), flink, folder=home.flink),
        *(market if feed.provider == "market" else ()),
        _module("ingest", "feed.ingest", home, hidden=(TOKEN_VARIABLE,)),
        *(to_and_from_kafka if kafka.used else ()),
        _module("controller", "control.controller", home, hidden=_HIDDEN),
        _module("app", "front", home, "--port", str(ports.app), *listen),
    ]


def supervised_environment(home: Home) -> None:
    """Prepare this process's environment for what it is about to start."""
    os.environ["BARMILL_HOME"] = str(home.root)
    os.environ["PYTHONPATH"] = str(REPO_ROOT)
    os.environ["PYTHONUNBUFFERED"] = "1"  # or the last words of a process that dies stay unwritten
    os.environ["MALLOC_ARENA_MAX"] = "2"  # or each thread grows a C heap of its own


def _broker(home: Home, ports: Ports) -> Program:
    broker = broker_of(home, ports)
    return Program("kafka", broker.command(), broker.environment(), folder=broker.folder)


def _module(name: str, module: str, home: Home, *arguments: str, hidden: Sequence[str] = ()) -> Program:
    return Program(name, [sys.executable, "-m", module, "--home", str(home.root), *arguments], hidden=hidden)
