"""How soon the feed follows a pick: python -m benchmarks.picks --home FOLDER --changes N.

Starts the demo market, at about 5,000 ticks a second, and the feed in a fresh home; disables and enables one instrument
by turns as a page does, and watches the tick log as any reader can.
"""

import argparse
import json
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks.latency import percentiles
from benchmarks.replay import Say
from benchmarks.scale import Scale
from benchmarks.usage import measure, python
from control.home import Home
from control.instruments.picks import pick
from control.instruments.store import Instruments
from control.machine.ports import choose_ports, free_ports
from control.machine.processes import Supervisor
from control.machine.programs import programs, supervised_environment
from control.people.roles import Actor
from control.waiting import wait_until
from feed.market.key import ensure_market_key
from feed.settings import FeedSettings
from feed.ticklog import TickLog

# So busy at this rate that its first tick after a change comes within milliseconds.
_INSTRUMENT = "OAKR/USD"
_RATE = ("--rate", "40", "--past-minutes", "0")
_BENCH = Actor("bench")
_PROCESSES = ("market", "ingest")
_LOOK_EVERY_S = 0.005
_SILENT_S = 3.0
_TIMEOUT_S = 60.0


def picks(scale: Scale, folder: Path, say: Say) -> dict[str, Any]:
    """Measure in a process and a home of its own, which stays only if something failed."""
    home = folder / "picks"
    shutil.rmtree(home, ignore_errors=True)
    say(f"A market and a feed of its own; {scale.pick_changes} times one instrument off and on.")
    taken = measure(python("benchmarks.picks", "--home", str(home), "--changes", str(scale.pick_changes)))
    shutil.rmtree(home, ignore_errors=True)
    found: dict[str, Any] = json.loads(taken.output)
    return found | {"other_programs_share_of_all_cores": round(taken.others_share, 3)}


def measure_picks(home: Home, changes: int) -> dict[str, Any]:
    """Start, measure, stop."""
    supervisor = Supervisor(home.create())
    ports = choose_ports(home, free_ports(1)[0])
    ensure_market_key(home)
    supervised_environment(home)
    wanted = [one for one in programs(home, ports, FeedSettings()) if one.name in _PROCESSES]
    try:
        supervisor.start(
            [replace(one, command=[*one.command, *_RATE]) if one.name == "market" else one for one in wanted], tied=True
        )
        with Instruments.open(home) as instruments:
            if not wait_until(lambda: bool(instruments.catalogue("market")) and _flows(home), _TIMEOUT_S):
                raise TimeoutError("The feed brings no ticks; its log is in the home's folder log.")
            return _switch(home, instruments, changes)
    finally:
        supervisor.stop()


def _switch(home: Home, instruments: Instruments, changes: int) -> dict[str, Any]:
    """Return how long it took from the committed pick to the last or first tick another process could read."""
    dice = random.Random(7)
    off_ms, on_ms = list[float](), list[float]()
    with TickLog.read_only(home.ticks_db) as log:
        watch = _Watch(log)
        for _ in range(changes):
            # At any moment of the feed's half-second round.
            wait_until(lambda: False, dice.uniform(0.5, 1.5))
            changed_s = _pick(instruments, enable=False)
            watch.until_silent_since(changed_s)
            off_ms.append(max(0.0, watch.last_s - changed_s) * 1_000)
            changed_s = _pick(instruments, enable=True)
            watch.until_seen_after(changed_s)
            on_ms.append((watch.last_s - changed_s) * 1_000)
    table = pl.DataFrame({"disabled_to_last_tick_ms": off_ms, "enabled_to_first_tick_ms": on_ms})
    return {"changes": changes, "look_every_ms": _LOOK_EVERY_S * 1_000, "delay_ms": percentiles(table)}


class _Watch:
    """Reads the log as it grows; last_s is when the instrument was last seen in something new."""

    def __init__(self, log: TickLog) -> None:
        self._log, self._next = log, log.end_sequence()
        self.last_s = 0.0

    def until_silent_since(self, time_s: float) -> None:
        """Look on until no tick of the instrument has come for a good while after that time."""
        self._look_until(lambda: time.monotonic() > max(self.last_s, time_s) + _SILENT_S)

    def until_seen_after(self, time_s: float) -> None:
        """Look on until a tick of the instrument comes after that time."""
        self._look_until(lambda: self.last_s > time_s)

    def _look_until(self, done: Callable[[], bool]) -> None:
        """Look on until done; raise TimeoutError if that never comes."""

        def look() -> bool:
            backlog = self._log.read_from(self._next, 1_000_000)
            self._next = backlog.next_sequence
            if backlog.ticks is not None and (backlog.ticks["instrument"] == _INSTRUMENT).any():
                self.last_s = time.monotonic()
            return done()

        if not wait_until(look, _TIMEOUT_S, every_s=_LOOK_EVERY_S):
            raise TimeoutError("The feed does not follow the picks; its log is in the home's folder log.")


def _pick(instruments: Instruments, *, enable: bool) -> float:
    pick(instruments, _BENCH, "market", [(1, _INSTRUMENT)], enable=enable)
    return time.monotonic()


def _flows(home: Home) -> bool:
    if not home.ticks_db.exists():
        return False
    with TickLog.read_only(home.ticks_db) as log:
        return log.end_sequence() > 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line and print the result."""
    parser = argparse.ArgumentParser(description="Measure how soon the feed follows a pick.")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--changes", type=int, required=True)
    given = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what was started is stopped on the way out
    try:
        print(json.dumps(measure_picks(Home(given.home), given.changes)))
    except TimeoutError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
