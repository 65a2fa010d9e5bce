"""The measurement of a running Barmill from its tick log and bar store. Prints JSON.

python -m benchmarks.live delay --home FOLDER --warm-up S --window S --rate FACTOR
    Starts the processes of `barmill up` in a fresh home, with the demo market's rate multiplied by FACTOR, and measures
    the delay from tick to bar, and memory and CPU of each process.
python -m benchmarks.live picks --home FOLDER --changes N
    Starts the demo market, at about 5,000 ticks a second, and ingest in a fresh home. Disables and enables one
    instrument repeatedly, as a page does, and measures the time until the ticks in the log stop or start.
"""

import argparse
import random
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

from barmill.audit.roles import Actor
from barmill.ingest.instruments.changes import change_selection
from barmill.ingest.instruments.store import Instruments
from barmill.platform.clock import wait_until
from barmill.platform.feed_settings import FeedSettings
from barmill.platform.home import Home
from barmill.platform.ports import choose_ports, free_ports
from barmill.simulator.access import ensure_market_key
from barmill.storage.tick_log import TickLog
from benchmarks.latency import NEXT_IN_BARS, NEXT_IN_LOG, CounterReader, delays, overtaken, percentiles
from benchmarks.private_home import PrivateHomeError, pids, print_result, running_barmill, wait_until_current
from benchmarks.usage import busy_seconds, cpu_seconds, memory_mb, others_share
from control.processes.supervisor import Supervisor
from control.system.readiness import programs, set_child_environment

_POLL_EVERY_S = 0.002
# Ticks of the window must be visible at most this long after its end.
_DRAIN_S = 30.0
# At this rate the first tick of this instrument after a change arrives within milliseconds.
_INSTRUMENT = "OAKR/USD"
_MARKET_OPTIONS = ("--rate", "40", "--past-minutes", "0")
_ACTOR = Actor("bench")
_PROCESSES = ("market", "ingest")
_PICKS_POLL_EVERY_S = 0.005
_SILENT_S = 3.0
_TIMEOUT_S = 60.0


def measure_delay(home: Home, warm_up_s: float, window_s: float, rate: float) -> dict[str, Any]:
    """Start all processes, measure delay, memory and CPU, and stop them."""
    started_s = time.monotonic()
    # Without history from the market, there is no backlog at the start.
    with running_barmill(home, ("--rate", str(rate), "--past-minutes", "0")) as (supervisor, _):
        startup_s = time.monotonic() - started_s
        threading.Event().wait(warm_up_s)
        wait_until_current(home)
        return {"startup_s": round(startup_s, 1), **_measure_window(home, supervisor, window_s)}


def _measure_window(home: Home, supervisor: Supervisor, window_s: float) -> dict[str, Any]:
    processes = pids(home, supervisor)
    log = CounterReader(home.ticks_db, NEXT_IN_LOG)
    bars = CounterReader(home.bars_db, NEXT_IN_BARS)
    busy_s, cpu_s, started_s = busy_seconds(), _cpu_seconds(processes), time.monotonic()
    _poll_until(lambda: time.monotonic() - started_s > window_s, log, bars)
    wall_s, last = time.monotonic() - started_s, log.newest
    used_s = {name: spent_s - cpu_s[name] for name, spent_s in _cpu_seconds(processes).items()}
    other_share = others_share(busy_seconds() - busy_s, sum(used_s.values()) + time.process_time(), wall_s)
    if not _poll_until(lambda: bars.newest >= last, log, bars, timeout_s=_DRAIN_S):
        raise PrivateHomeError(f"After {_DRAIN_S:.0f} s ticks are still not in the bars; the job does not keep up.")
    if pids(home, supervisor) != processes:
        raise PrivateHomeError("A process was restarted during the measurement; see its log in log/ of the home.")
    first = log.observations[0][1]
    ticks = _ticks(home, first, last)
    on_time = ticks.filter(~pl.col("overtaken"))
    return {
        "window_s": round(wall_s, 1),
        "ticks": ticks.height,
        "ticks_per_s": round(ticks.height / wall_s),
        "left_out_as_late_on_purpose": ticks.height - on_time.height,
        "delay_ms": percentiles(delays(on_time, log.observations, bars.observations)),
        "look_every_ms": round(wall_s * 1_000 / log.polls, 2),
        "processes": {name: _process_usage(pid, used_s[name] / wall_s) for name, pid in processes.items()},
        "other_programs_share_of_all_cores": round(other_share, 3),
    }


def _poll_until(condition: Callable[[], bool], *counters: CounterReader, timeout_s: float = 1e9) -> bool:
    def poll() -> bool:
        for counter in counters:
            counter.poll()
        return condition()

    return wait_until(poll, timeout_s, every_s=_POLL_EVERY_S)


def _ticks(home: Home, first: int, last: int) -> pl.DataFrame:
    """Return the ticks with a sequence in [first, last): sequence, instrument, time_ns, id, and overtaken."""
    parts = []
    with TickLog.read_only(home.ticks_db) as log:
        for start, block in log.blocks():
            numbered = block.with_columns(sequence=pl.int_range(start, start + block.height, dtype=pl.Int64))
            parts.append(numbered.select("sequence", "instrument", "time_ns", "id"))
    ticks = pl.concat(parts)
    return ticks.with_columns(overtaken=overtaken(ticks)).filter(pl.col("sequence").is_between(first, last - 1))


