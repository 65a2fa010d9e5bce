"""A ccxt feed that reads a stand-in on loopback, through the real intake into a real tick log."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from barmill.ingest.connection.catch_up import HoldLimits
from barmill.ingest.connection.provider import ProviderError
from barmill.ingest.intake import Intake
from barmill.ingest.providers.ccxt.provider import CcxtProvider
from barmill.ingest.providers.ccxt.settings import CcxtFeed
from barmill.storage.tick_log import TickLog
from tests.support.exchanges.ccxt_exchange import CcxtExchange
from tests.support.exchanges.exchange import Trade
from tests.support.exchanges.run import QUICK, TIMEOUT_S, Run, in_background

HOLDING = HoldLimits(settle_ms=50, hold_ms=TIMEOUT_S * 1_000, first_pause_s=0.02, longest_pause_s=0.1)


def provider(exchange: CcxtExchange, run: "CcxtRun") -> CcxtProvider:
    urls = {"api": exchange.wire.urls(exchange.archive_url, exchange.url.removesuffix("/ws"))}
    overrides: Mapping[str, object] = {
        "urls": urls,
        "rateLimit": 1,
        "streaming": {"keepAlive": 300, "maxPingPongMisses": 100},
    }
    return CcxtProvider(
        exchange.wire.name,
        CcxtFeed(exchange=exchange.wire.name, poll_s=0.1),
        (lambda: run.key) if run.key else None,
        run.wanted,
        run.states.append,
        reconnect_delays=QUICK,
        hold_limits=HOLDING,
        overrides=overrides,
    )


@dataclass
class CcxtRun(Run):
    """One run of a ccxt feed."""

    exchange: CcxtExchange
    key: str = ""

    def read(self, log: TickLog) -> None:
        try:
            for _ in Intake(log, provider(self.exchange, self), future_tolerance_ms=60_000).run(self.stop):
                pass
        except ProviderError as error:
            self.error = error

    def source(self) -> list[Trade]:
        names = self.wanted() or frozenset()
        return [trade for name, trades in self.exchange.made.items() for trade in trades if name in names]

    def assert_same(self) -> None:
        number = self.exchange.wire.number
        made = sorted(
            (trade.instrument, number(trade), trade.time_us * 1_000, float(trade.price), float(trade.size))
            for trade in self.source()
        )
        assert sorted(self.ticks().select("instrument", "id", "time_ns", "price_open", "volume").rows()) == made


@contextmanager
def reading(exchange: CcxtExchange, path: Path, **given: object) -> Iterator[CcxtRun]:
    """Run a ccxt feed in the background until the block ends."""
    names = frozenset(exchange.wire.instruments)
    run = CcxtRun(exchange, path, **{"settings": None, "wanted": lambda: names, **given})  # type: ignore[arg-type]
    with in_background(run):
        yield run
