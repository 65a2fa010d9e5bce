"""Parsing of one time of any form into nanoseconds since the epoch, UTC, in integer arithmetic.

    numbers   epoch s, ms, us or ns. Without a given unit, the size decides: s below 1e11, ms below 1e14, us below
              1e17, otherwise ns. Numbers that could also be .NET ticks, a Windows FILETIME or a date and time written
              as one number (202501011200) are then rejected.
    texts     a number as above, decimals and exponents included, or ISO 8601: extended or basic; calendar, week or
              ordinal date; T, a space or D before the time; without a time, midnight; minutes and seconds optional;
              `.` or `,` before decimals; then Z, UTC, GMT, an offset, a zone such as Europe/Paris, or an offset with
              the zone in brackets.
    zone      applies to texts without a zone; if no zone is given, they are rejected. A local time that occurs twice
              or never in the zone is rejected, since its UTC time would be a guess.

Nothing is rounded: a time with digits below one nanosecond is rejected, as is a second numbered 60. A binary float
counts as the shortest decimal number that represents it.
"""

import re
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from zoneinfo import ZoneInfo, available_timezones

from barmill.platform.clock import NS_PER_MS, NS_PER_S

NS_PER_UNIT = {"s": NS_PER_S, "ms": NS_PER_MS, "us": 1_000, "ns": 1}
# A bare number below the bound has that unit. Bare ms, us and ns thus reach back to March 1973, s to 1971.
UNIT_BELOW = {"s": 10**11, "ms": 10**14, "us": 10**17, "ns": 10**20}
_FORMATS = (*NS_PER_UNIT, "auto", "iso")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_DAY = date(1970, 1, 1).toordinal()


def _start_ns(year: int) -> int:
    return (date(year, 1, 1).toordinal() - _EPOCH_DAY) * 86_400 * NS_PER_S


