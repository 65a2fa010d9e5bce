"""A WebSocket feed that reads an exchange on loopback, through the real intake into a real tick log."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from barmill.ingest.connection.catch_up import HoldLimits
from barmill.ingest.connection.guard import FeedsAccess, Guard
from barmill.ingest.connection.provider import ProviderError
from barmill.ingest.connection.reconnect import ReconnectDelays
from barmill.ingest.connection.state import ConnectionState, Phase
from barmill.ingest.identity import id_of
from barmill.ingest.intake import Intake
from barmill.ingest.providers.websocket.provider import WebSocketProvider
from barmill.ingest.providers.websocket.ready_made import FEEDS
from barmill.ingest.providers.websocket.settings import WebSocketFeed
from barmill.platform.clock import now_ms, wait_until
from barmill.storage.tick_log import TickLog
from tests.support.exchanges.exchange import Exchange, Trade

TIMEOUT_S = 60
KEY = "canary-key-of-a-feed-27"
LOOPBACK_ALLOWED = FeedsAccess(allow=("127.0.0.1",))
QUICK = ReconnectDelays(first_s=0.02, longest_s=0.1, steady_s=60, rest_after=10_000, limited_s=0.05)
HOLDING = HoldLimits(settle_ms=50, hold_ms=TIMEOUT_S * 1_000, first_pause_s=0.02, longest_pause_s=0.1)


def settings_for(exchange: Exchange, **changes: object) -> WebSocketFeed:
    """Return the ready-made settings, with the exchange on loopback in the place of the real one."""
    feed = FEEDS[exchange.wire.name]
    backfill = feed.backfill
    if backfill is not None:
        path = backfill.url.split("/", 3)[3]
        backfill = backfill.model_copy(update={"url": f"{exchange.archive_url}/{path}", "per_s": 1_000})
    here = {"url": exchange.url, "backfill": backfill, "messages_per_s": 1_000, "ping_s": 0.05}
    return feed.model_copy(update={**here, **changes})


@dataclass
class Run:
    """One run of a feed; a log can be read by several, one after the other."""

    exchange: Exchange
    path: Path
    settings: WebSocketFeed
    wanted: Callable[[], frozenset[str] | None] = lambda: None
    reconnect_delays: ReconnectDelays = QUICK
    hold_limits: HoldLimits = HOLDING
    clock_ms: Callable[[], int] = now_ms
    keys: list[str] = field(default_factory=lambda: [KEY])
    states: list[ConnectionState] = field(default_factory=list)
    error: ProviderError | None = None
    stop: threading.Event = field(default_factory=threading.Event)

    def read(self, log: TickLog) -> None:
        """Feed the log until stopped, or until an error needs action by a person."""
        key_of = (lambda: self.keys[0]) if self.settings.key is not None else None
        provider = WebSocketProvider(
            self.exchange.wire.name,
            self.settings,
            key_of,
            self.wanted,
            self.states.append,
            guard=Guard(LOOPBACK_ALLOWED),
            reconnect_delays=self.reconnect_delays,
            hold_limits=self.hold_limits,
            clock_ms=self.clock_ms,
        )
        try:
            for _ in Intake(log, provider, future_tolerance_ms=60_000).run(self.stop):
                pass
        except ProviderError as error:
            self.error = error

    def ticks(self) -> pl.DataFrame:
        """Return the ticks of the log, in its order, with a number for each id: its own, or one made of its text."""
        with TickLog.read_only(self.path) as log:
            blocks = [block for _, block in log.blocks()]
        if not blocks:
            return pl.DataFrame(schema={"instrument": pl.String()})
        number = pl.col("id_text").map_elements(id_of, pl.Int64)
        return pl.concat(blocks).with_columns(id=pl.coalesce("id", number))

    def rejects(self) -> pl.DataFrame:
        with TickLog.read_only(self.path) as log:
            return log.rejects()

    def cursor(self) -> dict[str, object]:
        with TickLog.read_only(self.path) as log:
            return dict(json.loads(log.sources()[0].cursor or "{}"))

    def complete_to_ms(self) -> int | None:
        with TickLog.read_only(self.path) as log:
            return log.sources()[0].complete_to_ms

    def phases(self) -> list[Phase]:
        """Return the phases as they changed."""
        phases = [state.phase for state in self.states]
        return [phase for before, phase in zip([None, *phases], phases, strict=False) if phase is not before]

    def wait(self, condition: Callable[[], bool]) -> None:
        assert wait_until(condition, TIMEOUT_S, every_s=0.01), self.states[-3:]

    def wait_for(self, phase: Phase) -> None:
        self.wait(lambda: bool(self.states) and self.states[-1].phase is phase)

    def wait_for_clients(self, count: int = 1) -> None:
        """Wait until so many connections get prices, of everything that is wanted."""
        self.wait(lambda: len(self.exchange.clients) >= count)
        self.wait_for(Phase.RECEIVING)
        names = self.wanted() or frozenset(self.settings.instruments)
        # Some exchanges take one subscription a message, and handle the last one after the first prices.
        self.wait(lambda: names <= {name for client in self.exchange.clients for name in client.instruments})

    def wait_for_all(self) -> None:
        """Wait until the log holds as many ticks as the exchange made of what is wanted; then they must be these."""
        source = self.source()
        self.wait(lambda: self.ticks().height >= len(source))
        self.assert_same()

    def source(self) -> list[Trade]:
        names = self.wanted() or frozenset(self.settings.instruments)
        return [trade for name, trades in self.exchange.made.items() for trade in trades if name in names]

    def assert_same(self) -> None:
        """Compare the log with what the exchange made: nothing lost, nothing doubled, no digit changed."""
        ids = self.exchange.wire.ids
        made = sorted(
            (trade.instrument, trade.id if ids else -1, trade.time_us * 1_000, float(trade.price), float(trade.size))
            for trade in self.source()
        )
        columns = ("instrument", pl.col("id").fill_null(-1), "time_ns", "price_open", "volume")
        ticks = self.ticks()
        assert sorted(ticks.select(columns).rows()) == made
        assert ticks["price_open"].equals(ticks["price_close"])


@contextmanager
def reading(exchange: Exchange, path: Path, settings: WebSocketFeed | None = None, **given: object) -> Iterator[Run]:
    """Run a feed in the background, as ingest does, until the block ends."""
    run = Run(exchange, path, settings or settings_for(exchange), **given)  # type: ignore[arg-type]
    with in_background(run):
        yield run


@contextmanager
def in_background(run: Run) -> Iterator[None]:
    """Let a run read into its log until the block ends."""
    with TickLog.open(run.path, durable=False) as log:
        thread = threading.Thread(target=run.read, args=(log,))
        thread.start()
        try:
            yield
        finally:
            run.stop.set()
            thread.join(TIMEOUT_S)
            assert not thread.is_alive()
