"""A private Barmill for a benchmark: the processes of `barmill up` in a fresh home, or a broker and a Flink cluster."""

import json
import os
import signal
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from confluent_kafka import KafkaException

from barmill.kafka.access import ensure_topics
from barmill.platform.clock import wait_until
from barmill.platform.feed_settings import FeedSettings
from barmill.platform.home import Home
from barmill.platform.kafka_settings import KafkaSettings
from barmill.platform.ports import Ports, choose_ports, free_ports
from barmill.platform.process_table import read_pid_file
from barmill.simulator.access import ensure_market_key
from barmill.storage.tick_log import TickLog
from control.flink.cluster import private_cluster
from control.flink.rest import FlinkRest
from control.jobs.specs import BARS_PROGRAM, check_spec
from control.kafka.artifacts import fetch
from control.kafka.broker import private_broker
from control.processes.supervisor import Supervisor
from control.system.readiness import cluster_of, programs, set_child_environment, stages

# A feed that is at most this far behind the wall clock has caught up with the ticks from before its start.
_CURRENT_MS = 1_500
_START_TIMEOUT_S = 180.0
_KEEP_DAYS = 1.0


class PrivateHomeError(Exception):
    """The Barmill to measure does not run properly; the message says why."""


def print_result(measure: Callable[[], Mapping[str, object]]) -> int:
    """Measure and print the result as JSON, or the error; return the exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # stops the started processes on exit
    try:
        print(json.dumps(measure()))
    except PrivateHomeError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


@contextmanager
def running_barmill(home: Home, market_options: Sequence[str]) -> Iterator[tuple[Supervisor, Ports]]:
    """Run all processes while the block lasts; raise PrivateHomeError if they do not start.

    market_options: additional arguments of the demo market.
    """
    supervisor = Supervisor(home.create())
    try:
        yield supervisor, _start(home, supervisor, market_options)
    finally:
        supervisor.stop()


def wait_until_current(home: Home) -> None:
    """Wait until the feed has caught up with the market; raise PrivateHomeError if it does not."""
    if not wait_until(lambda: _is_current(home), _START_TIMEOUT_S):
        raise PrivateHomeError(
            "The feed did not catch up with the market, because the machine is too slow or too busy; end other programs"
            " and measure again."
        )


def wait_or_fail(condition: Callable[[], bool], problem: str, timeout_s: float = _START_TIMEOUT_S) -> None:
    """Wait until a condition holds; raise PrivateHomeError with `problem` if it does not."""
    if not wait_until(condition, timeout_s, every_s=0.2):
        raise PrivateHomeError(f"After {timeout_s:.0f} s {problem}; see the logs in log/ of the home.")


def pids(home: Home, supervisor: Supervisor) -> dict[str, int]:
    """Return the id of each running process by name, and of the supervisor."""
    supervisor_process = read_pid_file(home.run / "supervisord.pid")
    pid_by_name = {process.name: process.pid for process in supervisor.status() if process.pid is not None}
    return pid_by_name | ({"supervisor": supervisor_process.pid} if supervisor_process else {})


@contextmanager
def kafka_home(home: Home) -> Iterator[KafkaSettings]:
    """Run a broker with the topics of a fresh home, write the kafka.json of the home, and yield its settings.

    Raise ControlError if the broker cannot start, and PrivateHomeError if Kafka reports an error.
    """
    fetch("connector")
    home.create()
    try:
        with private_broker(home.root / "kafka") as settings:
            KafkaSettings.write(home, settings)
            ensure_topics(settings, _KEEP_DAYS)
            yield settings
    except KafkaException as error:
        raise PrivateHomeError(
            f"Kafka reported an error: {error.args[0].str()}; correct the problem and measure again."
        ) from error


@contextmanager
def bars_job(home: Home, cores: int, **fields: Any) -> Iterator[FlinkRest]:
    """Run a bars job from Kafka to Kafka on a Flink cluster that may use this many cores.

    fields: further fields of its spec. Raise PrivateHomeError if the machine has fewer cores.
    """
    usable = sorted(os.sched_getaffinity(0))
    if cores > len(usable):
        raise PrivateHomeError(
            f"This machine has {len(usable)} cores, so nothing can be measured on {cores}; use a machine"
            " with more cores."
        )
    os.sched_setaffinity(0, usable[:cores])  # the processes of Flink inherit this
    try:
        with private_cluster(Home(home.root / "cluster"), uses_kafka=True) as flink:
            os.sched_setaffinity(0, usable)
            spec = check_spec({"name": "bench", "source": "kafka", "sink": "kafka", **fields}, home)
            path = home.flink / "spec.json"
            path.write_text(spec.model_dump_json())
            arguments = ["--spec", str(path)]
            flink.submit(BARS_PROGRAM, arguments, parallelism=spec.parallelism, job_id=uuid.uuid4().hex)
            yield flink
    finally:
        os.sched_setaffinity(0, usable)


def _start(home: Home, supervisor: Supervisor, market_options: Sequence[str]) -> Ports:
    since_ms = time.time_ns() // 1_000_000
    feed, ports = FeedSettings(), choose_ports(home, free_ports(1)[0])
    ensure_market_key(home)
    cluster_of(home, ports).write_files()
    set_child_environment(home)
    started_programs = [
        replace(program, command=[*program.command, *market_options]) if program.name == "market" else program
        for program in programs(home, ports, feed)
    ]
    supervisor.start(started_programs, ends_with_parent=True)
    pending = list(stages(home, ports, feed, since_ms))

    def all_up() -> bool:
        pending[:] = [stage for stage in pending if not stage.is_ready()]
        return not pending

    if not wait_until(all_up, _START_TIMEOUT_S, every_s=0.2):
        names = ", ".join(stage.name for stage in pending)
        sentence = f"These did not start within {_START_TIMEOUT_S:.0f} s: {names}; see the logs in log/ of the home."
        raise PrivateHomeError(f"{sentence} {pending[0].problem()}".strip())
    return ports


def _is_current(home: Home) -> bool:
    with TickLog.read_only(home.ticks_db) as log:
        complete_ms = [source.complete_to_ms or 0 for source in log.sources()]
    return min(complete_ms) >= time.time_ns() // 1_000_000 - _CURRENT_MS