def _cpu_seconds(pids: dict[str, int]) -> dict[str, float]:
    return {name: cpu_seconds(pid) or 0.0 for name, pid in pids.items()}


def _process_usage(pid: int, cores: float) -> dict[str, float]:
    resident_mb, proportional_mb = memory_mb(pid)
    return {
        "resident_mb": round(resident_mb, 1),
        "proportional_mb": round(proportional_mb, 1),
        "cpu_share_of_one_core": round(cores, 3),
    }


def measure_picks(home: Home, changes: int) -> dict[str, Any]:
    """Start the market and ingest, measure how soon changes take effect, and stop them."""
    supervisor = Supervisor(home.create())
    ports = choose_ports(home, free_ports(1)[0])
    ensure_market_key(home)
    set_child_environment(home)
    selected = [program for program in programs(home, ports, FeedSettings()) if program.name in _PROCESSES]
    try:
        supervisor.start(
            [
                replace(program, command=[*program.command, *_MARKET_OPTIONS]) if program.name == "market" else program
                for program in selected
            ],
            ends_with_parent=True,
        )
        with Instruments.open(home) as instruments:
            if not wait_until(lambda: bool(instruments.catalogue("market")) and _has_ticks(home), _TIMEOUT_S):
                raise PrivateHomeError("The feed delivers no ticks; see log/ingest.log in the home.")
            return _toggle(home, instruments, changes)
    finally:
        supervisor.stop()


def _toggle(home: Home, instruments: Instruments, changes: int) -> dict[str, Any]:
    """Return the times from the committed change to the last or first tick that another process could read."""
    rng = random.Random(7)
    disabled_ms, enabled_ms = list[float](), list[float]()
    with TickLog.read_only(home.ticks_db) as log:
        reader = _LogReader(log)
        for _ in range(changes):
            # Change at a random time within the feed's poll interval of half a second.
            wait_until(lambda: False, rng.uniform(0.5, 1.5))
            changed_s = _change_instrument(instruments, enable=False)
            reader.wait_until_silent(changed_s)
            disabled_ms.append(max(0.0, reader.last_s - changed_s) * 1_000)
            changed_s = _change_instrument(instruments, enable=True)
            reader.wait_for_tick(changed_s)
            enabled_ms.append((reader.last_s - changed_s) * 1_000)
    table = pl.DataFrame({"disabled_to_last_tick_ms": disabled_ms, "enabled_to_first_tick_ms": enabled_ms})
    return {"changes": changes, "look_every_ms": _PICKS_POLL_EVERY_S * 1_000, "delay_ms": percentiles(table)}


class _LogReader:
    """A reader of the growing log. last_s: the monotonic time at which it last read a tick of the instrument."""

    def __init__(self, log: TickLog) -> None:
        self._log, self._next = log, log.end_sequence()
        self.last_s = 0.0

    def wait_until_silent(self, time_s: float) -> None:
        """Poll until no tick of the instrument has arrived for _SILENT_S after that time."""
        self._poll_until_done(lambda: time.monotonic() > max(self.last_s, time_s) + _SILENT_S)

    def wait_for_tick(self, time_s: float) -> None:
        """Poll until a tick of the instrument arrives after that time."""
        self._poll_until_done(lambda: self.last_s > time_s)

    def _poll_until_done(self, condition: Callable[[], bool]) -> None:
        """Poll until done; raise PrivateHomeError after _TIMEOUT_S."""

        def poll() -> bool:
            backlog = self._log.read_from(self._next, 1_000_000)
            self._next = backlog.next_sequence
            if backlog.ticks is not None and (backlog.ticks["instrument"] == _INSTRUMENT).any():
                self.last_s = time.monotonic()
            return condition()

        if not wait_until(poll, _TIMEOUT_S, every_s=_PICKS_POLL_EVERY_S):
            raise PrivateHomeError(
                "The feed does not follow the changes of its instruments; see log/ingest.log in the home."
            )


def _change_instrument(instruments: Instruments, *, enable: bool) -> float:
    change_selection(instruments, _ACTOR, "market", [(1, _INSTRUMENT)], enable=enable)
    return time.monotonic()


def _has_ticks(home: Home) -> bool:
    if not home.ticks_db.exists():
        return False
    with TickLog.read_only(home.ticks_db) as log:
        return log.end_sequence() > 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and print the result."""
    parser = argparse.ArgumentParser(description="Measure a running Barmill.")
    commands = parser.add_subparsers(dest="command", required=True)
    delay = commands.add_parser("delay", help="measure delay, memory and CPU")
    delay.add_argument("--warm-up", type=float, required=True, metavar="SECONDS")
    delay.add_argument("--window", type=float, required=True, metavar="SECONDS")
    delay.add_argument("--rate", type=float, required=True, metavar="FACTOR")
    picks = commands.add_parser("picks", help="measure how soon the feed follows a change of its instruments")
    picks.add_argument("--changes", type=int, required=True)
    for command in (delay, picks):
        command.add_argument("--home", type=Path, required=True)
    args = parser.parse_args(arguments)
    home = Home(args.home)
    if args.command == "delay":
        return print_result(lambda: measure_delay(home, args.warm_up, args.window, args.rate))
    return print_result(lambda: measure_picks(home, args.changes))


if __name__ == "__main__":
    sys.exit(main())
