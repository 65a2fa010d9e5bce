"""Formatting of numbers, ages and times, the same on pages, in commands and in status messages."""

from datetime import UTC, datetime
from decimal import Decimal
from math import isfinite

from barmill.platform.clock import MS_PER_DAY, MS_PER_HOUR, MS_PER_MINUTE, MS_PER_S

_MARKDOWN = frozenset("\\`*_[]<>#:$~|@")


def age(age_ms: int) -> str:
    """Format how long ago something was, in tenths of a second at first, then in coarser units."""
    age_ms = max(age_ms, 0)
    if age_ms < 10 * MS_PER_S:
        return f"{age_ms / MS_PER_S:.1f} s"
    if age_ms < 2 * MS_PER_MINUTE:
        return f"{age_ms // MS_PER_S} s"
    if age_ms < 2 * MS_PER_HOUR:
        return f"{age_ms // MS_PER_MINUTE} min"
    if age_ms < 2 * MS_PER_DAY:
        return f"{age_ms // MS_PER_HOUR} h"
    return f"{age_ms // MS_PER_DAY} d"


def moment(time_ms: int) -> str:
    """Format a time in UTC, to the second."""
    return datetime.fromtimestamp(time_ms // MS_PER_S, UTC).strftime("%Y-%m-%d %H:%M:%S")


def utc_text(at_ms: int) -> str:
    """Format a time in UTC, to the minute."""
    return f"{datetime.fromtimestamp(at_ms // MS_PER_S, UTC):%Y-%m-%d %H:%M} UTC"


NO_VALUE = "–"
# Outside this range an exponent is easier to read than many zeros.
_MIN_PLAIN, _MAX_PLAIN = 1e-15, 1e21


def number_text(value: float | None, decimals: int = 0, *, grouped: bool = False) -> str:
    """Return the shortest decimal that is exactly this number, such as "0.00000012"; a dash for None.

    decimals: the minimum number of decimals, for alignment; digits are never cut.
    grouped: use commas as thousands separators.
    """
    if value is None:
        return NO_VALUE
    number = float(value)
    if not isfinite(number) or (number and not _MIN_PLAIN <= abs(number) < _MAX_PLAIN):
        return repr(number)
    whole, _, fraction = format(Decimal(repr(number + 0.0)), "f").partition(".")
    fraction = fraction.rstrip("0").ljust(decimals, "0")
    if grouped:
        sign, digits = ("-", whole[1:]) if whole.startswith("-") else ("", whole)
        whole = f"{sign}{int(digits):,}"
    return f"{whole}.{fraction}" if fraction else whole


def duration(length_ms: int) -> str:
    """Format a duration in the largest unit that needs no decimals."""
    units = ((MS_PER_DAY, "d"), (MS_PER_HOUR, "h"), (MS_PER_MINUTE, "min"), (MS_PER_S, "s"))
    texts = (f"{length_ms // ms} {unit}" for ms, unit in units if length_ms and length_ms % ms == 0)
    return next(texts, f"{length_ms} ms")


def change(ratio: float) -> str:
    """Format a relative change with an arrow and a sign, so that it is readable without colors."""
    percent = round(ratio * 100, 2) + 0.0  # a change too small to display has no direction, and zero has no minus sign
    arrow = "▲" if percent > 0 else "▼" if percent < 0 else "■"
    return f"{arrow} {percent:+.2f} %".replace("-", "\N{MINUS SIGN}")


def escape_markdown(text: str) -> str:
    """Escape text from outside so that it is not interpreted as Markdown."""
    return "".join(f"\\{character}" if character in _MARKDOWN else character for character in text)
