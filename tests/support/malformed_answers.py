"""Makes rows of a REST answer, good and bad, and says without code of Barmill which of them are ticks."""

import random
import time
from decimal import Decimal

NOW_S = int(time.time()) - 60
_BAD = (None, "", "soon", True, [1], {"x": 1}, 20250101120000, 10**30, -1, 0, "\ud800")


def nasty_rows(luck: random.Random, count: int) -> list[dict[str, object]]:
    """Make rows of several instruments, with ids or without, in one of several orders."""
    with_ids = luck.random() < 0.5
    # One row fits the mapping: an answer of which none does is a mistake in the settings, and says so.
    rows: list[dict[str, object]] = [{"t": NOW_S * 1_000, "p": 1.0, "s": "A", **({"id": "good"} if with_ids else {})}]
    for n in range(count):
        row: dict[str, object] = {
            "t": (NOW_S + luck.randrange(5)) * 1_000,
            "p": luck.randint(1, 10**15) / 10**6,
            "s": luck.choice(("A", "A", "B", "a", 700)),
        }
        if with_ids:
            row["id"] = luck.choice((n, f"x-{n}", 10**25 + n))
        if bad := luck.choice((None, None, None, None, "t", "p", "s")):
            row[bad] = luck.choice(_BAD)
        rows.append(row)
    rows.sort(key=lambda row: row["t"] if isinstance(row["t"], int) else 0)
    return luck.choice((rows, rows[::-1], luck.sample(rows, len(rows))))


def good_price(row: dict[str, object]) -> str | None:
    """Return the price of a row that is a tick, None if it is none."""
    at_ms, price, name = row["t"], row["p"], row["s"]
    good_time = isinstance(at_ms, int) and 0 <= at_ms - NOW_S * 1_000 < 9_000
    good_price = isinstance(price, int | float) and not isinstance(price, bool) and 0 < price <= 10**15
    good_name = isinstance(name, int | str | list | dict) and str(name).strip() != ""
    return str(Decimal(repr(float(price)))) if good_time and good_price and good_name else None  # type: ignore[arg-type]
