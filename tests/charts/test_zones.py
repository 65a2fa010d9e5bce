from datetime import datetime

import polars as pl
import pytest

from barmill.charts.view import clock_ms, local_time, time_ms_of, zone_names, zone_of

NOON_MS = 1_764_072_000_000  # 2025-11-25 12:00:00 UTC
_HOUR_MS = 3_600_000
# The night in which Berlin's clocks go back from 3 to 2, an hour after 2025-10-26 00:00 UTC.
CLOCKS_GO_BACK_MS = 1_761_440_400_000


@pytest.mark.parametrize(
    ("name", "browser", "zone"),
    [
        ("UTC", "Asia/Tokyo", "UTC"),
        ("exchange", "Asia/Tokyo", "America/New_York"),
        ("local", "Asia/Tokyo", "Asia/Tokyo"),
        ("local", None, "UTC"),
        ("local", "Nowhere/Else", "UTC"),
        ("Europe/Berlin", "Asia/Tokyo", "Europe/Berlin"),
        ("Mars/Olympus", "Asia/Tokyo", "UTC"),
    ],
)
def test_which_zone_a_name_means(name: str, browser: str | None, zone: str) -> None:
    assert zone_of(name, browser, "America/New_York") == zone


def test_every_zone_is_offered_once() -> None:
    assert zone_names()[:3] == ("UTC", "local", "exchange")
    assert len(zone_names()) == len(set(zone_names())) > 400


def test_times_are_what_the_clocks_show() -> None:
    times = pl.Series([NOON_MS, NOON_MS - 183 * 24 * _HOUR_MS])
    assert (clock_ms(times, "Europe/Berlin") - times).to_list() == [_HOUR_MS, 2 * _HOUR_MS]
    assert clock_ms(times, "UTC").to_list() == times.to_list()
    assert clock_ms(times[:0], "Europe/Berlin").to_list() == []


def test_in_autumn_clocks_show_one_hour_twice() -> None:
    times = pl.Series([CLOCKS_GO_BACK_MS - _HOUR_MS, CLOCKS_GO_BACK_MS, CLOCKS_GO_BACK_MS + _HOUR_MS])
    first, again, later = clock_ms(times, "Europe/Berlin").to_list()
    assert first == again == later - _HOUR_MS


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata", "America/New_York"])
def test_what_is_picked_on_the_clock_is_the_time_it_showed(zone: str) -> None:
    assert time_ms_of(local_time(NOON_MS, zone), zone) == NOON_MS
    assert local_time(NOON_MS, "Asia/Kolkata") == datetime(2025, 11, 25, 17, 30)
