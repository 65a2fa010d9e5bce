"""The provider `ccxt`: public trades of an exchange, over WebSocket where it has one, by questions where not."""

import asyncio
import random
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from bar.clock import now_ms
from feed.connection.catch_up import Holding
from feed.connection.errors import QuestionError
from feed.connection.reconnect import Patience, Spread
from feed.connection.state import Report
from feed.provider import Batch, Listed, ProviderError
from feed.providers.ccxt.settings import CcxtFeed


class CcxtProvider:
    """Trades of an exchange, each once, with what was missed during a lost connection where the exchange still has it.

    key_of is asked for the key at each connect and the key is kept nowhere. wanted is asked again and again which
    symbols to read, and may answer differently each time. overrides: for tests, what ccxt is told beside that.
    """

    live = True

    def __init__(
        self,
        name: str,
        settings: CcxtFeed,
        key_of: Callable[[], str] | None,
        wanted: Callable[[], frozenset[str] | None],
        report: Report,
        *,
        patience: Patience | None = None,
        holding: Holding | None = None,
        clock_ms: Callable[[], int] = now_ms,
        spread: Spread = random.uniform,
        overrides: Mapping[str, object] | None = None,
    ) -> None:
        self.name = name
        self._settings, self._key_of, self._wanted, self._report = settings, key_of, wanted, report
        self._patience, self._holding = patience or Patience(), holding or Holding()
        self._clock_ms, self._spread, self._overrides = clock_ms, spread, overrides or {}

    def batches(self, cursor: str | None, stop: threading.Event) -> Iterator[Batch]:
        """Yield what comes until `stop` is set.

        Raise ProviderError for what a person must mend: a refused key, an exchange without what is asked of it;
        whatever key_of raises passes through.
        """
        # Not before a feed needs it: importing ccxt takes seconds and 100 MB.
        from feed.providers.ccxt.session import Session

        with asyncio.Runner() as runner:
            session = Session(
                self._settings,
                self._key_of,
                self._report,
                patience=self._patience,
                holding=self._holding,
                clock_ms=self._clock_ms,
                spread=self._spread,
                overrides=self._overrides,
            )
            session.restore(cursor)
            while not stop.is_set():
                session.follow(self._wanted() or frozenset())
                batch = runner.run(session.next_batch())
                if batch is not None:
                    yield batch
                session.check()

    def catalogue(self) -> Sequence[Listed]:
        """Return what the exchange offers, over a connection of its own."""
        try:
            return asyncio.run(self._catalogue())
        except QuestionError as error:
            raise ProviderError(str(error)) from None

    async def _catalogue(self) -> Sequence[Listed]:
        from feed.providers.ccxt.catalogue import listed
        from feed.providers.ccxt.opening import opened

        async with opened(self._settings, "", self._overrides) as found:
            exchange: Any = found.exchange
            markets = await exchange.load_markets()
            return listed(markets.values(), exchange.precisionMode)
