"""The tick: one price update, and the check every raw row passes before it becomes one.

A tick has these columns; a row that does not fit becomes a reject with one reason and loses nothing of its text.

    time_ns      Int64     when the price was true at the source, nanoseconds since the epoch, UTC
    instrument   String    1 to 64 characters
    price_open   Float64   > 0
    price_close  Float64   > 0
    volume       Float64   >= 0, or empty
    id           Int64     >= 0, the tick's number at its source, where the source says that these rise per instrument
    line         Int64     where the row stood in its file, or empty
    id_text      String    any other identity of the tick at its source, exactly as it was sent, or empty

Ticks of one time are ordered by `id`, so only numbers that rise are there; `id_text` only tells ticks apart.
"""

from dataclasses import dataclass
from functools import reduce
from operator import or_

import polars as pl

from bar.amounts import LIMB, mean_price
from feed.tick_number import finer_than, read_numbers
from feed.tick_time import time_ns

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
    "broken_line": "the line cannot be read as a row of this file",
    "truncated_file": "the file ends in the middle of its data",
    "bad_time": "time is not epoch s, ms, us or ns, nor ISO 8601 with a zone, of the years 1971 to 2200",
    "no_instrument": "the instrument is empty",
    "bad_instrument": "the instrument is longer than 64 characters or holds control characters",
    "bad_number": "a price is missing, or a number cannot be read, is not finite or is too large to add up exactly",
    "too_precise": "a number has more digits than are kept exactly: about 16 in all, and 12 decimals of a volume",
    "price_not_positive": "a price is zero or negative",
    "volume_negative": "the volume is negative",
    "bad_id": "the id is longer than 1,000 characters",
    "future": "the time stamp is ahead of the clock by more than the tolerance",
    "duplicate": "this instrument's tick with this id is already in the log",
    "too_late": "the tick came after the allowed lateness",
    "not_picked": "the feed does not read an instrument of exactly this name",
}

MAX_INSTRUMENT_CHARACTERS = 64
MAX_ID_CHARACTERS = 1_000
MAX_TEXT_KEPT = 200
# Amounts above this cannot be added up exactly in a bar (see bar/amounts.py).
MAX_AMOUNT = 1e15

_PLAIN_NUMBER = r"^(?:0|[1-9][0-9]{0,18})$"
_NUMBERS = ("price_open", "price_close", "volume")
_RAW_COLUMNS = ("time", "instrument", "price_open", "price_close", "volume", "id", "line")


@dataclass(frozen=True)
class Checked:
    """Raw rows split in two: ticks (TICK_SCHEMA) and rejects (REJECT_SCHEMA), both in the order they came."""

    ticks: pl.DataFrame
    rejects: pl.DataFrame


def check(raw: pl.DataFrame, future_limit_ns: int | None, *, rising_ids: bool = False) -> Checked:
    """Turn raw rows into ticks and rejects; times beyond `future_limit_ns` (None: no guard) are rejects.

    rising_ids: the source says that its ids are numbers that rise per instrument.

    `raw` has any of time, instrument, price_open, price_close (or price for both), volume, id, line, typed or as text.
    """
    raw = _with_all_columns(raw)
    numbers = {name: read_numbers(raw[name]) for name in _NUMBERS}
    parsed = raw.select(
        time_ns=time_ns(raw.schema["time"]),
        instrument=_instrument(raw.schema["instrument"]),
        **{name: number for name, (number, _) in numbers.items()},
        id_text=_id_text(raw.schema["id"]),
        line=pl.col("line").cast(pl.Int64),
        volume_given=_given("volume", raw.schema["volume"]),
        inexact=reduce(or_, (inexact for _, inexact in numbers.values())),
    )
    parsed = _rising(parsed) if rising_ids else parsed.with_columns(id=pl.lit(None, pl.Int64))
    faults = _faults(future_limit_ns)
    good = parsed.select(~pl.any_horizontal(condition for _, condition in faults)).to_series()
    ticks = parsed.select(TICK_SCHEMA.keys())
    if good.all():
        return Checked(ticks, pl.DataFrame(schema=REJECT_SCHEMA))
    # The raw text of bad cells matters only here, so the readable reject is built for the bad rows alone.
    both = parsed.with_columns(raw.select(pl.col(name).alias(f"raw_{name}") for name in _RAW_COLUMNS))
    bad = both.filter(~good)
    reason = pl.coalesce(pl.when(condition).then(pl.lit(name)) for name, condition in faults)
    rejects = bad.select("line", reason.alias("reason"), *(_text(f"raw_{n}").alias(n) for n in _RAW_COLUMNS[:-1]))
    return Checked(ticks.filter(good), as_rejects(rejects))


def as_rejects(rows: pl.DataFrame) -> pl.DataFrame:
    """Complete reject rows to REJECT_SCHEMA: a missing detail becomes the reason's sentence, texts are cut short."""
    if "detail" not in rows.columns:
        rows = rows.with_columns(detail=pl.col("reason").replace_strict(REASONS, default=None))
    missing = [pl.lit(None, dtype).alias(name) for name, dtype in REJECT_SCHEMA.items() if name not in rows.columns]
    texts = [name for name, dtype in REJECT_SCHEMA.items() if dtype == pl.String and name in rows.columns]
    return rows.with_columns(*missing, *(_text(name).alias(name) for name in texts)).select(
        pl.col(name).cast(dtype) for name, dtype in REJECT_SCHEMA.items()
    )


