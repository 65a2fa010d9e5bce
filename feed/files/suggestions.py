"""Which columns of a foreign file may be which fields, by their names and values. Pure."""

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal, DecimalException

from feed.time_text import read_time

_USUAL = {
    "time": ("time", "timestamp", "ts", "datetime", "transacttime", "tradetime", "eventtime", "siptimestamp", "t", "e"),
    "instrument": ("instrument", "symbol", "ticker", "s", "sym", "pair", "product", "productid", "instid", "market"),
    "price": ("price", "p", "px", "last", "lastprice", "tradeprice", "rate", "close"),
    "volume": ("volume", "size", "amount", "quantity", "qty", "q", "v", "sz", "lastsize"),
}
_SIGNS = re.compile(r"[^a-z0-9]")
_VENUES = ("exchange", "venue", "market", "exchangeid")


def suggested_columns(
    names: Sequence[str], sample: Sequence[Mapping[str, str | None]], missing: Sequence[str]
) -> dict[str, str]:
    """Return a column for each missing field where one is likely, and for the volume.

    sample: some rows, by which a column is left out whose values do not fit; without rows, names alone decide.
    """
    found = dict[str, str]()
    for field in [*missing, *(["volume"] if missing and "volume" not in names else [])]:
        likely = sorted(
            (name for name in names if _bare(name) in _USUAL[field] and name not in found.values()),
            key=lambda name: _USUAL[field].index(_bare(name)),
        )
        if field == "time" and sample:
            likely += [name for name in names if name not in likely]
        fitting = [name for name in likely if _fits(field, [row.get(name) for row in sample])]
        if fitting:
            found[field] = fitting[0]
    return found


def venue_column(names: Sequence[str]) -> str | None:
    """Return the column that tells venues apart, whose ids may be unique only within each of them."""
    return next((name for name in names if _bare(name) in _VENUES), None)


def _bare(name: str) -> str:
    return _SIGNS.sub("", name.lower())


def _fits(field: str, values: Sequence[str | None]) -> bool:
    given = [value.strip() for value in values if value and value.strip()]
    if not values:
        return True
    if not given:
        return False
    if field == "time":
        return all(read_time(value, "auto", "UTC") is not None for value in given)
    numbers = [_number(value) for value in given]
    if field == "instrument":
        return all(number is None for number in numbers)
    return all(number is not None for number in numbers)


def _number(value: str) -> Decimal | None:
    try:
        return Decimal(value.replace(",", "."))
    except DecimalException:
        return None
