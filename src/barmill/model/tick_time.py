"""Parsing of whole columns of times into nanoseconds since the epoch, UTC.

Polars reads the common forms in bulk. All other forms go through `time_text.py`, which reads one time per call and
defines the rules. Both read a given form the same way.
"""

import polars as pl

from barmill.model.time_text import (
    AMBIGUOUS,
    BEFORE_NS,
    FROM_NS,
    NS_PER_UNIT,
    UNIT_BELOW,
    iso_text,
    local_offset_s,
    read_time,
)
from barmill.platform.clock import US_PER_S

_PLAIN_ISO = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:[0-5]\d(?:\.\d{1,9})?"
_PLAIN_ZONE = r"(?:Z|[+-]\d\d(?::?\d\d)?)$"
_PLAIN_FORMAT = "%Y-%m-%dT%H:%M:%S%.f"
_PLAIN_NUMBER = r"^(\d{1,18})(?:\.(\d{1,9}))?$"
_DECIMALS = 9


def time_ns() -> pl.Expr:
    """Return an expression that parses the column `time`, of any type, as `read_times` does."""
    return pl.col("time").map_batches(read_times, return_dtype=pl.Int64())


def read_times(column: pl.Series, time_format: str = "auto", zone: str = "") -> pl.Series:
    """Return a column's times as nanoseconds since the epoch (Int64); null for what `read_time` does not accept.

    A column of dates or date-times without a zone, as in Parquet files, is in `zone`, or in UTC if `zone` is empty.
    """
    dtype = column.dtype
    if isinstance(dtype, pl.Datetime | pl.Date):
        return _parse_datetimes(column if isinstance(dtype, pl.Datetime) else column.cast(pl.Datetime("us")), zone)
    if dtype.is_integer():
        numbers = pl.DataFrame({"whole": column.cast(pl.Int64, strict=False), "decimals": 0})
        return numbers.select(_parse_numbers(time_format)).to_series()
    if dtype.is_numeric() or isinstance(dtype, pl.Categorical | pl.Enum):
        column = column.cast(pl.String)
    if column.dtype != pl.String:
        return pl.repeat(None, len(column), dtype=pl.Int64, eager=True)
    return _parse_texts(column.str.strip_chars(), time_format, zone)


def readable_times(column: pl.Series, time_format: str, zone: str = "") -> pl.Series:
    """Return a column that parses without format and zone as this one does with them.

    Unreadable values stay unreadable.
    """
    times = read_times(column, time_format, zone)
    values = column.cast(pl.String).to_list()
    texts = [
        _unreadable(text, time_format) if ns is None else iso_text(ns) for ns, text in zip(times, values, strict=True)
    ]
    return pl.Series(column.name, texts, pl.String)


def _unreadable(text: str | None, time_format: str) -> str | None:
    return text if text is None or read_time(text) is None else f"{text} does not have the format {time_format}"


def _parse_texts(texts: pl.Series, time_format: str, zone: str) -> pl.Series:
    parsed = pl.repeat(None, len(texts), dtype=pl.Int64, eager=True)
    whole = texts.cast(pl.Int64, strict=False)
    if time_format != "iso" and "%" not in time_format and whole.null_count() == texts.null_count():
        return pl.DataFrame({"whole": whole, "decimals": 0}).select(_parse_numbers(time_format)).to_series()
    if time_format == "auto" or time_format in NS_PER_UNIT:
        parts = pl.col("text").str.extract_groups(_PLAIN_NUMBER).struct
        numbers = pl.DataFrame({"text": texts}).select(
            whole=parts.field("1").cast(pl.Int64),
            decimals=parts.field("2").str.pad_end(_DECIMALS, "0").cast(pl.Int64).fill_null(0),
        )
        parsed = numbers.select(_parse_numbers(time_format)).to_series()
    if time_format in ("auto", "iso") and parsed.null_count():
        parsed = parsed.zip_with(parsed.is_not_null(), _parse_plain_iso(texts, zone))
    remaining = (parsed.is_null() & texts.is_not_null()).arg_true()
    if not len(remaining):
        return parsed
    remaining_ns = [read_time(text, time_format, zone) for text in texts.gather(remaining)]
    return parsed.scatter(remaining, pl.Series(remaining_ns, dtype=pl.Int64))


