"""A REST provider that reads in the background, as the feed lets it, and what came of it."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from barmill.ingest.connection.provider import Batch, ProviderError
from barmill.ingest.connection.reconnect import ReconnectDelays
from barmill.ingest.connection.state import ConnectionState, Phase
from barmill.ingest.providers.rest.provider import RestProvider
from barmill.ingest.providers.rest.settings import RestFeed
from barmill.model.tick import check
from barmill.platform.clock import wait_until
from tests.support.exchanges.rest_server import Asked, Reply, StandIn, near_guard, standing_in
from tests.support.exchanges.rest_wire import Market, Wire

TIMEOUT_S = 60
QUICK = ReconnectDelays(first_s=0.02, longest_s=0.05, limited_s=0.05, rest_after=1_000)


class Reading:
    """What a provider has delivered and said so far."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.states: list[ConnectionState] = []
        self.error: ProviderError | None = None
        self.ended = False

    @property
    def cursor(self) -> str | None:
        """Return what the feed would have stored."""
        return self.batches[-1].cursor if self.batches else None

    def ticks(self) -> list[tuple[int, str, float, float, float | None]]:
        """Return the ticks: time, instrument, both prices, volume."""
        return [row[:5] for batch in list(self.batches) for row in check(batch.ticks, None).ticks.rows()]

    def rejects(self) -> list[str]:
        """Return the reasons of rows that are no ticks."""
        limit_ns = time.time_ns() + 5_000_000_000
        return [reason for batch in list(self.batches) for reason in check(batch.ticks, limit_ns).rejects["reason"]]

    def wait_for_ticks(self, count: int) -> None:
        """Wait until so many ticks have come, and one poll more, which must bring none of them again."""
        self.wait(lambda: len(self.ticks()) >= count)
        polls = len(self.batches)
        self.wait(lambda: len(self.batches) >= polls + 2)
        assert len(self.ticks()) == count, self.ticks()

    def wait_for(self, phase: Phase) -> ConnectionState:
        """Wait until the connection is so; return how it was said."""
        seen = len(self.states)
        self.wait(lambda: any(state.phase is phase for state in self.states[max(0, seen - 1) :]))
        return next(state for state in self.states[max(0, seen - 1) :] if state.phase is phase)

    def wait(self, condition: Callable[[], bool]) -> None:
        """Wait until this holds, or fail with what was said last."""
        assert wait_until(lambda: self.ended or condition(), TIMEOUT_S, every_s=0.01), self.states[-1:]
        assert condition(), self.error


@contextmanager
def reading(
    settings: RestFeed,
    key: str = "",
    cursor: str | None = None,
    wanted: Callable[[], frozenset[str] | None] = lambda: None,
) -> Iterator[Reading]:
    """Read from a provider on loopback until the block ends."""
    here, stop = Reading(), threading.Event()
    provider = RestProvider(
        "test", settings, lambda: key, wanted, here.states.append, guard=near_guard(), reconnect_delays=QUICK
    )

    def read() -> None:
        try:
            here.batches.extend(provider.batches(cursor, stop))
        except ProviderError as error:
            here.error = error
        finally:
            here.ended = True

    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield here
    finally:
        stop.set()
        thread.join(TIMEOUT_S)
        assert not thread.is_alive()


@contextmanager
def on_the_wire(wire: Wire, market: Market) -> Iterator[StandIn]:
    """Run the stand-in of a provider until the block ends."""

    def answers(asked: Asked) -> Reply:
        reply = market.trouble or wire.answers(market, asked)
        return replace(reply, date_s=time.time() + market.ahead_s)

    with standing_in(answers) as server:
        yield server
