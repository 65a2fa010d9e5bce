"""Writes times in every form, and reads what Decimal, datetime and zoneinfo can read without any code of Barmill."""

import random
import re
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from zoneinfo import ZoneInfo

NS = 1_000_000_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FROM_S, BEFORE_S = (int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) for year in (1971, 2201))
ZONES = ("Europe/Paris", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe", "America/Sao_Paulo", "Etc/GMT+5")
_DIGITS = {"s": 9, "ms": 6, "us": 3, "ns": 0}


def written(luck: random.Random, time_ns: int) -> str:
    """Write a time in one of many forms."""
    form = luck.choice((*_DIGITS, "iso"))
    if form != "iso":
        digits = f"{Decimal(time_ns).scaleb(-_DIGITS[form]):f}"
        return digits.rstrip("0").rstrip(".") if "." in digits and luck.random() < 0.5 else digits
    minutes = luck.randint(-18 * 60, 18 * 60)
    zone = luck.choice((UTC, *map(ZoneInfo, ZONES), timezone(timedelta(minutes=minutes))))
    moment = (EPOCH + timedelta(seconds=time_ns // NS)).astimezone(zone)
    basic = luck.random() < 0.5
    week = moment.isocalendar()
    day = luck.choice(
        (
            f"{moment:%Y%m%d}" if basic else f"{moment:%Y-%m-%d}",
            f"{moment:%Y%j}" if basic else f"{moment:%Y-%j}",
            f"{week.year}{'' if basic else '-'}W{week.week:02d}{'' if basic else '-'}{week.weekday}",
        )
    )
    clock = f"{moment:%H%M%S}" if basic else f"{moment:%H:%M:%S}"
    decimals = f"{time_ns % NS:09d}"
    decimals = decimals.rstrip("0") if luck.random() < 0.5 else decimals
    offset = f"{moment:%z}"
    ends = [offset, f"{offset[:3]}:{offset[3:]}"] if len(offset) == 5 else []
    ends += ["Z", " UTC", "z", "UTC", "+00", "GMT"] if not moment.utcoffset() else []
    if isinstance(zone, ZoneInfo):
        ends = ends and [f"{ends[0]}[{zone.key}]"]
        if shows_once(moment, zone):
            ends.append(f" {zone.key}")
    if not ends:
        return f"{time_ns}"
    return f"{day}{luck.choice('TtD ')}{clock}{luck.choice('.,') + decimals if decimals else ''}{luck.choice(ends)}"


def local_text(time_ns: int, zone: str) -> tuple[str, int | None]:
    """Write a local time without its zone; return it with the time it must be read as, None if it is ambiguous."""
    moment = (EPOCH + timedelta(seconds=time_ns // NS)).astimezone(ZoneInfo(zone))
    return f"{moment:%Y-%m-%d %H:%M:%S}.{time_ns % NS:09d}", time_ns if shows_once(moment, ZoneInfo(zone)) else None


def shows_once(moment: datetime, zone: ZoneInfo) -> bool:
    """Tell whether a clock of the zone shows this local time once."""
    naive = moment.replace(tzinfo=None)
    return len({naive.replace(tzinfo=zone, fold=fold).utcoffset() for fold in (0, 1)}) == 1


def could_be_something_else(text: str, time_ns: int) -> bool:
    """Tell whether a bare number could as well be of another unit, a date, .NET ticks or a FILETIME."""
    if re.fullmatch(r"\d+(\.\d+)?", text) is None:
        return False
    if re.fullmatch(r"\d{12}(\.\d+)?", text) and "1971" <= text[:4] <= "2200":
        return True
    if re.fullmatch(r"\d{17,19}", text) is None:
        # Bare ms, us and ns of 1971 and 1972 are too small to be distinguished from a smaller unit in the far future.
        return time_ns < 10**17 and len(text.partition(".")[0]) > 9
    return time_ns < 10**17 or any(_inside(time_ns // 10**7 - epoch) for epoch in (62_135_596_800, 11_644_473_600))


def independent(text: str, time_format: str) -> int | None:
    """Read what Decimal and datetime can read: numbers of a given unit, and ISO 8601 to microseconds."""
    if time_format in _DIGITS:
        return int(Decimal(text).scaleb(_DIGITS[time_format]))
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    if moment.tzinfo is None or len(re.sub(r"^.*[.,](\d*).*$", r"\1", text)) > 6:
        return None
    return (moment - EPOCH) // timedelta(microseconds=1) * 1_000


def _inside(epoch_s: int) -> bool:
    return FROM_S <= epoch_s < BEFORE_S
