"""The tick: one price update, and the check that every raw row must pass to become one.

A tick has these columns. A row that does not fit becomes a reject, which keeps the values of the row as texts of up to
200 characters, and one reason.

    time_ns      Int64     time of the price at the source, nanoseconds since the epoch, UTC
    instrument   String    1 to 64 characters
    price_open   Float64   > 0
    price_close  Float64   > 0
    volume       Float64   >= 0, or null
    id           Int64     >= 0, the tick's number at its source, if the source's ids rise per instrument; or null
    line         Int64     line number of the row in its file, or null
    id_text      String    any other identity of the tick at its source, exactly as sent, or null

Ticks with equal times are ordered by `id`, so it holds only rising numbers. `id_text` only distinguishes ticks.

A float holds a decimal number exactly if that number is the shortest decimal that represents the float. This is so for
all numbers with up to 15 digits and for some longer ones. A binary float, as in a Parquet file, counts as its shortest
decimal.
"""

from dataclasses import dataclass
from decimal import Decimal
from functools import cache, reduce
from operator import or_

import polars as pl

from barmill.model.amounts import LIMB, mean_price
from barmill.model.tick_time import time_ns

# All numbers with up to this many digits are held exactly, and a text this short has no more digits.
_ALWAYS_HELD_DIGITS = 15
_MAY_UNDERFLOW_BELOW = 1e-300
# A float differs from its decimal by at most half of this fraction; a larger difference means more digits.
_FLOAT_TOLERANCE = 2.0**-50


