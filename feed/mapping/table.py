"""Rows of a mapping as ingest takes them."""

from collections.abc import Iterable, Mapping, Sequence

import polars as pl

from feed.mapping.exact_json import text_of
from feed.tick_time import time_ns

_COLUMNS = ("time", "instrument", "price", "price_open", "price_close", "volume")


def times_ns(values: Iterable[object]) -> list[int | None]:
    """Read times of any form as nanoseconds since the epoch; None for what is no time."""
    texts = pl.DataFrame({"time": [text_of(value) for value in values]}, {"time": pl.String})
    return texts.select(time_ns(pl.String())).to_series().to_list()


def table(rows: Sequence[Mapping[str, object]]) -> pl.DataFrame:
    """Return rows as ingest takes them: everything as text, so that nothing is rounded on the way."""
    return _texts(rows).with_columns(id=pl.Series([text_of(row.get("id")) for row in rows], dtype=pl.String))


def refused(rows: Sequence[Mapping[str, object]], reason: str, details: Sequence[str]) -> pl.DataFrame:
    """Return rows that are rejects before they are checked, as `Batch.broken` takes them."""
    texts = _texts(rows).with_columns(id=pl.Series([text_of(row.get("id")) for row in rows], dtype=pl.String))
    if "price" in texts.columns:
        both = [pl.col("price").alias(name) for name in ("price_open", "price_close") if name not in texts.columns]
        texts = texts.with_columns(both).drop("price")
    return texts.with_columns(reason=pl.lit(reason), detail=pl.Series(details, dtype=pl.String), line=None)


def _texts(rows: Sequence[Mapping[str, object]]) -> pl.DataFrame:
    names = [name for name in _COLUMNS if any(name in row for row in rows)]
    columns: dict[str, list[object]] = {name: [text_of(row.get(name)) for row in rows] for name in names}
    return pl.DataFrame(columns, dict.fromkeys(names, pl.String()))
