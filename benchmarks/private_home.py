"""A Barmill of a benchmark's own: all that `barmill up` starts, in a fresh home, with the demo market quickened."""

import json
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

from control.home import Home
from control.machine.ports import Ports, choose_ports, free_ports
from control.machine.process_table import read_note
from control.machine.processes import Supervisor
from control.machine.programs import cluster_of, programs, supervised_environment
from control.machine.readiness import stages
from control.waiting import wait_until
from feed.market.key import ensure_market_key
from feed.settings import FeedSettings
from feed.ticklog import TickLog

# So little behind the wall clock, the feed has caught up with what the market gave out before it was up.
_CURRENT_MS = 1_500
_START_TIMEOUT_S = 180.0


class PrivateHomeError(Exception):
    """The Barmill to measure does not run as it should; the sentence says what is the matter."""


def printed(measure: Callable[[], Mapping[str, object]]) -> int:
    """Measure and print the result as JSON, or what is the matter; return the exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what was started is stopped on the way out
    try:
        print(json.dumps(measure()))
    except PrivateHomeError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


@contextmanager
def running(home: Home, market_options: Sequence[str]) -> Iterator[tuple[Supervisor, Ports]]:
    """Start everything, lend it, and stop it. market_options: more for the command line of the demo market."""
    supervisor = Supervisor(home.create())
    try:
        yield supervisor, _start(home, supervisor, market_options)
    finally:
        supervisor.stop()


def wait_until_current(home: Home) -> None:
    """Wait until the feed has caught up with the market; raise PrivateHomeError if it does not."""
    if not wait_until(lambda: _is_current(home), _START_TIMEOUT_S):
        raise PrivateHomeError("The feed does not catch up with the market; the machine is too slow or too busy.")


def wait_or_fail(condition: Callable[[], bool], what: str, timeout_s: float = _START_TIMEOUT_S) -> None:
    """Wait until a condition holds; raise PrivateHomeError with what did not come about."""
    if not wait_until(condition, timeout_s, every_s=0.2):
        raise PrivateHomeError(f"After {timeout_s:.0f} s {what}; the logs are in the home's folder log.")


def pids(home: Home, supervisor: Supervisor) -> dict[str, int]:
    """Return the process of each part, and of the supervisor."""
    own = read_note(home.run / "supervisord.pid")
    found = {one.name: one.pid for one in supervisor.status() if one.pid is not None}
    return found | ({"supervisor": own.pid} if own else {})


def _start(home: Home, supervisor: Supervisor, market_options: Sequence[str]) -> Ports:
    since_ms = time.time_ns() // 1_000_000
    feed, ports = FeedSettings(), choose_ports(home, free_ports(1)[0])
    ensure_market_key(home)
    cluster_of(home, ports).write_files()
    supervised_environment(home)
    started = [
        replace(one, command=[*one.command, *market_options]) if one.name == "market" else one
        for one in programs(home, ports, feed)
    ]
    supervisor.start(started, tied=True)
    missing = list(stages(home, ports, feed, since_ms))

    def all_up() -> bool:
        missing[:] = [stage for stage in missing if not stage.ready()]
        return not missing

    if not wait_until(all_up, _START_TIMEOUT_S, every_s=0.2):
        names = ", ".join(stage.name for stage in missing)
        raise PrivateHomeError(f"Not up after {_START_TIMEOUT_S:.0f} s: {names}. {missing[0].trouble()}".strip())
    return ports


def _is_current(home: Home) -> bool:
    with TickLog.read_only(home.ticks_db) as log:
        complete_ms = [source.complete_to_ms or 0 for source in log.sources()]
    return min(complete_ms) >= time.time_ns() // 1_000_000 - _CURRENT_MS
