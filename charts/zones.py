"""Time zones: which clock a figure goes by, and its times as that clock shows them."""

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from zoneinfo import ZoneInfo, available_timezones

import polars as pl

# Before the IANA names, which are all allowed as well.
USUAL_ZONES: Sequence[str] = ("UTC", "local", "exchange")


@cache
def zone_names() -> tuple[str, ...]:
    """Return every zone a link may name."""
    return (*USUAL_ZONES, *sorted(available_timezones() - set(USUAL_ZONES)))


def zone_of(name: str, browser_zone: str | None, exchange_zone: str) -> str:
    """Return the IANA name of a zone by its name in a link; where nobody knows it, UTC."""
    asked = {"local": browser_zone, "exchange": exchange_zone}.get(name, name)
    return asked if asked in zone_names() and asked not in USUAL_ZONES else "UTC"


def clock_ms(times_ms: pl.Series, zone: str) -> pl.Series:
    """Return what the clocks of a zone show at these times, as milliseconds that read so in UTC.

    In the hour that an autumn night repeats, they go back once.
    """
    times = pl.from_epoch(times_ms, time_unit="ms").dt.replace_time_zone("UTC")
    return times.dt.convert_time_zone(zone).dt.replace_time_zone(None, ambiguous="earliest").dt.epoch("ms")


def on_the_clock(time_ms: int, zone: str) -> datetime:
    """Return a time as the clocks of a zone show it, for input fields."""
    return datetime.fromtimestamp(time_ms / 1_000, UTC).astimezone(ZoneInfo(zone)).replace(tzinfo=None)


def time_ms_of(on_clock: datetime, zone: str) -> int:
    """Return when the clocks of a zone show this; of two such times the earlier one."""
    return round(on_clock.replace(tzinfo=ZoneInfo(zone)).timestamp() * 1_000)