def rejects_of_ticks(ticks: pl.DataFrame, reason: str) -> pl.DataFrame:
    """Turn well-formed ticks, with any of the columns sequence and late_ms beside their own, into rejects."""
    identity = pl.coalesce(pl.col("id").cast(pl.String), "id_text")
    return as_rejects(ticks.with_columns(time=_iso_utc("time_ns"), id=identity, reason=pl.lit(reason)))


def _iso_utc(column: str) -> pl.Expr:
    return pl.from_epoch(column, time_unit="ns").dt.strftime("%Y-%m-%dT%H:%M:%S%.9fZ")


def _with_all_columns(raw: pl.DataFrame) -> pl.DataFrame:
    if "price" in raw.columns:
        both = [name for name in ("price_open", "price_close") if name not in raw.columns]
        raw = raw.with_columns(pl.col("price").alias(name) for name in both)
    missing = [pl.lit(None, pl.String).alias(name) for name in _RAW_COLUMNS if name not in raw.columns]
    return raw.with_columns(*missing, *(_as_text(raw[name]) for name in _RAW_COLUMNS if name in raw.columns))


def _as_text(column: pl.Series) -> pl.Series:
    """Return bytes and nested values as text, so that rejects show them; no instrument is named by the latter."""
    if column.dtype == pl.Binary:
        return column.cast(pl.String, strict=False)
    if column.dtype.is_nested() or column.dtype == pl.Object:
        texts = [None if value is None or column.name == "instrument" else str(value) for value in column.to_list()]
        return pl.Series(column.name, texts, pl.String)
    return column


def _instrument(dtype: pl.DataType) -> pl.Expr:
    column = pl.col("instrument")
    return (column if dtype == pl.String else column.cast(pl.String)).str.strip_chars()


def _id_text(dtype: pl.DataType) -> pl.Expr:
    """Return ids as they were sent; blank ones are none, and a whole number in a column of floats is written as one."""
    column = pl.col("id")
    if dtype.is_float():
        whole = column.cast(pl.Int64, strict=False)
        return pl.when(whole == column).then(whole.cast(pl.String)).otherwise(column.cast(pl.String))
    text = column if dtype == pl.String else column.cast(pl.String, strict=False)
    return pl.when(text.str.strip_chars().str.len_bytes() > 0).then(text)


def _rising(parsed: pl.DataFrame) -> pl.DataFrame:
    """Make ids numbers where the text says the same: a number of 64 bits without sign, space or leading zero."""
    number = pl.when(pl.col("id_text").str.contains(_PLAIN_NUMBER)).then(pl.col("id_text")).cast(pl.Int64, strict=False)
    numbered = parsed.with_columns(id=number)
    return numbered.with_columns(id_text=pl.when(pl.col("id").is_null()).then("id_text"))


def _text(name: str) -> pl.Expr:
    return pl.col(name).cast(pl.String, strict=False).str.slice(0, MAX_TEXT_KEPT)


def _given(name: str, dtype: pl.DataType) -> pl.Expr:
    """Tell which rows carry something in this optional column, readable or not."""
    column = pl.col(name)
    return column.str.strip_chars().str.len_bytes().fill_null(0) > 0 if dtype == pl.String else column.is_not_null()


def _faults(future_limit_ns: int | None) -> list[tuple[str, pl.Expr]]:
    """List the reasons in the order they are tried, each with the condition over the parsed columns."""
    time, name = pl.col("time_ns"), pl.col("instrument")
    prices, volume = (pl.col("price_open"), pl.col("price_close")), pl.col("volume")
    unreadable_volume = pl.col("volume_given") & volume.is_null()
    return [
        ("bad_time", time.is_null()),
        ("future", pl.lit(False) if future_limit_ns is None else (time > future_limit_ns).fill_null(False)),
        ("no_instrument", name.is_null() | (name.str.len_bytes() == 0)),
        # Characters are counted, not bytes: a name of 64 may have four times as many bytes.
        ("bad_instrument", (name.str.len_chars() > MAX_INSTRUMENT_CHARACTERS) | name.str.contains(r"[\x00-\x1f\x7f]")),
        ("bad_number", pl.any_horizontal(~p.is_finite().fill_null(False) for p in prices)),
        ("price_not_positive", pl.any_horizontal(p <= 0 for p in prices)),
        ("bad_number", unreadable_volume | (~volume.is_finite()).fill_null(False)),
        ("volume_negative", (volume < 0).fill_null(False)),
        ("bad_number", pl.any_horizontal(_too_large(p, volume) for p in prices)),
        ("too_precise", pl.col("inexact") | _too_fine(volume).fill_null(False)),
        ("bad_id", (pl.col("id_text").str.len_chars() > MAX_ID_CHARACTERS).fill_null(False)),
    ]


def _too_fine(volume: pl.Expr) -> pl.Expr:
    """Tell whether a volume, or price times volume, has digits that a bar's sums do not hold (bar/amounts.py)."""
    return finer_than(volume, float(LIMB)) | finer_than(mean_price() * volume, float(LIMB) ** 2)


def _too_large(price: pl.Expr, volume: pl.Expr) -> pl.Expr:
    return (price > MAX_AMOUNT) | ((volume > MAX_AMOUNT) | (price * volume > MAX_AMOUNT)).fill_null(False)
