"""Numbers as text for people: exactly what is stored, never rounded."""

from decimal import Decimal
from math import isfinite

NONE = "–"
# Outside of this an exponent is easier to read than so many zeros.
_LEAST, _MOST = 1e-15, 1e21


def number_text(value: float | None, decimals: int = 0, *, grouped: bool = False) -> str:
    """Return the shortest decimal number that is exactly this one, such as "0.00000012"; a dash for None.

    decimals: so many at least, so that numbers line up; never fewer than it takes. grouped: with commas for thousands.
    """
    if value is None:
        return NONE
    number = float(value)
    if not isfinite(number) or (number and not _LEAST <= abs(number) < _MOST):
        return repr(number)
    whole, _, fraction = format(Decimal(repr(number + 0.0)), "f").partition(".")
    fraction = fraction.rstrip("0").ljust(decimals, "0")
    if grouped:
        sign, digits = ("-", whole[1:]) if whole.startswith("-") else ("", whole)
        whole = f"{sign}{int(digits):,}"
    return f"{whole}.{fraction}" if fraction else whole
