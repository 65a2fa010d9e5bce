"""A block: a run of ticks as one compressed Arrow stream, the unit in which the tick log stores and moves them."""

import io
from collections.abc import Mapping

import polars as pl

from feed.tick import TICK_SCHEMA

_OPTIONAL = ("volume", "id", "line", "id_text")


def encode_block(ticks: pl.DataFrame) -> bytes:
    """Pack ticks (TICK_SCHEMA, and any other columns) into bytes, leaving out columns that say nothing."""
    empty = [name for name in _OPTIONAL if name in ticks.columns and ticks[name].null_count() == ticks.height]
    ticks = ticks.drop(empty)
    # Plain trades open and close at one price; storing it once halves the prices to read back.
    if (ticks["price_open"] == ticks["price_close"]).all():
        ticks = ticks.drop("price_close")
    buffer = io.BytesIO()
    ticks.rechunk().write_ipc_stream(buffer, compression="lz4")
    return buffer.getvalue()


def decode_block(data: bytes, schema: Mapping[str, pl.DataType] = TICK_SCHEMA) -> pl.DataFrame:
    """Unpack what `encode_block` packed, with every column of the schema: TICK_SCHEMA and what was packed with it."""
    ticks = pl.read_ipc_stream(io.BytesIO(data))
    if "price_close" not in ticks.columns:
        ticks = ticks.with_columns(price_close=pl.col("price_open"))
    missing = [pl.lit(None, TICK_SCHEMA[name]).alias(name) for name in _OPTIONAL if name not in ticks.columns]
    return ticks.with_columns(missing).select(schema.keys())
