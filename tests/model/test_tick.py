"""The tick check: every form of a good row, and every reason for a bad one."""

from datetime import UTC, datetime

import polars as pl
import pytest

from barmill.model.tick import REASONS, REJECT_SCHEMA, TICK_SCHEMA, check, rejects_of_ticks

TIME_MS = 1_700_000_000_123
START = datetime(2023, 11, 14, tzinfo=UTC)
LIMIT_NS = 1_800_000_000_000_000_000
GOOD = {
    "time": str(TIME_MS),
    "instrument": "A/USD",
    "price_open": "1.5",
    "price_close": "1.6",
    "volume": "2",
    "id": "7",
}


def raw(**changed: object) -> pl.DataFrame:
    row = {**GOOD, **changed}
    return pl.DataFrame([row], {name: pl.String() for name in row}).with_columns(line=pl.lit(1, pl.Int64))


def test_a_good_row_becomes_a_tick() -> None:
    checked = check(raw(), LIMIT_NS)
    assert dict(checked.ticks.schema) == TICK_SCHEMA
    assert checked.ticks.rows() == [(TIME_MS * 1_000_000, "A/USD", 1.5, 1.6, 2.0, None, 1, "7")]
    assert checked.rejects.height == 0


@pytest.mark.parametrize(
    ("text", "expected_ns"),
    [
        ("1700000000123", 1_700_000_000_123_000_000),
        ("1700000000123456", 1_700_000_000_123_456_000),
        ("1700000000123456789", 1_700_000_000_123_456_789),
        (" 1700000000123 ", 1_700_000_000_123_000_000),
        ("2023-11-14T22:13:20Z", 1_700_000_000_000_000_000),
        ("2023-11-14 22:13:20.5Z", 1_700_000_000_500_000_000),
        ("2023-11-14T23:13:20.123456789+01:00", 1_700_000_000_123_456_789),
        ("2023-11-14T17:13:20-0500", 1_700_000_000_000_000_000),
        ("1700000000", 1_700_000_000_000_000_000),
        ("1700000000.123456789", 1_700_000_000_123_456_789),
    ],
)
def test_every_time_form_is_read(text: str, expected_ns: int) -> None:
    assert check(raw(time=text), LIMIT_NS).ticks["time_ns"].to_list() == [expected_ns]


@pytest.mark.parametrize(
    ("column", "expected_ns"),
    [
        (pl.Series([1_700_000_000_123]), 1_700_000_000_123_000_000),
        (pl.Series([1_700_000_000_123.0]), 1_700_000_000_123_000_000),
        (pl.Series([1_700_000_000.1234]), 1_700_000_000_123_400_000),
        (pl.Series(["1700000000.123456789"]).cast(pl.Decimal(38, 9)), 1_700_000_000_123_456_789),
        (pl.Series([datetime(2023, 11, 14, 22, 13, 20)]), 1_700_000_000_000_000_000),
        (
            pl.Series([datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)]).dt.cast_time_unit("ms"),
            1_700_000_000_000_000_000,
        ),
        (pl.Series([1_700_000_000_123_456_789], dtype=pl.Datetime("ns")), 1_700_000_000_123_456_789),
    ],
)
def test_typed_times_are_read(column: pl.Series, expected_ns: int) -> None:
    rows = raw().with_columns(time=column)
    assert check(rows, LIMIT_NS).ticks["time_ns"].to_list() == [expected_ns]


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"time": None}, "bad_time"),
        ({"time": "soon"}, "bad_time"),
        ({"time": "0"}, "bad_time"),
        ({"time": "-1700000000123"}, "bad_time"),
        ({"time": "20250101120000"}, "bad_time"),
        ({"time": "31535999"}, "bad_time"),
        ({"time": "7289654400000"}, "bad_time"),
        ({"time": "2023-11-14T22:13:20"}, "bad_time"),
        ({"time": "1800000000001"}, "future"),
        ({"time": "2200-12-31T23:59:59Z"}, "future"),
        ({"time": "2201-01-01T00:00:00Z"}, "bad_time"),
        ({"instrument": None}, "no_instrument"),
        ({"instrument": "  "}, "no_instrument"),
        ({"instrument": "x" * 65}, "bad_instrument"),
        ({"instrument": "x" * 1_000_000}, "bad_instrument"),
        ({"instrument": "A\tB"}, "bad_instrument"),
        ({"price_open": None}, "bad_number"),
        ({"price_close": "1,5"}, "bad_number"),
        ({"price_open": "nan"}, "bad_number"),
        ({"price_close": "inf"}, "bad_number"),
        ({"price_open": "0"}, "price_not_positive"),
        ({"price_close": "-1"}, "price_not_positive"),
        ({"price_close": "1e16"}, "bad_number"),
        ({"volume": "much"}, "bad_number"),
        ({"volume": "nan"}, "bad_number"),
        ({"volume": "-0.1"}, "volume_negative"),
        ({"volume": "1e16"}, "bad_number"),
        ({"volume": "1e10", "price_close": "1e10"}, "bad_number"),
        ({"volume": "0.000000000000012345"}, "too_precise"),
        ({"volume": "1.0000000000005"}, "too_precise"),
        ({"volume": "0.1234567890123456789"}, "too_precise"),
        ({"price_open": "93500.123456789012345"}, "too_precise"),
        ({"price_open": "1e-400"}, "price_not_positive"),
        ({"price_open": "1e-14", "price_close": "1e-14", "volume": "1.5e-11"}, "too_precise"),
        ({"id": "7" * 1_001}, "bad_id"),
    ],
)
def test_a_bad_row_is_a_reject_with_one_reason_and_its_text(changed: dict[str, str | None], reason: str) -> None:
    checked = check(raw(**changed), LIMIT_NS)
    assert checked.ticks.height == 0
    assert dict(checked.rejects.schema) == REJECT_SCHEMA
    reject = checked.rejects.row(0, named=True)
    assert (reject["reason"], reject["line"], reject["detail"]) == (reason, 1, REASONS[reason])
    for name, text in {**GOOD, **changed}.items():
        assert reject[name] == (None if text is None else text[:200])