FROM_NS, BEFORE_NS = _start_ns(1971), _start_ns(2201)
# Counts of 100 ns since the year 1 (.NET) and since 1601 (FILETIME) look like nanoseconds of about 1990 and 1974.
_TICKS_EPOCHS_NS = _start_ns(1), _start_ns(1601)
_TICKS = tuple(((FROM_NS - epoch) // 100, (BEFORE_NS - epoch) // 100) for epoch in _TICKS_EPOCHS_NS)
# By unit: ranges [first, end) of numbers that look like that unit but may be something else. Twelve digits of year,
# month, day, hour and minute look like milliseconds of 1976.
AMBIGUOUS = {"ms": ((197101010000, 220101010000),), "ns": _TICKS}

_MAX_CHARACTERS = 100
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?", re.ASCII)
_ZONE_NAME = r"[A-Za-z_]+(?:/[A-Za-z0-9_+-]+)+"
_ISO = re.compile(
    r"(?P<year>\d{4})(?:-(?P<month>\d\d)-(?P<day>\d\d)|(?P<basic>\d{4})|-?W(?P<week>\d\d)-?(?P<weekday>\d)"
    r"|-?(?P<ordinal>\d{3}))"
    r"(?:(?:[TtD]|[ ]+)(?P<hour>\d\d)(?:(?P<colon>:?)(?P<minute>\d\d)(?:(?P=colon)(?P<second>\d\d))?)?"
    r"(?:[.,](?P<decimals>\d+))?)?"
    rf"[ ]*(?:(?P<utc>Z|UTC|GMT)|(?P<sign>[+\u2212-])(?P<off_h>\d\d)(?::?(?P<off_m>\d\d))?|(?P<name>{_ZONE_NAME}))?"
    rf"(?:\[(?P<bracket>{_ZONE_NAME}|UTC|GMT|Z)\])?",
    re.ASCII | re.IGNORECASE,
)
_SAMPLES = (datetime(2031, 12, 24, 15, 4, 5, tzinfo=UTC), datetime(2004, 2, 29, 3, 4, 5, tzinfo=UTC))


def is_time_format(text: str) -> bool:
    """Return whether this is a time format: auto, iso, a unit, or a pattern with a whole date (%d/%m/%Y %H:%M)."""
    if "%" not in text:
        return text in _FORMATS
    if "%I" in text and "%p" not in text:
        return False
    try:
        parsed_samples = [datetime.strptime(sample.strftime(text), text) for sample in _SAMPLES]
    except (ValueError, re.error):
        return False
    return all(parsed.date() == sample.date() for parsed, sample in zip(parsed_samples, _SAMPLES, strict=True))


def read_time(value: object, time_format: str = "auto", zone: str = "") -> int | None:
    """Return a time as nanoseconds since the epoch, or None if it is not a time of the years 1971 to 2200.

    time_format: auto, iso, a unit (s, ms, us, ns), or a `datetime.strptime` pattern, whose %f takes up to nine digits.
    zone: the IANA name of the zone of texts that have none.
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float | Decimal):
        return _parse_number(value, time_format)
    if not isinstance(value, str):
        return None
    text = value.strip()
    if len(text) > _MAX_CHARACTERS:
        return None
    if time_format not in ("auto", "iso") and time_format not in NS_PER_UNIT:
        return _in_range(_parse_pattern(text, time_format, zone))
    if time_format != "iso" and _NUMBER.fullmatch(text):
        return _parse_number(int(text) if text.isdigit() else Decimal(text), time_format)
    return _in_range(_parse_iso(text, zone)) if time_format in ("auto", "iso") else None


def iso_text(time_ns: int) -> str:
    """Format a time as ISO 8601 in UTC, with nanoseconds."""
    moment = _EPOCH + timedelta(seconds=time_ns // NS_PER_S)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{time_ns % NS_PER_S:09d}Z"


def _in_range(time_ns: int | None) -> int | None:
    return time_ns if time_ns is not None and FROM_NS <= time_ns < BEFORE_NS else None


def _parse_number(value: float | Decimal, time_format: str) -> int | None:
    number: int | Fraction
    if isinstance(value, int):
        number = value
    else:
        decimal = Decimal(repr(value)) if isinstance(value, float) else value
        if not decimal.is_finite() or not -_MAX_CHARACTERS < decimal.adjusted() < _MAX_CHARACTERS:
            return None
        number = Fraction(decimal)
    unit = (
        next((unit for unit, below in UNIT_BELOW.items() if number < below), "")
        if time_format == "auto"
        else time_format
    )
    if unit not in NS_PER_UNIT:
        return None
    time_ns = number * NS_PER_UNIT[unit]
    is_ambiguous = time_format == "auto" and any(a <= number < b for a, b in AMBIGUOUS.get(unit, ()))
    return None if is_ambiguous or time_ns.denominator != 1 else _in_range(int(time_ns))


def _parse_iso(text: str, zone: str) -> int | None:
    match = _ISO.fullmatch(text)
    if match is None:
        return None
    hour, minute, second = (int(match[name] or 0) for name in ("hour", "minute", "second"))
    seconds = 3_600 if match["minute"] is None else 60 if match["second"] is None else 1
    decimals = match["decimals"] or "0"
    decimal_ns, below_ns = divmod(int(decimals) * seconds * NS_PER_S, 10 ** len(decimals))
    day = _day(match)
    is_midnight = hour == 24 and not (minute or second or decimal_ns)
    if day is None or below_ns or minute > 59 or second > 59 or not (hour < 24 or is_midnight):
        return None
    local_s = (day - _EPOCH_DAY) * 86_400 + hour * 3_600 + minute * 60 + second + decimal_ns // NS_PER_S
    offset_s = _offset_s(match, local_s, zone)
    return None if offset_s is None else (local_s - offset_s) * NS_PER_S + decimal_ns % NS_PER_S


def _day(match: re.Match[str]) -> int | None:
    """Return the day as a proleptic ordinal."""
    year = int(match["year"])
    try:
        if match["week"]:
            return date.fromisocalendar(year, int(match["week"]), int(match["weekday"])).toordinal()
        if match["ordinal"]:
            day = date(year, 1, 1).toordinal() + int(match["ordinal"]) - 1
            return day if date.fromordinal(day).year == year else None
        basic = match["basic"] or ""
        return date(year, int(match["month"] or basic[:2]), int(match["day"] or basic[2:])).toordinal()
    except ValueError:
        return None


def _offset_s(match: re.Match[str], local_s: int, zone: str) -> int | None:
    """Return how far local time is ahead of UTC, in seconds, or None if it is not given, not valid or ambiguous."""
    name = match["name"] or match["bracket"] or ""
    if match["utc"] or (not match["sign"] and name.upper() in ("Z", "UTC", "GMT")):
        return 0 if name.upper() in ("", "Z", "UTC", "GMT") or local_offset_s(local_s, name) == 0 else None
    if match["sign"]:
        hours, minutes = int(match["off_h"]), int(match["off_m"] or 0)
        if hours > 23 or minutes > 59:
            return None
        offset_s = (hours * 3_600 + minutes * 60) * (1 if match["sign"] == "+" else -1)
        return offset_s if not name or offset_s in _offsets_s(local_s, name) else None
    return local_offset_s(local_s, name or zone) if name or zone else None


def local_offset_s(local_s: int, zone: str) -> int | None:
    """Return the zone's only offset at this local time, or None if that time occurs twice or never."""
    offsets = _offsets_s(local_s, zone)
    return offsets[0] if len(offsets) == 1 else None


@lru_cache(maxsize=65_536)
def _offsets_s(local_s: int, zone: str) -> tuple[int, ...]:
    """Return every offset at which this local time exists in the zone: none, one or two. An unknown zone has none."""
    if zone.upper() in ("Z", "UTC", "GMT"):
        return (0,)
    if zone not in _zone_names():
        return ()
    local = _EPOCH.replace(tzinfo=None) + timedelta(seconds=local_s)
    offsets = dict.fromkeys(_utc_offset_s(local.replace(tzinfo=ZoneInfo(zone), fold=fold)) for fold in (0, 1))
    local_time = _EPOCH + timedelta(seconds=local_s)
    return tuple(
        s for s in offsets if _utc_offset_s((local_time - timedelta(seconds=s)).astimezone(ZoneInfo(zone))) == s
    )


def _utc_offset_s(moment: datetime) -> int:
    offset = moment.utcoffset()
    assert offset is not None
    return offset // timedelta(seconds=1)


@lru_cache(maxsize=1)
def _zone_names() -> frozenset[str]:
    return frozenset(available_timezones())


def _parse_pattern(text: str, pattern: str, zone: str) -> int | None:
    """Parse a text by a pattern. Digits of %f beyond the sixth, which strptime does not accept, are removed first."""
    candidates = [(text, "", 0)]
    if "%f" in pattern:
        for run in re.finditer(r"\d{7,}", text, re.ASCII):
            for end in (run.end() - count for count in (1, 2, 3)):
                below_us_ns = int(text[end : run.end()].ljust(3, "0"))
                candidates.append((text[:end] + text[run.end() :], text[end - 6 : end], below_us_ns))
    for rest, microseconds, below_us_ns in candidates:
        try:
            moment = datetime.strptime(rest, pattern)
        except ValueError:
            continue
        if microseconds and int(microseconds) != moment.microsecond:
            continue
        if moment.tzinfo is None and "%Z" in pattern:
            zone = "UTC" if re.search(r"UTC|GMT", text, re.IGNORECASE) else ""
        local_s = (moment.replace(tzinfo=UTC, microsecond=0) - _EPOCH) // timedelta(seconds=1)
        offset_s = local_offset_s(local_s, zone) if moment.tzinfo is None else _utc_offset_s(moment)
        return None if offset_s is None else (local_s - offset_s) * NS_PER_S + moment.microsecond * 1_000 + below_us_ns
    return None