def read_numbers(column: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Return (numbers as Float64, null if unreadable; Boolean: which were read but are not held exactly)."""
    dtype = column.dtype
    if isinstance(dtype, pl.Decimal | pl.Float32 | pl.Categorical | pl.Enum):
        column = column.cast(pl.String)
    if column.dtype == pl.String:
        texts = column.str.strip_chars()
        numbers = texts.cast(pl.Float64, strict=False)
        return numbers, _inexact(texts, numbers)
    # Whole numbers that a float cannot hold exceed the limit for exact sums anyway.
    read = column.cast(pl.Float64, strict=False) if dtype.is_numeric() else _constant(None, len(column), pl.Float64())
    return read, _constant(False, len(column), pl.Boolean())


def _constant(value: bool | None, length: int, dtype: pl.DataType) -> pl.Series:
    """Return a column with one value in all rows. `pl.repeat` runs a query for this, which takes longer."""
    return pl.Series([value], dtype=dtype).new_from_index(0, length)


def finer_than(value: pl.Expr, units: float) -> pl.Expr:
    """Return whether a non-negative amount has digits below 1/units among the 15 that a float always holds."""
    scaled = value * units
    return (scaled - scaled.round()).abs() > scaled * _FLOAT_TOLERANCE


def _inexact(texts: pl.Series, numbers: pl.Series) -> pl.Series:
    suspects = texts.str.len_bytes() > _ALWAYS_HELD_DIGITS
    tiny = numbers.abs() < _MAY_UNDERFLOW_BELOW
    if tiny.any():
        suspects |= tiny & texts.str.contains("[1-9]")
    suspects = (suspects & numbers.is_finite()).fill_null(False)
    inexact = [
        Decimal(text) != Decimal(repr(number))
        for text, number in zip(texts.filter(suspects), numbers.filter(suspects), strict=True)
    ]
    mask = _constant(False, len(texts), pl.Boolean())
    return mask.scatter(suspects.arg_true(), pl.Series(inexact, dtype=pl.Boolean)) if inexact else mask


TICK_SCHEMA: dict[str, pl.DataType] = {
    "time_ns": pl.Int64(),
    "instrument": pl.String(),
    "price_open": pl.Float64(),
    "price_close": pl.Float64(),
    "volume": pl.Float64(),
    "id": pl.Int64(),
    "line": pl.Int64(),
    "id_text": pl.String(),
}

REJECT_SCHEMA: dict[str, pl.DataType] = {
    "line": pl.Int64(),
    "sequence": pl.Int64(),
    "reason": pl.String(),
    "detail": pl.String(),
    "time": pl.String(),
    "instrument": pl.String(),
    "price_open": pl.String(),
    "price_close": pl.String(),
    "volume": pl.String(),
    "id": pl.String(),
    "late_ms": pl.Int64(),
}

REASONS = {
    "broken_line": "the line is not a valid row of this file",
    "truncated_file": "the file is truncated",
    "bad_time": "the time is neither epoch s, ms, us or ns nor ISO 8601 with a zone, or not in 1971 to 2200",
    "no_instrument": "the instrument is empty",
    "bad_instrument": "the instrument is longer than 64 characters or contains control characters",
    "bad_number": "a price is missing, or a number is unreadable, not finite, or too large to add up exactly",
    "too_precise": "a number has more digits than are kept exactly: about 16 in all, and 12 decimals of a volume",
    "price_not_positive": "a price is zero or negative",
    "volume_negative": "the volume is negative",
    "bad_id": "the id is longer than 1,000 characters",
    "future": "the time is ahead of the clock by more than the tolerance",
    "duplicate": "this instrument's tick with this id is already in the log",
    "too_late": "the tick is later than the allowed lateness",
    "not_picked": "the feed does not read an instrument of exactly this name",
}

MAX_INSTRUMENT_CHARACTERS = 64
MAX_ID_CHARACTERS = 1_000
MAX_TEXT_KEPT = 200
# Amounts above this cannot be added up exactly in a bar (see barmill/model/amounts.py).
MAX_AMOUNT = 1e15

_NO_REJECTS = pl.DataFrame(schema=REJECT_SCHEMA)

_PLAIN_NUMBER = r"^(?:0|[1-9][0-9]{0,18})$"
_NUMBERS = ("price_open", "price_close", "volume")
_RAW_COLUMNS = ("time", "instrument", "price_open", "price_close", "volume", "id", "line")


@dataclass(frozen=True)
class CheckedRows:
    """Raw rows split into ticks (TICK_SCHEMA) and rejects (REJECT_SCHEMA), both in their original order."""

    ticks: pl.DataFrame
    rejects: pl.DataFrame


def check(raw: pl.DataFrame, future_limit_ns: int | None, *, rising_ids: bool = False) -> CheckedRows:
    """Turn raw rows into ticks and rejects. Times after `future_limit_ns` are rejects; None disables this check.

    rising_ids: whether the ids of the source are numbers that rise per instrument.

    `raw` has any of time, instrument, price_open, price_close (or price for both), volume, id, line, typed or as text.
    """
    raw = _with_all_columns(raw)
    numbers = {name: read_numbers(raw[name]) for name in _NUMBERS}
    parsed = raw.select(
        time_ns=time_ns(),
        instrument=_instrument(raw.schema["instrument"]),
        **{name: number for name, (number, _) in numbers.items()},
        id_text=_id_text(raw.schema["id"]),
        line=pl.col("line").cast(pl.Int64),
        volume_given=_has_value("volume", raw.schema["volume"]),
        inexact=reduce(or_, (inexact for _, inexact in numbers.values())),
        future_limit_ns=pl.lit(future_limit_ns, pl.Int64),
    )
    parsed = _numeric_id(parsed) if rising_ids else parsed.with_columns(id=pl.lit(None, pl.Int64))
    is_good = parsed.select(_is_good()).to_series()
    ticks = parsed.select(TICK_SCHEMA.keys())
    if is_good.all():
        return CheckedRows(ticks, _NO_REJECTS)
    # Only rejects need the raw text, so it is joined for the bad rows alone.
    with_texts = parsed.with_columns(raw.select(pl.col(name).alias(f"raw_{name}") for name in _RAW_COLUMNS))
    bad_rows = with_texts.filter(~is_good)
    reason = pl.coalesce(pl.when(condition).then(pl.lit(name)) for name, condition in _reject_conditions())
    rejects = bad_rows.select("line", reason.alias("reason"), *(_text(f"raw_{n}").alias(n) for n in _RAW_COLUMNS[:-1]))
    return CheckedRows(ticks.filter(is_good), as_rejects(rejects))


def as_rejects(rows: pl.DataFrame) -> pl.DataFrame:
    """Complete reject rows to REJECT_SCHEMA: fill a missing detail with the reason's sentence, truncate texts."""
    if "detail" not in rows.columns:
        rows = rows.with_columns(detail=pl.col("reason").replace_strict(REASONS, default=None))
    missing = [pl.lit(None, dtype).alias(name) for name, dtype in REJECT_SCHEMA.items() if name not in rows.columns]
    texts = [name for name, dtype in REJECT_SCHEMA.items() if dtype == pl.String and name in rows.columns]
    return rows.with_columns(*missing, *(_text(name).alias(name) for name in texts)).select(
        pl.col(name).cast(dtype) for name, dtype in REJECT_SCHEMA.items()
    )


def rejects_of_ticks(ticks: pl.DataFrame, reason: str) -> pl.DataFrame:
    """Turn ticks (TICK_SCHEMA, optionally with sequence and late_ms) into rejects (REJECT_SCHEMA) for one reason."""
    identity = pl.coalesce(pl.col("id").cast(pl.String), "id_text")
    return as_rejects(ticks.with_columns(time=_iso_utc("time_ns"), id=identity, reason=pl.lit(reason)))


def _iso_utc(column: str) -> pl.Expr:
    return pl.from_epoch(column, time_unit="ns").dt.strftime("%Y-%m-%dT%H:%M:%S%.9fZ")


def _with_all_columns(raw: pl.DataFrame) -> pl.DataFrame:
    if "price" in raw.columns:
        missing_sides = [name for name in ("price_open", "price_close") if name not in raw.columns]
        raw = raw.with_columns(pl.col("price").alias(name) for name in missing_sides)
    missing = [pl.lit(None, pl.String).alias(name) for name in _RAW_COLUMNS if name not in raw.columns]
    return raw.with_columns(*missing, *(_as_text(raw[name]) for name in _RAW_COLUMNS if name in raw.columns))


def _as_text(column: pl.Series) -> pl.Series:
    """Return bytes and nested values as text, so that rejects show them. A nested value names no instrument."""
    if column.dtype == pl.Binary:
        return column.cast(pl.String, strict=False)
    if column.dtype.is_nested() or column.dtype == pl.Object:
        texts = [None if value is None or column.name == "instrument" else str(value) for value in column.to_list()]
        return pl.Series(column.name, texts, pl.String)
    return column


@cache
def _instrument(dtype: pl.DataType) -> pl.Expr:
    column = pl.col("instrument")
    return (column if dtype == pl.String else column.cast(pl.String)).str.strip_chars()


@cache
def _id_text(dtype: pl.DataType) -> pl.Expr:
    """Return ids as sent. Blank ids become null; a whole number in a float column is written as an integer."""
    column = pl.col("id")
    if dtype.is_float():
        whole = column.cast(pl.Int64, strict=False)
        return pl.when(whole == column).then(whole.cast(pl.String)).otherwise(column.cast(pl.String))
    text = column if dtype == pl.String else column.cast(pl.String, strict=False)
    return pl.when(text.str.strip_chars().str.len_bytes() > 0).then(text)


def _numeric_id(parsed: pl.DataFrame) -> pl.DataFrame:
    """Convert an id to a number if the text is a plain one: 64-bit, without sign, space or leading zero."""
    number = pl.when(pl.col("id_text").str.contains(_PLAIN_NUMBER)).then(pl.col("id_text")).cast(pl.Int64, strict=False)
    numbered = parsed.with_columns(id=number)
    return numbered.with_columns(id_text=pl.when(pl.col("id").is_null()).then("id_text"))


def _text(name: str) -> pl.Expr:
    return pl.col(name).cast(pl.String, strict=False).str.slice(0, MAX_TEXT_KEPT)


@cache
def _has_value(name: str, dtype: pl.DataType) -> pl.Expr:
    """Return which rows have a value in this optional column, readable or not."""
    column = pl.col(name)
    return column.str.strip_chars().str.len_bytes().fill_null(0) > 0 if dtype == pl.String else column.is_not_null()


@cache  # building these expressions takes longer than evaluating them for a few rows
def _reject_conditions() -> list[tuple[str, pl.Expr]]:
    """Return the reasons in the order in which they are checked, each with its condition on the parsed columns."""
    time, name = pl.col("time_ns"), pl.col("instrument")
    prices, volume = (pl.col("price_open"), pl.col("price_close")), pl.col("volume")
    unreadable_volume = pl.col("volume_given") & volume.is_null()
    return [
        ("bad_time", time.is_null()),
        ("future", (time > pl.col("future_limit_ns")).fill_null(False)),
        ("no_instrument", name.is_null() | (name.str.len_bytes() == 0)),
        # Count characters, not bytes: a name of 64 characters may have four times as many bytes.
        ("bad_instrument", (name.str.len_chars() > MAX_INSTRUMENT_CHARACTERS) | name.str.contains(r"[\x00-\x1f\x7f]")),
        ("bad_number", pl.any_horizontal(~p.is_finite().fill_null(False) for p in prices)),
        ("price_not_positive", pl.any_horizontal(p <= 0 for p in prices)),
        ("bad_number", unreadable_volume | (~volume.is_finite()).fill_null(False)),
        ("volume_negative", (volume < 0).fill_null(False)),
        ("bad_number", pl.any_horizontal(_too_large(p, volume) for p in prices)),
        ("too_precise", pl.col("inexact") | _too_fine(volume).fill_null(False)),
        ("bad_id", (pl.col("id_text").str.len_chars() > MAX_ID_CHARACTERS).fill_null(False)),
    ]


@cache
def _is_good() -> pl.Expr:
    return ~pl.any_horizontal(condition for _, condition in _reject_conditions())


def _too_fine(volume: pl.Expr) -> pl.Expr:
    """Return whether a volume, or price times volume, has digits that the sums of a bar do not hold (amounts.py)."""
    return finer_than(volume, float(LIMB)) | finer_than(mean_price() * volume, float(LIMB) ** 2)


def _too_large(price: pl.Expr, volume: pl.Expr) -> pl.Expr:
    return (price > MAX_AMOUNT) | ((volume > MAX_AMOUNT) | (price * volume > MAX_AMOUNT)).fill_null(False)
