"""Trades from ccxt as rows of the feed, and the page-by-page history that fetches missed trades."""

from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from barmill.ingest.connection.instrument_stream import BackfillRequest, Row
from barmill.ingest.identity import id_of
from barmill.platform.clock import NS_PER_MS
from barmill.platform.exact_json import text_of


@dataclass(frozen=True)
class HistoryQuery:
    """The parameters for queries of an exchange.

    watch: extra parameters of a subscription. from_id: the parameter that requests trades from an id on. after_ns: the
    parameter that requests trades after a time in nanoseconds, where ccxt would only use whole seconds. consecutive:
    the ids of an instrument rise one by one, so a missing id is visible.
    """

    watch: Mapping[str, str] = field(default_factory=dict)
    from_id: str | None = None
    after_ns: str | None = None
    consecutive: bool = False


# The history of these exchanges has aggregated trades (fills of one order at one price count as one), so the stream
# must use them as well.
_BINANCE = HistoryQuery({"name": "aggTrade"}, from_id="fromId", consecutive=True)
_HISTORY_QUERIES: Mapping[str, HistoryQuery] = {
    "binance": _BINANCE,
    "binancecoinm": _BINANCE,
    "binanceus": _BINANCE,
    "binanceusdm": _BINANCE,
    "kraken": HistoryQuery(after_ns="since", consecutive=True),
}


def history_query(exchange: str) -> HistoryQuery:
    """Return the query details of an exchange."""
    return _HISTORY_QUERIES.get(exchange, HistoryQuery())


Trade = Mapping[str, object]


def rows_of(
    trades: Iterable[Trade], symbol: str, *, consecutive: bool, fetched: bool = False, backfilled: bool = False
) -> list[Row]:
    """Return trades as rows sorted by time (milliseconds in ccxt); rows of equal times keep their order.

    consecutive: ids are numbers that rise one by one. fetched: ccxt has sorted trades of equal times by their ids as
    texts, where 10 comes before 9; if all ids are numbers, they are sorted by number here.
    """
    rows = [_row(trade, symbol, consecutive, backfilled) for trade in trades]
    texts = [str(row.id) for row in rows]
    numbers = [int(text) if text.isascii() and text.isdigit() else None for text in texts]
    if consecutive or (fetched and None not in numbers):
        rows = [row for _, row in sorted(zip(numbers, rows, strict=True), key=lambda numbered: numbered[0] or 0)]
    return sorted(rows, key=lambda row: row.time_ns)


def with_ids(rows: Iterable[Row]) -> list[Row]:
    """Return the rows of one response with generated ids where the exchange sends none.

    An id consists of the content and a counter of rows with equal content.
    """
    id_counts: Counter[str] = Counter()
    return [row if row.id is not None else replace(row, id=_generated_id(row, id_counts)) for row in rows]


def _generated_id(row: Row, id_counts: Counter[str]) -> str:
    content = "|".join(str(row.values[name]) for name in ("time", "price", "volume"))
    id_counts[content] += 1
    return f"{content}|{id_counts[content]}"


def _row(trade: Trade, symbol: str, consecutive: bool, backfilled: bool) -> Row:
    trade_id, time_ms = text_of(trade.get("id")) or None, trade.get("timestamp")
    values = {
        "time": time_ms,
        "instrument": symbol,
        "price": trade.get("price"),
        "volume": trade.get("amount"),
        "id": trade_id,
    }
    time_ns = time_ms * NS_PER_MS if isinstance(time_ms, int) else 0
    return Row(time_ns, id_of(trade_id) if consecutive else trade_id, values, backfilled)


_MAX_PAGES = 20_000


class History:
    """One request for an instrument's history.

    Every exchange returns its newest trades, but only some return trades from a given time on, and the others do not
    report that they cannot. So whether trades may be missing depends on the returned rows, not on the request.
    not_empty: the exchange is known to have trades. is_complete: the result continues without a gap from what was known
    before.
    """

    def __init__(
        self, exchange: Any, history_query: HistoryQuery, request: BackfillRequest, *, backfilled: bool, not_empty: bool
    ) -> None:
        self._exchange, self._history_query, self._request = exchange, history_query, request
        self._backfilled, self._not_empty = backfilled, not_empty
        self.is_complete = False

    async def pages(self) -> AsyncIterator[list[Row]]:
        """Yield the available rows, page by page; raise ValueError for an unexpected response, and errors of ccxt."""
        newest = await self._page()
        if not newest and self._not_empty:
            raise ValueError("no trades, although the exchange has some")
        known_ns = self._request.from_ns
        if not newest or known_ns is None or newest[0].time_ns <= known_ns:
            self.is_complete = True
        elif self._history_query.from_id is not None and self._request.from_id is not None:
            async for page in self._by_id(self._history_query.from_id, self._request.from_id, _id_number(newest[0])):
                yield page
        else:
            async for page in self._by_time(known_ns, newest[0].time_ns):
                yield page
        yield newest

    async def _by_id(self, parameter: str, next_id: int, until_id: int) -> AsyncIterator[list[Row]]:
        for _ in range(_MAX_PAGES):
            page = await self._page(params={parameter: str(next_id)})
            yield page
            highest_id = max((_id_number(row) for row in page), default=0)
            if highest_id < next_id:
                return
            next_id = highest_id + 1
            if next_id >= until_id:
                self.is_complete = True
                return

    async def _by_time(self, known_ns: int, until_ns: int) -> AsyncIterator[list[Row]]:
        is_continuous, reached_ns = None, known_ns
        for _ in range(_MAX_PAGES):
            page = await self._page(reached_ns)
            yield page
            if not page or page[-1].time_ns <= reached_ns:
                return
            if is_continuous is None:
                is_continuous = page[0].time_ns <= known_ns
            reached_ns = page[-1].time_ns
            if reached_ns >= until_ns:
                self.is_complete = is_continuous
                return

    async def _page(self, from_ns: int | None = None, params: Mapping[str, str] | None = None) -> list[Row]:
        parameters = dict(params or {})
        if from_ns is not None and self._history_query.after_ns is not None:
            parameters[self._history_query.after_ns] = str(from_ns - 1)
        since_ms = None if from_ns is None else from_ns // NS_PER_MS
        trades = await self._exchange.fetch_trades(self._request.instrument, since_ms, None, parameters)
        consecutive = self._history_query.consecutive
        rows = rows_of(
            trades, self._request.instrument, consecutive=consecutive, fetched=True, backfilled=self._backfilled
        )
        # ccxt converts an unexpected response into empty trades, or into none.
        if any(row.time_ns == 0 for row in rows):
            raise ValueError("trades without a time")
        return rows


def _id_number(row: Row) -> int:
    return row.id if isinstance(row.id, int) else 0
