"""Whole columns of times, made nanoseconds since the epoch in UTC.

Common forms are read at once by Polars. Everything else goes to the reader of one time, `feed/time_text.py`, which
states the rules; both read a form the same way.
"""

import polars as pl

from feed.time_text import (
    AMBIGUOUS,
    BEFORE_NS,
    FROM_NS,
    NS_PER_UNIT,
    UNIT_BELOW,
    iso_text,
    local_offset_s,
    read_time,
)

_PLAIN_ISO = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:[0-5]\d(?:\.\d{1,9})?"
_PLAIN_ZONE = r"(?:Z|[+-]\d\d(?::?\d\d)?)$"
_PLAIN_FORMAT = "%Y-%m-%dT%H:%M:%S%.f"
_PLAIN_NUMBER = r"^(\d{1,18})(?:\.(\d{1,9}))?$"
_DECIMALS = 9


def time_ns(_dtype: pl.DataType) -> pl.Expr:
    """Read the column `time`, of any type, as `read_times` does."""
    return pl.col("time").map_batches(read_times, return_dtype=pl.Int64())


def read_times(column: pl.Series, time_format: str = "auto", zone: str = "") -> pl.Series:
    """Return a column's times as nanoseconds since the epoch, Int64; null for what `read_time` does not read.

    A column of dates or date-times without a zone (as Parquet files have them) is in `zone`, or in UTC without one.
    """
    dtype = column.dtype
    if isinstance(dtype, pl.Datetime | pl.Date):
        return _of_moments(column if isinstance(dtype, pl.Datetime) else column.cast(pl.Datetime("us")), zone)
    if dtype.is_integer():
        numbers = pl.DataFrame({"whole": column.cast(pl.Int64, strict=False), "below": 0})
        return numbers.select(_of_numbers(time_format)).to_series()
    if dtype.is_numeric() or isinstance(dtype, pl.Categorical | pl.Enum):
        column = column.cast(pl.String)
    if column.dtype != pl.String:
        return pl.repeat(None, len(column), dtype=pl.Int64, eager=True)
    return _of_texts(column.str.strip_chars(), time_format, zone)


def readable_times(column: pl.Series, time_format: str, zone: str = "") -> pl.Series:
    """Return a column that is read without a format or zone as this one is with them; what is unreadable stays so."""
    times = read_times(column, time_format, zone)
    values = column.cast(pl.String).to_list()
    texts = [
        _unreadable(text, time_format) if ns is None else iso_text(ns) for ns, text in zip(times, values, strict=True)
    ]
    return pl.Series(column.name, texts, pl.String)


def _unreadable(text: str | None, time_format: str) -> str | None:
    return text if text is None or read_time(text) is None else f"{text} is no {time_format}"


def _of_texts(texts: pl.Series, time_format: str, zone: str) -> pl.Series:
    read = pl.repeat(None, len(texts), dtype=pl.Int64, eager=True)
    whole = texts.cast(pl.Int64, strict=False)
    if time_format != "iso" and "%" not in time_format and whole.null_count() == texts.null_count():
        return pl.DataFrame({"whole": whole, "below": 0}).select(_of_numbers(time_format)).to_series()
    if time_format == "auto" or time_format in NS_PER_UNIT:
        parts = pl.col("text").str.extract_groups(_PLAIN_NUMBER).struct
        numbers = pl.DataFrame({"text": texts}).select(
            whole=parts.field("1").cast(pl.Int64),
            below=parts.field("2").str.pad_end(_DECIMALS, "0").cast(pl.Int64).fill_null(0),
        )
        read = numbers.select(_of_numbers(time_format)).to_series()
    if time_format in ("auto", "iso") and read.null_count():
        read = read.zip_with(read.is_not_null(), _of_plain_iso(texts, zone))
    rest = (read.is_null() & texts.is_not_null()).arg_true()
    if not len(rest):
        return read
    one_by_one = [read_time(text, time_format, zone) for text in texts.gather(rest)]
    return read.scatter(rest, pl.Series(one_by_one, dtype=pl.Int64))


def _of_plain_iso(texts: pl.Series, zone: str) -> pl.Series:
    """Read the forms that nearly all files have; null for every other."""
    text = pl.col("text").str.replace(r"^(.{10})[tD ]", "${1}T").str.replace(r" ?(?:z|UTC)$", "Z")
    local = pl.when(text.str.contains(f"{_PLAIN_ISO}$")).then(text) if zone else pl.lit(None, pl.String)
    zoned = pl.when(text.str.contains(f"{_PLAIN_ISO}{_PLAIN_ZONE}")).then(text)
    read = pl.DataFrame({"text": texts}).select(
        zoned_us=zoned.str.to_datetime(
            f"{_PLAIN_FORMAT}%#z", time_unit="us", time_zone="UTC", strict=False
        ).dt.timestamp("us"),
        local_us=local.str.to_datetime(_PLAIN_FORMAT, time_unit="us", strict=False).dt.timestamp("us"),
        below_us_ns=text.str.extract(r"\.\d{6}(\d{1,3})").str.pad_end(3, "0").cast(pl.Int64).fill_null(0),
    )
    local_s = pl.col("local_us") // 1_000_000
    seconds = read.select(local_s.drop_nulls().unique()).to_series()
    offsets = pl.Series([local_offset_s(second, zone) for second in seconds], dtype=pl.Int64)
    offset_us = local_s.replace_strict(seconds, offsets, default=None, return_dtype=pl.Int64) * 1_000_000
    time_us = pl.coalesce("zoned_us", pl.col("local_us") - offset_us)
    inside = time_us.is_between(FROM_NS // 1_000, BEFORE_NS // 1_000, closed="left")
    return read.select(pl.when(inside).then(time_us * 1_000 + pl.col("below_us_ns"))).to_series()


def _of_moments(column: pl.Series, zone: str) -> pl.Series:
    dtype = column.dtype
    assert isinstance(dtype, pl.Datetime)
    if zone and dtype.time_zone is None:
        column = column.dt.replace_time_zone(zone, ambiguous="null", non_existent="null")
    ns_per_unit = NS_PER_UNIT[dtype.time_unit]
    number = pl.col("number")
    inside = number.is_between(-(-FROM_NS // ns_per_unit), BEFORE_NS // ns_per_unit, closed="left")
    return pl.DataFrame({"number": column.to_physical()}).select(pl.when(inside).then(number * ns_per_unit)).to_series()


def _of_numbers(time_format: str) -> pl.Expr:
    """Read `whole` and `below`, a number's digits before and behind the point, the latter as nine digits."""
    whole, below = pl.col("whole"), pl.col("below")
    units = NS_PER_UNIT if time_format == "auto" else [time_format] if time_format in NS_PER_UNIT else []
    found, reached = pl.lit(None, pl.Int64), 0
    for unit in units:
        ns_per_unit = NS_PER_UNIT[unit]
        step = 10**_DECIMALS // ns_per_unit
        inside = whole.is_between(FROM_NS // ns_per_unit, BEFORE_NS // ns_per_unit, closed="left")
        if time_format == "auto":
            inside &= whole.is_between(reached, UNIT_BELOW[unit], closed="left") if unit != "ns" else whole >= reached
            reached = UNIT_BELOW[unit]
            for first, end in AMBIGUOUS.get(unit, ()):
                inside &= ~whole.is_between(first, end, closed="left")
        found = pl.when(inside & (below % step == 0)).then(whole * ns_per_unit + below // step).otherwise(found)
    return found
