"""Twenty-four hours of an exchange that drops every few minutes, in under a minute: nothing lost, nothing doubled."""

import random
import threading
from collections import Counter
from pathlib import Path

import pytest

from barmill.ingest.connection.catch_up import HoldLimits
from barmill.platform.clock import now_ms
from tests.support.exchanges.exchange import Exchange, running
from tests.support.exchanges.run import Run, reading
from tests.support.exchanges.wires import Binance

HOUR_MS = 3_600_000
STEP_MS = 10_000
STEPS = 24 * HOUR_MS // STEP_MS
STEP_TAKES_S = 0.004
DROPS_EVERY_MS = 4 * 60_000
HOLDING = HoldLimits(
    settle_ms=1_000,
    hold_ms=6 * HOUR_MS,
    first_pause_s=60,
    longest_pause_s=600,
    longest_ms=24 * HOUR_MS,
    max_failures=1_000,
)


class Day:
    """The hours as they pass: trades, and accidents of every kind."""

    def __init__(self, start_ms: int) -> None:
        self.now_ms = start_ms
        self.drops = 0
        self._random = random.Random(24)
        self._back_ms = 0

    def clock_ms(self) -> int:
        return self.now_ms

    def pass_on(self, exchange: Exchange) -> None:
        """Let ten seconds pass."""
        self.now_ms += STEP_MS
        if self.now_ms >= self._back_ms:
            exchange.down = exchange.archive_down = False
        for name in exchange.wire.instruments:
            exchange.trade(name, self._random.choice((0, 0, 1, 1, 2)), sent=self._random.random() > 0.002)
        if self._random.random() < STEP_MS / DROPS_EVERY_MS:
            self._drop(exchange)

    def _drop(self, exchange: Exchange) -> None:
        self.drops += 1
        match self._random.randrange(5):
            case 0:
                exchange.down = True
            case 1:
                exchange.limits = ["0"]
            case 2:
                exchange.archive_limits = ["0"]
            case 3:
                exchange.archive_down = True
        self._back_ms = self.now_ms + self._random.randrange(20_000, 300_000)
        exchange.drop(self._random.choice((None, 1001, 1011)))


def per_hour(run: Run, start_ms: int) -> dict[int, tuple[int, int]]:
    """Return for each hour how many trades the exchange made, and how many different ones of these are in the log."""
    made = Counter((trade.time_us // 1_000 - start_ms) // HOUR_MS for trade in run.source())
    ticks = run.ticks().unique(["instrument", "id"])["time_ns"].to_list()
    read = Counter((time_ns // 1_000_000 - start_ms) // HOUR_MS for time_ns in ticks)
    return {hour: (made[hour], read[hour]) for hour in sorted(made | read)}


@pytest.mark.slow
def test_a_day_of_drops_is_complete_in_every_hour(tmp_path: Path) -> None:
    start_ms = now_ms() - 25 * HOUR_MS
    day = Day(start_ms)
    names = frozenset(Binance.instruments)
    pace = threading.Event()
    with (
        running(Exchange(Binance(), day.clock_ms)) as exchange,
        reading(
            exchange, tmp_path / "ticks.sqlite", wanted=lambda: names, hold_limits=HOLDING, clock_ms=day.clock_ms
        ) as run,
    ):
        run.wait_for_clients()
        for _ in range(STEPS):
            day.pass_on(exchange)
            pace.wait(STEP_TAKES_S)
        exchange.down = exchange.archive_down = False
        exchange.limits, exchange.archive_limits = [], []

        def caught_up() -> bool:
            day.now_ms += STEP_MS  # so that what waits for its time gets it
            return run.ticks().height >= len(run.source())

        run.wait(caught_up)
        hours = per_hour(run, start_ms)
        print("\n".join(f"hour {hour:2}: {got} of {made}" for hour, (made, got) in hours.items()))
        assert len(hours) >= 24
        assert all(got == made > 0 for made, got in hours.values())
        run.assert_same()
        assert run.rejects().is_empty()
        assert run.states[-1].connects > 100
        assert day.drops > 250