def _parse_plain_iso(texts: pl.Series, zone: str) -> pl.Series:
    """Parse the forms that nearly all files use; null for all others."""
    text = pl.col("text").str.replace(r"^(.{10})[tD ]", "${1}T").str.replace(r" ?(?:z|UTC)$", "Z")
    local = pl.when(text.str.contains(f"{_PLAIN_ISO}$")).then(text) if zone else pl.lit(None, pl.String)
    zoned = pl.when(text.str.contains(f"{_PLAIN_ISO}{_PLAIN_ZONE}")).then(text)
    parsed = pl.DataFrame({"text": texts}).select(
        zoned_us=zoned.str.to_datetime(
            f"{_PLAIN_FORMAT}%#z", time_unit="us", time_zone="UTC", strict=False
        ).dt.timestamp("us"),
        local_us=local.str.to_datetime(_PLAIN_FORMAT, time_unit="us", strict=False).dt.timestamp("us"),
        below_us_ns=text.str.extract(r"\.\d{6}(\d{1,3})").str.pad_end(3, "0").cast(pl.Int64).fill_null(0),
    )
    local_s = pl.col("local_us") // US_PER_S
    seconds = parsed.select(local_s.drop_nulls().unique()).to_series()
    offsets = pl.Series([local_offset_s(second, zone) for second in seconds], dtype=pl.Int64)
    offset_us = local_s.replace_strict(seconds, offsets, default=None, return_dtype=pl.Int64) * US_PER_S
    time_us = pl.coalesce("zoned_us", pl.col("local_us") - offset_us)
    in_range = time_us.is_between(FROM_NS // 1_000, BEFORE_NS // 1_000, closed="left")
    return parsed.select(pl.when(in_range).then(time_us * 1_000 + pl.col("below_us_ns"))).to_series()


def _parse_datetimes(column: pl.Series, zone: str) -> pl.Series:
    dtype = column.dtype
    assert isinstance(dtype, pl.Datetime)
    if zone and dtype.time_zone is None:
        column = column.dt.replace_time_zone(zone, ambiguous="null", non_existent="null")
    ns_per_unit = NS_PER_UNIT[dtype.time_unit]
    number = pl.col("number")
    in_range = number.is_between(-(-FROM_NS // ns_per_unit), BEFORE_NS // ns_per_unit, closed="left")
    return (
        pl.DataFrame({"number": column.to_physical()}).select(pl.when(in_range).then(number * ns_per_unit)).to_series()
    )


def _parse_numbers(time_format: str) -> pl.Expr:
    """Parse `whole` and `decimals`: the digits before the decimal point, and those after it padded to nine digits."""
    whole, decimals = pl.col("whole"), pl.col("decimals")
    units = NS_PER_UNIT if time_format == "auto" else [time_format] if time_format in NS_PER_UNIT else []
    parsed_ns, unit_from = pl.lit(None, pl.Int64), 0
    for unit in units:
        ns_per_unit = NS_PER_UNIT[unit]
        step = 10**_DECIMALS // ns_per_unit
        in_range = whole.is_between(FROM_NS // ns_per_unit, BEFORE_NS // ns_per_unit, closed="left")
        if time_format == "auto":
            in_range &= (
                whole.is_between(unit_from, UNIT_BELOW[unit], closed="left") if unit != "ns" else whole >= unit_from
            )
            unit_from = UNIT_BELOW[unit]
            for first, end in AMBIGUOUS.get(unit, ()):
                in_range &= ~whole.is_between(first, end, closed="left")
        parsed_ns = (
            pl.when(in_range & (decimals % step == 0)).then(whole * ns_per_unit + decimals // step).otherwise(parsed_ns)
        )
    return parsed_ns
