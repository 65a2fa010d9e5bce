"""Trades that were missed, fetched: the newest first, and where these do not reach back far enough, the older ones."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

from feed.connection.lanes import Ask, Row
from feed.providers.ccxt.quirks import Quirks
from feed.providers.ccxt.trades import rows_of

_NS_PER_MS = 1_000_000
_MAX_PAGES = 20_000


class History:
    """One question for an instrument's past.

    Every exchange answers with its newest trades, but only some with those from a time on, and the others do not say
    that they cannot. So whether anything may be missing is judged by what came, not by what was asked.
    not_empty: the exchange is known to have a trade. whole: what came joins what was known before.
    """

    def __init__(self, exchange: Any, quirks: Quirks, ask: Ask, *, backfilled: bool, not_empty: bool) -> None:
        self._exchange, self._quirks, self._ask = exchange, quirks, ask
        self._backfilled, self._not_empty = backfilled, not_empty
        self.whole = False

    async def pages(self) -> AsyncIterator[list[Row]]:
        """Yield what there is, page by page."""
        newest = await self._page()
        if not newest and self._not_empty:
            raise ValueError("no trades, though there were some")
        known_ns = self._ask.from_ns
        if not newest or known_ns is None or newest[0].time_ns <= known_ns:
            self.whole = True
        elif self._quirks.from_id is not None and self._ask.from_id is not None:
            async for page in self._by_id(self._quirks.from_id, self._ask.from_id, _number(newest[0])):
                yield page
        else:
            async for page in self._by_time(known_ns, newest[0].time_ns):
                yield page
        yield newest

    async def _by_id(self, parameter: str, next_id: int, until_id: int) -> AsyncIterator[list[Row]]:
        for _ in range(_MAX_PAGES):
            page = await self._page(params={parameter: str(next_id)})
            yield page
            highest_id = max((_number(row) for row in page), default=0)
            if highest_id < next_id:
                return
            next_id = highest_id + 1
            if next_id >= until_id:
                self.whole = True
                return

    async def _by_time(self, known_ns: int, until_ns: int) -> AsyncIterator[list[Row]]:
        joins, reached_ns = None, known_ns
        for _ in range(_MAX_PAGES):
            page = await self._page(reached_ns)
            yield page
            if not page or page[-1].time_ns <= reached_ns:
                return
            joins = page[0].time_ns <= known_ns if joins is None else joins
            reached_ns = page[-1].time_ns
            if reached_ns >= until_ns:
                self.whole = joins
                return

    async def _page(self, from_ns: int | None = None, params: Mapping[str, str] | None = None) -> list[Row]:
        asked = dict(params or {})
        if from_ns is not None and self._quirks.after_ns is not None:
            asked[self._quirks.after_ns] = str(from_ns - 1)
        since_ms = None if from_ns is None else from_ns // _NS_PER_MS
        trades = await self._exchange.fetch_trades(self._ask.instrument, since_ms, None, asked)
        counted = self._quirks.consecutive
        rows = rows_of(trades, self._ask.instrument, counted=counted, fetched=True, backfilled=self._backfilled)
        # ccxt makes empty trades, or none, of an answer that is something else.
        if any(row.time_ns == 0 for row in rows):
            raise ValueError("trades without a time")
        return rows


def _number(row: Row) -> int:
    return row.id if isinstance(row.id, int) else 0
