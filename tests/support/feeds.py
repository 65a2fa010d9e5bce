"""A real feed process that reads a real demo market, for tests of what lies between picks and ticks."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import polars as pl

from barmill.audit.roles import Actor
from barmill.ingest.instruments.changes import change_selection
from barmill.ingest.instruments.names import parse_names
from barmill.ingest.instruments.store import Instruments
from barmill.platform.clock import wait_until
from barmill.platform.home import REPO_ROOT, Home
from barmill.platform.ports import choose_ports, free_ports
from barmill.simulator.access import ensure_market_key
from barmill.storage.tick_log import Source, TickLog
from tests.support.market_process import RunningMarket, running_market

TIMEOUT_S = 60


@dataclass(frozen=True)
class RunningFeed:
    """A feed process, its market, and what it has written."""

    home: Home
    market: RunningMarket
    process: subprocess.Popen[bytes]

    def pick(self, names: str, *, enable: bool) -> None:
        """Do what a page or a command does."""
        with Instruments.open(self.home) as instruments:
            change_selection(instruments, Actor("tests"), "market", parse_names(names), enable=enable)

    def source(self) -> Source:
        """Return the market's cursor in the tick log."""
        with TickLog.read_only(self.home.ticks_db) as log:
            return log.sources()[0]

    def ticks(self, from_sequence: int = 1) -> pl.DataFrame:
        """Return the ticks of the log from a sequence on."""
        with TickLog.read_only(self.home.ticks_db) as log:
            found = log.read_from(from_sequence, 10_000_000).ticks
        return pl.DataFrame(schema={"instrument": pl.String}) if found is None else found

    def end_sequence(self) -> int:
        """Return the sequence that the next tick gets."""
        with TickLog.read_only(self.home.ticks_db) as log:
            return log.end_sequence()

    def wait_for_ticks(self, count: int) -> None:
        """Wait until the log has got that many more ticks."""
        end = self.end_sequence() + count
        assert wait_until(lambda: self.end_sequence() >= end, TIMEOUT_S)

    def wait_until_only(self, names: set[str]) -> None:
        """Wait until a good many ticks have come of these instruments and of no other."""

        def only() -> bool:
            newest = self.ticks(max(1, self.end_sequence() - 200))
            return newest.height >= 200 and set(newest["instrument"]) <= names

        assert wait_until(only, TIMEOUT_S)


@contextmanager
def running_feed(home: Home, *market_arguments: str) -> Iterator[RunningFeed]:
    """Run market and feed of a home until the block ends; ticks and the catalogue are there when it begins."""
    ports = choose_ports(home, free_ports(1)[0])
    ensure_market_key(home)
    with (
        running_market(home, *market_arguments, port=ports.market) as market,
        (home.log / "ingest.log").open("ab") as log,
    ):
        command = [sys.executable, "-m", "control.ingest", "--home", str(home.root)]
        process = subprocess.Popen(command, cwd=REPO_ROOT, stdout=log, stderr=log)
        try:
            with Instruments.open(home) as instruments:
                assert wait_until(lambda: len(instruments.catalogue("market")) > 0, TIMEOUT_S)
            feed = RunningFeed(home, market, process)
            assert wait_until(lambda: home.ticks_db.exists() and feed.source().accepted > 0, TIMEOUT_S)
            yield feed
        finally:
            process.terminate()
            process.wait(30)
