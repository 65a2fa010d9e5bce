"""Time stamps in every form a source may send, made nanoseconds since the epoch in UTC."""

import polars as pl

_ISO_WITH_ZONE = "%Y-%m-%dT%H:%M:%S%.f%#z"

# An integer tells its unit by its size: milliseconds from 1973 to 5138, microseconds and nanoseconds likewise.
_MS_FROM, _US_FROM, _NS_FROM = 10**11, 10**14, 10**17
# Times are kept as nanoseconds in 64 bits, which end in 2262; later ones become a value just behind this, never wrap.
MAX_TIME_NS = 9_200_000_000_000_000_000


def time_ns(dtype: pl.DataType) -> pl.Expr:
    """Read the column `time` of the given type as nanoseconds; what cannot be read is null.

    Whole numbers are epoch ms, us or ns by their size, text is such a number or ISO 8601 with a zone, and a
    date-time column without a zone (as Parquet files have them) is UTC. Times beyond the year 2261 come out
    just above MAX_TIME_NS.
    """
    column = pl.col("time")
    if dtype.is_integer():
        return _epoch_ns(column.cast(pl.Int64, strict=False))
    if dtype.is_float():
        return _epoch_ns(pl.when(column == column.floor()).then(column).cast(pl.Int64, strict=False))
    if isinstance(dtype, pl.Datetime):
        return column.dt.timestamp("ns") if dtype.time_unit == "ns" else _ns_of(column.dt.timestamp("us"), 1_000)
    if dtype != pl.String:
        return pl.lit(None, pl.Int64)
    text = column.str.strip_chars()
    iso = text.str.replace(" ", "T", literal=True).str.to_datetime(
        _ISO_WITH_ZONE, time_unit="ns", time_zone="UTC", strict=False
    )
    return pl.coalesce(_epoch_ns(text.cast(pl.Int64, strict=False)), iso.dt.timestamp("ns"))


def _epoch_ns(number: pl.Expr) -> pl.Expr:
    return (
        pl.when(number < _MS_FROM)
        .then(None)
        .when(number < _US_FROM)
        .then(_ns_of(number, 1_000_000))
        .when(number < _NS_FROM)
        .then(_ns_of(number, 1_000))
        .otherwise(_ns_of(number, 1))
    )


def _ns_of(number: pl.Expr, factor: int) -> pl.Expr:
    return pl.when(number > MAX_TIME_NS // factor).then(MAX_TIME_NS + 1).otherwise(number * factor)
