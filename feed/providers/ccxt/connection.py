"""One connection to an exchange, from its key to its end: instruments followed, and what was missed fetched.

All of it runs in one asyncio loop, which belongs to the provider.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import ccxt

from feed.connection.errors import KeyRefusedError, LimitedError
from feed.connection.http import server_ms
from feed.connection.lanes import Ask
from feed.connection.state import Phase
from feed.providers.ccxt.desk import Desk
from feed.providers.ccxt.exchanges import has_history, streaming
from feed.providers.ccxt.failures import FAILURES
from feed.providers.ccxt.history import History
from feed.providers.ccxt.opening import Opened
from feed.providers.ccxt.quirks import Quirks
from feed.providers.ccxt.settings import CcxtFeed
from feed.providers.ccxt.trades import rows_of, with_ids

LOOK_S = 0.05
# After so long without a trade a subscription counts as in force. A first trade later than that is proof, and what may
# have slipped in between is fetched once more.
SETTLE_S = 2.0
_QUESTIONS_AT_ONCE = 4
_LIMITED_S = 30.0
_MS_PER_S = 1_000
_NS_PER_MS = 1_000_000
# Every exchange remembers its newest trades for at least so long.
_REMEMBERED_MS = 600_000


@dataclass
class Markets:
    """What the exchange offers, kept from one connection to the next, so that coming back is quick."""

    by_symbol: Mapping[str, object] | None = None
    currencies: Mapping[str, object] | None = None


class Connection:
    """An opened exchange at work."""

    def __init__(
        self, opened: Opened, settings: CcxtFeed, quirks: Quirks, desk: Desk, stumbled: Callable[[], Exception | None]
    ) -> None:
        self._opened, self._settings, self._quirks, self._desk = opened, settings, quirks, desk
        self._exchange = opened.exchange
        self._stumbled = stumbled
        self._streams = settings.exchange in streaming()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._unproven: set[str] = set()
        self._resumed: dict[str, int] = {}
        self._asking = asyncio.Semaphore(_QUESTIONS_AT_ONCE)
        self._returning: set[str] = set()
        self._polled_ms: dict[str, int] = {}
        self._settled_at_s = self._quiet_until_s = 0.0
        self._began_s: float | None = None

    @property
    def stood_s(self) -> float:
        """Return for how long it has been receiving."""
        return 0.0 if self._began_s is None else time.monotonic() - self._began_s

    async def run(self, markets: Markets) -> None:
        """Stay connected until nothing is wanted any more; raise what ends it."""
        desk = self._desk
        await self._load(markets)
        await self._read_clock()
        self._returning = set(desk.connected(self._opened.label))
        self._began_s = time.monotonic()
        try:
            async with asyncio.TaskGroup() as group:
                self._follow(group)
                desk.tell(Phase.RECEIVING)
                while desk.names:
                    self._follow(group)
                    if asyncio.get_running_loop().time() >= self._quiet_until_s:
                        for ask in desk.asks():
                            group.create_task(self._fetch(ask))
                    if (stumbled := self._stumbled()) is not None:
                        raise stumbled
                    await asyncio.sleep(LOOK_S)
                for task in self._tasks.values():
                    task.cancel()
        except ExceptionGroup as several:
            raise several.exceptions[0] from None
        finally:
            self._tasks.clear()

    def delivered_to_ms(self) -> int | None:
        """Return up to when, by our clock, everything has come; None while that is open."""
        heeded = self._desk.heeded
        if not self._streams:
            return min(self._polled_ms.get(name, 0) for name in heeded) or None if heeded else None
        clients = list((self._exchange.clients or {}).values())
        settled = asyncio.get_running_loop().time() >= self._settled_at_s and self._desk.settled
        if not clients or not settled or not heeded <= self._tasks.keys():
            return None
        return min(_heard_ms(client) for client in clients) or None

    async def _load(self, markets: Markets) -> None:
        known = markets.by_symbol
        if known is not None and self._desk.names <= known.keys():
            self._exchange.set_markets(known, markets.currencies)
        await self._exchange.load_markets()
        markets.by_symbol, markets.currencies = self._exchange.markets, self._exchange.currencies

    async def _read_clock(self) -> None:
        """Compare the exchange's clock with ours, if it tells it; there is nothing to be done where that fails."""
        if not self._exchange.has["fetchTime"]:
            self._dated(self._desk.clock_ms())
            return
        asked_ms = self._desk.clock_ms()
        try:
            told_ms = await self._exchange.fetch_time()
        except ccxt.OperationFailed:
            return
        between_ms = (asked_ms + self._desk.clock_ms()) // 2
        if told_ms is not None:
            (self._desk.skew.heard if told_ms % _MS_PER_S else self._desk.skew.dated)(told_ms, between_ms)

    def _follow(self, group: asyncio.TaskGroup) -> None:
        """Have a task for each wanted instrument, and none for others."""
        names, loop = self._desk.names, asyncio.get_running_loop()
        for name in self._tasks.keys() - names:
            self._tasks.pop(name).cancel()
            self._polled_ms.pop(name, None)
        for name in sorted(names - self._tasks.keys()):
            if name not in self._exchange.markets:
                self._desk.refused(
                    name, f"{self._opened.label} does not offer {name}; disable it on the Instruments page."
                )
                continue
            self._desk.expect(name)
            if self._streams:
                self._unproven.add(name)
                self._settled_at_s = loop.time() + SETTLE_S
                loop.call_later(SETTLE_S, self._settle, name)
            work = self._watch if self._streams else self._poll
            self._tasks[name] = group.create_task(work(name))

    async def _watch(self, name: str) -> None:
        """Take in the trades of an instrument as they come."""
        while True:
            try:
                trades = await self._exchange.watch_trades(name, None, None, dict(self._quirks.watch))
            except ccxt.BadRequest as error:
                self._desk.refused(name, str(self._opened.failed(error)))
                return
            if name in self._unproven:
                self._unproven.discard(name)
                self._resume(name)
            self._desk.take(rows_of(trades, name, counted=self._quirks.consecutive))

    async def _poll(self, name: str) -> None:
        """Ask for the trades of an instrument again and again."""
        while True:
            self._resume(name)
            await asyncio.sleep(self._settings.poll_s)

    def _settle(self, name: str) -> None:
        """Fetch what may have been missed of an instrument that has been quiet since the connection was made."""
        if name in self._unproven and name in self._tasks:
            self._resume(name)

    def _resume(self, name: str) -> None:
        if has_history(self._settings.exchange):
            self._resumed[name] = self._resumed.get(name, 0) + 1
            self._desk.resume(name)

    async def _fetch(self, ask: Ask) -> None:
        """Fetch what is asked for, unless the connection ends; then the next one asks."""
        try:
            await self._fetched(ask)
        except asyncio.CancelledError:
            self._desk.failed(ask.instrument, 0.0)
            raise

    async def _fetched(self, ask: Ask) -> None:
        name, desk, resumed = ask.instrument, self._desk, self._resumed.get(ask.instrument)
        async with self._asking:
            asked_ms = desk.clock_ms()
            joins = desk.has_traded(name)
            age_ms = desk.provider_ms - (ask.from_ns or 0) // _NS_PER_MS
            history = History(
                self._exchange,
                self._quirks,
                ask,
                backfilled=name in self._returning,
                not_empty=joins and age_ms < _REMEMBERED_MS,
            )
            try:
                async for page in history.pages():
                    desk.take(desk.since_it_is_read(name, page if self._streams else with_ids(page)))
            except ccxt.BadRequest as error:
                desk.refused(name, str(self._opened.failed(error)))
                desk.failed(name, None)
                return
            except FAILURES as error:
                self._not_fetched(name, error)
                return
        self._dated(asked_ms)
        desk.answered(name, whole=history.whole or not joins, label=self._opened.label)
        self._polled_ms[name] = asked_ms
        # From now on, what is polled is news, while what is fetched beside a stream was missed.
        (self._returning.add if self._streams else self._returning.discard)(name)
        if self._streams and resumed != self._resumed.get(name):
            desk.resume(name)  # something began after the answer was on its way

    def _not_fetched(self, name: str, error: Exception) -> None:
        """Have it asked for again; where there is no stream, and where the key is refused, end the connection."""
        failed = self._opened.failed(error)
        if isinstance(failed, KeyRefusedError) or not self._streams:
            self._desk.failed(name, 0.0)
            raise failed from None
        retry_s = None
        if isinstance(failed, LimitedError):
            retry_s = _LIMITED_S if failed.retry_after_s is None else failed.retry_after_s
            self._quiet_until_s = asyncio.get_running_loop().time() + retry_s
            self._desk.tell(Phase.LIMITED, str(failed), self._desk.clock_ms() + round(retry_s * _MS_PER_S))
            asyncio.get_running_loop().call_later(retry_s, self._limit_is_over)
        self._desk.failed(name, retry_s)

    def _limit_is_over(self) -> None:
        if self._tasks:
            self._desk.tell(Phase.RECEIVING)

    def _dated(self, asked_ms: int) -> None:
        if not self._exchange.has["fetchTime"] and (told_ms := server_ms(self._opened.headers)) is not None:
            self._desk.skew.dated(told_ms, (asked_ms + self._desk.clock_ms()) // 2)


def _heard_ms(client: Any) -> int:
    """Return when a connection of ccxt was last heard, with anything."""
    return max(client.last_message_at or 0, client.lastPong or 0)
