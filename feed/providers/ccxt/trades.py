"""Trades of ccxt as rows of the feed."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace

from feed.connection.ids import id_of
from feed.connection.lanes import Row
from feed.mapping.exact_json import text_of

Trade = Mapping[str, object]

_NS_PER_MS = 1_000_000


def rows_of(
    trades: Iterable[Trade], symbol: str, *, counted: bool, fetched: bool = False, backfilled: bool = False
) -> list[Row]:
    """Return trades by time, to the millisecond as ccxt has them, in the order they came where times are equal.

    counted: ids are numbers that rise one by one. fetched: ccxt has put trades of one time into the order of their ids
    as texts, by which 10 comes before 9; where all ids are numbers, these order them again.
    """
    rows = [_row(one, symbol, counted, backfilled) for one in trades]
    texts = [str(row.id) for row in rows]
    numbers = [int(text) if text.isascii() and text.isdigit() else None for text in texts]
    if counted or (fetched and None not in numbers):
        rows = [row for _, row in sorted(zip(numbers, rows, strict=True), key=lambda one: one[0] or 0)]
    return sorted(rows, key=lambda row: row.time_ns)


def with_ids(rows: Iterable[Row]) -> list[Row]:
    """Give ids to rows of one answer whose exchange gives none: by what they are, and which of several alike."""
    seen: Counter[str] = Counter()
    return [row if row.id is not None else replace(row, id=_made_up(row, seen)) for row in rows]


def _made_up(row: Row, seen: Counter[str]) -> str:
    what = "|".join(str(row.values[name]) for name in ("time", "price", "volume"))
    seen[what] += 1
    return f"{what}|{seen[what]}"


def _row(trade: Trade, symbol: str, counted: bool, backfilled: bool) -> Row:
    sent, time_ms = text_of(trade.get("id")) or None, trade.get("timestamp")
    values = {
        "time": time_ms,
        "instrument": symbol,
        "price": trade.get("price"),
        "volume": trade.get("amount"),
        "id": sent,
    }
    time_ns = time_ms * _NS_PER_MS if isinstance(time_ms, int) else 0
    return Row(time_ns, id_of(sent) if counted else sent, values, backfilled)
