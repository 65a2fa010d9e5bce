"""The price halfway between bid and ask."""

import re
from decimal import Context, Decimal

_PLAIN_NUMBER = re.compile(r"[+-]?(?:\d{1,40}\.?\d{0,40}|\.\d{1,40})(?:[eE][+-]?\d{1,3})?", re.ASCII)
_EXACT = Context(prec=1_000)


def middle(bid: object, ask: object) -> str | None:
    """Return the price halfway, to its last digit; None without both sides, and both as they are if one is no number.

    Python's Decimal takes more than the readers of numbers do, such as 1_000 or digits of other scripts; this does not.
    """
    if bid is None or ask is None:
        return None
    found = [_PLAIN_NUMBER.fullmatch(str(side).strip()) for side in (bid, ask)]
    numbers = [Decimal(side[0]) for side in found if side]
    if len(numbers) < len(found):
        return f"{bid} and {ask}"
    return str(_EXACT.divide(_EXACT.add(*numbers), 2))
