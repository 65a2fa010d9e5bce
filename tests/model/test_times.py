"""Times of every form against writers and readers that know nothing of ours: Decimal, datetime and zoneinfo.

BARMILL_HUNT_EXAMPLES raises how many inputs the generators make, for a hunt by hand.
"""

import os
from datetime import date, datetime, timedelta
from decimal import Decimal

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from barmill.model.tick import check
from barmill.model.tick_time import read_times, readable_times
from barmill.model.time_text import BEFORE_NS, FROM_NS, is_time_format, iso_text, read_time
from tests.support.time_formats import NS, ZONES, could_be_something_else, independent, local_text, written

EXAMPLES = int(os.environ.get("BARMILL_HUNT_EXAMPLES", "40"))
HUNT = settings(max_examples=EXAMPLES, deadline=None)
TIMES_NS = st.integers(FROM_NS, BEFORE_NS - 1) | st.integers(1_500_000_000, 1_900_000_000).map(lambda s: s * NS)
T_NS = 1_735_732_800 * NS  # 2025-01-01 12:00 UTC


def batch(*texts: str | None, time_format: str = "auto", zone: str = "") -> list[int | None]:
    return read_times(pl.Series("time", texts, pl.String), time_format, zone).to_list()


@pytest.mark.parametrize(
    ("text", "below_ns"),
    [
        ("2025-01-01T12:00Z", 0), ("2025-01-01T12Z", 0), ("20250101T120000Z", 0), ("20250101T1200Z", 0),
        ("2025-01-01t12:00:00z", 0), ("2025-01-01D12:00:00.302143000Z", 302_143_000), ("2025-01-01 12:00:00 UTC", 0),
        ("2025-01-01 12:00:00.123456+00", 123_456_000), ("2025-01-01T12:00:00,5Z", 500_000_000),
        ("2025-01-01T12:00:00 Z", 0), ("2025-01-01T13:00:00+01:00", 0), ("2025-01-01T13:00:00 +0100", 0),
        ("2025-01-01T13:00:00 Europe/Paris", 0), ("2025-01-01T13:00:00+01:00[Europe/Paris]", 0),
        ("2025-01-01T13:00:00[Europe/Paris]", 0), ("2025-W01-3T12:00:00Z", 0), ("2025W013T12Z", 0),
        ("2025-001T12:00:00Z", 0), ("2025001T12Z", 0), ("2025-01-01T11.5Z", -1_800 * NS), 
        ("2025-01-01T12:00,5Z", 30 * NS),
        ("2025-01-01T12:00:00.1234567890Z", 123_456_789), ("2024-12-31T24:00:00Z", -12 * 3_600 * NS),
        ("2025-01-01T07:00:00−05:00", 0), ("1735732800", 0), ("1735732800.123456789", 123_456_789),
        ("1.7357328e9", 0), ("1735732800000.0", 0), ("1735732800000000001.0", 1), ("+1735732800000", 0),
    ],
)  # fmt: skip
def test_every_form_is_read_exactly(text: str, below_ns: int) -> None:
    assert read_time(text) == T_NS + below_ns
    assert batch(text) == [T_NS + below_ns]


@pytest.mark.parametrize(
    "text",
    [
        "2025-01-01T12:00:00", "2025-01-01", "2025-01-01T12:00:00.1234567891Z", "2025-01-01T12:00:60Z",
        "2025-02-30T12:00:00Z", "2025-01-01T25:00:00Z", "2025-01-01T24:00:01Z", "2025-01-01T12:60Z", "2025-01T12:00Z",
        "2025-W54-1T12Z", "2025-366T12Z", "2025-000T12Z", "2025-01-01T12:00:00+25:00", "2025-01-01T12:0000Z",
        "2025-01-01T13:00:00+02:00[Europe/Paris]", "2025-01-01T12:00:00 EST", "2025-01-01T12:00:00 Mars/Base",
        "2025-01-01T12:00:00Z[Europe/Paris]", "0001-01-01T00:00:00Z", "1970-12-31T23:59:59.999999999Z",
        "2201-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "1735732800.1234567891", "1735732800000000000.5",
        "638713296000000000", "133802064000000000", "20250101120000", "20250101", "0", "-1735732800", "nan", "inf",
        "1e999", "1_735_732_800", "٢٠٢٥-01-01T12:00:00Z", "2025-03-30T02:30:00 Europe/Paris",
        "2025-10-26T02:30:00 Europe/Paris", "", "2025-01-01T12:00:00Z2025-01-01T12:00:00Z",
        "2025-01-01T12:00:00Z\n\x00", "1" * 4_000, "99999999999999",
    ],
)  # fmt: skip
def test_what_is_no_time_or_cannot_be_held_is_refused(text: str) -> None:
    assert read_time(text) is None
    assert batch(text) == [None]