@pytest.mark.parametrize(
    "text",
    ["0.30000000000000004", "0.000000000001", "123456789012345", "0.1000000000000000000", "1E-5", "93500.1234567891"],
)
def test_a_number_that_is_held_exactly_is_taken(text: str) -> None:
    assert check(raw(price_open=text, price_close=text, volume="1"), None).ticks["price_open"].to_list() == [
        float(text)
    ]
    assert check(raw(price_open="1", price_close="1", volume="0.30000000000000004"), None).ticks.height == 1


@pytest.mark.parametrize(
    ("sent", "number", "text"),
    [
        ("7", 7, None), ("9223372036854775807", 2**63 - 1, None), ("9223372036854775808", None, "9223372036854775808"),
        ("07", None, "07"), ("-7", None, "-7"), (" 7", None, " 7"), ("7.0", None, "7.0"), ("seven", None, "seven"),
        (7, 7, None), (-7, None, "-7"), (7.0, 7, None), (7.5, None, "7.5"), ("", None, None), ("  ", None, None),
        (None, None, None), (b"\xc3\xa9", None, "é"),
    ],
)  # fmt: skip
def test_only_ids_that_rise_are_numbers_and_every_id_is_kept_as_sent(
    sent: object, number: int | None, text: str | None
) -> None:
    rows = raw().with_columns(pl.Series("id", [sent]))
    assert check(rows, None, rising_ids=True).ticks.select("id", "id_text").rows() == [(number, text)]
    as_text = text if number is None else str(number)
    assert check(rows, None).ticks.select("id", "id_text").rows() == [(None, as_text)]


@pytest.mark.parametrize("dtype", [pl.Decimal(30, 12), pl.Float32, pl.Categorical, pl.Int64, pl.Float64])
def test_columns_of_any_type_count_as_their_shortest_decimals(dtype: pl.DataType) -> None:
    text = "7" if dtype == pl.Int64 else "0.1"
    rows = raw(price_open="1", price_close="1").with_columns(volume=pl.Series([text]).cast(dtype))
    assert check(rows, None).ticks["volume"].to_list() == [float(text)]


@pytest.mark.parametrize("value", [True, START, [1.5]])
def test_a_column_of_no_numbers_is_refused(value: object) -> None:
    rows = raw().drop("price_open").with_columns(pl.Series("price_open", [value]))
    assert check(rows, None).rejects["reason"].to_list() == ["bad_number"]


def test_bytes_are_text_and_nested_values_are_rejects() -> None:
    as_bytes = raw().with_columns(pl.col(name).cast(pl.Binary) for name in GOOD)
    assert check(as_bytes, None).ticks.equals(check(raw(), None).ticks)
    for name, reason in (("instrument", "no_instrument"), ("time", "bad_time")):
        nested = raw().drop(name).with_columns(pl.Series(name, [{"a": 1}]))
        assert check(nested, None).rejects["reason"].to_list() == [reason]


def test_64_characters_of_any_script_are_a_name() -> None:
    assert check(raw(instrument="元" * 64), LIMIT_NS).ticks.height == 1


@pytest.mark.parametrize("empty", [None, "", " "])
def test_volume_and_id_may_be_empty(empty: str | None) -> None:
    row = check(raw(volume=empty, id=empty), LIMIT_NS).ticks.row(0, named=True)
    assert (row["volume"], row["id"]) == (None, None)


def test_price_stands_for_both_prices() -> None:
    rows = raw().drop("price_open", "price_close").with_columns(price=pl.lit("2.5"))
    assert check(rows, LIMIT_NS).ticks.select("price_open", "price_close").rows() == [(2.5, 2.5)]


def test_without_a_guard_any_time_in_range_is_a_tick() -> None:
    assert check(raw(time="4102444800000"), None).ticks.height == 1
    assert check(raw(time="7289654399999"), None).ticks.height == 1
    assert check(raw(time="7289654400000"), None).rejects["reason"].to_list() == ["bad_time"]


def test_bad_rows_among_good_ones_keep_their_order() -> None:
    rows = pl.concat([raw(), raw(price_open="x"), raw(id="8"), raw(time="")]).with_columns(line=pl.int_range(1, 5))
    checked = check(rows, LIMIT_NS)
    assert checked.ticks["line"].to_list() == [1, 3]
    assert checked.rejects.select("line", "reason").rows() == [(2, "bad_number"), (4, "bad_time")]


def test_a_refused_tick_shows_its_time_as_text() -> None:
    ticks = check(raw(), LIMIT_NS).ticks
    assert rejects_of_ticks(ticks, "duplicate")["time"].to_list() == ["2023-11-14T22:13:20.123000000Z"]
