"""Trades of ccxt as rows of the feed."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace

from feed.connection.ids import id_of, numbered
from feed.connection.lanes import Row

Trade = Mapping[str, object]

_NS_PER_MS = 1_000_000


def rows_of(trades: Iterable[Trade], symbol: str, *, backfilled: bool = False) -> list[Row]:
    """Return trades by (time, id); times are to the millisecond, as ccxt has them."""
    return sorted((_row(one, symbol, backfilled) for one in trades), key=lambda row: (row.time_ns, row.id or 0))


def with_ids(rows: Iterable[Row]) -> list[Row]:
    """Give ids to rows of one answer whose exchange gives none: by what they are, and which of several alike."""
    seen: Counter[str] = Counter()
    return [row if row.id is not None else replace(row, id=_made_up(row, seen)) for row in rows]


def _made_up(row: Row, seen: Counter[str]) -> int:
    what = "|".join(str(row.values[name]) for name in ("time", "price", "volume"))
    seen[what] += 1
    return numbered(f"{what}|{seen[what]}")


def _row(trade: Trade, symbol: str, backfilled: bool) -> Row:
    number, time_ms = id_of(trade.get("id")), trade.get("timestamp")
    values = {
        "time": time_ms,
        "instrument": symbol,
        "price": trade.get("price"),
        "volume": trade.get("amount"),
        "id": number,
    }
    return Row(time_ms * _NS_PER_MS if isinstance(time_ms, int) else 0, number, values, backfilled)