def test_a_local_time_needs_a_zone_and_must_exist_once() -> None:
    paris = {"zone": "Europe/Paris"}
    assert batch("2025-01-01 13:00:00.123456789", "2025-03-30 02:30:00", "2025-10-26 02:59:59", **paris) == [
        T_NS + 123_456_789,
        None,
        None,
    ]
    assert read_time("2025-03-30 03:00:00", **paris) == read_time("2025-03-30T01:00:00Z")
    assert read_time("2025-10-26 03:00:00", **paris) == read_time("2025-10-26T02:00:00Z")
    # An offset places an hour that the clock shows twice.
    assert read_time("2025-10-26T02:30:00+02:00[Europe/Paris]") == read_time("2025-10-26T00:30:00Z")
    assert read_time("2025-10-26T02:30:00+01:00[Europe/Paris]") == read_time("2025-10-26T01:30:00Z")
    naive = pl.Series([datetime(2025, 1, 1, 13), datetime(2025, 3, 30, 2, 30), datetime(2025, 10, 26, 2, 30)])
    assert read_times(naive, zone="Europe/Paris").to_list() == [T_NS, None, None]


@pytest.mark.parametrize(
    ("dtype", "value"),
    [(pl.Int64, 1_735_732_800), (pl.UInt64, 1_735_732_800_000), (pl.Int128, T_NS), (pl.Float64, 1_735_732_800.0)],
)
def test_a_column_of_any_numbers_is_read(dtype: pl.DataType, value: float) -> None:
    assert read_times(pl.Series([value], dtype=dtype)).to_list() == [T_NS]
    assert read_times(pl.Series([-1], dtype=pl.Int64)).to_list() == [None]
    assert read_times(pl.Series([2**64 - 1], dtype=pl.UInt64)).to_list() == [None]


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_moments_outside_the_years_are_refused_and_never_wrap(unit: str) -> None:
    moments = pl.Series([2**62, -(2**62), FROM_NS // 10**6, -1], dtype=pl.Int64).cast(pl.Datetime(unit))  # type: ignore[arg-type]
    inside = FROM_NS if unit == "ms" else None
    expected = [2**62 if unit == "ns" else None, None, inside, None]
    assert read_times(moments).to_list() == expected


def test_dates_are_midnights_and_other_columns_are_no_times() -> None:
    assert read_times(pl.Series([date(2025, 1, 1)])).to_list() == [T_NS - 12 * 3_600 * NS]
    assert read_times(pl.Series([timedelta(1), None])).to_list() == [None, None]
    assert read_times(pl.Series([["2025"]])).to_list() == [None]


def test_a_date_and_time_written_as_one_number_is_no_number_of_milliseconds() -> None:
    numbers = [202501011200, 197101010000, 220012312359, 197101009999, 220101010000]
    expected = [None, None, None, 197101009999 * 10**6, 220101010000 * 10**6]
    assert batch(*map(str, numbers)) == expected
    assert read_times(pl.Series(numbers)).to_list() == expected
    assert [read_time(number) for number in numbers] == expected
    assert read_time("202501011200", "ms") == 202501011200 * 10**6
    assert batch("202501011200", time_format="%Y%m%d%H%M", zone="UTC") == [T_NS]


def test_a_format_needs_a_whole_date_and_half_of_the_day() -> None:
    wanted = {"%H:%M:%S": False, "%d/%m %H:%M": False, "%Y-%m-%d %I:%M": False, "%f %f %Y-%m-%d": False, "%Q": False}
    wanted |= {"%Y-%m-%d %I:%M %p": True, "%y%j %H": True, "%Y.%m.%d %H:%M:%S.%f": True, "us": True, "seconds": False}
    assert {text: is_time_format(text) for text in wanted} == wanted


def test_digits_beyond_a_patterns_microseconds_are_kept_and_only_there() -> None:
    long = ("2025.01.01 12:00:00.123456789", "2025.01.01 12:00:00.1234567891", "2025.01.01 12:00:00.5")
    assert batch(*long, time_format="%Y.%m.%d %H:%M:%S.%f", zone="UTC") == [T_NS + 123_456_789, None, T_NS + NS // 2]
    run = ("20250101120000123456789", "202501011 120000.5")
    assert batch(*run, time_format="%Y%m%d%H%M%S%f", zone="UTC") == [T_NS + 123_456_789, None]
    assert batch("202501011 12:00:00.5", time_format="%Y%m%d %H:%M:%S.%f", zone="UTC") == [None]
    assert batch("2025-01-01 12:00 UTC", "2025-01-01 12:00 gmt", time_format="%Y-%m-%d %H:%M %Z") == [T_NS, T_NS]


@st.composite
def written_times(draw: st.DrawFn) -> tuple[str, int]:
    time_ns = draw(TIMES_NS)
    return written(draw(st.randoms(use_true_random=False)), time_ns), time_ns


@HUNT
@given(st.lists(written_times(), min_size=1, max_size=20))
def test_times_come_out_as_they_were_written(written: list[tuple[str, int]]) -> None:
    expected = [None if could_be_something_else(text, time_ns) else time_ns for text, time_ns in written]
    assert batch(*(text for text, _ in written)) == expected
    assert [read_time(text) for text, _ in written] == expected


@HUNT
@given(st.lists(TIMES_NS, min_size=1, max_size=20), st.sampled_from(ZONES))
def test_a_local_time_is_read_by_its_zone_or_refused(times_ns: list[int], zone: str) -> None:
    texts, expected = [], []
    for time_ns in times_ns:
        text, right = local_text(time_ns, zone)
        texts.append(text)
        expected.append(right)
    assert batch(*texts, zone=zone) == expected
    assert batch(*texts, time_format="%Y-%m-%d %H:%M:%S.%f", zone=zone) == expected


# Lone surrogates are left out: they are no characters, and a Polars column cannot hold them. Barmill escapes them where
# JSON is parsed (platform/exact_json.py, ingest/files/tables.py), and refuses them in arguments (cli/main.py).
NASTY = (
    st.text("0123456789-+:.,TtDZzWUC/ []eE_\u2212", max_size=32)
    | st.decimals(allow_nan=True, allow_infinity=True).map(str)
    | st.integers().map(str)
    | st.floats().map(str)
    | st.datetimes().map(lambda moment: moment.isoformat())
    | st.tuples(written_times(), st.integers(0, 40), st.characters(codec="utf-8")).map(
        lambda w: w[0][0][: w[1]] + w[2] + w[0][0][w[1] :]
    )
)


@HUNT
@given(st.lists(st.none() | NASTY, min_size=1, max_size=20), st.sampled_from(["auto", "iso", "s", "ms", "us", "ns"]))
def test_a_column_is_read_as_its_values_and_nothing_outside_the_years(
    texts: list[str | None], time_format: str
) -> None:
    one_by_one = [read_time(text, time_format) for text in texts]
    assert batch(*texts, time_format=time_format) == one_by_one
    assert all(time_ns is None or FROM_NS <= time_ns < BEFORE_NS for time_ns in one_by_one)
    for text, time_ns in zip(texts, one_by_one, strict=True):
        if time_ns is not None:
            assert read_time(iso_text(time_ns)) == time_ns
            assert independent(str(text).strip(), time_format) in (time_ns, None)


@HUNT
@given(st.floats(FROM_NS / NS, BEFORE_NS / NS, exclude_max=True))
def test_a_float_counts_as_its_shortest_decimal(seconds: float) -> None:
    exact = Decimal(repr(seconds)).scaleb(9)
    expected = int(exact) if exact == int(exact) and FROM_NS <= exact < BEFORE_NS else None
    assert read_time(seconds) == expected
    assert read_times(pl.Series([seconds])).to_list() == [expected]


@HUNT
@given(st.lists(NASTY, min_size=1, max_size=20), st.sampled_from(["iso", "s", "ms", "us", "ns", "%Y%m%d"]))
def test_a_prepared_column_is_read_without_its_format(texts: list[str], time_format: str) -> None:
    column = pl.Series("time", texts, pl.String)
    prepared = readable_times(column, time_format, "UTC")
    rows = pl.DataFrame({"time": prepared, "instrument": "A", "price": 1.0})
    expected = read_times(column, time_format, "UTC")
    checked = check(rows, None)
    assert checked.ticks["time_ns"].to_list() == expected.drop_nulls().to_list()
    assert checked.rejects.height == expected.null_count()
