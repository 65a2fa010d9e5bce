"""The ticks for the measurements: generated once, identical on every machine, and cached for later runs."""

from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq

TICKS_PER_S = 5_000
JITTER_MS = 300
_START_MS = 1_700_000_000_000
_SEED = 20_240_607
_CHUNK_ROWS = 1_000_000
# Part of the file's name: a new number invalidates all cached ticks.
_VERSION = 1


def tick_file(folder: Path, ticks: int, instruments: int) -> Path:
    """Return a Parquet file of this many ticks in arrival order; create it if it does not exist.

    Columns: time (epoch ms, 5,000 ticks a second of market time, each up to 300 ms early or late), instrument, price (2
    decimals), volume (4 decimals). A smaller file is the beginning of a larger one with the same number of instruments.
    """
    path = folder / f"ticks-v{_VERSION}-{ticks}-{instruments}.parquet"
    if not path.exists():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        partial = path.with_suffix(".part")
        _write(partial, ticks, instruments)
        partial.replace(path)
    return path


def _write(path: Path, ticks: int, instruments: int) -> None:
    schema = _chunk(0, instruments).to_arrow().schema
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, ticks, _CHUNK_ROWS):
            part = _chunk(start, instruments).head(ticks - start)
            writer.write_table(part.to_arrow())


def _chunk(start: int, instruments: int) -> pl.DataFrame:
    rng = np.random.default_rng((_SEED, instruments, start))
    arrival_ms = _START_MS + (start + np.arange(_CHUNK_ROWS)) * 1_000 // TICKS_PER_S
    instrument_index = rng.integers(0, instruments, _CHUNK_ROWS)
    return pl.DataFrame(
        {
            "time": arrival_ms + rng.integers(-JITTER_MS, JITTER_MS, _CHUNK_ROWS, endpoint=True),
            "instrument": pl.Series([f"SYM{number:05d}/USD" for number in range(instruments)]).gather(instrument_index),
            "price": np.round(100 + instrument_index % 50 + rng.normal(0, 1, _CHUNK_ROWS), 2),
            "volume": np.round(rng.exponential(1, _CHUNK_ROWS), 4),
        }
    )
