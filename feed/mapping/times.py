"""Times as providers write them, made what `feed/tick_time.py` reads: nanoseconds, or ISO 8601 with a zone."""

from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from zoneinfo import ZoneInfo

_NS = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}
_FORMATS = (*_NS, "auto", "iso")
# A number tells its unit by its size, from 1973 on: the bounds of feed/tick_time.py, and seconds below them.
_UNITS_BELOW = ((10**11, "s"), (10**14, "ms"), (10**17, "us"))
_NS_FROM, _NS_BELOW = 10**17, 10**20


def is_time_format(text: str) -> bool:
    """Tell whether this is a format of times: auto, iso, a unit, or a pattern such as %d/%m/%Y %H:%M."""
    if "%" not in text:
        return text in _FORMATS
    try:
        datetime.strptime(datetime(2000, 1, 2, 3, 4, 5, tzinfo=UTC).strftime(text), text)
    except ValueError:
        return False
    return True


def time_of(value: object, time_format: str = "auto", zone: str = "") -> object:
    """Return a time as nanoseconds or ISO 8601; what cannot be read comes back so that it will be a reject.

    auto: a number tells its unit by its size, seconds among them; text is such a number or ISO 8601. zone: of texts
    that carry none, an IANA name; without it they are rejects.
    """
    if value is None or isinstance(value, bool | list | dict):
        return value
    if time_format in _NS:
        return _epoch_ns(value, _number(value), time_format)
    if time_format == "auto" and (number := _number(value)) is not None:
        return _epoch_ns(value, number, next((unit for below, unit in _UNITS_BELOW if number < below), "ns"))
    if not isinstance(value, str):
        return f"{value} is no {time_format}"
    text = value.strip()
    try:
        if time_format in ("auto", "iso"):
            # Read here only to find the zone: a moment with one goes on as it is, to its last nanosecond.
            return _zoned(datetime.fromisoformat(text), zone, text)
        return _zoned(datetime.strptime(text, time_format), zone, "")
    except ValueError:
        return value


def _epoch_ns(value: object, number: Decimal | None, unit: str) -> object:
    # Exact to the last digit that the provider wrote, which floats of seconds are not.
    time_ns = 0 if number is None else int(number * _NS[unit])
    # A smaller one would be taken for a larger unit further on, and be a time after all.
    return time_ns if time_ns >= _NS_FROM else f"{value} {unit}"


def _number(value: object) -> Decimal | None:
    try:
        number = Decimal(str(value).strip())
    except InvalidOperation:
        return None
    return number if number.is_finite() and abs(number) < _NS_BELOW else None


def _zoned(moment: datetime, zone: str, text: str) -> str:
    if moment.tzinfo is not None:
        return text or moment.isoformat()
    if zone:
        return moment.replace(tzinfo=ZoneInfo(zone)).isoformat()
    return f"{text or moment.isoformat()} without a zone"
