"""The provider `ccxt`: an exchange's public trades and its catalogue, over WebSocket or by polling."""

import asyncio
import random
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

from barmill.ingest.connection.catch_up import HoldLimits
from barmill.ingest.connection.provider import Batch, CatalogueEntry, ProviderError
from barmill.ingest.connection.reconnect import Jitter, ReconnectDelays, RequestError
from barmill.ingest.connection.state import Report
from barmill.ingest.providers.ccxt.settings import CcxtFeed
from barmill.platform.clock import now_ms
from barmill.platform.exact_json import text_of


class CcxtProvider:
    """An exchange's trades, each exactly once, including missed trades if the exchange still has them.

    key_of: called for the key at each connection; the key is not stored. selected: called repeatedly for the symbols to
    read (None: none); its result may change. overrides: further options for ccxt, used by tests.
    """

    live = True

    def __init__(
        self,
        name: str,
        settings: CcxtFeed,
        key_of: Callable[[], str] | None,
        selected: Callable[[], frozenset[str] | None],
        report: Report,
        *,
        reconnect_delays: ReconnectDelays | None = None,
        hold_limits: HoldLimits | None = None,
        clock_ms: Callable[[], int] = now_ms,
        jitter: Jitter = random.uniform,
        overrides: Mapping[str, object] | None = None,
    ) -> None:
        self.name = name
        self._settings, self._key_of, self._selected, self._report = settings, key_of, selected, report
        self._reconnect_delays, self._hold_limits = reconnect_delays or ReconnectDelays(), hold_limits or HoldLimits()
        self._clock_ms, self._jitter, self._overrides = clock_ms, jitter, overrides or {}

    def batches(self, cursor: str | None, stop: threading.Event) -> Iterator[Batch]:
        """Yield batches until `stop` is set.

        Raise ProviderError for errors that need action by a person: a refused key, or an exchange without a required
        feature. Exceptions of key_of are passed on.
        """
        # Imported only when a feed needs it: importing ccxt takes seconds and 100 MB.
        from barmill.ingest.providers.ccxt.session import Session

        with asyncio.Runner() as runner:
            session = Session(
                self._settings,
                self._key_of,
                self._report,
                reconnect_delays=self._reconnect_delays,
                hold_limits=self._hold_limits,
                clock_ms=self._clock_ms,
                jitter=self._jitter,
                overrides=self._overrides,
            )
            session.restore(cursor)
            while not stop.is_set():
                session.follow(self._selected() or frozenset())
                batch = runner.run(session.next_batch())
                if batch is not None:
                    yield batch
                session.check()

    def catalogue(self) -> Sequence[CatalogueEntry]:
        """Return the exchange's instruments, fetched over a separate connection; raise ProviderError on failure."""
        try:
            return asyncio.run(self._catalogue())
        except RequestError as error:
            raise ProviderError(str(error)) from None

    async def _catalogue(self) -> Sequence[CatalogueEntry]:
        from barmill.ingest.providers.ccxt.opening import open_exchange

        async with open_exchange(self._settings, "", self._overrides) as opened:
            exchange: Any = opened.exchange
            markets = await exchange.load_markets()
            return active_markets(markets.values(), exchange.precisionMode)


_DECIMAL_PLACES = 2  # the value of ccxt for a precision in digits; other modes state the smallest step


def active_markets(markets: Iterable[Mapping[str, object]], precision_mode: int) -> list[CatalogueEntry]:
    """Return the active markets, sorted by name."""
    active = (market for market in markets if market.get("active") is not False and market.get("symbol"))
    # text_of, because ccxt accepts lone surrogates in JSON, which no database stores.
    listed_markets = [
        CatalogueEntry(
            text_of(market["symbol"]) or "",
            text_of(_description(market)) or "",
            _decimals(market, precision_mode),
            True,
        )
        for market in active
    ]
    return sorted(listed_markets, key=lambda listed: listed.instrument)


def _description(market: Mapping[str, object]) -> str:
    settled = f", settled in {market['settle']}" if market.get("settle") else ""
    return f"{market.get('type') or 'market'}{settled}"


def _decimals(market: Mapping[str, object], mode: int) -> int | None:
    precision = market.get("precision")
    price = precision.get("price") if isinstance(precision, Mapping) else None
    try:
        step = Decimal(str(price))
    except InvalidOperation:
        return None
    if mode == _DECIMAL_PLACES:
        return int(step)
    exponent = step.normalize().as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else None
