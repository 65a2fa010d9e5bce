"""What an exchange offers, for the Instruments page."""

from collections.abc import Iterable, Mapping
from decimal import Decimal, InvalidOperation

from feed.provider import Listed

_DECIMAL_PLACES = 2  # how ccxt marks a precision that counts digits; others are the smallest step


def listed(markets: Iterable[Mapping[str, object]], precision_mode: int) -> list[Listed]:
    """Return the markets that trade, by name."""
    active = (one for one in markets if one.get("active") is not False and one.get("symbol"))
    found = [Listed(str(one["symbol"]), _description(one), _decimals(one, precision_mode), True) for one in active]
    return sorted(found, key=lambda one: one.instrument)


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
