"""Rows of a mapping as ingest takes them."""

from collections.abc import Iterable, Mapping, Sequence

import orjson
import polars as pl

from feed.connection.ids import id_of
from feed.tick_time import time_ns

_COLUMNS = ("time", "instrument", "price", "price_open", "price_close", "volume")


def times_ns(values: Iterable[object]) -> list[int | None]:
    """Read times of any form as nanoseconds since the epoch; None for what is no time."""
    texts = pl.DataFrame({"time": [_text(value) for value in values]}, {"time": pl.String})
    return texts.select(time_ns(pl.String())).to_series().to_list()


def table(rows: Sequence[Mapping[str, object]]) -> pl.DataFrame:
    """Return rows as ingest takes them: everything as text, ids as numbers, so that nothing is rounded on the way."""
    names = [name for name in _COLUMNS if any(name in row for row in rows)]
    columns: dict[str, list[object]] = {name: [_text(row.get(name)) for row in rows] for name in names}
    schema: dict[str, pl.DataType] = {name: pl.String() for name in names}
    ids = [id_of(row.get("id")) for row in rows]
    return pl.DataFrame({**columns, "id": ids}, {**schema, "id": pl.Int64()})


def _text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return orjson.dumps(value, default=str).decode()
