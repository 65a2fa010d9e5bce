"""One connection to an exchange: load the markets, receive trades, and fetch missed trades until it ends.

Everything runs in one asyncio loop, which belongs to the provider.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import ccxt

from barmill.ingest.connection.http import server_ms
from barmill.ingest.connection.instrument_stream import BackfillRequest
from barmill.ingest.connection.reconnect import KeyRefusedError, LimitedError
from barmill.ingest.connection.state import Phase
from barmill.ingest.providers.ccxt.history import History, HistoryQuery, rows_of, with_ids
from barmill.ingest.providers.ccxt.opening import FAILURES, OpenExchange
from barmill.ingest.providers.ccxt.settings import CcxtFeed, has_history, streaming_exchanges
from barmill.ingest.providers.ccxt.streams import TradeStreams
from barmill.platform.clock import MS_PER_S, NS_PER_MS

CHECK_EVERY_S = 0.05
# After this time without a trade, a subscription counts as active. A later first trade proves it, and any trades missed
# in between are fetched once more.
SETTLE_S = 2.0
_MAX_PARALLEL_REQUESTS = 4
_LIMITED_S = 30.0
# It is assumed that every exchange keeps its newest trades for at least this long.
_HISTORY_MS = 600_000


@dataclass
class Markets:
    """The markets of the exchange, kept between connections so that reconnection is fast."""

    by_symbol: Mapping[str, object] | None = None
    currencies: Mapping[str, object] | None = None


class Connection:
    """An open connection to an exchange."""

    def __init__(
        self,
        opened: OpenExchange,
        settings: CcxtFeed,
        history_query: HistoryQuery,
        trade_streams: TradeStreams,
        last_error: Callable[[], Exception | None],
    ) -> None:
        self._opened, self._settings, self._history_query, self._trade_streams = (
            opened,
            settings,
            history_query,
            trade_streams,
        )
        self._exchange = opened.exchange
        self._last_error = last_error
        self._is_streaming = settings.exchange in streaming_exchanges()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._unconfirmed: set[str] = set()
        self._resume_counts: dict[str, int] = {}
        self._request_slots = asyncio.Semaphore(_MAX_PARALLEL_REQUESTS)
        self._names_to_backfill: set[str] = set()
        self._polled_ms: dict[str, int] = {}
        self._settled_at_s = self._limited_until_s = 0.0
        self._began_s: float | None = None

    @property
    def connected_s(self) -> float:
        """Return for how many seconds this connection has been receiving."""
        return 0.0 if self._began_s is None else time.monotonic() - self._began_s

    async def run(self, markets: Markets) -> None:
        """Stay connected until no instrument is selected; raise the error that ends the connection."""
        trade_streams = self._trade_streams
        await self._load_markets(markets)
        await self._read_clock()
        self._names_to_backfill = set(trade_streams.on_connected(self._opened.label))
        self._began_s = time.monotonic()
        try:
            async with asyncio.TaskGroup() as group:
                self._update_tasks(group)
                trade_streams.report_state(Phase.RECEIVING)
                while trade_streams.names:
                    self._update_tasks(group)
                    if asyncio.get_running_loop().time() >= self._limited_until_s:
                        for request in trade_streams.due_requests():
                            group.create_task(self._fetch(request))
                    if (error := self._last_error()) is not None:
                        raise error
                    await asyncio.sleep(CHECK_EVERY_S)
                for task in self._tasks.values():
                    task.cancel()
        except ExceptionGroup as error_group:
            raise error_group.exceptions[0] from None
        finally:
            self._tasks.clear()

    def delivered_to_ms(self) -> int | None:
        """Return the time up to which everything has arrived, by this machine's clock, or None if unknown."""
        accepted = self._trade_streams.accepted
        if not self._is_streaming:
            return min(self._polled_ms.get(name, 0) for name in accepted) or None if accepted else None
        clients = list((self._exchange.clients or {}).values())
        settled = asyncio.get_running_loop().time() >= self._settled_at_s and self._trade_streams.settled
        if not clients or not settled or not accepted <= self._tasks.keys():
            return None
        return min(_heard_ms(client) for client in clients) or None

    async def _load_markets(self, markets: Markets) -> None:
        known_markets = markets.by_symbol
        if known_markets is not None and self._trade_streams.names <= known_markets.keys():
            self._exchange.set_markets(known_markets, markets.currencies)
        await self._exchange.load_markets()
        markets.by_symbol, markets.currencies = self._exchange.markets, self._exchange.currencies

    async def _read_clock(self) -> None:
        """Measure the exchange's clock against this machine's, if it reports a time; ignore temporary failures."""
        if not self._exchange.has["fetchTime"]:
            self._record_date(self._trade_streams.clock_ms())
            return
        requested_ms = self._trade_streams.clock_ms()
        try:
            exchange_ms = await self._exchange.fetch_time()
        except ccxt.OperationFailed:
            return
        between_ms = (requested_ms + self._trade_streams.clock_ms()) // 2
        if exchange_ms is None:
            return
        skew = self._trade_streams.skew
        # A time in whole seconds is truncated, like an HTTP date.
        record = skew.record_message_time if exchange_ms % MS_PER_S else skew.record_http_date
        record(exchange_ms, between_ms)

    def _update_tasks(self, group: asyncio.TaskGroup) -> None:
        """Run one task per selected instrument; cancel the tasks of all others."""
        names, loop = self._trade_streams.names, asyncio.get_running_loop()
        for name in self._tasks.keys() - names:
            self._tasks.pop(name).cancel()
            self._polled_ms.pop(name, None)
        for name in sorted(names - self._tasks.keys()):
            if name not in self._exchange.markets:
                self._trade_streams.on_refused(
                    name, f"{self._opened.label} does not offer {name}; disable it on the Instruments page."
                )
                continue
            self._trade_streams.expect(name)
            if self._is_streaming:
                self._unconfirmed.add(name)
                self._settled_at_s = loop.time() + SETTLE_S
                loop.call_later(SETTLE_S, self._settle, name)
            work = self._watch if self._is_streaming else self._poll
            self._tasks[name] = group.create_task(work(name))

    async def _watch(self, name: str) -> None:
        """Receive the trades of an instrument as they arrive."""
        while True:
            try:
                trades = await self._exchange.watch_trades(name, None, None, dict(self._history_query.watch))
            except ccxt.BadRequest as error:
                self._trade_streams.on_refused(name, str(self._opened.request_error(error)))
                return
            if name in self._unconfirmed:
                self._unconfirmed.discard(name)
                self._resume(name)
            self._trade_streams.take(rows_of(trades, name, consecutive=self._history_query.consecutive))

    async def _poll(self, name: str) -> None:
        """Poll the trades of an instrument repeatedly."""
        while True:
            self._resume(name)
            await asyncio.sleep(self._settings.poll_s)

    def _settle(self, name: str) -> None:
        """Fetch what an instrument may have missed, if it has been quiet since the connection began."""
        if name in self._unconfirmed and name in self._tasks:
            self._resume(name)

    def _resume(self, name: str) -> None:
        if has_history(self._settings.exchange):
            self._resume_counts[name] = self._resume_counts.get(name, 0) + 1
            self._trade_streams.resume(name)

    async def _fetch(self, request: BackfillRequest) -> None:
        """Fetch missing trades; if the connection ends first, the next connection repeats the request."""
        try:
            await self._fetch_pages(request)
        except asyncio.CancelledError:
            self._trade_streams.on_fetch_failed(request.instrument, 0.0)
            raise

    async def _fetch_pages(self, request: BackfillRequest) -> None:
        name, trade_streams = request.instrument, self._trade_streams
        resume_count = self._resume_counts.get(name)
        async with self._request_slots:
            requested_ms = trade_streams.clock_ms()
            has_traded = trade_streams.has_traded(name)
            age_ms = trade_streams.provider_ms - (request.from_ns or 0) // NS_PER_MS
            history = History(
                self._exchange,
                self._history_query,
                request,
                backfilled=name in self._names_to_backfill,
                not_empty=has_traded and age_ms < _HISTORY_MS,
            )
            try:
                async for page in history.pages():
                    trade_streams.take(
                        trade_streams.without_earlier(name, page if self._is_streaming else with_ids(page))
                    )
            except ccxt.BadRequest as error:
                trade_streams.on_refused(name, str(self._opened.request_error(error)))
                trade_streams.on_fetch_failed(name, None)
                return
            except FAILURES as error:
                self._handle_fetch_failure(name, error)
                return
        self._record_date(requested_ms)
        trade_streams.on_fetched(name, is_complete=history.is_complete or not has_traded, label=self._opened.label)
        self._polled_ms[name] = requested_ms
        # From now on, polled trades are new, while trades fetched in addition to a stream were missed.
        if not self._is_streaming:
            self._names_to_backfill.discard(name)
            return
        self._names_to_backfill.add(name)
        if resume_count != self._resume_counts.get(name):
            trade_streams.resume(name)  # the instrument was resumed after the request was sent

    def _handle_fetch_failure(self, name: str, error: Exception) -> None:
        """Schedule a retry; without a stream, or if the key is refused, end the connection."""
        request_error = self._opened.request_error(error)
        if isinstance(request_error, KeyRefusedError) or not self._is_streaming:
            self._trade_streams.on_fetch_failed(name, 0.0)
            raise request_error from None
        retry_s = None
        if isinstance(request_error, LimitedError):
            retry_s = _LIMITED_S if request_error.retry_after_s is None else request_error.retry_after_s
            self._limited_until_s = asyncio.get_running_loop().time() + retry_s
            self._trade_streams.report_state(
                Phase.LIMITED, str(request_error), self._trade_streams.clock_ms() + round(retry_s * MS_PER_S)
            )
            asyncio.get_running_loop().call_later(retry_s, self._report_receiving)
        self._trade_streams.on_fetch_failed(name, retry_s)

    def _report_receiving(self) -> None:
        if self._tasks:
            self._trade_streams.report_state(Phase.RECEIVING)

    def _record_date(self, requested_ms: int) -> None:
        if not self._exchange.has["fetchTime"] and (date_ms := server_ms(self._opened.headers)) is not None:
            self._trade_streams.skew.record_http_date(date_ms, (requested_ms + self._trade_streams.clock_ms()) // 2)


def _heard_ms(client: Any) -> int:
    """Return when a ccxt connection last received anything, in epoch milliseconds."""
    return max(client.last_message_at or 0, client.lastPong or 0)
